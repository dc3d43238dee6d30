"""A run is whole or not there; it is redone from its scores; and what it depends on is known."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import cli_here, leftovers, refused
from functional_self import paths
from functional_self.runs import chapter as chapters
from functional_self.runs import claims, execute, provenance, published

FILES = {"executed.ipynb", "results.json", "manifest.json", "scores", "figures"}


def whole(folder: Path) -> bool:
    return {p.name for p in folder.iterdir()} == FILES and bool(json.loads((folder / "manifest.json").read_text())["library"])


def visible(runs: Path) -> list[Path]:
    return [p for p in runs.iterdir() if p.is_dir() and not p.name.startswith(".")]


def test_a_run_is_kept_and_not_repeated(project):
    tiny = chapters.load("tiny")
    first, executed = execute.run(tiny)
    assert executed and whole(first.path) and not leftovers(project / "runs")
    again, executed = execute.run(tiny)
    assert again == first and not executed
    other, executed = execute.run(tiny, overrides={"n_paraphrases": "3"})
    assert executed and other != first
    assert first.results["mean"]["n"] == 12
    assert {"mean", "hostile", "hollow"} == first.results.keys()
    manifest = first.manifest
    assert manifest["parameters"]["pause"] == 0.1 and manifest["preset"] == "quick"
    imported = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in manifest["library"]}
    used = {module.removeprefix("functional_self").lstrip(".") or "__init__" for module in manifest["modules"]}
    assert used <= imported, "the closure read from the source misses a module that was imported"


def test_statistics_are_redone_from_the_shipped_scores(project, monkeypatch):
    tiny = chapters.load("tiny")
    run, _ = execute.run(tiny)
    published.publish(run)
    done = cli_here("run", "tiny", "--analyse-only")
    assert done.returncode == 0 and "all the same" in done.stdout, done.stderr
    table = run.path / "scores" / "subject.csv.gz"
    import pandas as pd

    frame = pd.read_csv(table)
    frame["ask_plus"] += 0.5
    frame.to_csv(table, index=False)
    done = cli_here("run", "tiny", "--analyse-only", "--json")
    assert done.returncode == 1 and any("mean" in row for row in json.loads(done.stdout)["differences"])


@pytest.mark.acceptance
def test_a_kill_at_any_moment_leaves_nothing_half(project):
    """kill -9 at random moments of a run of about five seconds: no half run, and the next call succeeds."""
    runs, command = project / "runs", [str(Path(sys.executable).with_name("functional-self")), "run", "tiny", "-p", "pause=0.5"]
    for _ in range(2):  # the first waits for the libraries that the others are forked with
        started = time.monotonic()
        assert subprocess.run(command, capture_output=True).returncode == 0
        length = time.monotonic() - started
        shutil.rmtree(visible(runs)[0])
    rng = random.Random(0)
    killed = 0
    turns = 20 if os.environ.get("FUNCTIONAL_SELF_ACCEPTANCE") else 3
    for _ in range(turns):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(rng.uniform(0, length))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
        for folder in visible(runs):
            assert whole(folder)
            shutil.rmtree(folder)
    assert killed >= turns // 2
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [whole(folder) for folder in visible(runs)] == [True]
    assert not leftovers(runs), "scratch folders of killed runs are swept by the next one"


def test_stale_names_what_changed(project):
    tiny = chapters.load("tiny")
    published.publish(execute.run(tiny)[0])
    assert cli_here("stale").returncode == 0
    source = project / "chapters" / "tiny.md"
    text = source.read_text()
    for old, new, word in [
        ("n_paraphrases: int = 2", "n_paraphrases: int = 3", "parameter 'n_paraphrases'"),
        ('record("mean", answers', 'record("mean", 2 * answers', "code cell 2"),
        ('subject: str = "mock:planted"', 'subject: str = "mock:random"', "subject"),
    ]:
        source.write_text(text.replace(old, new))
        done = cli_here("stale")
        assert done.returncode == 1 and "chapters/tiny.md" in done.stdout and word in done.stdout, done.stdout
        assert "figures: contents" in done.stdout
    source.write_text(text.replace("# A tiny chapter", "# A tiny chapter, typo mended"))
    assert cli_here("stale").returncode == 0
    (project / "params" / "quick.yml").write_text("tiny: {pause: 0.2}\n")
    assert "pause" in cli_here("stale").stdout


@pytest.fixture
def library(tmp_path, monkeypatch) -> Path:
    """A copy of the library that can be edited."""
    copy = tmp_path / "functional_self"
    shutil.copytree(paths.LIBRARY, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(paths, "LIBRARY", copy)
    return copy


def test_the_closure_sees_code_and_nothing_else(project, library):
    code = chapters.load("tiny").code
    before = provenance.closure(code)
    assert "behaviour/scoring.py" in before and "subjects/mock.py" in before
    assert "runs/stage.py" not in before and "cli.py" not in before

    def edit(name: str, old: str, new: str) -> dict[str, str]:
        path = library / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        return provenance.closure(code)

    assert edit("cli.py", '"""The command line', "# a comment\n'''Other") == before, "an unrelated module"
    assert edit("behaviour/scoring.py", "def score(", "# a comment\ndef score(") == before, "a comment"
    assert edit("behaviour/scoring.py", "Ask a subject items", "Ask subjects items") == before, "a docstring"
    after = edit("behaviour/scoring.py", "(ask + reverse) / 2", "(ask + reverse) / 3")
    assert {name for name in before if before[name] != after[name]} == {"behaviour/scoring.py"}
    deeper = edit("subjects/prefix.py", "GROUP_OVERHEAD = 48", "GROUP_OVERHEAD = 49")
    assert "subjects/prefix.py" in deeper and deeper["subjects/prefix.py"] != before["subjects/prefix.py"]


