"""Five gates a subject must pass before anything about it is reported.

Each is a named statistic with a null and a level, corrected by Holm over the five. Calling any item's
minus text plus, which flips its responses and swaps its forms and orders, changes no statistic and no verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from functional_self.behaviour.scoring import ORDERS, responses

LEVEL = 0.05
RESAMPLES = 2000
MIN_KNOWN = 60
RELIABILITY = 0.5
CLASSES = ("covered", "conflict", "silent", "imported")


@dataclass(frozen=True)
class Gate:
    """One gate's outcome.

    ``statistic`` with its one-sided 95% ``lower`` bound, the ``bound`` it must exceed, its one-sided ``p``
    and Holm-adjusted ``p_holm``; ``smallest`` is the statistic that would just have passed at this n at
    the Holm level of the strictest test. An undefined statistic (a responder that never varies) is NaN
    and fails.
    """

    name: str
    title: str
    statistic: float
    lower: float
    bound: float
    smallest: float
    n: int
    p: float
    p_holm: float = float("nan")
    passed: bool = False


def gates(table: pd.DataFrame, kind: str = "self", level: float = LEVEL, seed: int = 0) -> list[Gate]:
    """Gates G1 to G5 of a score table that holds items, content-shuffled items and known items.

    G1 order agreement, G2 content sensitivity, G3 reverse keying, G4 known answers, G5 split-half reliability;
    each function's docstring gives its statistic. Raises KeyError where a part is missing.
    """
    frame = responses(table, kind)
    items = frame[frame["class"].isin(CLASSES)]
    shuffled = frame[frame["class"] == "shuffled"]
    known = frame[frame["class"] == "known"]
    for part, name in ((items, "items"), (shuffled, "content-shuffled items"), (known, "known items")):
        if part.empty:
            raise KeyError(f"the score table holds no {name}; score items, shuffled(items) and known items together")
    rng = np.random.default_rng(seed)
    found = [
        order_agreement(items, rng),
        content_sensitivity(items, shuffled, rng),
        reverse_keying(items, rng),
        known_answers(known),
        split_half(items),
    ]
    adjusted = holm([gate.p for gate in found])
    return [
        replace(gate, p_holm=p, passed=bool(np.isfinite(gate.statistic) and p <= level and gate.n > 0))
        for gate, p in zip(found, adjusted)
    ]


def order_agreement(items: pd.DataFrame, rng: np.random.Generator) -> Gate:
    """G1: rank agreement of item contents y1, y2 under the two orders, about zero.

    With R the centred ranks among all y1, -y1, y2 and -y2 together, 2 sum R(y1) R(y2) / sum (R(y1)^2 + R(y2)^2): an
    intraclass form of Spearman's rho in which neither the keying nor the naming of the orders matters.
    """
    y_I2 = items.groupby("item")[[f"content_{order}" for order in ORDERS]].mean().to_numpy()
    ranks = stats.rankdata(np.stack([y_I2, -y_I2]).ravel())[: y_I2.size].reshape(y_I2.shape) - (2 * y_I2.size + 1) / 2
    return _agreement("G1", "order agreement", 2 * ranks[:, 0] * ranks[:, 1], (ranks**2).sum(axis=1), rng)


def reverse_keying(items: pd.DataFrame, rng: np.random.Generator) -> Gate:
    """G3: agreement of y with -y of the reverse-keyed twin about zero, crossed over the orders.

    2 sum_i (k_i1 r_i2 + k_i2 r_i1) / sum_i (k_i1^2 + k_i2^2 + r_i1^2 + r_i2^2) with k, r the contents under the question and its
    twin and 1, 2 the orders: crossing them keeps a shared baseline prompt from feigning agreement.
    """
    means = items.groupby("item")[[f"{form}_{order}" for form in ("ask", "reverse") for order in ORDERS]].mean().to_numpy()
    k1, k2, r1, r2 = means.T
    return _agreement("G3", "reverse-keyed agreement", 2 * (k1 * r2 + k2 * r1), (means**2).sum(axis=1), rng)


def content_sensitivity(items: pd.DataFrame, shuffled: pd.DataFrame, rng: np.random.Generator) -> Gate:
    """G2: mean over items of |y| minus |y| where the options belong to another question, in nats.

    Both are means over the same wordings and contexts. Null: sign flips of the paired differences.
    """
    cell = ["item", "paraphrase", "context", "persona"]
    both = items.merge(shuffled[[*cell, "content"]], on=cell, suffixes=("", "_shuffled"))
    means = both.groupby("item")[["content", "content_shuffled"]].mean().abs()
    difference = (means["content"] - means["content_shuffled"]).to_numpy()
    n = len(difference)
    if not np.any(difference):
        return Gate("G2", "content sensitivity", float("nan"), float("nan"), 0.0, float("nan"), n, 1.0)
    null = (rng.choice([-1.0, 1.0], size=(RESAMPLES, n)) * difference).mean(axis=1)
    observed = float(difference.mean())
    lower = observed - stats.t.ppf(1 - LEVEL, n - 1) * difference.std(ddof=1) / n**0.5
    smallest = float(np.quantile(null, 1 - LEVEL / 5))
    return Gate("G2", "content sensitivity", observed, float(lower), 0.0, smallest, n, _p(null, observed))


def known_answers(known: pd.DataFrame) -> Gate:
    """G4: share of known-answer twins right, exact binomial against one half; fewer than 60 twins fail.

    A twin is right where (D_ask - D_reverse) / 2 > 0: its two questions have opposite answers among the same
    two options, so any preference that does not read the question cancels.
    """
    answers = known.groupby("item")["acquiescence"].mean()
    n, right = len(answers), int((answers > 0).sum())
    test = stats.binomtest(right, n, 0.5, alternative="greater")
    lower = float(test.proportion_ci(1 - LEVEL).low)
    smallest = float((stats.binom.isf(LEVEL / 5, n, 0.5) + 1) / n)
    undefined = bool((answers == 0).all())
    share = float("nan") if undefined else right / n
    p = 1.0 if n < MIN_KNOWN or undefined else float(test.pvalue)
    return Gate("G4", "known-answer twins", share, lower, 0.5, smallest, n, p)


def split_half(items: pd.DataFrame) -> Gate:
    """G5: split-half reliability 2r / (1 + r) over wordings, r the correlation of the halves about zero.

    Odd wordings against even ones. Tested against .5 by Fisher's z of r (r > 1/3), n = items.
    """
    halves = items.assign(half=items["paraphrase"] % 2).pivot_table(index="item", columns="half", values="content")
    n = len(halves)
    if halves.shape[1] < 2:
        return Gate("G5", "split-half reliability", float("nan"), float("nan"), RELIABILITY, float("nan"), n, 1.0)
    a, b = halves.to_numpy().T
    r = _cosine(a, b)
    z0, error = np.arctanh(RELIABILITY / (2 - RELIABILITY)), (n - 2) ** -0.5
    z = np.arctanh(np.clip(r, -0.999999, 0.999999))
    p = 1.0 if np.isnan(r) else float(stats.norm.sf((z - z0) / error))
    bounds = (r, np.tanh(z - stats.norm.isf(LEVEL) * error), np.tanh(z0 + stats.norm.isf(LEVEL / 5) * error))
    reliability, lower, smallest = (float(2 * x / (1 + x)) for x in bounds)
    return Gate("G5", "split-half reliability", reliability, lower, RELIABILITY, smallest, n, p)


def holm(p: list[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: max over smaller p of (m - rank) p, at most 1."""
    order = np.argsort(p)
    steps = np.maximum.accumulate((len(p) - np.arange(len(p))) * np.asarray(p)[order])
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(x) for x in adjusted]


