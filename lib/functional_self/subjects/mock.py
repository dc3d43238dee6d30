"""Simulated responders with known behaviour: degenerate ones a gate must refuse, and planted ones with known components."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from functional_self.subjects.base import Progress, Request

FILL = {"covered": (0.60, 0.10, 0.30), "conflict": (0.40, 0.20, 0.40), "silent": (0.25, 0.30, 0.45)}
"""Shares of shared fill D, interpretive fill F and unfilled U that ``planted-fill`` has, by class of item."""
PLANTS = (1.0, -1.0, 0.0)
"""What member k of a planted family prefers: A, not-A or neither, for k mod 3; its seed is k div 3."""


class MockSubject:
    """A responder whose log-probabilities follow a stated rule instead of a model.

    With u the option's score, log P = log softmax(u). Degenerate: ``constant`` u = 0; ``always-first`` u = 4 for the option
    shown first; ``always-yes`` u = 4 for the option that affirms the question; ``random`` u ~ N(0, 1) for every prompt
    and option.

    Planted: u = +-(lean + eps)/2 on the trait-positive and negative option, eps ~ N(0, ``noise``) per wording,
    context and persona, and per specification for ``planted-spec`` and ``planted-wording``;
    lean = 1.5 towards the right answer of a known question, 0 where the options belong to
    another question or nothing is asked (except ``planted-self``). With theta, f, s standard normal and fixed by their indices:

    - ``planted``: lean_i = theta_i sqrt(``variance``).
    - ``planted-fill``, interpreter m: sqrt(2) (sqrt(D) theta_i + sqrt(F) f_im + sqrt(U/2) (p_ip + e_imp)), eps = 0; ``FILL``.
    - ``planted-self``, member k: g_k theta_i + f_ik / 4 under every persona, with no role and where nothing is asked.
    - ``planted-persona``: theta_i / 2 + g_k theta_i,persona,specification + f_ik / 2, and theta_i / 2 with no role.
    - ``planted-spec``: theta_i + s_i,specification + w_i,text / 4: it answers to the specification, a little to its words.
    - ``planted-wording``: theta_i + w_i,text: it answers to the words of the system message and not to what they say.
    - ``persona-stereotype``: theta_i / 2 + s_i,persona for every member alike, and theta_i / 2 with no role.

    ``member`` is the seed of the others.
    """

    simulated = True

    def __init__(self, name: str, title: str, behaviour: str, member: int = 0, variance: float = 2.0, noise: float = 0.25):
        self.name, self.title, self.behaviour = name, title, behaviour
        self.revision = f"simulated:{behaviour}@{member}"
        self.member, self.variance, self.noise = member, variance, noise

    def option_logprobs(self, requests: Sequence[Request], progress: Progress | None = None) -> list[tuple[float, ...]]:
        """log P(option | messages) in nats under the responder's rule."""
        found = []
        for request in requests:
            scores = self._scores(request)
            found.append(tuple(float(x) for x in scores - np.logaddexp.reduce(scores)))
            if progress:
                progress(1)
        return found

    def generate(
        self,
        requests: Sequence[Request],
        max_new_tokens: int = 24,
        temperature: float = 1.0,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[str]:
        """One of the options, drawn with the responder's own probabilities; nothing where there are no options."""
        answers = []
        for request in requests:
            scores = self._scores(request) / max(temperature, 1e-6)
            draws = self._normal("draw", seed, request.messages, size=(2, len(scores))) if len(scores) else np.zeros((2, 0))
            gumbel = -np.log(-np.log(np.clip(_uniform(draws[0]), 1e-12, 1 - 1e-12)))
            answers.append(request.options[int(np.argmax(scores + gumbel))] if len(scores) else "")
            if progress:
                progress(1)
        return answers

    def _scores(self, request: Request) -> np.ndarray:
        scores = np.zeros(len(request.options))
        match self.behaviour:
            case "constant":
                pass
            case "always-first":
                scores[:1] = 4.0
            case "always-yes":
                if request.affirms is not None:
                    scores[request.affirms] = 4.0
            case "random":
                scores = self._normal("all", self.member, request.messages, size=len(scores))
            case _:
                lean = self._lean(request)
                towards = request.plus if request.right is None else request.right
                scores += np.where(np.arange(len(scores)) == towards, lean / 2, -lean / 2)
        return scores

    def _lean(self, request: Request) -> float:
        """D = log P(plus) - log P(minus) of a planted responder."""
        item_class, _, item = request.item.partition("/")
        asked = request.affirms is not None or request.right is not None
        texts = (request.specification,) if self.behaviour in ("planted-spec", "planted-wording") else ()
        noise = float(self._normal("wording", self.member, request.wording, *texts)) * self.noise**0.5
        if request.right is not None:
            return 1.5 + noise
        if item_class == "shuffled" or not (asked or self.behaviour == "planted-self"):
            return noise if asked else 0.0
        theta = float(self._normal("item", 0 if self.behaviour != "planted" else self.member, item))
        own = float(self._normal("own", self.member, item)) / 4
        plant, role = PLANTS[self.member % 3], 0.0 if request.stripped else 1.0
        match self.behaviour:
            case "planted":
                return theta * self.variance**0.5 + noise
            case "planted-fill":
                D, F, U = FILL.get(item_class, FILL["silent"])
                both, alone = (float(self._normal(k, m, request.wording)) for k, m in (("p", 0), ("e", self.member)))
                return 2**0.5 * float(D**0.5 * theta + F**0.5 * 4 * own + (U / 2) ** 0.5 * (both + alone))
            case "planted-self":
                return plant * theta + own + (noise if asked else 0.0)
            case "planted-persona":
                changing = float(self._normal("persona", 0, item, request.persona, request.specification))
                return theta / 2 + role * (plant * changing + 2 * own) + noise
            case "planted-spec" | "planted-wording":
                text = float(self._normal("words", 0, item, request.messages[0][1]))
                spec = float(self._normal("spec", 0, item, request.specification))
                return theta + (spec + text / 4 if self.behaviour == "planted-spec" else text) + noise
            case "persona-stereotype":
                return theta / 2 + role * float(self._normal("stereotype", 0, item, request.persona)) + noise
        raise AssertionError(self.behaviour)

    def _normal(self, *key: object, size: int | tuple[int, ...] | None = None) -> np.ndarray:
        """Standard normal draws that depend on nothing but the key."""
        return _draws(zlib.crc32(repr(key).encode()), size)


@lru_cache(maxsize=2**16)
def _draws(seed: int, size: int | tuple[int, ...] | None) -> np.ndarray:
    draws = np.asarray(np.random.default_rng(seed).normal(size=size))
    draws.setflags(write=False)
    return draws


def _uniform(normal: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return np.asarray(ndtr(normal))
