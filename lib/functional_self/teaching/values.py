"""Prose of the teaching files with numbers of published runs in it: ``{{CHAPTER NAME}}``, always escaped."""

from __future__ import annotations

import html
import re
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

from functional_self import paths
from functional_self.errors import RunError
from functional_self.runs import published
from functional_self.runs.execute import Run

REFERENCE = re.compile(r"\{\{([\w-]+) ([^{}|]+?)(?:\|([^{}]+))?\}\}")
"""``{{01-void gates/subject/count}}``; ``.n``, ``.full`` and ``.interval`` as in the chapters, a format after ``|``."""

_markdown = MarkdownIt("commonmark", {"html": False})


def run_of(chapter: str) -> Run:
    """The chapter's published run; raises RunError where there is none."""
    run = published.find(chapter)
    if run is None:
        raise RunError(f"teaching: chapter '{chapter}' has no published run")
    return run


def prose(text: str) -> str:
    """Markdown as HTML, the numbers put in after it so that no recorded text is read as markup."""
    held: list[str] = []

    def hold(match: re.Match[str]) -> str:
        held.append(html.escape(published.result(match[1], match[2], match[3] or "")[1]))
        return f"\ue000{len(held) - 1}\ue001"

    page = _markdown.render(REFERENCE.sub(hold, text))
    return re.sub("\ue000(\\d+)\ue001", lambda match: held[int(match[1])], page)


def figure(name: str) -> str:
    """A figure of a published run, ``CHAPTER/FIGURE``, as inline SVG with ids of its own and the run it came from beneath it."""
    chapter, _, plain = name.partition("/")
    run = run_of(chapter)
    path = run.path / "figures" / f"{plain}.svg"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.svg")))
        raise RunError(f"teaching: the published run of '{chapter}' has no figure '{plain}'; it has {known}")
    svg = re.sub(r'\bid="', f'id="{chapter}-', path.read_text(encoding="utf-8"))
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{chapter}-", svg)
    return f"<figure{_tall(svg)}>{svg}<figcaption>{html.escape(origin(run))}</figcaption></figure>"


def _tall(svg: str) -> str:
    """What a drawing more than half as high again as it is wide needs on a slide: to be scrolled, by keyboard too."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    return ' class="fs-tall" tabindex="0"' if box and float(box[2]) > 1.5 * float(box[1]) else ""


def origin(run: Run) -> str:
    """Which run a number or a figure comes from, in one line."""
    made = run.manifest
    subjects = ", ".join(made["subjects"]) if len(made["subjects"]) < 4 else f"{len(made['subjects'])} subjects"
    return f"Published run {run.name}, preset {made['preset']}, {subjects}, commit {made['commit'][:10]}."


def definition(term: str) -> str:
    """A word's entry in the glossary, as plain text; raises RunError where it has none."""
    found = _glossary(paths.root() / "book" / "glossary.md")
    if term not in found:
        raise RunError(f"teaching: book/glossary.md has no entry '{term}'")
    return found[term]


@cache
def _glossary(path: Path) -> dict[str, str]:
    text = path.read_text(encoding="utf-8")
    entries = re.findall(r"^(\w[^\n]*)\n  ([^\n]+)", text, flags=re.MULTILINE)
    return {term.strip(): re.sub(r"\{term\}`([^`<]+?)(?:\s*<[^`]*>)?`", r"\1", said) for term, said in entries}
