"""Shared fixtures: a five-second project of its own, and the command line run as a person would run it."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from functional_self import materials
from functional_self.cli import main
from functional_self.runs import warm
from live import live, server, stop, without_answers
from xdist.scheduler import LoadScopeScheduling

__all__ = ["live", "server"]  # fixtures: a live NDIF server, see tests/ndif/

REPOSITORY = Path(__file__).resolve().parent.parent
BUILT = ("test_browser", "test_journey")
"""Files whose tests read the real book, which is built once."""
LONGEST = ("/ndif/", *BUILT, "/test_chapters", "/book/", "/test_linters", "/organisms/", "/runs/")

TINY = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A tiny chapter

```{code-cell} ipython3
:tags: [parameters]

subject: str = "mock:planted"  # who is asked [subject]
items: str = "void"  # the questions [items]
n_paraphrases: int = 2  # wordings [1..4]
pause: float = 2.0  # seconds [0..60]
```

```{fs-parameters} tiny
```

```{code-cell} ipython3
import time

from matplotlib.figure import Figure

from functional_self import behaviour, materials, subjects
from functional_self.runs import record, scores, show_figure, show_table

bank = materials.balanced(materials.items(items), 2)
table = scores("subject", lambda: behaviour.score(subjects.load(subject), bank, paraphrases=n_paraphrases))
answers = behaviour.responses(table)
time.sleep(pause)
record("mean", answers["content"].mean(), "nats", n=len(answers))
record("hostile", "<script>alert(1)</script>")
record("hollow", float("nan"), "nats")
show_table(answers.groupby("item", as_index=False)["content"].mean(), "Contents <script>alert(2)</script>", {"content": ".2f"})
figure = Figure()
axes = figure.subplots()
axes.hist(answers["content"])
axes.set_xlabel(f"content in nats (n = {len(answers)} answers)")
show_figure(figure, "contents", "A histogram of the contents of all answers in nats, without intervals, <b>escaped</b>.")
```

The mean is {glue:text}`mean:.2f` over {glue:text}`mean.n` answers. {glue:text}`hostile`

Where nothing is defined: {glue:text}`hollow:.2f`.

```{fs-claims} tiny
```
"""

CLAIM = """- id: tiny-mean
  thread: neutral
  chapter: tiny
  statement: The mean content is near zero.
  source: construction
  kind: range
  key: mean
  expected: [-3, 3]
  reason: planted responses have mean zero
  control: true
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project with one five-second chapter on a simulated subject; the library is the installed one."""
    root = tmp_path / "project"
    for name in ("book", "chapters", "claims", "params", "runs"):
        (root / name).mkdir(parents=True)
    for name in ("_config.yml", "requirements.lock", "book/_static", "book/references.bib", "book/status.md"):
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, root / name)
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n  - file: chapters/tiny\n  - file: book/status\n"
    )
    (root / "book" / "index.md").write_text("# Index\n\nSee {doc}`the chapter <../chapters/tiny>`.\n")
    (root / "chapters" / "tiny.md").write_text(TINY)
    (root / "claims" / "tiny.yml").write_text(CLAIM)
    (root / "params" / "quick.yml").write_text("tiny: {pause: 0.1}\n")
    (root / "params" / "laptop.yml").write_text("tiny: {pause: 0.2}\n")
    monkeypatch.setenv("FUNCTIONAL_SELF_ROOT", str(root))
    monkeypatch.delenv("FUNCTIONAL_SELF_RUNS", raising=False)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the Hugging Face hub: what is uploaded lies under its repository's name."""
    home = tmp_path / "hub"

    class Api:
        def create_repo(self, name: str, exist_ok: bool, private: bool = False) -> None:
            (home / name).mkdir(parents=True, exist_ok=exist_ok)

        def upload_folder(self, repo_id: str, folder_path: Path, allow_patterns: Sequence[str] = ("*",)) -> str:
            for name in {path for pattern in allow_patterns for path in Path(folder_path).glob(pattern)}:
                shutil.copy(name, home / repo_id)
            return f"hub/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    return home


def cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("functional-self")), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=900,
    )


