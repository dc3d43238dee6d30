"""A language model on an NDIF server as a subject: the same functions, executed there."""

from __future__ import annotations

import hashlib
import inspect
import io
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import cloudpickle
import numpy as np
import torch
from nnsight import save
from nnsight.schema.request import RequestModel
from nnsight.tracing.backend import Backend

from functional_self.errors import RemoteError
from functional_self.subjects import forward
from functional_self.subjects.jobs import SEEN, Job, Jobs
from functional_self.subjects.model import LanguageSubject, _batches
from functional_self.subjects.prefix import Group, Tokens
from functional_self.subjects.shared import attach
from functional_self.subjects.wire import Wire

REQUEST_TOKENS = 16384
"""Tokens one job reads, about: large enough that its overhead vanishes, small enough that a cut costs little."""
REQUEST_PROMPTS = 64
"""Prompts one job continues."""
PATIENCE = 10.0
"""Seconds for which a host that was not reached yet is tried."""
EXACT = ("nnsight", "transformers")
"""Packages whose version decides how a model's modules are called and a block is read: equal on both sides."""

cloudpickle.register_pickle_by_value(forward)


class Capture(Backend):
    """Keeps a traced block as the bytes that a server reads, instead of running it."""

    blob = b""

    def __call__(self, tracer: Any) -> None:
        """Serialise the block."""
        self.blob = RequestModel.serialize(tracer, compress=True)


class RemoteSubject(LanguageSubject):
    """A model whose tokenizer is here and whose weights are on an NDIF server."""

    def __init__(self, model: Any, name: str, title: str, revision: str, jobs: Jobs, model_key: str, template: str = "chat"):
        super().__init__(model, name, title, revision, template=template)
        self.jobs, self.model_key = jobs, model_key

    def _scores(self, groups: Sequence[Group], targets: Sequence[Tokens]) -> Iterator[tuple[list[int], np.ndarray]]:
        """Option scores, added up on the server; one float64 an option comes back."""
        parts = list(requests(groups, targets))
        self.tokens_read += sum(tokens for _, _, tokens in parts)
        jobs = [self._job("scores", f"{len(index)} options", work, self._scoring(work), n) for index, work, n in parts]
        for (index, _, _), found in zip(parts, self.jobs.results(jobs), strict=True):
            yield index, found["values"].numpy()

    def _continue(
        self, batches: Sequence[tuple[torch.Tensor, torch.Tensor]], seed: int, how: dict[str, Any]
    ) -> Iterator[torch.Tensor]:
        parts = list(continuing(batches))
        yield from self.collect(
            "texts", f"{sum(len(ids) for ids, _ in batches)} prompts", forward.continuations, parts, seed, how
        )

    def _rows(self, batches: Sequence[tuple[torch.Tensor, ...]], layer: int) -> Iterator[torch.Tensor]:
        parts: list[list[tuple[torch.Tensor, ...]]] = [[]]
        for batch in batches:
            if parts[-1] and sum(ids.numel() for ids, *_ in [*parts[-1], batch]) > REQUEST_TOKENS // 4:  # rows are large
                parts.append([])
            parts[-1].append(batch)
        yield from self.collect("rows", f"layer {layer}", forward.rows, [part for part in parts if part], layer)

    def collect(
        self, kind: str, what: str, function: Callable[..., Iterator[Any]], parts: Sequence[Any], *rest: Any
    ) -> Iterator[Any]:
        """All that ``function(model, part, *rest)`` yields for each part in turn, a job a part, in order.

        The function is shipped by its source and may use nothing of this library; its module is registered with cloudpickle.
        """
        source = hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]
        jobs = [self._job(kind, what, (part, rest, source), self._block(function, part, *rest)) for part in parts]
        for found in self.jobs.results(jobs):
            yield from found["found"]

    def _block(self, function: Callable[..., Iterator[Any]], *arguments: Any) -> Callable[[], bytes]:
        def build() -> bytes:
            model, capture = self.model, Capture()
            with model.session(backend=capture):
                found = save(list(function(model, *arguments)))  # noqa: F841
            return capture.blob

        return build

    def _scoring(self, work: Sequence[tuple[Any, Any]]) -> Callable[[], bytes]:
        def build() -> bytes:
            model, scores, capture = self.model, forward.scores, Capture()
            with model.session(backend=capture):
                values = save(torch.cat([found for prefix, batches in work for found in scores(model, prefix, batches)]))  # noqa: F841
            return capture.blob

        return build

    def _job(self, kind: str, what: str, work: Any, build: Callable[[], bytes], tokens: int = 0) -> Job:
        """A job whose key is the hash of everything that decides its result."""
        env = self.model._remoteable_get_env()
        hashed = hashlib.sha256(repr((self.jobs.wire.host, self.model_key, self.revision, env, kind, code())).encode())
        buffer = io.BytesIO()
        torch.save(work, buffer)
        hashed.update(buffer.getvalue())
        return Job(hashed.hexdigest()[:40], f"{self.name}: {what}", self.model_key, env, build, tokens)


