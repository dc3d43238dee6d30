"""The API reference: public functions and classes of a module with their docstrings, read without importing it."""

from __future__ import annotations

import ast
import html
import re
from functools import cache
from pathlib import Path

from functional_self import paths
from functional_self.errors import RunError

_HEADED = re.compile(r"^(Args|Arguments|Parameters|Returns|Raises|Example|Examples|Source):\s*$")


def page(module: str) -> str:
    """A definition list of a module's public names, in the order of its source."""
    return "<dl class='fs-api'>" + "".join(_entry(module, node) for node in _public(module)) + "</dl>"


def link(name: str) -> str:
    """A link to a function's place in the reference; raises RunError where the library has no such public name."""
    module, _, bare = name.rpartition(".")
    if bare not in {node.name for node in _public(module)}:
        raise RunError(
            f"fs-function: functional_self.{module} has no public '{bare}' of its own; name the module that defines it"
        )
    return f'<a href="../book/api.html#api-{name}"><code>{html.escape(name)}</code></a>'


def signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    """``(a: int, b: str = 'x') -> float``; a class has the fields of its body, or its ``__init__``'s arguments."""
    if isinstance(node, ast.FunctionDef):
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"({ast.unparse(node.args)}){returns}"
    init = next((x for x in node.body if isinstance(x, ast.FunctionDef) and x.name == "__init__"), None)
    if init is not None:
        return "(" + ast.unparse(init.args).removeprefix("self").removeprefix(", ") + ")"
    return "(" + ", ".join(ast.unparse(x) for x in node.body if isinstance(x, ast.AnnAssign)) + ")"


def text(docstring: str) -> str:
    """A docstring as HTML: paragraphs, double backticks as code, and headed parts (``Raises:``) as paragraphs of their own."""
    found = []
    for block in re.split(r"\n\s*\n", docstring.strip()):
        rows = block.strip().splitlines()
        head = ""
        if match := _HEADED.match(rows[0].strip()):
            head, rows = f"<strong>{match[1]}.</strong> ", rows[1:]
        body = re.sub("``(.+?)``", r"<code>\1</code>", html.escape(" ".join(row.strip() for row in rows)))
        found.append(f"<p>{head}{body}</p>")
    return "".join(found)


def _entry(module: str, node: ast.FunctionDef | ast.ClassDef) -> str:
    name = f"{module}.{node.name}"
    what = "class " if isinstance(node, ast.ClassDef) else ""
    shown = html.escape(f"{what}{node.name}{signature(node)}")
    inner = ""
    if isinstance(node, ast.ClassDef):
        methods = [x for x in node.body if isinstance(x, ast.FunctionDef) and not x.name.startswith("_") and ast.get_docstring(x)]
        inner = "".join(
            f"<dt><code>{html.escape(x.name + signature(x))}</code></dt><dd>{text(ast.get_docstring(x) or '')}</dd>"
            for x in methods
        )
        inner = f"<dl>{inner}</dl>" if inner else ""
    return f'<dt id="api-{name}"><code>{shown}</code></dt><dd>{text(ast.get_docstring(node) or "")}{inner}</dd>'


@cache
def _public(module: str) -> tuple[ast.FunctionDef | ast.ClassDef, ...]:
    """Functions and classes with a docstring and no leading underscore that the module itself defines."""
    path = _path(module)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")]
    return tuple(node for node in found if ast.get_docstring(node))


def _path(module: str) -> Path:
    base = paths.LIBRARY.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    raise RunError(f"the library has no module 'functional_self.{module}'")
