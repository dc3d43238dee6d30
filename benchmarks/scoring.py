"""Scoring option texts: requests per second beside lm-eval on the same weights and strings, and memory.

A request is one (prompt, option) pair, the unit lm-eval calls a request.
"""

from __future__ import annotations

import itertools
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from functional_self import materials, subjects
from functional_self.behaviour.scoring import prompt
from functional_self.errors import FunctionalSelfError
from functional_self.subjects import Request

from benchmarks import harness

LM_EVAL = "0.4.13"
BATCH = 16
TOLERANCE = 1e-4
"""Nats by which a score may differ from lm-eval's."""
MEMORY = (200, 2000)
"""Prompts of the two processes whose memory is compared."""


def lines() -> Iterator[dict[str, Any]]:
    """The rows of this family."""
    subject = subjects.load("smollm2", store=False)
    peer = LmEval(subject)
    yield speed("scoring-short", 2.0, subject, peer, [short()], repetitions=5)
    yield speed("scoring-shared", 4.0, subject, peer, shared(), repetitions=1)
    yield memory()


def short() -> list[Request]:
    """576 requests of about 46 tokens: 3 system texts x 48 items x 2 wordings, 2 options each."""
    return [
        Request((("system", str(persona.system)), ("user", wording.ask)), (wording.plus, wording.minus))
        for persona in materials.personas("roster")[3:6]
        for item in spread(materials.items("void"), 48)
        for wording in item.paraphrases[:2]
    ]


def shared() -> list[list[Request]]:
    """2,304 requests of about 132 tokens: 12 personas x 4 contexts x 12 items, 4 options each; a block is 2 personas."""
    personas = materials.personas("roster")[-12:]
    contexts = [context for context in materials.contexts("battery") if context.turns][:4]
    items = spread(materials.items("void"), 12)
    blocks: list[list[Request]] = [[] for _ in range(6)]
    for (p, persona), context, item in itertools.product(enumerate(personas), contexts, items):
        one, two = item.paraphrases[:2]
        options = (one.plus, one.minus, two.plus, two.minus)
        blocks[p // 2].append(Request(prompt(one.ask, options, persona.system, context), options))
    return blocks


def grown(prompts: int) -> list[Request]:
    """The prompts of 3 personas x 48 items x 4 wordings x 2 forms x 2 orders, thinned evenly to ``prompts``."""
    bare = materials.contexts("battery")[0]
    found = [
        Request(prompt(question, options, persona.system, bare), options)
        for persona in materials.personas("roster")[3:6]
        for item in spread(materials.items("void"), 48)
        for wording in item.paraphrases
        for question in (wording.ask, wording.reverse)
        for options in ((wording.plus, wording.minus), (wording.minus, wording.plus))
    ]
    return spread(found, prompts)


def spread(things: Sequence[Any], count: int) -> list[Any]:
    """``count`` of the things, evenly over the list."""
    return [things[i] for i in np.linspace(0, len(things) - 1, count).astype(int)]


class LmEval:
    """lm-eval's ``HFLM`` around the model and the tokenizer a subject has loaded."""

    def __init__(self, subject: Any):
        harness.find_peers()
        try:
            from lm_eval.api.instance import Instance
            from lm_eval.models.huggingface import HFLM
        except ImportError as error:
            raise FunctionalSelfError(
                f"bench scoring: lm-eval {LM_EVAL} is not installed; run: make bench BENCH=scoring"
            ) from error
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        self.render, self.instance = subject.render, Instance
        self.model = HFLM(pretrained=subject.model._module, tokenizer=subject.model.tokenizer, batch_size=BATCH)

    def __call__(self, requests: Sequence[Request]) -> list[float]:
        """log P(option | prompt) of every option, in nats."""
        return self.ask([(self.render(request.messages), option) for request in requests for option in request.options])

    def ask(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """log P(continuation | context) of every pair."""
        asked = [self.instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
        return [value for value, _ in self.model.loglikelihood(asked, disable_tqdm=True)]

    def moved(self, requests: Sequence[Request]) -> list[float]:
        """What every score holds beside the option: lm-eval counts the white space that ends a prompt to its continuation."""
        prompts = [self.render(request.messages) for request in requests]
        ends = self.ask([(text.rstrip(), text[len(text.rstrip()) :]) for text in prompts])
        return [end for end, request in zip(ends, requests, strict=True) for _ in request.options]


def speed(name: str, goal: float, subject: Any, peer: LmEval, blocks: list[list[Request]], repetitions: int) -> dict[str, Any]:
    """Requests per second, ours / lm-eval's, and the largest difference of any score."""

    def ours(block: Sequence[Request]) -> list[float]:
        return [value for values in subject.option_logprobs(block) for value in values]

    for side in (ours, peer):
        side(blocks[0][:BATCH])  # the first call of either is slower
    seconds, results = harness.alternate(ours, peer, blocks, repetitions, name)
    sizes = [sum(len(request.options) for request in block) for block in blocks]
    moved = [peer.moved(block) for block in blocks]
    difference = max(float(np.abs(np.array(a) + m - b).max()) for (a, b), m in zip(results, moved * repetitions, strict=True))
    return harness.line(
        name,
        goal,
        equal=difference <= TOLERANCE,
        **harness.rates(seconds, sizes * repetitions),
        peer_name=f"lm-eval {LM_EVAL} HFLM.loglikelihood, batch size {BATCH}",
        repetitions=repetitions,
        requests=sum(sizes),
        prompts=sum(map(len, blocks)),
        max_abs_score_difference=difference,
        tolerance=TOLERANCE,
    )


def memory() -> dict[str, Any]:
    """Peak memory of scoring many prompts / of scoring a tenth of them, each in a process of its own."""
    few, many = harness.grown("scoring", MEMORY)
    return harness.memory(
        "scoring",
        few,
        many,
        f"this library with {MEMORY[0]} prompts",
        prompts=MEMORY[1],
        requests=2 * MEMORY[1],
        beyond_loading=[one["peak"] - one["loaded"] for one in (many, few)],
    )


def main(prompts: int) -> None:
    """Score ``prompts`` prompts and print this process's memory, after loading and at its peak."""
    subject = subjects.load("smollm2", store=False)
    requests = grown(prompts)
    subject.option_logprobs(requests[:1])
    loaded = harness.peak_rss()
    subject.option_logprobs(requests)
    print(json.dumps({"loaded": loaded, "peak": harness.peak_rss()}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
