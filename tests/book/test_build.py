"""The book is built strictly: anything wrong stops it and names the file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, cli_here
from functional_self.runs import chapter as chapters
from functional_self.runs import execute, published


@pytest.fixture
def published_project(project):
    published.publish(execute.run(chapters.load("tiny"))[0])
    return project


def built(*, good: bool) -> str:
    done = cli_here("build")
    assert done.returncode == (0 if good else 2), done.stdout + done.stderr
    assert good or len(done.stderr.strip().splitlines()) == 1
    return done.stderr


def test_numbers_figures_and_provenance_are_on_the_page_and_text_is_escaped(published_project):
    built(good=True)
    page = (published_project / "_build" / "html" / "chapters" / "tiny.html").read_text()
    run = published.find("tiny")
    assert run is not None
    assert f"{run.results['mean']['value']:.2f}" in page
    assert "defined: undefined." in re.sub(r"<[^>]+>", "", page), "no format is put on what has no number"
    assert f"run {run.name}" in page and "figcaption" in page and "aria-label" in page
    assert "<script>alert(" not in page and "&lt;script&gt;alert(1)" in page
    status = (published_project / "_build" / "html" / "book" / "status.html").read_text()
    assert run.name in status and 'id="run-tiny"' in status
    for file in ("manifest.json", "results.json"):
        carried = published_project / "_build" / "html" / "_static" / "runs" / run.name / file
        assert carried.read_bytes() == (run.path / file).read_bytes()


def test_a_mended_typo_and_a_changed_claim_appear_without_execution(published_project):
    built(good=True)
    before = published.pointers()
    claims = published_project / "claims" / "tiny.yml"
    claims.write_text(claims.read_text().replace("is near zero", "is close to zero"))
    source = published_project / "chapters" / "tiny.md"
    source.write_text(source.read_text().replace("# A tiny chapter", "# A tiny chapter mended"))
    built(good=True)
    assert "A tiny chapter mended" in (published_project / "_build" / "html" / "chapters" / "tiny.html").read_text()
    status = (published_project / "_build" / "html" / "book" / "status.html").read_text()
    assert "is close to zero" in status and "is near zero" not in status, "a page is read again where what it generates changed"
    assert published.pointers() == before and len([p for p in (published_project / "runs").iterdir() if p.is_dir()]) == 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("The mean is {glue:text}`mean:.2f`", "The mean is 0.37", ["chapters/tiny.md", "0.37"]),
        ("{glue:text}`mean:.2f`", "{glue:text}`median:.2f`", ["chapters/tiny.md", "median"]),
        ("time.sleep(pause)", "raise ValueError", ["chapters/tiny.md", "code cell 2"]),
        ("n_paraphrases: int = 2", "n_paraphrases: int = 1", ["chapters/tiny.md", "n_paraphrases"]),
        ("{fs-claims} tiny", "{fs-nothing} tiny", ["tiny.md", "fs-nothing"]),
    ],
)
def test_what_is_wrong_stops_the_build_and_is_named(published_project, old, new, words):
    page = published_project / "_build" / "html" / "chapters" / "tiny.html"
    page.parent.mkdir(parents=True)
    page.write_text("the last good book")
    source = published_project / "chapters" / "tiny.md"
    source.write_text(source.read_text().replace(old, new))
    said = built(good=False)
    assert all(word in said for word in words), said
    assert page.read_text() == "the last good book", "a failed build replaces nothing"
    if words[-1] in ("0.37", "fs-nothing"):
        assert all(word in built(good=False) for word in words), "what Sphinx has read once is wrong a second time as well"


def jupyter_book(root: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", "."]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, env=os.environ | {"FUNCTIONAL_SELF_ROOT": str(root)})


def test_jupyter_book_alone_works_and_stops_at_a_failing_cell(project):
    source = project / "chapters" / "tiny.md"
    source.write_text(source.read_text().replace("pause: float = 2.0", "pause: float = 0.0"))
    done = jupyter_book(project)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (project / "_build" / "html" / "chapters" / "tiny.html").read_text()
    assert "Executed while this page was built" in page and "Pending" not in page
    text = re.sub(r"<[^>]+>", "", page)
    assert "over 12 answers" in text
    source.write_text(source.read_text().replace("time.sleep(pause)", "1 / 0"))
    done = jupyter_book(project)
    assert done.returncode != 0 and "tiny" in done.stdout + done.stderr


@pytest.mark.acceptance
@pytest.mark.skipif("FUNCTIONAL_SELF_ACCEPTANCE" not in os.environ, reason="executes the real chapters: make acceptance")
def test_jupyter_book_alone_builds_the_real_book(tmp_path):
    copy = tmp_path / "book"
    shutil.copytree(REPOSITORY, copy, ignore=shutil.ignore_patterns(".venv*", "_build", ".git", ".*_cache"))
    done = jupyter_book(copy)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
