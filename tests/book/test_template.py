"""A stranger's first chapter: the template under a new name, in the table of contents, builds and passes the tests unedited."""

from __future__ import annotations

import shutil

import pytest
import yaml
from conftest import REPOSITORY, cli_here
from functional_self.runs import chapter as chapters
from functional_self.runs import claims, lint, published, stage

TEMPLATE = REPOSITORY / "chapters" / "template"
NAME = "10-strength"


@pytest.fixture
def copied(project):
    """What CONTRIBUTING.md tells a stranger to do: two copies and a line in the table of contents."""
    shutil.copy(TEMPLATE / "chapter.md", project / "chapters" / f"{NAME}.md")
    text = (TEMPLATE / "claims.yml").read_text().replace("CHAPTER", NAME)
    (project / "claims" / f"{NAME}.yml").write_text(text)
    (project / "claims" / "tiny.yml").unlink()
    shutil.copy(REPOSITORY / "book" / "references.md", project / "book")
    toc = {"format": "jb-book", "root": "book/index"}
    toc["chapters"] = [{"file": name} for name in (f"chapters/{NAME}", "book/status", "book/references")]
    (project / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))
    (project / "book" / "index.md").write_text(f"# Index\n\nSee {{doc}}`the chapter <../chapters/{NAME}>`.\n")
    return project


def test_the_template_is_no_chapter_of_the_book():
    assert not any("template" in name for name in chapters.chapters())
    assert all("template" not in str(page) for page in stage.pages())


def test_the_template_keeps_the_contract():
    text = (TEMPLATE / "chapter.md").read_text()
    wanted = [
        "**Question.**",
        "**Why it matters.**",
        "**Prerequisites.**",
        "## What each outcome would mean",
        "## Parameters",
        "## Method",
        "## Result",
        "## Verdicts",
        "## Claims",
        "## What would change our mind",
        "## Limits",
        "## Exercises",
        "## For discussion",
        "## References",
    ]
    places = [text.index(part) for part in wanted]
    assert places == sorted(places)
    assert lint.page(TEMPLATE / "chapter.md") == []


def test_the_template_under_a_new_name_builds_and_passes(copied):
    done = cli_here("run", NAME, "-p", "subjects=mock:planted", "--json")
    assert done.returncode == 0, done.stderr
    run = yaml.safe_load(done.stdout)
    assert sum(name.startswith("verdict/") for name in run["results"]) >= 4
    assert run["results"]["gates/planted/passed"]["value"]
    assert cli_here("publish", run["run"]).returncode == 0
    judged = {row["id"]: row["published"]["verdict"] for row in claims.verdicts(NAME)}
    assert judged == {f"{NAME}-planted-passes": "match", f"{NAME}-planted-strength": "match"}
    assert not published.freshness(NAME).stale
    done = cli_here("build")
    assert done.returncode == 0, done.stderr
    page = (copied / "_build" / "html" / "chapters" / f"{NAME}.html").read_text()
    for part in (
        f"Parameters of {NAME}",
        f"Claims of {NAME}",
        "figure-strength",
        "figcaption",
        run["run"],
        "planted responder passes all five",
    ):
        assert part in page, part
    assert (copied / "chapters" / f"{NAME}.md").read_text() == (TEMPLATE / "chapter.md").read_text(), "not a word was edited"
