"""How far answers survive a change of wording, context, persona or prompt, and how sure one can be of a difference.

Letters: S subjects, K personas, I items, P wordings. Every statistic is made of squares and products of responses about zero, so
calling an item's minus text plus changes none of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from functional_self.behaviour.estimate import Estimate, clustered, jackknife
from functional_self.behaviour.variance import Components


def tost(estimate: Estimate, margin: float, target: float = 0.0) -> float:
    """p value of 'the same as ``target`` within ``margin``': the larger of two one-sided t tests (Schuirmann 1987).

    Small p says that the difference lies inside +-``margin``. Raises ValueError where the margin is not positive.
    """
    if margin <= 0:
        raise ValueError(f"margin {margin}: a positive number of the estimate's units is needed")
    if not np.isfinite(estimate.error) or estimate.error <= 0:
        return float("nan")
    below = (estimate.value - target + margin) / estimate.error
    above = (estimate.value - target - margin) / estimate.error
    return float(max(stats.t.sf(below, estimate.df), stats.t.cdf(above, estimate.df)))


def paired(
    frame: pd.DataFrame,
    value: str,
    condition: str,
    pair: tuple[str, str],
    unit: str = "item",
    cluster: str = "family",
    level: float = 0.95,
) -> Estimate:
    """Mean over units of ``value`` under the second condition minus the first, its interval clustered.

    The interval is ``clustered``'s of the units' differences. Raises KeyError naming a condition that is not there, ValueError
    where units lack one of the two.
    """
    for name in pair:
        if name not in set(frame[condition]):
            raise KeyError(
                f"{condition} '{name}' is not in the table; it has {', '.join(sorted(map(str, set(frame[condition]))))}"
            )
    wide = frame[frame[condition].isin(pair)].pivot_table(index=[cluster, unit], columns=condition, values=value)
    if wide.isna().any().any():
        raise ValueError(f"{int(wide.isna().any(axis=1).sum())} of {len(wide)} {unit}s lack one of the conditions {pair}")
    return clustered(wide[pair[1]] - wide[pair[0]], level)


def d_study(found: Components, n_p: Sequence[int] = (1, 2, 4, 8, 16), n_c: Sequence[int] = (1, 2, 4, 8)) -> pd.DataFrame:
    """rho(n_p, n_c) = var_i / (var_i + var_p / n_p + var_c / n_c + var_e / (n_p n_c)): what more wordings or contexts would buy.

    ``found`` comes from ``variance_components``; a facet without two levels counts no variance. Negative components are
    taken as 0 here, and only here. Source: Brennan (2001), Generalizability Theory, chapter 4.
    """
    energy = found.energy["estimate"].clip(lower=0)
    var_i, var_p, var_c = (float(energy.get(name, 0.0)) for name in ("item", "paraphrase", "context"))
    var_e = float(energy.get("residual", 0.0))
    rows = []
    for p, c in itertools.product(n_p, n_c):
        total = var_i + var_p / p + var_c / c + var_e / (p * c)
        rows.append({"paraphrases": p, "contexts": c, "rho": var_i / total if total > 0 else float("nan")})
    return pd.DataFrame(rows)


def ipsative(frame: pd.DataFrame, over: str, value: str = "content") -> Estimate:
    """Stability of one subject's profile of items between the levels of ``over`` (contexts, personas).

    Mean over pairs of levels (a, b) of <y_a, y_b> / sqrt(<y_a, y_a> <y_b, y_b>), the correlation about zero of the two profiles
    over items; jackknife over item families. After Kovac et al. 2024 (arXiv 2402.14846), about zero so that keying does
    not matter.
    """
    wide = frame.pivot_table(index=["family", "item"], columns=over, values=value)
    if wide.shape[1] < 2:
        raise ValueError(f"{over} has one level; stability needs two")

    return jackknife(wide.to_numpy(), wide.index.get_level_values(0).to_numpy(), _alike)


def ipsative_difference(
    frame: pd.DataFrame, over: str, first: Sequence[str], second: Sequence[str], value: str = "content"
) -> Estimate:
    """Ipsative stability among the levels ``second`` of ``over`` minus that among ``first``; one jackknife over families."""
    wide = frame.pivot_table(index=["family", "item"], columns=over, values=value)
    if min(len(first), len(second)) < 2:
        raise ValueError(f"{over}: {len(first)} and {len(second)} levels; stability needs two of each")
    y_IL = wide[[*first, *second]].to_numpy()

    def statistic(y_IL: np.ndarray) -> float:
        return _alike(y_IL[:, len(first) :]) - _alike(y_IL[:, : len(first)])

    return jackknife(y_IL, wide.index.get_level_values(0).to_numpy(), statistic)


def _alike(y_IL: np.ndarray) -> float:
    """Mean over pairs of columns of their correlation about zero; NaN where a column is zero."""
    size = np.sqrt((y_IL**2).sum(axis=0))
    gram = (y_IL.T @ y_IL) / np.where(size[:, None] * size[None] > 1e-18, size[:, None] * size[None], np.nan)
    return float(gram[np.triu_indices(len(gram), 1)].mean())


def rank_order(frame: pd.DataFrame, over: str, subject: str = "subject", value: str = "content") -> Estimate:
    """Stability of the order of subjects on an item between levels of ``over``: mean Spearman rho over items and pairs of levels.

    Flipping an item's key reverses both orders and leaves rho. Needs at least three subjects; items on which all subjects tie
    are undefined and left out of the mean. Source: Kovac et al. 2024 (arXiv 2402.14846).
    """
    names = list(dict.fromkeys(frame[subject]))
    if len(names) < 3:
        raise ValueError(f"{len(names)} subjects: an order needs at least three")
    wide = frame.pivot_table(index=["family", "item"], columns=[over, subject], values=value)
    levels = list(dict.fromkeys(wide.columns.get_level_values(0)))
    rho = []
    for a, b in itertools.combinations(levels, 2):
        x, y = (stats.rankdata(wide[name].to_numpy(), axis=1) for name in (a, b))
        x, y = (r - r.mean(axis=1, keepdims=True) for r in (x, y))
        size = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
        rho.append(np.divide((x * y).sum(axis=1), size, out=np.full(len(x), np.nan), where=size > 0))
    per_item = pd.Series(np.nanmean(rho, axis=0), index=wide.index).dropna()
    return clustered(per_item)


def self_share(y_SKIP: np.ndarray, clusters: Iterable[Any]) -> Estimate:
    """The part of what differs between subjects that survives averaging over personas.

    z_skip = y_skip - mean_s y_skip takes away the item (common sense), its wording and the item x persona mean (stereotypes that
    all subjects share). Within items, with mean squares MS_s, MS_sk, MS_e of subjects, subjects x personas and the rest,
    C_s = (MS_s - MS_sk) / (K P), C_sk = (MS_sk - MS_e) / P, C_e = MS_e, averaged over items, and the
    share is C_s / (C_s + C_sk + C_e). With specifications for personas, C_s is the part of the interpretive fill that stays
    whatever the specification and C_sk the part that changes with it. Delete-one-cluster jackknife over ``clusters`` (the
    item's family): the interval is for these subjects and personas. Several seeds of one plant share it, and that is taken
    away here: their self share is 0 by construction.

    Raises ValueError where there are fewer than two subjects, personas or wordings.
    """
    S, K, _, P = y_SKIP.shape
    if min(S, K, P) < 2:
        raise ValueError(f"{S} subjects, {K} personas, {P} wordings: at least two of each are needed")
    z = y_SKIP - y_SKIP.mean(axis=0, keepdims=True)
    cell = z.mean(axis=3)
    own = cell.mean(axis=1)
    ms_s = K * P * (own**2).sum(axis=0) / (S - 1)
    ms_sk = P * ((cell - own[:, None]) ** 2).sum(axis=(0, 1)) / ((S - 1) * (K - 1))
    ms_e = ((z - cell[..., None]) ** 2).sum(axis=(0, 1, 3)) / ((S - 1) * K * (P - 1))
    parts_I3 = np.stack([(ms_s - ms_sk) / (K * P), (ms_sk - ms_e) / P, ms_e], axis=1)

    def statistic(parts: np.ndarray) -> float:
        s, sk, e = parts.mean(axis=0)
        return float(s / (s + sk + e)) if s + sk + e > 0 else float("nan")

    return jackknife(parts_I3, clusters, statistic)


def internalisation(
    full_ab: tuple[np.ndarray, np.ndarray], strip_ab: tuple[np.ndarray, np.ndarray], clusters: Iterable[Any]
) -> Estimate:
    """I = <d_strip^a, d_full^b> / <d_full^a, d_full^b>: how much of a change of profile stays when the prompt gives no role.

    d_c = profile over items of the tuned subject minus its base's in condition c, on halves a, b of the wordings; the product is
    symmetrised over the halves. 1 says internalised, 0 scaffold only. NaN where the jackknife interval of the denominator
    includes 0: then there is no change to be kept. Delete-one-cluster jackknife over item families.
    """
    (full_a, full_b), (strip_a, strip_b) = full_ab, strip_ab
    products = np.stack([(strip_a * full_b + strip_b * full_a) / 2, full_a * full_b], axis=1)
    names = list(clusters)
    denominator = jackknife(products[:, 1:], names, lambda x: float(x.mean()))
    if not denominator.low > 0:
        nan = float("nan")
        return Estimate(nan, nan, nan, nan, denominator.df, denominator.n)
    return jackknife(products, names, lambda x: float(x[:, 0].mean() / x[:, 1].mean()))
