"""A chapter's source: its cells, its parameters and the prose around them."""

from __future__ import annotations

import ast
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import papermill
import yaml

from functional_self import materials, paths, subjects
from functional_self.errors import FunctionalSelfError, ParameterError, RunError

TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list}
MATERIALS = ("items", "specifications", "contexts", "personas", "wordings", "drift", "stories", "labels")
_RULE = re.compile(r"^(?P<help>.*?)\s*\[(?P<rule>[^\]]+)\]$")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a chapter, as its line in the parameters cell says.

    ``name: type = default  # help [rule]``; the rule is ``lo..hi`` for numbers, ``a|b`` for choices,
    ``subject`` for a subject's name, or a kind of material (items, specifications, ...). A ``list`` holds texts, none
    twice, each of which keeps the rule; ``|`` before a rule (``|subject``) accepts an empty text as well.
    """

    name: str
    type: str
    default: Any
    help: str
    rule: str

    def check(self, value: Any, where: str) -> Any:
        """The value, converted and checked; raises ParameterError saying what is accepted."""
        kind: Any = TYPES[self.type]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ParameterError(f"{where}: {self.name} = {value!r}: {self.type} is accepted ({self.help}) [{self.rule}]")
        try:
            if kind is list:
                if not all(type(entry) is str for entry in value) or len(set(value)) < len(value):
                    raise ParameterError(f"{value!r}: a list of different texts is accepted ({self.help})")
                for entry in value:
                    self._obey(entry, str)
            else:
                self._obey(value, kind)
        except FunctionalSelfError as error:
            raise ParameterError(f"{where}: {self.name}: {error}") from error
        return value

    def _obey(self, value: Any, kind: Any) -> None:
        """Raise where one value breaks the rule."""
        if ".." in self.rule:
            low, high = (kind(x) for x in self.rule.split(".."))
            if not low <= value <= high:
                raise ParameterError(f"{value!r} is out of range; {low} to {high} is accepted ({self.help})")
        elif self.kind == "subject" and self.named(value):
            subjects.resolve(value)
        elif self.kind in MATERIALS and self.named(value):
            materials.find(self.kind, value)
        elif self.kind not in ("subject", *MATERIALS) and "|" in self.rule and value not in self.rule.split("|"):
            raise ParameterError(f"{value!r} is not accepted; use one of {self.rule.replace('|', ', ')}")

    @property
    def kind(self) -> str:
        """``subject`` or a kind of material where the rule says so, with or without the leading ``|``."""
        return self.rule.removeprefix("|")

    def named(self, value: Any) -> list[str]:
        """The names a value holds: of subjects or of material files."""
        return [name for name in (value if isinstance(value, list) else [value]) if name or not self.rule.startswith("|")]

    def parse(self, text: str) -> Any:
        """A command line's text as this parameter's type, unchecked where it does not read as one."""
        if self.type == "str":
            return text
        if self.type == "list" and not text.lstrip().startswith("["):
            return [part.strip() for part in text.split(",") if part.strip()]
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return {"true": True, "false": False}.get(text.lower(), text)


BACKEND = Parameter("backend", "str", "local", "where subjects are asked: on this machine, or on the NDIF server", "local|remote")
DEVICE = Parameter("device", "str", "cpu", "what this machine computes on: its processor, or a GPU of its own", "cpu|cuda|mps")
"""Parameters of every chapter; they reach ``subjects.load`` by the environment, so that no chapter has to pass them on."""


@dataclass(frozen=True)
class Chapter:
    """A chapter read from ``chapters/NAME.md``."""

    name: str
    path: Path
    notebook: nbformat.NotebookNode = field(repr=False)
    parameters: dict[str, Parameter]

    @property
    def code(self) -> list[str]:
        """The source of every code cell, in order."""
        return [cell.source for cell in self.notebook.cells if cell.cell_type == "code"]

    def resolve(self, preset: str, overrides: dict[str, str] | None = None) -> dict[str, Any]:
        """Default, then preset, then override for every parameter, all checked."""
        values = {p.name: p.default for p in self.parameters.values()}
        where = f"preset '{preset}'"
        for name, value in presets()[_known_preset(preset)].get(self.name, {}).items():
            values[name] = self._get(name, f"params/{preset}.yml: {self.name}").check(value, where)
        for name, text in (overrides or {}).items():
            parameter = self._get(name, "-p")
            values[name] = parameter.check(parameter.parse(text), "-p")
        for parameter in self.parameters.values():
            parameter.check(values[parameter.name], f"{paths.shown(self.path)}: parameters cell")
        return values

    def _get(self, name: str, where: str) -> Parameter:
        if name not in self.parameters:
            raise ParameterError(f"{where}: chapter '{self.name}' has no parameter '{name}'; it has {', '.join(self.parameters)}")
        return self.parameters[name]


def chapters() -> list[str]:
    """Names of the chapters in the table of contents, in its order."""
    toc = yaml.load((paths.root() / "_toc.yml").read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    files: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if str(node.get("file", "")).startswith("chapters/"):
                files.append(Path(node["file"]).stem)
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(toc)
    return files


def load(name: str) -> Chapter:
    """Read a chapter by name (``01-void``); a path ending in .md is read as it is. Raises RunError."""
    path = Path(name).resolve() if name.endswith(".md") else paths.root() / "chapters" / f"{name}.md"
    if not path.is_file():
        raise RunError(f"chapter '{name}': {paths.shown(path)} does not exist; there are {', '.join(chapters()) or 'none'}")
    try:
        notebook = jupytext.read(path, fmt="md:myst")
    except Exception as error:
        raise RunError(f"{paths.shown(path)}: not a MyST notebook: {' '.join(str(error).split())}") from error
    return Chapter(path.stem, path, notebook, _parameters(notebook, paths.shown(path)))


def presets() -> dict[str, dict[str, dict[str, Any]]]:
    """The presets of ``params/``: by name, then chapter, then parameter."""
    found = {}
    for path in sorted((paths.root() / "params").glob("*.yml")):
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) or {}
        if not isinstance(raw, dict) or not all(isinstance(v, dict | None) for v in raw.values()):
            raise ParameterError(f"{paths.shown(path)}: a preset maps chapter names to parameters")
        found[path.stem] = {chapter: values or {} for chapter, values in raw.items()}
    return found


def _known_preset(name: str) -> str:
    if name not in presets():
        raise ParameterError(f"preset '{name}' does not exist; params/ has {', '.join(presets())}")
    return name


def _parameters(notebook: nbformat.NotebookNode, where: str) -> dict[str, Parameter]:
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ParameterError(f"{where}: needs exactly one cell tagged 'parameters', has {len(cells)}")
    found = {}
    with tempfile.NamedTemporaryFile("w", suffix=".ipynb", encoding="utf-8") as file:
        nbformat.write(notebook, file)
        file.flush()
        inspected = papermill.inspect_notebook(file.name)
    for name, raw in inspected.items():
        match = _RULE.match(raw["help"])
        if raw["inferred_type_name"] not in TYPES or match is None:
            raise ParameterError(
                f"{where}: parameter '{name}': write 'name: type = default  # help [rule]' with type one of {', '.join(TYPES)}"
            )
        try:
            default = ast.literal_eval(raw["default"])
        except (ValueError, SyntaxError) as error:
            raise ParameterError(f"{where}: parameter '{name}': the default must be a literal") from error
        found[name] = Parameter(name, raw["inferred_type_name"], default, match["help"], match["rule"])
    if taken := found.keys() & {BACKEND.name, DEVICE.name}:
        raise ParameterError(f"{where}: parameter '{min(taken)}' is every chapter's already; leave it out of the cell")
    return found | {BACKEND.name: BACKEND, DEVICE.name: DEVICE}
