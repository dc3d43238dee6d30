"""What prose may not do: show a number that no run recorded, or say of all models what was seen of one; what figures must say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.deflist import deflist_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.front_matter import front_matter_plugin
from mdit_py_plugins.myst_blocks import myst_block_plugin
from mdit_py_plugins.myst_role import myst_role_plugin

from functional_self import paths

NUMBER = re.compile(r"(?<![\w.#/-])[-+−]?(?:\d+(?:[.,]\d+)*|\.\d+)(?:\s?%|(?![\w-]))")
YEAR = re.compile(r"^(?:1[89]|20)\d\d$")
DECIMAL = re.compile(r"\d*[.]\d+|\d+\s*\\?%")
PLACE = re.compile(r"(?:[Cc]hapter|[Ss]ection|[Ss]ession|[Pp]age|[Ee]quation)s?\s(?:\d+(?:, | and | to ))*$")
NAMED = re.compile(r"\b(?:Claude|GPT|Gemma|Gemini|Llama|OLMo|Tulu|Qwen|SmolLM)\s$")
"""What a number may follow: a place in the book, or the family of a model's name."""
EVERY = re.compile(
    r"(?P<before>(?:[\w'-]+\s+){0,3})\b(?:LLMs|[Mm]odels|(?:[Cc]hat|AI)\s+assistants)\s+"
    r"(?:(?:also|always|never|often|usually|generally|typically|mostly|merely|simply|really|already|only)\s+)?"
    r"(?:do|are|were|have|had|can|cannot|could|will|would|must|express|prefer|behave|believe|converge|internali[sz]e|fill|hold|know|"
    r"want|learn|tend|show|follow|answer|seem|appear|generali[sz]e|agree|lack|possess|understand|persist)\b"
)
"""A sentence whose subject is models at large, unless a word ``before`` makes them another thing's models, or known ones."""
POINTED = {"of", "in", "by", "among", "between", "from", "with", "about", "than", "for", "to", "the"}
SUBJECT = re.compile(
    r"SmolLM2|gemma-3|Gemma|Llama-3|OLMo-3|Tulu-3|Claude 3|GPT-|random-weights|`[\w.+-]+`|"
    r"\{cite:[pt]\}|\{fs-result\}|\{glue:text\}"
)
ATTRIBUTED = re.compile(
    r"\?|\b(?:whether|if|that|suppose|imagine|claims?|claimed|discussion|agenda|essay|thread|argues?|holds?|says?|said|reports?|reply|replies|"
    r"objection|hypothes[ie]s|predicts?|paraphrase|these|those|such|some|two|several|both)\b",
    flags=re.IGNORECASE,
)
"""What makes it no generalisation of ours: a question, a condition, somebody's claim, or models that were pointed at."""
COUNT = re.compile(r"\bn\s*=\s*\d")
SPREAD = re.compile(r"\b(?:intervals?|bounds?)\b")
"""How sure a mark is, or that it has no interval."""
DIRECTIVE = re.compile(r"\{([\w:-]+)\}")
VERBATIM = ("code-cell", "code-block", "code", "math", "bibliography", "raw", "toctree", "figure", "image")

_parser = (
    MarkdownIt("commonmark")
    .enable("table")
    .use(front_matter_plugin)
    .use(myst_role_plugin)
    .use(myst_block_plugin)
    .use(dollarmath_plugin)
    .use(deflist_plugin)
)


def numbers(text: str, offset: int = 0) -> Iterator[tuple[int, str]]:
    """Line and text of every literal number in MyST prose.

    Code, roles, addresses, years, and chapter and section numbers are not prose; in mathematics only decimals and
    percentages count, since an exponent or a factor is notation. Directives' bodies are read as prose, except
    those that hold code, mathematics or lists of files.
    """
    for token in _parser.parse(text):
        line = offset + (token.map[0] + 1 if token.map else 1)
        if token.type == "inline":
            yield from _inline(token, line)
        elif token.type == "math_block":
            yield from ((line, found.group()) for found in DECIMAL.finditer(token.content))
        elif (body := _body(token)) is not None:
            yield from numbers(DIRECTIVE.sub("", token.info.strip(), count=1), line - 1)
            yield from numbers(body, line)


