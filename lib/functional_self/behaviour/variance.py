"""Variance components of responses about zero, from expected mean squares, and their intervals.

Letters: I items, P paraphrases, C contexts. Everything is an energy about zero, never centred over
items, so calling an item's minus text plus changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit, logit

from functional_self.behaviour.estimate import smallest_effect


@dataclass(frozen=True)
class Components:
    """Estimates with 95% intervals, in squared units of the response, and what limits them.

    ``energy`` has one row per source (object, each facet, residual) with ``estimate``, ``low``, ``high``;
    ``share`` the same as parts of the total, and ``unfilled``, one minus the object's share. Negative
    estimates are kept. ``flags`` say what could not be separated or how few clusters there were.
    """

    energy: pd.DataFrame
    share: pd.DataFrame
    n: int
    clusters: int
    flags: tuple[str, ...]


def variance_components(
    table: pd.DataFrame,
    facets: Sequence[str] = ("paraphrase", "context"),
    object: str = "item",
    value: str = "content",
    cluster: str = "family",
    level: float = 0.95,
) -> Components:
    """Energy of the object of measurement, its interactions with up to two crossed facets, and the residual.

    Model, nested in every item i: y_ipc = mu_i + a_ip + b_ic + e_ipc, with E mu_i^2 the object's energy.
    Per item, with means over P x C cells, the mean squares and their expectations are
    n m_i^2 = PC mu_i^2 + C a + P b + e, MS_p = C a + e, MS_c = P b + e, MS_e = e; averaged over items they give
    unbiased estimates. One facet: m_i^2 and MS_p with C = 1. Intervals: delete-one-cluster jackknife of each energy,
    and of the logit of each share clipped to .002-.998, Student's t with clusters - 1 degrees of freedom.

    Args:
        table: a balanced table, one row per item x paraphrase x context.
        facets: the columns crossed within an item; one with a single level is dropped and flagged.
        object: the column of the object of measurement.
        value: the response's column.
        cluster: the column resampled as a whole (the item family).

    Raises:
        ValueError: the design is not balanced or has no facet with two levels.
    """
    used = [facet for facet in facets if table[facet].nunique() > 1]
    flags = [f"{facet} has one level: its variance is inside {object}" for facet in facets if facet not in used]
    if not 1 <= len(used) <= 2:
        raise ValueError(f"one or two facets with at least two levels are needed, of {', '.join(facets)}")
    levels = [table[facet].nunique() for facet in used]
    keys = [cluster, object, *used]
    items = table[[cluster, object]].drop_duplicates().sort_values([cluster, object])
    if table.duplicated(keys).any() or len(table) != len(items) * np.prod(levels):
        raise ValueError(f"not balanced: every {object} needs exactly one row per {' x '.join(used)}")
    y = table.sort_values(keys)[value].to_numpy().reshape(-1, *levels)
    sources = [object, *used, "residual"] if len(used) == 2 else [object, used[0]]
    per_item = _mean_squares(y) @ _solution(levels).T
    labels = items[cluster].to_numpy()
    names = list(dict.fromkeys(labels))
    if len(names) < 3:
        flags.append(f"only {len(names)} {cluster} clusters: no interval")
    if object == "item" and len(names) < 6:
        flags.append(f"{len(names)} {cluster} clusters: intervals are wide and rest on few degrees of freedom")

    def statistics(keep: np.ndarray) -> np.ndarray:
        energy = per_item[keep].mean(axis=0)
        total = energy.sum()
        share = energy / total if total > 0 else np.full_like(energy, np.nan)
        return np.concatenate([energy, share, [1 - share[0]]])

    everything = np.ones(len(y), dtype=bool)
    estimate = statistics(everything)
    left_out = np.array([statistics(labels != name) for name in names]) if len(names) > 2 else np.full((2, len(estimate)), np.nan)
    left_out[:, len(sources) :] = _logit(left_out[:, len(sources) :])
    centre = np.concatenate([estimate[: len(sources)], _logit(estimate[len(sources) :])])
    k = len(left_out)
    error = np.sqrt((k - 1) / k * np.sum((left_out - left_out.mean(axis=0)) ** 2, axis=0))
    half = stats.t.ppf((1 + level) / 2, max(k - 1, 1)) * error
    frame = pd.DataFrame({"estimate": estimate, "low": centre - half, "high": centre + half})
    frame.iloc[len(sources) :, 1:] = expit(frame.iloc[len(sources) :, 1:])
    energy, share = frame.iloc[: len(sources)].copy(), frame.iloc[len(sources) :].copy()
    energy.index, share.index = pd.Index(sources), pd.Index([*sources, "unfilled"])
    return Components(energy, share, len(y), len(names), tuple(flags))


def shares_by_class(frame: pd.DataFrame, classes: Sequence[str] = ("covered", "conflict", "silent")) -> pd.DataFrame:
    """Variance shares of every class, and the unfilled share of the last class minus the first's.

    Rows have class, source, estimate, low, high, n and, for the difference, ``smallest``, the detectable effect.
    Classes share no item family, so the limits of the difference d = s - c
    are d - sqrt((s - s_low)^2 + (c_high - c)^2) and d + sqrt((s_high - s)^2 + (c - c_low)^2).
    """
    rows, clusters = [], []
    for item_class in classes:
        found = variance_components(frame[frame["class"] == item_class])
        clusters.append(found.clusters)
        rows.append(found.share.rename_axis("source").reset_index().assign(n=found.n, **{"class": item_class}))
    table = pd.concat(rows, ignore_index=True)
    unfilled = table[table["source"] == "unfilled"].set_index("class")
    first, last = unfilled.loc[classes[0]], unfilled.loc[classes[-1]]
    gap = last["estimate"] - first["estimate"]
    low = gap - np.hypot(last["estimate"] - last["low"], first["high"] - first["estimate"])
    high = gap + np.hypot(last["high"] - last["estimate"], first["estimate"] - first["low"])
    df = max(min(clusters) - 1, 1)
    row = {
        "class": f"{classes[-1]}-minus-{classes[0]}",
        "source": "unfilled",
        "estimate": gap,
        "low": low,
        "high": high,
        "n": last["n"],
        "smallest": smallest_effect(0.5 * (high - low) / stats.t.ppf(0.975, df), df),
    }
    return pd.concat([table, pd.DataFrame([row])], ignore_index=True)


def _logit(share: np.ndarray) -> np.ndarray:
    return logit(np.clip(share, 0.002, 0.998))


def _mean_squares(y: np.ndarray) -> np.ndarray:
    """Per item the mean squares of the mean, each facet and the residual, for y of shape (I, P) or (I, P, C)."""
    axes = tuple(range(1, y.ndim))
    mean = y.mean(axis=axes, keepdims=True)
    n = y[0].size
    squares = [n * mean.reshape(len(y)) ** 2]
    residual = y - mean
    if y.ndim == 3:
        for kept, averaged in ((1, 2), (2, 1)):
            effect = y.mean(axis=averaged, keepdims=True) - mean
            squares.append((effect**2).sum(axis=axes) * y.shape[averaged] / (y.shape[kept] - 1))
            residual = residual - effect
    degrees = np.prod([size - 1 for size in y.shape[1:]])
    squares.append((residual**2).sum(axis=axes) / degrees)
    return np.stack(squares, axis=1)


def _solution(levels: Sequence[int]) -> np.ndarray:
    """The matrix that turns expected mean squares into components."""
    if len(levels) == 1:
        expected = np.array([[levels[0], 1], [0, 1]])
    else:
        P, C = levels
        expected = np.array([[P * C, C, P, 1], [0, C, 0, 1], [0, 0, P, 1], [0, 0, 0, 1]])
    return np.linalg.inv(expected)