def _agreement(name: str, title: str, cross_I: np.ndarray, energy_I: np.ndarray, rng: np.random.Generator) -> Gate:
    """sum(cross) / sum(energy) over items, against random signs of every item's cross product.

    The null says that the direction of an item's second answer is independent of its first. The lower bound is a
    delete-one-item jackknife with Student's t.
    """
    n, total = len(cross_I), float(energy_I.sum())
    if total < 1e-18:
        return Gate(name, title, float("nan"), float("nan"), 0.0, float("nan"), n, 1.0)
    observed = float(cross_I.sum() / total)
    null = rng.choice([-1.0, 1.0], size=(RESAMPLES, n)) @ cross_I / total
    left_out = (cross_I.sum() - cross_I) / np.maximum(total - energy_I, 1e-18)
    error = ((n - 1) / n * np.sum((left_out - left_out.mean()) ** 2)) ** 0.5
    lower = observed - stats.t.ppf(1 - LEVEL, n - 1) * error
    return Gate(name, title, observed, float(lower), 0.0, float(np.quantile(null, 1 - LEVEL / 5)), n, _p(null, observed))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    size = float(np.sum(a * a) * np.sum(b * b)) ** 0.5
    return float(np.sum(a * b)) / size if size > 1e-18 else float("nan")


def _p(null: np.ndarray, observed: float) -> float:
    """One-sided permutation p value, never zero: (1 + number at least as large) / (1 + resamples)."""
    return float((1 + np.sum(null >= observed - 1e-12)) / (1 + len(null)))