def generalisations(text: str, offset: int = 0) -> Iterator[tuple[int, str]]:
    """Line and sentence of every statement about models at large that names no subject, cites nobody and is nobody's claim.

    A sentence is left alone where it is a question or a condition, is attributed, names a subject (or cites a work, or shows
    a result, whose subject is on record), or points at models named before (*these*, *both*). List items and cells are sentences.
    """
    for line, content in _prose(text, offset):
        at = 0
        for sentence in re.split(r"(?<=[.!?:;])\s+", content):
            place = content.index(sentence, at)
            at = place + len(sentence)
            found = EVERY.search(sentence)
            if not found or POINTED & set(found["before"].lower().split()):
                continue
            if not SUBJECT.search(sentence) and not ATTRIBUTED.search(sentence):
                yield line + content.count("\n", 0, place), " ".join(sentence.split())


def page(path: Path) -> list[str]:
    """One sentence per literal number and per generalisation in a page's prose, with file and line."""
    text, where = path.read_text(encoding="utf-8"), paths.shown(path)
    return [
        f"{where}:{line}: the number '{number.strip()}' in the prose has no record; "
        "record it in the chapter and refer to it, or write it as code or as a word"
        for line, number in numbers(text)
    ] + [
        f"{where}:{line}: '{sentence[:90]}' speaks of models at large; name the subject and revision, or say whose claim it is"
        for line, sentence in generalisations(text)
    ]


def figure(path: Path) -> list[str]:
    """One sentence for everything that a run's figure says neither in its picture nor in its description."""
    where, svg = paths.shown(path), path.read_text(encoding="utf-8")
    try:
        if "<!" in svg.replace("<!--", ""):
            raise ElementTree.ParseError("it has a declaration")
        root = ElementTree.fromstring(svg)  # noqa: S314 - without a declaration there are no entities
    except ElementTree.ParseError as error:
        return [f"{where}: is no figure that 'show_figure' wrote: {error}"]
    described = root.get("aria-label", "")
    said = " ".join([described, *root.itertext()])
    panels = _groups(root, r"-axes_\d+$")
    wrong = {
        "has no description; give 'show_figure' one": len(described) < 20,
        "has a panel with neither an axis label nor a title; say what is drawn": not all(map(_named, panels)),
        "does not say how many it shows; write 'n = ...' in a label, a title or the description": not COUNT.search(said),
        "does not say which interval its marks have, or that they have no interval": not SPREAD.search(said),
    }
    return [f"{where}: {what}" for what, holds in wrong.items() if holds]


def _groups(parent: ElementTree.Element, named: str, deep: bool = True) -> list[ElementTree.Element]:
    """The groups of a drawing whose id ends so; without ``deep`` those right under the parent."""
    below = parent.iter() if deep else parent
    return [part for part in below if re.search(named, part.get("id", ""))]


def _named(panel: ElementTree.Element) -> bool:
    """Whether a panel has a title or an axis a label: texts right under it, where tick labels stand in groups of their own."""
    axes = _groups(panel, r"-matplotlib\.axis_\d+$", deep=False)
    return any(_groups(part, r"-text_\d+$", deep=False) for part in (panel, *axes))


def _prose(text: str, offset: int) -> Iterator[tuple[int, str]]:
    """Line and text of every paragraph, list item and table cell, those in directives' bodies as well, but no quotation."""
    quoted = 0
    for token in _parser.parse(text):
        quoted += {"blockquote_open": 1, "blockquote_close": -1}.get(token.type, 0)
        line = offset + (token.map[0] + 1 if token.map else 1)
        if token.type == "inline" and not quoted:
            yield line, token.content
        elif body := _body(token):
            yield from _prose(body, line)


def _body(token: Token) -> str | None:
    """The prose in a directive, without its options; None for other tokens and for directives that hold no prose."""
    name = DIRECTIVE.match(token.info.strip()) if token.type == "fence" else None
    if name is None or name[1] in VERBATIM:
        return None
    return "\n".join("" if re.match(r":[\w-]+:", row) else row for row in token.content.splitlines())


def _inline(token: Token, line: int) -> Iterator[tuple[int, str]]:
    inside_autolink = False
    for child in token.children or []:
        if child.type in ("softbreak", "hardbreak"):
            line += 1
        elif child.type == "link_open":
            inside_autolink = child.info == "auto"
        elif child.type == "link_close":
            inside_autolink = False
        elif child.type in ("math_inline", "math_inline_double"):
            yield from ((line, found.group()) for found in DECIMAL.finditer(child.content))
        elif child.type == "text" and not inside_autolink:
            for found in NUMBER.finditer(child.content):
                before = child.content[: found.start()]
                if not YEAR.match(found.group().strip()) and not PLACE.search(before) and not NAMED.search(before):
                    yield line, found.group()
