"""An estimate with its interval, and the two ways there are of getting one over clusters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """An estimate with its interval, the standard error and degrees of freedom behind it, and the units it rests on.

    ``smallest`` is the effect that would have been found four times in five: (t_{1 - alpha/2} + t_{.8}) standard errors.
    """

    value: float
    low: float
    high: float
    error: float
    df: float
    n: int

    @property
    def smallest(self) -> float:
        """Smallest detectable effect at 80% power."""
        return smallest_effect(self.error, self.df)


def smallest_effect(error: float, df: float, level: float = 0.95, power: float = 0.8) -> float:
    """The effect that a two-sided test at 1 - ``level`` finds with ``power``: (t_{(1+level)/2,df} + t_{power,df}) x error."""
    return float((stats.t.ppf((1 + level) / 2, df) + stats.t.ppf(power, df)) * error) if df > 0 else float("nan")


def outcome(low: float, high: float, predicted: int = 1, null: float = 0.0) -> str:
    """What an interval says of a prediction: ``supported`` where it lies wholly on the predicted side of ``null``, ``refuted``
    where wholly on the other, ``not supported`` where it includes ``null``, ``undefined`` where there is no interval."""
    if not np.isfinite([low, high]).all():
        return "undefined"
    sides = predicted * (low - null), predicted * (high - null)
    return "supported" if min(sides) > 0 else "refuted" if max(sides) < 0 else "not supported"


def clustered(values: pd.Series, level: float = 0.95) -> Estimate:
    """Mean of values whose first index level is the cluster, its interval over clusters.

    With e_g the sum over cluster g of value - mean, the standard error is sqrt(k / (k - 1) sum_g e_g^2) / n for k clusters and
    n values, with Student's t at k - 1 degrees of freedom (Miller 2024, arXiv 2411.00640). One cluster gives no interval.
    """
    mean, n = float(values.mean()), len(values)
    excess = (values - mean).groupby(level=0).sum()
    k = len(excess)
    if k < 2:
        return Estimate(mean, float("nan"), float("nan"), float("nan"), 0, n)
    error = float((k / (k - 1) * (excess**2).sum()) ** 0.5 / n)
    half = float(stats.t.ppf((1 + level) / 2, k - 1)) * error
    return Estimate(mean, mean - half, mean + half, error, k - 1, n)


def jackknife(
    rows: np.ndarray, clusters: Iterable[Any], statistic: Callable[[np.ndarray], float], level: float = 0.95
) -> Estimate:
    """A statistic of rows with its delete-one-cluster jackknife: variance (k - 1) / k sum_g (t_g - mean t)^2, k - 1 degrees.

    Fewer than three clusters give no interval. Source: Efron and Stein (1981).
    """
    labels = list(clusters)
    names = list(dict.fromkeys(labels))
    of = np.array([names.index(label) for label in labels])
    k, value = len(names), float(statistic(rows))
    if k < 3:
        return Estimate(value, float("nan"), float("nan"), float("nan"), 0, len(rows))
    left_out = np.array([statistic(rows[of != g]) for g in range(k)])
    error = float(((k - 1) / k * np.sum((left_out - left_out.mean()) ** 2)) ** 0.5)
    half = float(stats.t.ppf((1 + level) / 2, k - 1)) * error
    return Estimate(value, value - half, value + half, error, k - 1, len(rows))


def together(value: float, parts: Sequence[Estimate], level: float = 0.95) -> Estimate:
    """An estimate made uncertain by several things that were sampled apart, from one estimate of it over each of them.

    error^2 = sum_j error_j^2, with error^4 / sum_j (error_j^4 / df_j) degrees of freedom (Satterthwaite). What the parts share is
    counted in each, so the interval is on the safe side. No interval where a part has none.
    """
    squares = np.array([part.error for part in parts]) ** 2
    total = float(squares.sum())
    if not total > 0:
        return Estimate(value, float("nan"), float("nan"), float("nan"), 0, parts[0].n)
    df = total**2 / float(np.sum(squares**2 / np.array([part.df for part in parts])))
    half = float(stats.t.ppf((1 + level) / 2, df)) * total**0.5
    return Estimate(value, value - half, value + half, total**0.5, df, parts[0].n)
