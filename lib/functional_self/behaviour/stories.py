"""Whether a story turns on something that is written in it, and whether a story's own rule about writing is followed."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from functional_self.behaviour.estimate import Estimate, clustered
from functional_self.materials.schema import Frame, Motif, Opening
from functional_self.progress import track
from functional_self.subjects.base import Request, Subject

NEAR, REACH = 12, 30
"""Words between a motif's object and its use, and from both to the effect, at most."""


def continued(
    subject: Subject, openings: Sequence[Opening], each: int, max_new_tokens: int = 80, temperature: float = 1.0, seed: int = 0
) -> pd.DataFrame:
    """``each`` continuations of every opening, none left out: columns opening, text.

    Sampled from the whole distribution at ``temperature``; the subject should read plain text (template ``raw``).
    """
    asked = [opening for opening in openings for _ in range(each)]
    with track(f"stories of {subject.name}", len(asked)) as advance:
        requests = [Request((("user", opening.text),), ()) for opening in asked]
        texts = subject.generate(requests, max_new_tokens, temperature, seed, advance)
    return pd.DataFrame({"opening": [opening.id for opening in asked], "text": texts})


def codes(text: str, motifs: Sequence[Motif], effects: Sequence[str], near: int = NEAR, reach: int = REACH) -> list[str]:
    """The motifs that a text turns on, by the written rule; the coder sees nothing but the text.

    A motif is there where one of its objects and one of its uses stand at most ``near`` words apart, and an effect begins after
    both, at most ``reach`` words on. The rule has one form for every motif. Plurals of objects count.
    """
    words = _words(text)
    starts = [at for effect in effects for at in _places(words, effect.split())]
    found = []
    for motif in motifs:
        named = _objects(motif)
        objects = [at for at, word in enumerate(words) if word in named]
        uses = [at for at, word in enumerate(words) if word in motif.uses]
        ends = [max(o, u) for o in objects for u in uses if abs(o - u) <= near]
        if any(0 < start - end <= reach for end in ends for start in starts):
            found.append(motif.id)
    return found


def mentions(text: str, motif: Motif) -> bool:
    """Whether one of a motif's objects stands in a text, whatever happens with it."""
    return not _objects(motif).isdisjoint(_words(text))


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z'-]+", text.lower())


def _objects(motif: Motif) -> set[str]:
    """The words for a motif's objects, one and several."""
    return {form for word in motif.objects for form in (word, f"{word}s")}


def _places(words: list[str], said: list[str]) -> list[int]:
    return [at for at in range(len(words) - len(said) + 1) if words[at : at + len(said)] == said]


def share(hits: int, n: int, level: float = 0.95) -> Estimate:
    """A share with its exact binomial (Clopper-Pearson) interval; ``error`` and ``df`` have no meaning here and are NaN and 0.

    No hit in n is no zero: the interval then ends at 1 - (alpha / 2)^(1 / n).
    """
    bounds = stats.binomtest(hits, n).proportion_ci(level, "exact")
    return Estimate(hits / n, float(bounds.low), float(bounds.high), float("nan"), 0, n)


def followed(subject: Subject, frames: Sequence[Frame], pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """How much more likely an event is after it was written than after another was, in each frame: one row per frame and pair.

    C = [log P(a | wrote a) - log P(a | wrote b) + log P(b | wrote b) - log P(b | wrote a)] / 2 in nats, a and b the pair's
    events. Copying what was read raises C in every frame. Columns frame, person, object, rule, pair, C.
    """
    keys = [(frame, number, pair) for frame in frames for number, pair in enumerate(pairs)]
    requests = [
        Request((("user", frame.text.replace("{event}", f" {wrote}")),), tuple(f" {event}" for event in pair))
        for frame, _, pair in keys
        for wrote in pair
    ]
    with track(f"rules of {subject.name}", len(requests)) as advance:
        found = np.array(subject.option_logprobs(requests, advance)).reshape(-1, 2, 2)  # pair, wrote, event
    told = (found[:, 0, 0] - found[:, 1, 0] + found[:, 1, 1] - found[:, 0, 1]) / 2
    rows = [(f.id, f.person, f.object, f.rule, number) for f, number, _ in keys]
    return pd.DataFrame(rows, columns=["frame", "person", "object", "rule", "pair"]).assign(C=told)


def rule_effect(table: pd.DataFrame, rule: str) -> Estimate:
    """M = E[C under ``rule`` - C where the text is a novel being drafted], in nats, its interval clustered by pair of events.

    Above zero for ``true`` and below zero for ``false`` where the rule of the story is followed; above zero for both where
    words about strange books only make copying likelier.
    """
    wide = table.pivot(index=["pair", "person", "object"], columns="rule", values="C")
    return clustered(wide[rule] - wide["none"])