def test_an_edited_material_is_noticed(project):
    mine = project / "mine.yml"
    from functional_self import materials

    mine.write_text(materials.find("items", "void").read_text())
    tiny = chapters.load("tiny")
    published.publish(execute.run(tiny, overrides={"items": str(mine)})[0])
    assert not published.freshness("tiny").stale
    mine.write_text(mine.read_text().replace("mountain views", "mountain sights"))
    assert any("mine.yml" in reason for reason in published.freshness("tiny").reasons)


def test_git_sees_published_runs_and_no_others(project):
    tiny = chapters.load("tiny")
    kept, _ = execute.run(tiny)
    published.publish(kept)
    execute.run(tiny, overrides={"n_paraphrases": "3"})
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    seen = subprocess.run(
        ["git", "-C", str(project), "ls-files", "-o", "--exclude-standard", "runs"], capture_output=True, text=True
    )
    names = seen.stdout.split()
    assert f"runs/{kept.name}/results.json" in names and "runs/published.yml" in names
    assert all(kept.name in name or name in ("runs/published.yml", "runs/.gitignore") for name in names)


def judged(project: Path, **changes: object) -> tuple[str, str]:
    base = {"id": "x", "thread": "void", "chapter": "tiny", "statement": "s", "source": "s", "reason": "r", "control": True}
    run, _ = execute.run(chapters.load("tiny"))
    verdict, why = claims.judge(claims.Claim.model_validate(base | changes), run)
    return str(verdict), why


def test_verdicts(project):
    value = execute.run(chapters.load("tiny"))[0].results["mean"]["value"]
    near = {"kind": "value", "key": "mean", "tolerance": 0.01}
    assert judged(project, **near, expected=value + 0.005)[0] == "match"
    assert judged(project, **near, expected=value + 0.02)[0] == "differs"
    assert judged(project, kind="range", key="mean", expected=(value - 1, value + 1))[0] == "match"
    assert judged(project, kind="sign", key="mean", expected=1.0)[0] == "differs", "no interval, no sign"
    assert judged(project, kind="ordering", keys=("mean", "mean"))[0] == "differs"
    assert judged(project, **near, expected=value, control=False)[0] == "not comparable", "a mock is no evidence"
    assert judged(project, **near, expected=value, needs={"presets": ["published"]})[0] == "not comparable"
    assert judged(project, **near, expected=value, needs={"gate": "gates/subject"})[0] == "not measurable"
    assert judged(project, **(near | {"key": "nothing"}), expected=value)[0] == "not comparable"
    claim = claims.load()[0]
    assert claims.judge(claim, None)[0] == "not run"
    assert claims.judge(claim, execute.run(chapters.load("tiny"))[0], stale=True)[0] == "stale"


