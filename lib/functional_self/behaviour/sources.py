"""What is left of a text that organisms read before they were trained in a role: its direction, and its size.

Letters: K texts, I items, M seeds, P wordings. A seed decides everything of a training but the text, so the content of seed m
that read text k is taken less that of seed m that read nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from functional_self.behaviour.estimate import Estimate, jackknife, together
from functional_self.behaviour.intervals import fill


@dataclass(frozen=True)
class Reading:
    """What reading moved (squared nats an item) and how far the answers after a training follow it (``reading``)."""

    moved: Estimate
    differed: Estimate
    kept: Estimate
    shuffled: Estimate
    followed: Estimate


def reading(before_KIM: np.ndarray, after_KIM: np.ndarray, clusters: Iterable[Any]) -> Reading:
    """How far the answers after training in a role follow those right after reading.

    With b_km the profile of items right after reading and q_km the one after the training that followed, both less those of the
    same seed without a text, and C(x, y)_kl the mean over pairs of different seeds m, m' and over items of x_km y_lm' (squared
    nats), so that the noise of no training stands in both factors; tr the mean of the K diagonal places and off of the others:

    - moved = tr C(b, b), what reading does on average over pairs of seeds; differed = tr C(b, b) - off C(b, b), what one text
      does and the others do not;
    - kept = tr C(b, q) / tr C(b, b), a slope: one where training keeps the whole effect, zero where it keeps nothing;
    - shuffled = off C(b, q) / tr C(b, b): the slope on another text's profile, the control;
    - followed = (tr - off) C(b, q) / (tr - off) C(b, b): the slope on what tells the texts apart.

    kept and shuffled mean nothing where the interval of moved reaches zero, followed where that of differed does. Intervals:
    delete-one jackknives of item families and of seeds (``estimate.together``); they hold for these texts. Raises ValueError for
    one text or fewer than 4 seeds.
    """
    K, _, M = before_KIM.shape
    if K < 2 or M < 4:
        raise ValueError(f"{K} texts and {M} seeds: at least two texts and four seeds are needed")

    def products(places: np.ndarray, seeds: np.ndarray) -> tuple[float, float, float, float]:
        found = []
        b = before_KIM[:, places][..., seeds]
        for q in (b, after_KIM[:, places][..., seeds]):
            same = np.einsum("kim,lim->kl", b, q)
            C_KK = (b.sum(2) @ q.sum(2).T - same) / (len(places) * len(seeds) * (len(seeds) - 1))
            trace = float(np.trace(C_KK)) / K
            found += [trace, (float(C_KK.sum()) / K - trace) / (K - 1)]
        return found[0], found[1], found[2], found[3]

    wanted: dict[str, Callable[[float, float, float, float], float]] = {
        "moved": lambda bb, off, bq, crossed: bb,
        "differed": lambda bb, off, bq, crossed: bb - off,
        "kept": lambda bb, off, bq, crossed: bq / bb,
        "shuffled": lambda bb, off, bq, crossed: crossed / bb,
        "followed": lambda bb, off, bq, crossed: (bq - crossed) / (bb - off),
    }
    families, every = list(clusters), np.arange(before_KIM.shape[1])
    seeds = np.arange(M)

    def estimate(of: Callable[[float, float, float, float], float]) -> Estimate:
        items = jackknife(every, families, lambda places: of(*products(places, seeds)))
        return together(items.value, [items, jackknife(seeds, seeds, lambda some: of(*products(every, some)))])

    return Reading(**{name: estimate(of) for name, of in wanted.items()})


def shrunk(
    neutral_IMP: np.ndarray, read_KIMP: np.ndarray, clusters: Iterable[Any], share: Literal["F", "U", "V"] = "V"
) -> Estimate:
    """F / T, U / T or V of what read the texts, their mean, less that of what read the neutral one (``intervals.fill``).

    V below zero: a larger part of what organisms answer is common to all of them. Jackknives as in ``reading``: a seed is left
    out of every arm at once. Raises ValueError for fewer than 4 seeds.
    """
    if neutral_IMP.shape[1] < 4:
        raise ValueError(f"{neutral_IMP.shape[1]} seeds: at least four are needed")

    def part(y_IMP: np.ndarray) -> float:
        found = fill(y_IMP)
        return found.V if share == "V" else getattr(found, share) / found.T

    def gap(places: np.ndarray, seeds: np.ndarray) -> float:
        arms = [part(y_IMP[places][:, seeds]) for y_IMP in (neutral_IMP, *read_KIMP)]
        return float(np.mean(arms[1:])) - arms[0]

    places, seeds = np.arange(len(neutral_IMP)), np.arange(neutral_IMP.shape[1])
    items = jackknife(places, clusters, lambda some: gap(some, seeds))
    return together(items.value, [items, jackknife(seeds, seeds, lambda some: gap(places, some))])
