"""Put the book together: prose from the sources, outputs from the published runs, and one strict build."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import yaml

from functional_self import paths
from functional_self.errors import RunError
from functional_self.runs import captions, claims, lint, published
from functional_self.runs import chapter as chapters
from functional_self.runs.execute import EPILOGUE_TAG, Run

SPHINX = (
    "import sys; from jupyter_book.cli.main import main; import myst_nb.sphinx_ext, sphinx.builders.html, sphinx_book_theme; "
    "sys.stdin.readline() and main()"
)
"""Imports while the sources are staged, which takes as long, and builds when it is given a line."""
FORMATTED = re.compile(r"\{glue:text\}`([^`:]+):[^`]+`")


def problems() -> list[str]:
    """What keeps the book from being built: stale runs, unresolved numbers, mute figures, broken claims; one sentence each."""
    said: list[str] = []
    for name in chapters.chapters():
        fresh = published.freshness(name)
        said += fresh.reasons
        for path in sorted((paths.root() / "runs" / fresh.run / "figures").glob("*.svg")) if fresh.run else []:
            said += lint.figure(path)
    for path in pages():
        said += lint.page(path)
    for claim in claims.load():
        if claim.chapter not in chapters.chapters():
            said.append(f"claims: '{claim.id}' is about chapter '{claim.chapter}', which _toc.yml does not list")
    return said


def pages() -> list[Path]:
    """The source files of every page in the table of contents."""
    toc = (paths.root() / "_toc.yml").read_text(encoding="utf-8")
    names = re.findall(r"(?:root|file):\s*(\S+)", toc)
    return [paths.root() / f"{name}.md" for name in names]


def build() -> Path:
    """Build the book from the published runs; returns the index page.

    Nothing is executed. The book replaces the last good one only when Sphinx, with warnings as errors and
    every reference checked, succeeded. Raises RunError with everything that is wrong, one line each.
    """
    root, work = paths.root(), paths.root() / "_build" / "staged"
    command = [
        *(sys.executable, "-c", SPHINX),
        *("build", str(work / "source"), "--path-output", str(work)),
        *("-W", "-n", "--keep-going", "--quiet"),
    ]
    environment = {**os.environ, "FUNCTIONAL_SELF_ROOT": str(root)}
    whole = work / "whole"
    pipe = subprocess.PIPE
    with (
        ThreadPoolExecutor(1) as beside,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment) as sphinx,
    ):
        try:
            _stage(work / "source")
        except RunError as error:
            sphinx.kill()
            raise RunError("; ".join(problems() or [str(error)])) from error
        checked = beside.submit(problems)  # seconds of hashing, which Sphinx need not wait for
        if not whole.exists():
            shutil.rmtree(work / "_build", ignore_errors=True)  # Sphinx complains of a page only when it reads it
        whole.unlink(missing_ok=True)
        out, err = sphinx.communicate("build\n")
        if not sphinx.returncode:
            whole.touch()
    if said := checked.result():
        raise RunError("; ".join(said))
    log = re.sub(r"\x1b\[[0-9;]*m", "", out + err)
    paths.write_text(work / "sphinx.log", log)
    if sphinx.returncode:
        warned = [row for row in log.splitlines() if "WARNING" in row or "ERROR" in row or "Error" in row]
        first = (warned or log.splitlines() or ["no output"])[0].replace(str(work / "source") + "/", "").replace(".ipynb", ".md")
        raise RunError(
            f"the book did not build: {first.strip()} ({len(warned)} problems; see {paths.shown(work / 'sphinx.log')})"
        )
    target = root / "_build" / "html"
    with paths.staging(root / "_build") as scratch:
        shutil.copytree(work / "_build" / "html", scratch / "html")  # Sphinx leaves a style alone where no page changed
        shutil.copytree(work / "source" / "book" / "_static", scratch / "html" / "_static", dirs_exist_ok=True)
        if target.exists():
            target.rename(scratch / "old")
        (scratch / "html").rename(target)
    return target / "index.html"


def _stage(source: Path) -> None:
    """Write the staged sources, touching only files whose content changed so that Sphinx can skip the rest."""
    root = paths.root()
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    config["execute"] = {"execute_notebooks": "off"}
    wanted: dict[str, bytes] = {
        "_config.yml": yaml.safe_dump(config, sort_keys=False).encode(),
        "_toc.yml": (root / "_toc.yml").read_bytes(),
    }
    for path in (root / "book").rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            wanted[path.relative_to(root).as_posix()] = path.read_bytes()
    for name in chapters.chapters():
        run = published.find(name)
        if run is None:
            raise RunError(f"runs/{published.PUBLISHED}: no run of {name} is published")
        notebook = merge(chapters.load(name), run)
        wanted[f"chapters/{name}.ipynb"] = nbformat.writes(notebook).encode()
    for path in [p for p in source.rglob("*") if p.is_file()]:
        if path.relative_to(source).as_posix() not in wanted:
            path.unlink()
    for relative, content in wanted.items():
        path = source / relative
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def merge(chapter: chapters.Chapter, run: Run) -> nbformat.NotebookNode:
    """Markdown from the source, outputs from the run; raises RunError where a code cell's text differs."""
    ours = {"injected-parameters", EPILOGUE_TAG}
    executed = [cell for cell in run.notebook.cells if cell.cell_type == "code" and not ours & set(cell.metadata.get("tags", []))]
    merged = nbformat.from_dict(chapter.notebook)
    code = [cell for cell in merged.cells if cell.cell_type == "code"]
    if [cell.source.strip() for cell in code] != [cell.source.strip() for cell in executed]:
        raise RunError(f"{paths.shown(chapter.path)}: its code cells are not those of run {run.name}; run and publish it again")
    where = {id(cell): place for place, cell in enumerate(merged.cells)}
    lines = captions.lines(chapter)
    for place, (cell, done) in enumerate(zip(code, executed, strict=True)):
        cell.execution_count = place + 1
        cell.outputs = [_output(output, run, where[id(cell)], lines[place]) for output in done.outputs]
    for place, cell in enumerate(merged.cells):
        cell["id"] = f"cell-{place}"
        if cell.cell_type == "markdown":
            cell.source = FORMATTED.sub(lambda found: _fitting(found, run), cell.source)
    return merged


def _fitting(found: re.Match[str], run: Run) -> str:
    """A reference to a result, without its number format where the run recorded words or nothing defined there."""
    result = run.results.get(found[1])
    return found[0] if result is None or isinstance(result["value"], int | float) else f"{{glue:text}}`{found[1]}`"


def _output(output: nbformat.NotebookNode, run: Run, place: int, lines: tuple[int, int]) -> nbformat.NotebookNode:
    """A run's output with the provenance line put under its figures."""
    page = output.get("data", {}).get("text/html", "")
    if "</figure>" in page:
        name = re.search(r'<figure[^>]* id="([^"]+)"', page)
        words = re.search(r'<svg[^>]* aria-label="([^"]*)"', page)
        caption = captions.provenance(run, place, lines, name[1] if name else None, words[1] if words else "")
        output["data"]["text/html"] = page.replace("</figure>", caption + "</figure>")
    return output