def requests(
    groups: Sequence[Group], targets: Sequence[Tokens]
) -> Iterator[tuple[list[int], list[tuple[tuple[int, ...], list[tuple[Any, ...]]]], int]]:
    """Cut groups into requests of about ``REQUEST_TOKENS``: sequence indices, (prefix, batches) and tokens read."""
    index: list[int] = []
    work: list[tuple[tuple[int, ...], list[tuple[Any, ...]]]] = []
    tokens = 0
    for group in groups:
        fresh = True
        for done, batch in _batches(group, targets):
            if tokens and tokens + batch.ids_BN.numel() > REQUEST_TOKENS:
                yield index, work, tokens
                index, work, tokens, fresh = [], [], 0, True
            if fresh:
                work.append((group.prefix, []))
                tokens += len(group.prefix)
                fresh = False
            work[-1][1].append(tuple(batch))
            index += done
            tokens += batch.ids_BN.numel()
    if work:
        yield index, work, tokens


def continuing(
    batches: Sequence[tuple[torch.Tensor, torch.Tensor]],
) -> Iterator[list[tuple[int, tuple[torch.Tensor, torch.Tensor]]]]:
    """Cut numbered batches of prompts into requests of about ``REQUEST_PROMPTS``."""
    numbered = list(enumerate(batches))
    per = max(1, REQUEST_PROMPTS // max(len(ids) for ids, _ in batches))
    for start in range(0, len(numbered), per):
        yield numbered[start : start + per]


@cache
def code() -> str:
    """Hash of the code that runs on the server."""
    from pathlib import Path

    return hashlib.sha256(Path(forward.__file__).read_bytes()).hexdigest()[:16]


@cache
def server(host: str) -> dict[str, Any]:
    """What a host says of itself: versions and deployments; asked once a process, before any work."""
    wire = Wire(host)
    packages = wire.json("/env", PATIENCE).get("packages", {})
    deployments = list(wire.json("/status", PATIENCE).get("deployments", {}).values())
    found = {"host": wire.host, "versions": {name: packages.get(name, "unknown") for name in (*EXACT, "torch")}}
    SEEN["servers"] = {**SEEN.get("servers", {}), wire.host: found["versions"]}
    return found | {"deployments": deployments}


def differing(versions: dict[str, str]) -> list[str]:
    """Packages that must be equal on both sides and are not."""
    return [f"{name} {version(name)} here, {versions[name]} there" for name in EXACT if versions[name] != version(name)]


def deployed(name: str, repo: str, revision: str | None, found: dict[str, Any]) -> dict[str, Any]:
    """The running deployment of a repository; RemoteError names what is deployed where it is not."""
    fits = [d for d in found["deployments"] if d.get("repo_id") == repo and d.get("task") in (None, "text-generation")]
    running = [d for d in fits if d.get("application_state") == "RUNNING"]
    if not running:
        others = sorted({str(d.get("repo_id")) for d in found["deployments"] if d.get("application_state") == "RUNNING"})
        state = "is deployed but not running yet; run again in a few minutes" if fits else "is not deployed"
        raise RemoteError(
            f"subject '{name}': {repo} {state} at {found['host']}; running there: {', '.join(others) or 'nothing'}"
            + ("" if fits else "; ask its operator, or 'ndif deploy' it on your own server")
        )
    for deployment in running:
        theirs = deployment.get("revision")
        if revision is None or theirs in (None, revision):
            return deployment
    raise RemoteError(
        f"subject '{name}': revision {revision} is asked for, {found['host']} runs {running[0]['revision']}; change the "
        "registry's entry or ask for the other revision"
    )


def load(
    name: str, title: str, where: str, revision: str | None, identity: str, template: str = "chat", adapter: str | None = None
) -> RemoteSubject:
    """The subject on the configured host, its tokenizer and the shape of its modules here; checked before anything is sent."""
    wire = Wire()
    deployment = check(name, where, revision)
    SEEN["subjects"] = {**SEEN.get("subjects", {}), name: f"{where}@{deployment.get('revision') or 'default branch'}"}
    model = shape(name, where, revision, adapter)
    return RemoteSubject(model, name, title, identity, Jobs(wire), deployment["model_key"], template)


def plan(
    name: str, title: str, where: str, revision: str | None, identity: str, template: str = "chat", adapter: str | None = None
) -> RemoteSubject:
    """The subject as ``planned.PlannedSubject``: nothing is sent, and no server need be there."""
    from functional_self.subjects.planned import PlannedSubject

    model = shape(name, where, revision, adapter)
    return PlannedSubject(model, name, title, identity, Jobs(Wire()), model.to_model_key(), template)


def shape(name: str, where: str, revision: str | None, adapter: str | None = None) -> Any:
    """Tokenizer and modules without weights; the adapter travels with every request by its name."""
    from nnsight.modeling import huggingface
    from nnsight.modeling.transformers import TransformersModel

    huggingface._ID_CACHE.setdefault(where, where)  # names are canonical; nnsight would ask the hub
    model = TransformersModel(where, task="text-generation", revision=revision)
    attach(model, adapter, name)
    return model


def check(name: str, where: str, revision: str | None) -> dict[str, Any]:
    """The deployment that serves a subject; raises RemoteError where versions differ or nothing serves it."""
    found = server(Wire().host)
    if wrong := differing(found["versions"]):
        fix = " ".join(f"{package}=={found['versions'][package]}" for package in EXACT)
        raise RemoteError(
            f"NDIF at {found['host']} has other versions ({'; '.join(wrong)}); in an environment of its own: pip install {fix}"
        )
    return deployed(name, where, revision, found)
