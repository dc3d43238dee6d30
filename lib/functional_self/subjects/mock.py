"""Simulated responders with known behaviour: degenerate ones a gate must refuse, and a planted one it must pass."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from functional_self.subjects.base import Progress, Request


class MockSubject:
    """A responder whose log-probabilities follow a stated rule instead of a model.

    With u the option's score, log P = log softmax(u): ``constant`` u = 0; ``always-first`` u = 4 for
    the option shown first; ``always-yes`` u = 4 for the option that affirms the question; ``random``
    u ~ N(0, 1) for every prompt and option; ``planted`` u = +-(theta_i + eps)/2 on the trait-positive and
    negative option where something is asked, theta_i ~ N(0, ``variance``) per item and eps ~ N(0, ``noise``)
    per wording and context; theta = 1.5 towards the right answer of a known question, 0 where the
    options belong to another question.
    """

    simulated = True

    def __init__(self, name: str, title: str, behaviour: str, seed: int = 0, variance: float = 2.0, noise: float = 0.25):
        self.name, self.title, self.behaviour = name, title, behaviour
        self.revision = f"simulated:{behaviour}"
        self.seed, self.variance, self.noise = seed, variance, noise

    def option_logprobs(self, requests: Sequence[Request], progress: Progress | None = None) -> list[tuple[float, ...]]:
        """log P(option | messages) in nats under the responder's rule."""
        found = []
        for request in requests:
            scores = self._scores(request)
            found.append(tuple(float(x) for x in scores - np.logaddexp.reduce(scores)))
            if progress:
                progress(1)
        return found

    def _scores(self, request: Request) -> np.ndarray:
        scores = np.zeros(len(request.options))
        match self.behaviour:
            case "always-first":
                scores[0] = 4.0
            case "always-yes" if request.affirms is not None:
                scores[request.affirms] = 4.0
            case "random":
                scores = self._rng(str(request.messages)).normal(size=len(request.options))
            case "planted" if request.affirms is not None or request.right is not None:
                theta = self._rng(request.item).normal(scale=self.variance**0.5)
                if request.right is not None:
                    theta = 1.5
                elif request.item.startswith("shuffled/"):
                    theta = 0.0
                lean = theta + self._rng(request.wording).normal(scale=self.noise**0.5)
                towards = request.plus if request.right is None else request.right
                scores += np.where(np.arange(len(scores)) == towards, lean / 2, -lean / 2)
        return scores

    def _rng(self, key: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(key.encode())])
