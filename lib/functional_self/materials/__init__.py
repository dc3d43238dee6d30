"""What subjects are asked: items, specifications, contexts and personas, read from checked YAML files."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from functional_self.errors import MaterialError
from functional_self.materials.schema import (
    Context,
    ContextFile,
    DriftFile,
    DriftScript,
    Item,
    ItemFile,
    LabelFile,
    Persona,
    PersonaFile,
    Specification,
    StoryFile,
    Wording,
    WordingFile,
)
from functional_self.paths import shown

__all__ = [
    "Context",
    "DriftScript",
    "Item",
    "Persona",
    "Specification",
    "Wording",
    "agreed",
    "balanced",
    "contexts",
    "drift",
    "enacted",
    "find",
    "item_file",
    "items",
    "labels",
    "personas",
    "specification",
    "stories",
    "wordings",
]

DATA = Path(__file__).parent / "data"
MAX_DEPTH = 12
MAX_BYTES = 20_000_000
Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.CSafeLoader):
    """YAML without repeated keys: a file says what it seems to say."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key.value[:60]}' appears twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _plain(text: str) -> None:
    """Refuse what a reader would not expect behind plain YAML: anchors, aliases, tags, several documents, deep nesting."""
    depth = documents = 0
    event: Any
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        said = None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            said = "anchors and aliases are not accepted"
        elif tag := getattr(event, "tag", None):
            said = f"the tag {str(tag)[:60]!r} is not accepted"
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            said = "more than one document" if documents > 1 else None
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            said = f"nested more than {MAX_DEPTH} deep" if depth > MAX_DEPTH else None
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if said:
            raise yaml.composer.ComposerError(None, None, said, event.start_mark)


def find(kind: str, name: str, beside: Path | None = None) -> Path:
    """The file called ``name`` among the shipped ``kind`` (``items``, ``specifications``, ...), or the path given.

    A path that a material file names is relative to that file, ``beside``.
    """
    path = Path(name).expanduser() if name.endswith((".yml", ".yaml")) else DATA / kind / f"{name}.yml"
    if beside is not None:
        path = beside.parent / path
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (DATA / kind).glob("*.yml")))
        where = f"{shown(beside)}: " if beside is not None else ""
        raise MaterialError(f"{where}{kind}: '{name}' is neither one of {known} nor a .yml file that exists")
    return path


def items(name: str) -> tuple[Item, ...]:
    """The items of a file, their clauses checked against the specification the file names."""
    return item_file(name).items


def item_file(name: str) -> ItemFile:
    """A whole item file; read once while it does not change."""
    path = find("items", name)
    file = _parsed(path)
    clauses = {clause.id for clause in _specification(find("specifications", file.specification, path)).clauses}
    for item in file.items:
        for clause in item.clauses:
            if clause not in clauses:
                raise MaterialError(
                    f"{shown(path)}: item '{item.id}': clauses: specification '{file.specification}' has no clause '{clause}'"
                )
    return file


def _parsed(path: Path) -> ItemFile:
    status = path.stat()
    return _parse_once(path.resolve(), (status.st_mtime_ns, status.st_size))


@cache
def _parse_once(path: Path, stamp: tuple[int, int]) -> ItemFile:
    return _read(path, ItemFile)


def specification(name: str) -> Specification:
    """A written specification; the items it entails answers to are in the file it names."""
    return _specification(find("specifications", name))


def _specification(path: Path) -> Specification:
    found = _read(path, Specification)
    if found.items is not None:
        known = {item.id for item in _parsed(find("items", found.items, path)).items}
        for clause in found.clauses:
            if unknown := sorted(clause.entails.keys() - known):
                raise MaterialError(
                    f"{shown(path)}: clauses '{clause.id}': entails: items '{found.items}' has no item '{unknown[0]}'"
                )
    return found


def contexts(name: str = "default") -> tuple[Context, ...]:
    """The contexts of a file, in its order."""
    return _read(find("contexts", name), ContextFile).contexts


def personas(name: str = "default") -> tuple[Persona, ...]:
    """The personas of a file, in its order."""
    return _read(find("personas", name), PersonaFile).personas


def wordings(name: str) -> tuple[Wording, ...]:
    """Wordings of one specification, in the file's order."""
    path = find("wordings", name)
    file = _read(path, WordingFile)
    find("specifications", file.specification, path)
    return file.wordings


