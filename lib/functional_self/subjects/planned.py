"""A subject that asks nothing and counts what a remote one would be asked: ``functional-self plan``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from functional_self import paths
from functional_self.subjects import forward
from functional_self.subjects.base import Progress, Request
from functional_self.subjects.jobs import SEEN
from functional_self.subjects.mock import MockSubject
from functional_self.subjects.prefix import Group, Tokens
from functional_self.subjects.remote import RemoteSubject, continuing, requests
from functional_self.subjects.store import CHUNK

REPLIES = 3000
"""Bytes that come back for a job beside its values: statuses while it waits, headers, the container of the values."""
PER_OPTION = 8
PER_TOKEN = 8
PER_NUMBER = 4
ASKED: dict[str, set[Any]] = {}
"""Prompts of this process, by subject: a chapter loads a subject more than once."""


class PlannedSubject(RemoteSubject):
    """Builds every job a remote subject would send, counts it in ``jobs.SEEN['plan']``, and answers like ``mock:planted``.

    A chapter so executed takes the way on which its gates pass, so the plan is what a run asks at most; a prompt asked
    twice counts once, as its answer is kept.
    """

    def option_logprobs(self, requests: Sequence[Request], progress: Progress | None = None) -> list[tuple[float, ...]]:
        """Counts, and answers of the planted responder."""
        asked = ASKED.setdefault(self.name, set())
        for start in range(0, len(requests), CHUNK):
            chunk = requests[start : start + CHUNK]
            fresh = {(r.messages, r.options): r for r in chunk if (r.messages, r.options) not in asked}
            if fresh:
                super().option_logprobs(list(fresh.values()))
            asked.update(fresh)
            self._count(items=len(fresh))
        return MockSubject("mock:planted", "", "planted").option_logprobs(requests, progress)

    def generate(
        self,
        requests: Sequence[Request],
        max_new_tokens: int = 24,
        temperature: float = 1.0,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[str]:
        """Counts, and answers of the planted responder."""
        for start in range(0, len(requests), CHUNK):
            super().generate(requests[start : start + CHUNK], max_new_tokens, temperature, seed + start)
        self._count(items=len(requests))
        return MockSubject("mock:planted", "", "planted").generate(requests, max_new_tokens, temperature, seed, progress)

    def _scores(self, groups: Sequence[Group], targets: Sequence[Tokens]) -> Iterator[tuple[list[int], np.ndarray]]:
        for index, work, tokens in requests(groups, targets):
            self._count(jobs=1, tokens=tokens, up=len(self._scoring(work)()), down=REPLIES + PER_OPTION * len(index))
            yield index, np.zeros(len(index))

    def _continue(
        self, batches: Sequence[tuple[torch.Tensor, torch.Tensor]], seed: int, how: dict[str, Any]
    ) -> Iterator[torch.Tensor]:
        for part in continuing(batches):
            new = sum(len(ids) for _, (ids, _) in part) * how["max_new_tokens"]
            tokens = sum(ids.numel() for _, (ids, _) in part) + new
            up = len(self._block(forward.continuations, part, seed, how)())
            self._count(jobs=1, tokens=tokens, up=up, down=REPLIES + PER_TOKEN * new)
            for _, (ids, _) in part:
                yield torch.zeros(len(ids), how["max_new_tokens"], dtype=torch.long)

    def collect(
        self, kind: str, what: str, function: Callable[..., Iterator[Any]], parts: Sequence[Any], *rest: Any
    ) -> Iterator[torch.Tensor]:
        """Counts; a layer's rows (N x D) and what patching changes (N x 3) are noise, the same every time.

        Two subjects' noise differs, as what a chapter makes of equal rows would pack too well when it is sent back.
        """
        seed, width = int(paths.digest(self.name, 8), 16), self.model.config.hidden_size
        generator = torch.Generator().manual_seed(seed)
        for part in parts:
            shapes = [(int(last.sum()), width) if kind == "rows" else (len(last), 3) for _, _, last, *_ in part]
            down = REPLIES + PER_NUMBER * sum(map(math.prod, shapes))
            tokens = sum(ids.numel() for ids, *_ in part)
            self._count(jobs=1, tokens=tokens, up=len(self._block(function, part, *rest)()), down=down)
            for shape in shapes:
                yield torch.randn(shape, generator=generator)

    def _count(self, **what: int) -> None:
        found = SEEN.setdefault("plan", {}).setdefault(self.name, {"items": 0, "tokens": 0, "jobs": 0, "up": 0, "down": 0})
        for name, n in what.items():
            found[name] += n
