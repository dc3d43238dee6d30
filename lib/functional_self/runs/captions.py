"""Where a page's evidence comes from, said on the page: the line under a figure, a chapter's badges, how to cite it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import yaml

from functional_self import paths
from functional_self.runs import published
from functional_self.runs.chapter import Chapter
from functional_self.runs.execute import Run

STATUS = "../book/status.html"
BADGES = {"published": "◆", "re-executed here": "✓", "remote": "⇄", "stale": "!", "not run": "□"}
FEW = 4


def provenance(run: Run, place: int, lines: tuple[int, int], figure: str | None, words: str = "") -> str:
    """The lines under a figure: its words, and run, parameters, subjects, commit, cell and source lines that drew it, as links.

    ``place`` is the cell's place in the notebook, ``lines`` its first and last line in the chapter's source; ``words`` are HTML,
    the drawing's own label, so they are not read out twice.
    """
    manifest: dict[str, Any] = run.manifest
    name = manifest["chapter"]
    changed = "".join(f", {key} = {value}" for key, value in manifest["overrides"].items())
    dirty = " with uncommitted changes" if manifest["dirty"] else ""
    parts = [
        _link(f"{STATUS}#run-{name}", f"run {run.name}"),
        _link(f"#parameters-{name}", f"preset {manifest['preset']}{changed}"),
        html.escape(f"subject {few(list(manifest['subjects']))}"),
        html.escape(f"commit {manifest['commit'][:10]}{dirty}"),
        _link(f"#cell-{place}", f"chapters/{name}.md, lines {lines[0]}–{lines[1]}"),
        *([_link(f"#{figure}", "this figure")] if figure else []),
    ]
    said = f'<p class="fs-words" aria-hidden="true">{words}</p>' if words else ""
    return f'<figcaption class="fs-provenance">{said}Published: {" · ".join(parts)}</figcaption>'


def few(names: list[str]) -> str:
    """Names, of more than ``FEW`` the first two, the last and their number: the run's manifest has them all."""
    return ", ".join(names) if len(names) <= FEW else f"{names[0]}, {names[1]}, … {names[-1]} ({len(names)} in all)"


def lines(chapter: Chapter) -> list[tuple[int, int]]:
    """First and last line of every code cell in the chapter's source, in order."""
    text, found, start = chapter.path.read_text(encoding="utf-8"), [], 0
    for source in chapter.code:
        start = max(text.find(source, start), start)
        first = text.count("\n", 0, start) + 1
        start += len(source)
        found.append((first, first + source.count("\n")))
    return found


def badges(name: str, reasons: Sequence[str], executing: bool) -> str:
    """A chapter's badges: published and how, stale and why (``reasons``), remote, run again on this machine or not.

    ``executing`` is for a page whose cells ran while it was built.
    """
    found: list[tuple[str, str, str]] = []
    run, here = (published.find(name, kind) for kind in published.KINDS)
    if executing:
        found.append(("re-executed here", "while this page was built", ""))
    if run is None:
        found.append(("not run", "no published run", ""))
    else:
        found.append(("published", f"preset {run.manifest['preset']}", f"{STATUS}#run-{name}"))
        if run.manifest["device"] == "remote":
            found.append(("remote", "asked on a server", f"{STATUS}#run-{name}"))
        if reasons:
            found.append(("stale", reasons[0], STATUS))
    if here is not None:
        found.append(("re-executed here", f"preset {here.manifest['preset']}", f"{STATUS}#run-{name}-local"))
    elif not executing and run is not None:
        found.append(("not run", "on this machine", STATUS))
    items = ""
    for kind, said, link in found:
        text = f"<strong>{BADGES[kind]} {kind}</strong> {html.escape(said)}"
        inside = f'<a href="{html.escape(link)}">{text}</a>' if link else text
        items += f'<li class="fs-badge fs-badge-{kind.replace(" ", "-")}">{inside}</li>'
    return f'<ul class="fs-badges" aria-label="Where the results of this page come from">{items}</ul>'


def cite(chapter: str, title: str) -> str:
    """How to cite a chapter and its figures: folded, from ``CITATION.cff`` and the published run."""
    path, run = paths.root() / "CITATION.cff", published.find(chapter)
    if not path.is_file() or run is None:
        return ""
    book = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    authors = " and ".join(_author(author) for author in book["authors"])
    year = str(book["date-released"])[:4]
    entry = (
        f"@incollection{{functional-self-{chapter},\n  author = {{{{{authors}}}}},\n  title = {{{title}}},\n"
        f"  booktitle = {{{book['title']}}},\n  year = {{{year}}},\n  version = {{{book['version']}}},\n"
        f"  note = {{run {run.name}, commit {run.manifest['commit'][:10]}}}\n}}"
    )
    names = [f"figure-{figure['name']}" for figure in run.manifest["figures"]]
    figures = "".join(f"<li>{_link(f'#{name}', name)}</li>" for name in names)
    return (
        '<details class="fs-cite"><summary>How to cite this chapter and its figures</summary>'
        f'<pre tabindex="0">{html.escape(entry)}</pre>'
        "<p>Cite a figure by the chapter, the run and the figure's name, which is also its address on this page:</p>"
        f"<ul>{figures}</ul></details>"
    )


def _link(address: str, text: str) -> str:
    return f'<a href="{html.escape(address)}">{html.escape(text)}</a>'


def _author(author: dict[str, str]) -> str:
    return author.get("name") or " ".join(x for x in (author.get("given-names"), author.get("family-names")) if x)