def drift(name: str = "eight-turns") -> tuple[DriftScript, ...]:
    """Drift scripts, in the file's order."""
    return _read(find("drift", name), DriftFile).scripts


def stories(name: str = "fiction") -> StoryFile:
    """Openings, coding rules and frames of chapter 5."""
    return _read(find("stories", name), StoryFile)


def labels(name: str) -> LabelFile:
    """A second labelling; every label belongs to an item of the file it names, and every item has one."""
    path = find("labels", name)
    file = _read(path, LabelFile)
    find("specifications", file.specification, path)
    ids = {item.id for item in _parsed(find("items", file.items, path)).items}
    for kind, wrong in (("unknown item", file.labels.keys() - ids), ("no label for item", ids - file.labels.keys())):
        if wrong:
            raise MaterialError(f"{shown(path)}: labels: {kind} '{min(wrong)}' of items '{file.items}' ({len(wrong)} in all)")
    return file


def agreed(name: str, labelling: str) -> tuple[Item, ...]:
    """The items on whose class both labellings agree: the headline's items."""
    second = labels(labelling).labels
    return tuple(item for item in items(name) if second[item.id] == item.item_class)


def balanced(items: tuple[Item, ...], per_class: int) -> tuple[Item, ...]:
    """The declared balanced subset: ``per_class`` items of each class, taken family by family in the file's order.

    The n-th pass takes the n-th item of every family, so the subset spreads over as many families as it can.
    """
    ranked: dict[str, list[tuple[int, int, Item]]] = {}
    seen: dict[str, int] = {}
    for place, item in enumerate(items):
        rank = seen.setdefault(item.family, 0)
        seen[item.family] += 1
        ranked.setdefault(item.item_class, []).append((rank, place, item))
    short = {c: len(rows) for c, rows in ranked.items() if len(rows) < per_class}
    if short:
        raise MaterialError(f"{per_class} items per class were asked for, but there are only {short}")
    chosen = [row for rows in ranked.values() for row in sorted(rows)[:per_class]]
    return tuple(item for _, _, item in sorted(chosen, key=lambda row: row[1]))


def enacted(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """The items that have enacted forms, these in the place of their self-reports."""
    return tuple(item.model_copy(update={"paraphrases": item.enacted}) for item in items if item.enacted)


def _read(path: Path, model: type[Model]) -> Model:
    """Read and check one YAML file; a problem is one line with file, place and what is accepted."""
    if (size := path.stat().st_size) > MAX_BYTES:
        raise MaterialError(f"{shown(path)}: {size:,} bytes; at most {MAX_BYTES:,} are read")
    try:
        text = path.read_text(encoding="utf-8")
        _plain(text)
        raw = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise MaterialError(f"{shown(path)}:{line} not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MaterialError(f"{shown(path)}: not valid YAML: {' '.join(str(error).split())[:200]}") from error
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = _place(raw, first["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        message = " ".join(first["msg"].removeprefix("Value error, ").split())[:300]
        if first["type"] == "extra_forbidden":
            message = f"unknown key; accepted are {_accepted(model, first['loc'])}"
        if first["type"] == "missing" and first["loc"][-1] == "reverse":
            message = "the reverse-keyed twin is missing; every paraphrase needs 'reverse'"
        raise MaterialError(f"{shown(path)}: {where}: {message}{more}") from error


def _place(raw: Any, loc: tuple[int | str, ...]) -> str:
    """A readable place: list positions become ids where the entry has one."""
    parts: list[str] = []
    for step in loc:
        if isinstance(raw, dict):
            raw = raw.get(step)
        elif isinstance(raw, list) and isinstance(step, int):
            raw = raw[step]
        if isinstance(step, int):
            name = raw.get("id") if isinstance(raw, dict) else None
            parts[-1:] = [f"{parts[-1] if parts else ''} {repr(str(name)[:60]) if name else step + 1}".strip()]
        else:
            parts.append(repr(step[:60])[1:-1])
    return ": ".join(parts) or "file"


def _accepted(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """The keys the innermost model accepts at ``loc``."""
    for step in loc[:-1]:
        if isinstance(step, str):
            field = next(f for n, f in model.model_fields.items() if step in (n, f.alias))
            inner = [a for a in getattr(field.annotation, "__args__", (field.annotation,)) if isinstance(a, type)]
            model = next(a for a in inner if issubclass(a, BaseModel))
    return ", ".join(f.alias or n for n, f in model.model_fields.items())
