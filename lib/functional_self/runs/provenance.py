"""What a run depends on, and what changed since."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from functional_self import materials, paths, subjects
from functional_self.materials.check import READERS
from functional_self.runs.chapter import Chapter

PACKAGES = ("torch", "transformers", "nnsight", "numpy", "pandas", "scipy")
"""Packages whose version can change a number."""


PLANS = "subjects/planned.py"
"""What a plan is counted by; no run asks it."""


def determinants(chapter: Chapter, parameters: dict[str, Any], trained: bool = True) -> dict[str, Any]:
    """Everything known beforehand that can change a result: what the run's key is the hash of.

    ``code`` per code cell, ``library`` per module of the import closure, ``materials`` per file the
    parameters name, ``subjects`` per subject they name, ``parameters``, pinned ``packages``. ``trained``: see
    ``subjects.revision``.
    """
    files: dict[str, str] = {}
    asked: dict[str, str] = {}
    for parameter in chapter.parameters.values():
        value = parameters[parameter.name]
        for name in parameter.named(value) if parameter.kind in ("subject", *READERS) else ():
            if parameter.kind == "subject":
                asked[name] = subjects.identity(name, parameters.get("backend", "local"), trained)
            else:
                files |= _material(parameter.kind, name)
    return {
        "chapter": chapter.name,
        "code": [paths.digest(source.strip()) for source in chapter.code],
        "defaults": {p.name: p.default for p in chapter.parameters.values()},
        "parameters": parameters,
        "library": closure(chapter.code),
        "materials": files,
        "subjects": asked,
        "packages": pins(),
    }


def key(determined: dict[str, Any]) -> str:
    """The run's key: ten hexadecimal digits of the hash of its determinants."""
    return paths.digest(json.dumps(determined, sort_keys=True), 10)


def changes(old: dict[str, Any], new: dict[str, Any], chapter: Chapter) -> list[str]:
    """One sentence per determinant that differs between a run's manifest and now, naming the file."""
    said = []
    source = paths.shown(chapter.path)
    for name in sorted(old["defaults"].keys() | new["defaults"].keys()):
        was, now = old["defaults"].get(name), new["defaults"].get(name)
        if was != now:
            said.append(f"{source}: default of parameter '{name}' changed from {was!r} to {now!r}")
    if old["code"] != new["code"] and not said:
        cells = [i + 1 for i, pair in enumerate(zip(old["code"], new["code"], strict=False)) if pair[0] != pair[1]]
        which = f"code cell {cells[0]} changed" if cells else f"{len(old['code'])} code cells became {len(new['code'])}"
        said.append(f"{source}: {which}")
    for name in sorted(old["parameters"].keys() | new["parameters"].keys()):
        was, now = old["parameters"].get(name), new["parameters"].get(name)
        if was != now:
            said.append(
                f"params/{old.get('preset', 'published')}.yml or {source}: parameter '{name}' is now {now!r}, was {was!r}"
            )
    for kind, where in (
        ("library", "lib/functional_self/"),
        ("materials", "lib/functional_self/materials/data/"),
        ("subjects", ""),
    ):
        for name in sorted(old[kind].keys() | new[kind].keys()):
            was, now = old[kind].get(name), new[kind].get(name)
            if was != now and name != PLANS:
                verb = "is new" if was is None else "is gone" if now is None else "changed"
                said.append(f"{where}{name} {verb}" if where else f"subject '{name}' {verb}: {now}, was {was}")
    for name in sorted(old["packages"].keys() | new["packages"].keys()):
        was, now = old["packages"].get(name), new["packages"].get(name)
        if was != now:
            said.append(f"requirements.lock: {name} {was} became {now}")
    return said


def closure(sources: list[str]) -> dict[str, str]:
    """Hashes of the library's modules that the sources import, directly or not, by path.

    Read from the source without importing; a package's own ``__init__`` counts. The hash is of the syntax
    tree without docstrings, so comments, docstrings and layout make nothing stale. Data that a
    module reads (the registry) is covered by the subjects and materials hashes.
    """
    found: dict[str, str] = {}
    waiting = {module for source in sources for tree in [_tree(source)] if tree for module in _imports(tree)}
    seen: set[str] = set()
    while waiting:
        seen.add(module := waiting.pop())
        for path in _files(module):
            name = path.relative_to(paths.LIBRARY).as_posix()
            if name not in found:
                found[name], imported = _module(path, path.stat().st_mtime_ns)
                waiting.update(imported)
        waiting -= seen
    found.pop(PLANS, None)
    return dict(sorted(found.items()))


@functools.cache
def _module(path: Path, changed: int) -> tuple[str, tuple[str, ...]]:
    """The hash of one module's syntax tree without docstrings, and what it imports; read again only where it changed."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hashed = paths.digest(ast.dump(_without_docstrings(tree)))
    return hashed, tuple(_imports(_relative_to(tree, path)))


def pins() -> dict[str, str]:
    """The exact versions in requirements.lock of the packages that can change a number."""
    lock = paths.root() / "requirements.lock"
    text = lock.read_text(encoding="utf-8") if lock.is_file() else ""
    found = dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, flags=re.MULTILINE))
    return {name: found[name] for name in PACKAGES if name in found}


def versions() -> dict[str, str]:
    """Installed versions of the same packages."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def commit() -> tuple[str, bool]:
    """The checkout's commit and whether it has uncommitted changes outside ``runs/``."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=paths.root(), capture_output=True, text=True)  # noqa: S607
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        return git("rev-parse", "HEAD") or "no commit", bool(git("status", "--porcelain", "--", ".", ":(exclude)runs"))
    except OSError:
        return "no git", True


def _material(kind: str, name: str) -> dict[str, str]:
    """Hash of a checked material file and of the files it refers to."""
    path = materials.find(kind, name)
    READERS[kind](name)
    inside = path.resolve().is_relative_to(materials.DATA)
    return {path.resolve().relative_to(materials.DATA).as_posix() if inside else str(path): paths.sha256(path)}


def _tree(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except SyntaxError:  # the notebook itself will say so
        return None


def _imports(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.split(".")[0] == "functional_self"]


def _relative_to(tree: ast.Module, path: Path) -> ast.Module:
    """Relative imports made absolute."""
    package = ["functional_self", *path.parent.relative_to(paths.LIBRARY).parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            node.module, node.level = ".".join([*base, *([node.module] if node.module else [])]), 0
    return tree


def _files(module: str) -> list[Path]:
    """The files that importing a dotted name runs: each package's ``__init__`` on the way, then the module."""
    files, here = [], paths.LIBRARY.parent
    for part in module.split("."):
        here = here / part
        files += [path for path in (here / "__init__.py", here.with_suffix(".py")) if path.is_file()]
    return files


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, False
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree
