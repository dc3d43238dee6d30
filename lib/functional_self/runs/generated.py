"""Generated parts of pages: kept until what they are made from changes, and a page is read again where a part says otherwise."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

from functional_self import paths
from functional_self.errors import FunctionalSelfError, one_line

KEY = "functional_self_generated"
"""Key of a page's metadata: the digest of what its generated parts said, by name and argument."""
INPUTS = "functional_self_inputs"
"""Attribute of the environment: the digest of what generated parts were made from at the last build."""
SAID = "functional_self_said"
"""Attribute of the environment: what the parts said that were made from these, by name and argument."""
FENCED = re.compile(r"^```.*?^```$", flags=re.MULTILINE | re.DOTALL)
Made = Callable[[str], str]
"""HTML from an argument, empty where there is none; raises FunctionalSelfError."""
_MADE: dict[str, Made] = {}
_CACHES: list[Any] = []


def add(app: Sphinx, directives: Mapping[str, Made], others: Mapping[str, Made], caches: Iterable[Any]) -> None:
    """Register functions as directives, and ``others`` for ``part`` and as roles.

    ``caches`` are what the functions share within a build, forgotten at the next; what they said is kept with the environment.
    """
    app.setup_extension(__name__)
    _MADE.update({**directives, **others})
    _CACHES.extend(caches)
    for name in directives:
        app.add_directive(name, _Directive)
    for name in others:
        app.add_role(name, _Role())


def part(env: Any, name: str, argument: str) -> nodes.raw:
    """A generated part for the page that is being read, which remembers what it said."""
    made = _said(env, name, argument)
    env.metadata[env.docname].setdefault(KEY, {})[name, argument] = paths.digest(made)
    return nodes.raw("", made, format="html")


class _Directive(SphinxDirective):
    """HTML made by the function registered under the directive's name; ``this-chapter`` is the name of the page."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        argument = self.arguments[0] if self.arguments else ""
        if argument == "this-chapter":
            argument = self.env.docname.rpartition("/")[2]
        try:
            return [part(self.env, self.name, argument)]
        except FunctionalSelfError as error:
            raise self.error(one_line(error)) from error


class _Role(SphinxRole):
    """The same within a sentence."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        try:
            return [part(self.env, self.name, self.text)], []
        except FunctionalSelfError as error:
            message = self.inliner.reporter.error(one_line(error), line=self.lineno)
            return [self.inliner.problematic(self.rawtext, self.rawtext, message)], [message]


def _said(env: Any, name: str, argument: str) -> str:
    kept: dict[tuple[str, str], str] = getattr(env, SAID)
    if (name, argument) not in kept:
        kept[name, argument] = _MADE[name](argument)
    return kept[name, argument]


def _forget(app: Sphinx) -> None:
    for cache in _CACHES:
        cache.cache_clear()


def _outdated(app: Sphinx, env: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Pages whose generated parts would say something else now."""
    inputs = _inputs()
    if getattr(env, INPUTS, None) == inputs:
        return []
    setattr(env, INPUTS, inputs)
    setattr(env, SAID, {})

    def differs(name: str, argument: str, old: str) -> bool:
        try:
            return paths.digest(_said(env, name, argument)) != old
        except FunctionalSelfError:
            return True

    return [
        page
        for page, meta in env.metadata.items()
        if any(differs(name, argument, old) for (name, argument), old in meta.get(KEY, {}).items())
    ]


def _inputs() -> str:
    """Digest of what generated parts are made from: sizes and times of files, and of chapters what stands between fences."""
    root = paths.root()
    folders = [paths.LIBRARY, paths.runs(), *(root / name for name in ("runs", "claims", "params", "organisms"))]
    files = [root / name for name in ("_config.yml", "_toc.yml", "CITATION.cff", "requirements.lock", "book/glossary.md")]
    files += (root / "book").rglob("*.yml")
    files += [path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts]
    for manifest in (root / "runs").glob("*/manifest.json"):
        files += map(Path, json.loads(manifest.read_text(encoding="utf-8"))["materials"])  # a reader's own are absolute
    stats = ((str(path), path.stat()) for path in sorted(set(files)) if path.is_file())
    found: dict[str, object] = {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats}
    for path in sorted((root / "chapters").glob("*.md")):
        found[str(path)] = FENCED.findall(path.read_text(encoding="utf-8"))
    return paths.digest(repr(found))


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to a build; ``add`` calls this once."""
    app.connect("builder-inited", _forget)
    app.connect("env-get-outdated", _outdated)
    return {"env_version": 2, "parallel_read_safe": True, "parallel_write_safe": True}