def test_a_claim_that_differs_makes_reproduce_exit_one(project):
    assert cli_here("reproduce").returncode == 0
    claim = project / "claims" / "tiny.yml"
    claim.write_text(claim.read_text().replace("[-3, 3]", "[7, 8]"))
    done = cli_here("reproduce", "--json")
    assert done.returncode == 1 and json.loads(done.stdout)[0]["this machine"] == "differs"
    claim.write_text(claim.read_text().replace("kind: range", "kind: value"))
    done = cli_here("claims")
    assert done.returncode == 2 and "claims/tiny.yml" in done.stderr and "tolerance" in done.stderr


def with_a_second_chapter(project: Path) -> Path:
    """The source of a chapter like the first."""
    contents, line = project / "_toc.yml", "  - file: chapters/tiny\n"
    contents.write_text(contents.read_text().replace(line, line + line.replace("tiny", "tinier")))
    return Path(shutil.copy(project / "chapters" / "tiny.md", project / "chapters" / "tinier.md"))


def test_chapters_are_reproduced_at_once_and_a_failing_one_is_named(project, monkeypatch):
    monkeypatch.setattr("functional_self.runs.together.os.cpu_count", lambda: 2)
    other = with_a_second_chapter(project)
    done = cli_here("reproduce")
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["tiny", "tinier"]
    assert {p.name.rsplit("-", 1)[0] for p in (project / "runs").iterdir() if p.is_dir()} == {"tiny", "tinier"}
    refused(cli_here("reproduce", "tiny", "tinyer"), "tinyer")
    other.write_text(other.read_text().replace("time.sleep(pause)", "raise ValueError('nothing here')"))
    done = cli_here("reproduce", "tiny", "tinier", "tiny")
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and "chapters/tinier.md" in last and "nothing here" in last, done.stderr


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor runs one chapter after another")
def test_chapters_that_run_at_once_end_with_who_started_them(project):
    with_a_second_chapter(project)
    source = (project / "chapters" / "tiny.md").read_text()
    for name in ("tiny", "tinier"):
        said = f"import os; from pathlib import Path; Path({str(project / name)!r}).write_text(str(os.getpid())); time.sleep(600)"
        (project / "chapters" / f"{name}.md").write_text(source.replace("time.sleep(pause)", said))
    process = subprocess.Popen([str(Path(sys.executable).with_name("functional-self")), "reproduce"], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not all((project / name).exists() and (project / name).read_text() for name in ("tiny", "tinier")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.1)
    kernels = [Path("/proc", (project / name).read_text()) for name in ("tiny", "tinier")]
    assert sys.platform != "linux" or all(kernel.exists() for kernel in kernels)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    while any(kernel.exists() for kernel in kernels):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert not visible(project / "runs")


def test_a_kernel_that_dies_before_its_first_word_is_started_again(project, monkeypatch):
    real, tries = execute.papermill.execute_notebook, []

    def dies_once(*given, **options):
        tries.append(given)
        if len(tries) == 1:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return real(*given, **options)

    monkeypatch.setattr(execute.papermill, "execute_notebook", dies_once)
    run, _ = execute.run(chapters.load("tiny"))
    assert len(tries) == 2 and run.results


def test_the_kernel_is_given_no_key(project, monkeypatch):
    """Parameters reach the notebook; the environment does not reach any artefact."""
    secret = "11111111-2222-3333-4444-555555555555"
    monkeypatch.setenv("NDIF_API_KEY", secret)
    run, _ = execute.run(chapters.load("tiny"))
    for path in run.path.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    assert os.environ["NDIF_API_KEY"] == secret
