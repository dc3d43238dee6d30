"""Execute a chapter with parameters and keep the run whole, or keep nothing."""

from __future__ import annotations

import contextlib
import datetime
import errno
import functools
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from functional_self import paths, subjects
from functional_self.errors import RunError
from functional_self.progress import FILE
from functional_self.runs import provenance, warm
from functional_self.runs.chapter import BACKEND, DEVICE, Chapter
from functional_self.runs.record import FIGURE, FOLDER, REDO_FROM, RESULT
from functional_self.subjects.store import RECOMPUTE

EPILOGUE_TAG = "functional-self-epilogue"
MACHINE = "application/vnd.functional-self.machine+json"
EPILOGUE = f"""\
import resource, sys
from IPython.display import display
display({{"{MACHINE}": {{
    "modules": sorted(m for m in sys.modules if m.startswith("functional_self")),
    "remote": getattr(sys.modules.get("functional_self.subjects.jobs"), "SEEN", {{}}),
    "requests": dict(getattr(sys.modules.get("functional_self.subjects.store"), "COUNTS", {{}})),
    "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
}}, "text/plain": ""}}, raw=True)
"""
KERNEL_CONFIG = "c.IPKernelApp.log_level = 50\nc.HistoryManager.enabled = False\n"


@dataclass(frozen=True)
class Run:
    """A whole run on disk: ``executed.ipynb``, ``results.json``, ``manifest.json``, ``scores/``, ``figures/``."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name, chapter and key."""
        return self.path.name

    @property
    def manifest(self) -> dict[str, Any]:
        """Provenance: determinants, preset, overrides, commit, versions, machine, times."""
        return self._json("manifest.json")

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """Recorded results by name."""
        return {result["name"]: result for result in self._json("results.json")}

    @property
    def notebook(self) -> nbformat.NotebookNode:
        """The executed notebook."""
        return nbformat.read(self.path / "executed.ipynb", as_version=4)

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(
                f"{paths.shown(self.path / name)}: cannot be read ({error}); publish or run the chapter again"
            ) from error