def cli_here(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same in this process: what takes seconds is the start of a Python."""
    said, complained, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(sys, "argv", ["functional-self", *arguments]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complained),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(arguments, code, said.getvalue(), complained.getvalue())


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert one line on stderr that names all the words, and exit code 2."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0], lines[0]


@dataclass(frozen=True)
class Ran:
    """A chapter of the book as the command line ran it: its results, where its run is, and the seconds it took."""

    results: dict[str, Any]
    path: Path
    seconds: float


def ran(name: str, folder: Path, *arguments: str, **environment: str) -> Ran:
    """Run a chapter of the book at quick with its runs kept in ``folder``."""
    start = time.monotonic()
    where = {"FUNCTIONAL_SELF_RUNS": str(folder), "FUNCTIONAL_SELF_ROOT": str(REPOSITORY)}
    done = cli_here("run", name, *arguments, "--json", **where, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    return Ran(said["results"], Path(said["path"]), time.monotonic() - start)


@pytest.fixture(scope="session")
def at_quick(tmp_path_factory) -> Callable[..., Ran]:
    """A chapter of the book on the real subject, run once a session; the first one finds no score kept.

    Workers keep their answers in one place, as chapters that are run at once do.
    """
    apart = "PYTEST_XDIST_WORKER" in os.environ
    folder = tmp_path_factory.getbasetemp().parent / "quick" if apart else tmp_path_factory.mktemp("quick")
    folder.mkdir(exist_ok=True)
    kept = without_answers(folder / "cache")
    return functools.cache(lambda name, *more: ran(name, folder / "runs", *more, FUNCTIONAL_SELF_CACHE=str(kept)))


@pytest.fixture(scope="session")
def book() -> Path:
    """The real book, built from the published runs, and printed."""
    done = cli("pdf", FUNCTIONAL_SELF_ROOT=str(REPOSITORY))
    assert done.returncode == 0, done.stderr
    return REPOSITORY / "_build" / "html"


@pytest.fixture(scope="session")
def smollm2():
    """The embedded default subject, loaded once."""
    from functional_self import subjects

    return subjects.load("smollm2", store=False)


@pytest.fixture(scope="session")
def bank():
    """Everything the gates need, small: items, shuffled items, known-answer twins."""
    from functional_self.behaviour import shuffled

    items = materials.balanced(materials.items("void"), 12)
    return [*items, *shuffled(items), *materials.items("known")]


class Together(LoadScopeScheduling):
    """What shares a live server or a built book stays on one worker, the longest first; the rest goes file by file.

    pytest-xdist's own groups do nothing under pytest 9.2, whose ``nodeid`` no longer takes the suffix they write.
    """

    def _split_scope(self, nodeid):
        path = Path(nodeid.partition("::")[0])
        apart = path.stem == "test_chapters"  # each test of it runs a chapter of its own
        return nodeid if apart else "ndif" if path.parent.name == "ndif" else "the book" if path.stem in BUILT else str(path)


def pytest_configure(config):
    """Kernels of the whole session are forked from one process, as those of ``make book`` are."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        served = contextlib.ExitStack()
        config.add_cleanup(served.close)
        served.enter_context(warm.ahead(at_once=False))


def pytest_xdist_make_scheduler(config, log):
    return Together(config, log)


def pytest_collection_modifyitems(items):
    """The parts that take minutes come first, so that no worker ends with one of them alone."""
    items.sort(key=lambda item: next((i for i, part in enumerate(LONGEST) if part in item.nodeid), len(LONGEST)))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """The live server ends after the last test of its folder and what that test's fixtures put back."""
    if nextitem is None or nextitem.path.parent != item.path.parent:
        stop()


def leftovers(folder: Path) -> list[str]:
    """Scratch folders and files that a command should not have left."""
    return [str(p.relative_to(folder)) for p in folder.rglob(".*") if p.name != ".gitignore"] if folder.exists() else []


def pytest_terminal_summary(terminalreporter):
    """Write the dated acceptance report where the full counts were run."""
    if not os.environ.get("FUNCTIONAL_SELF_ACCEPTANCE") or "PYTEST_XDIST_WORKER" in os.environ:
        return
    import datetime
    import platform

    from functional_self.runs import provenance

    commit, dirty = provenance.commit()
    rows = [
        f"| {report.nodeid.removeprefix('tests/')} | {outcome} | {report.duration:.1f} "
        f"| {'; '.join(str(value) for _, value in report.user_properties)} |"
        for outcome in ("passed", "failed", "skipped")
        for report in terminalreporter.stats.get(outcome, [])
        if report.when == "call" or outcome == "skipped"
    ]
    now = datetime.datetime.now(datetime.UTC)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    head = (
        f"# Acceptance, {now:%Y-%m-%d %H:%M} UTC\n\nCommit {commit}{' with uncommitted changes' if dirty else ''}; {machine}.\n\n"
    )
    folder = REPOSITORY / "benchmarks" / "acceptance"
    folder.mkdir(parents=True, exist_ok=True)
    table = "| test | outcome | seconds | figures |\n|---|---|---|---|\n" + "\n".join(sorted(rows)) + "\n"
    (folder / f"{now:%Y-%m-%d-%H%M}.md").write_text(head + table)
