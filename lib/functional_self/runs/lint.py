"""Prose shows numbers only from results: find the literal numbers in a page's prose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

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
PLACE = re.compile(r"(?:[Cc]hapter|[Ss]ection|[Ss]ession|[Pp]age|[Ee]quation)\s$")
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
        elif token.type == "fence" and (name := DIRECTIVE.match(token.info.strip())) and name[1] not in VERBATIM:
            body = "\n".join("" if re.match(r":[\w-]+:", row) else row for row in token.content.splitlines())
            yield from numbers(token.info.strip()[name.end() :], line - 1)
            yield from numbers(body, line)


def page(path: Path) -> list[str]:
    """One sentence per literal number in a page's prose, with file and line."""
    text = path.read_text(encoding="utf-8")
    return [
        f"{paths.shown(path)}:{line}: the number '{number.strip()}' in the prose has no record; "
        "record it in the chapter and refer to it, or write it as code or as a word"
        for line, number in numbers(text)
    ]


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
                if not YEAR.match(found.group().strip()) and not PLACE.search(child.content[: found.start()]):
                    yield line, found.group()