def run(
    chapter: Chapter, preset: str = "quick", overrides: dict[str, str] | None = None, force: bool = False
) -> tuple[Run, bool]:
    """Execute a chapter, or return the whole run that already has the same determinants.

    Returns the run and whether it was executed now. The folder's name is the chapter and the hash of
    everything that can change a number, and it appears by one rename.

    Raises:
        RunError: a cell failed; the message names chapter, cell and error.
    """
    parameters = chapter.resolve(preset, overrides)
    determined = provenance.determinants(chapter, parameters)
    home = paths.runs() / f"{chapter.name}-{provenance.key(determined)}"
    if home.is_dir() and not force:
        return Run(home), False
    for name in determined["subjects"]:
        _fetch(name)
    commit, dirty = provenance.commit()
    with paths.staging(paths.runs()) as scratch:
        whole = scratch / "run"
        started = time.time()
        notebook = _execute(chapter, parameters, whole, scratch, force=force)
        results, figures, machine = harvest(notebook)
        _forget_the_machine(notebook)
        manifest = (
            determined
            | {
                "preset": preset,
                "overrides": overrides or {},
                "commit": commit,
                "dirty": dirty,
                "versions": provenance.versions(),
                "figures": figures,
                "modules": machine.get("modules", []),
                "requests": machine.get("requests", {}),
                "peak_rss_bytes": machine.get("peak_rss_bytes"),
                "started": datetime.datetime.fromtimestamp(started, datetime.UTC).isoformat(timespec="seconds"),
                "seconds": round(time.time() - started, 1),
                "device": parameters[DEVICE.name] if parameters[BACKEND.name] == "local" else "remote",
            }
            | ({"remote": machine["remote"]} if machine.get("remote") else {})
        )
        nbformat.write(notebook, whole / "executed.ipynb")
        (whole / "results.json").write_text(json.dumps(list(results.values()), indent=1) + "\n", encoding="utf-8")
        (whole / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        if home.exists():
            home.rename(scratch / "replaced")
        whole.rename(home)
    return Run(home), True


def analyse(chapter: Chapter, source: Run) -> list[str]:
    """Redo a run's statistics from its shipped score tables, without a model; return what differs.

    The chapter is executed with the run's own parameters while ``scores`` reads the run's tables. A value
    agrees within 1e-9 relative; an empty list means that every result is the same.
    """
    with paths.staging(Path(tempfile.gettempdir()), prefix=".functional-self-") as scratch:
        notebook = _execute(chapter, source.manifest["parameters"], scratch / "run", scratch, redo=source.path)
        results, _, _ = harvest(notebook)
    old = source.results
    said = [f"result '{name}' is {'new' if name in results else 'gone'}" for name in sorted(old.keys() ^ results.keys())]
    for name in sorted(old.keys() & results.keys()):
        for part in ("value", "interval", "n"):
            if not _same(old[name][part], results[name][part]):
                said.append(f"result '{name}': {part} was {old[name][part]}, now {results[name][part]}")
    return said


def plan(chapter: Chapter, preset: str, overrides: dict[str, str] | None = None) -> dict[str, dict[str, int]]:
    """What a remote run would ask of each subject at most: the chapter is run with ``planned.PlannedSubject`` in its place.

    Trainings, which ask nothing, take as few steps as their parameters let them.
    """
    short = {name: int(p.rule.partition("..")[0]) for name, p in chapter.parameters.items() if name.endswith("steps")}
    parameters = chapter.resolve(preset, overrides) | short | {BACKEND.name: "plan"}
    with paths.staging(Path(tempfile.gettempdir()), prefix=".functional-self-") as scratch:
        _, _, machine = harvest(_execute(chapter, parameters, scratch / "run", scratch))
    found: dict[str, dict[str, int]] = machine.get("remote", {}).get("plan", {})
    return found


def harvest(notebook: nbformat.NotebookNode) -> tuple[dict[str, dict[str, Any]], list[dict[str, str]], dict[str, Any]]:
    """Results by name, figures and the machine's report from a notebook's outputs; a repeated name raises RunError."""
    results: dict[str, dict[str, Any]] = {}
    figures: list[dict[str, str]] = []
    machine: dict[str, Any] = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if RESULT in data:
                if data[RESULT]["name"] in results:
                    raise RunError(f"result '{data[RESULT]['name']}' is recorded twice")
                results[data[RESULT]["name"]] = dict(data[RESULT])
            if FIGURE in data:
                figures.append(dict(data[FIGURE]))
            machine |= data.get(MACHINE, {})
    return results, figures, machine


def _forget_the_machine(notebook: nbformat.NotebookNode) -> None:
    """Leave out what names this machine's folders: papermill's paths and what libraries print on stderr."""
    for name in ("input_path", "output_path"):
        notebook.metadata.papermill.pop(name, None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= 1e-9 * max(1.0, abs(a))
    return bool(a == b)


def _fetch(name: str) -> None:
    """Bring a subject's files to this machine before a kernel starts."""
    entry = subjects.resolve(name)
    if not isinstance(entry, subjects.Mock):
        subjects.directory(name, entry)


def _execute(
    chapter: Chapter, parameters: dict[str, Any], whole: Path, scratch: Path, redo: Path | None = None, force: bool = False
) -> nbformat.NotebookNode:
    """Run the chapter's notebook through papermill in ``whole``; everything temporary stays in ``scratch``."""
    whole.mkdir(parents=True)
    source = nbformat.from_dict(chapter.notebook)
    epilogue = nbformat.v4.new_code_cell(EPILOGUE, metadata={"tags": [EPILOGUE_TAG, "remove-cell"]})
    source.cells = [*source.cells, epilogue]
    nbformat.write(source, scratch / "source.ipynb")
    progress = scratch / "progress.json"
    parameters = dict(parameters)
    environment = (
        {
            subjects.BACKEND: parameters.pop(BACKEND.name, "local"),
            subjects.DEVICE: parameters.pop(DEVICE.name, "cpu"),
            FOLDER: str(whole),
            FILE: str(progress),
            "FUNCTIONAL_SELF_ROOT": str(paths.root()),
            "IPYTHONDIR": str(scratch / "ipython"),
            "JUPYTER_RUNTIME_DIR": str(scratch / "jupyter"),
            "TMPDIR": str(scratch),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        | ({REDO_FROM: str(redo)} if redo else {})
        | ({RECOMPUTE: "1"} if force else {})
    )
    if environment[subjects.DEVICE] == "cpu":  # another device may not survive a fork
        environment |= warm.spec(scratch / "jupyter-data", environment)
    (scratch / "jupyter").mkdir()
    profile = scratch / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text(KERNEL_CONFIG)
    with _environment(environment), _bar(chapter.name, progress):
        try:
            return _notebook(scratch / "source.ipynb", parameters)
        except PapermillExecutionError as error:
            trace = re.sub(r"\x1b\[[0-9;]*m", "", error.evalue)
            said = f"{error.ename}: {' '.join(trace.split())}"
            if "[Errno 28]" in said:
                raise OSError(errno.ENOSPC, "No space left on device", str(paths.runs())) from error
            code = [c for c in source.cells if c.cell_type == "code"]
            place = next((i + 1 for i, c in enumerate(code) if c.source.strip() == error.source.strip()), error.exec_count)
            raise RunError(f"{paths.shown(chapter.path)}: code cell {place}: {said}") from error
        except (RuntimeError, TimeoutError) as error:
            raise RunError(f"{paths.shown(chapter.path)}: the kernel did not finish: {' '.join(str(error).split())}") from error


def _notebook(source: Path, parameters: dict[str, Any]) -> nbformat.NotebookNode:
    """Papermill's execution of a notebook; once more where the kernel died before its first word, and so before any cell ran."""
    run = functools.partial(
        papermill.execute_notebook,
        str(source),
        None,
        parameters=parameters,
        kernel_name="python3",
        progress_bar=False,
        cwd=str(paths.root()),
        iopub_timeout=60,  # four seconds are too few for a busy machine
        shutdown_kernel="immediate",  # all is written by then; a graceful end takes seconds
    )
    try:
        return run()
    except RuntimeError as error:
        if "before replying to kernel_info" not in str(error):
            raise
        return run()


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables, for the kernel to inherit, and put the old ones back."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _bar(name: str, reported: Path) -> Iterator[None]:
    """Show the progress a kernel reports in a file, on a terminal only."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, transient=True, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=None)
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.5):
                with contextlib.suppress(OSError, ValueError):
                    said = json.loads(reported.read_text())
                    progress.update(task, description=f"{name}: {said['what']}", completed=said["done"], total=said["total"])

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
