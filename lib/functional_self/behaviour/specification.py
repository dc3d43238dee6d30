"""What a written specification changes, against what its wording alone changes.

Letters: I items, S specifications, W wordings of one of them, M interpreters, P paraphrases of an item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, cast

import numpy as np
import pandas as pd

from functional_self.behaviour.estimate import Estimate, clustered, jackknife, together
from functional_self.behaviour.intervals import fill
from functional_self.materials.schema import Specification


def spec_effect(y_IS: np.ndarray, y_IW: np.ndarray, clusters: Iterable[Any]) -> Estimate:
    """R = E_i[Var_s y_is] / E_i[Var_w y_iw]: energy across specifications over energy across wordings of one.

    Variances have S - 1 and W - 1 degrees of freedom, so that R is 1 where a specification matters no more than its wording.
    A text moves many items at once, so specifications and wordings are sampled like items are: the interval is of log R, over
    delete-one jackknives of item families, of specifications and of wordings (``estimate.together``). Three of each are needed
    for one. ``error`` is log R's. NaN where nothing varies over the wordings. Raises ValueError for fewer than two of either.
    """
    if min(y_IS.shape[1], y_IW.shape[1]) < 2:
        raise ValueError(f"{y_IS.shape[1]} specifications and {y_IW.shape[1]} wordings: at least two of each are needed")
    energy_I2 = np.stack([y_IS.var(axis=1, ddof=1), y_IW.var(axis=1, ddof=1)], axis=1)
    if not (energy_I2.mean(axis=0) > 1e-18).all():
        nan = float("nan")
        return Estimate(nan, nan, nan, nan, 0, len(y_IS))

    def log_ratio(rows: np.ndarray) -> float:
        above, below = rows.mean(axis=0)
        return float(np.log(above / below)) if min(above, below) > 0 else float("nan")

    items = jackknife(energy_I2, clusters, log_ratio)
    found = together(items.value, [items, *(_over_texts(y, lambda energy: float(np.log(energy))) for y in (y_IS, y_IW))])
    value, low, high = (float(np.exp(x)) for x in (found.value, found.low, found.high))
    return Estimate(value, low, high, found.error, found.df, found.n)


def clash_effect(change_I: np.ndarray, y_IW: np.ndarray, clusters: Iterable[Any]) -> Estimate:
    """C = E_i[change_i^2] - 2 E_i[Var_w y_iw]: what one change of the text does beyond another wording, in squared nats.

    Zero where the changed text is one more wording. Jackknives of item families and of wordings as in ``spec_effect``; the
    interval is for this one change.
    """
    items = jackknife(change_I**2 - 2 * y_IW.var(axis=1, ddof=1), clusters, lambda rows: float(rows.mean()))
    return together(items.value, [items, _over_texts(y_IW, lambda energy: 2 * energy)])


def clause_moved(
    kept_IMP: np.ndarray, moved_IMP: np.ndarray, clusters: Iterable[Any], share: Literal["V", "F"] = "V"
) -> Estimate:
    """V of the items of clauses that were taken out, less V of the same items where the clauses stand (``intervals.fill``).

    With ``share`` F it is the interpretive share F / T in place of V = (F + U) / T: where wordings leave U near T, V cannot rise.
    The two populations of interpreters are different ones, the items the same: delete-one jackknives of item families, of the
    one population and of the other (``estimate.together``). Raises ValueError for fewer than 4 interpreters of either.
    """
    if min(kept_IMP.shape[1], moved_IMP.shape[1]) < 4:
        raise ValueError(f"{kept_IMP.shape[1]} and {moved_IMP.shape[1]} interpreters: at least four of each are needed")

    def part(y_IMP: np.ndarray) -> float:
        found = fill(y_IMP)
        return found.V if share == "V" else found.F / found.T

    def gap(places: np.ndarray) -> float:
        return part(moved_IMP[places]) - part(kept_IMP[places])

    items = jackknife(np.arange(len(kept_IMP)), clusters, gap)
    populations = [
        jackknife(y.transpose(1, 0, 2), range(y.shape[1]), lambda y_MIP: part(y_MIP.transpose(1, 0, 2)))
        for y in (kept_IMP, moved_IMP)
    ]
    return together(items.value, [items, *populations])


def _over_texts(y_IT: np.ndarray, of: Callable[[float], float]) -> Estimate:
    """A function of the mean variance over texts, jackknifed over the texts."""

    def statistic(y_TI: np.ndarray) -> float:
        return of(float(y_TI.var(axis=0, ddof=1).mean())) if len(y_TI) > 1 else float("nan")

    return jackknife(y_IT.T, range(y_IT.shape[1]), statistic)


def adherence(frame: pd.DataFrame, specifications: Mapping[str, Specification], value: str = "content") -> Estimate:
    """Mean move towards what a specification entails, in nats, over the pairs of item and specification that entail a pole.

    With k_is = +1 or -1 for the pole that specification s entails for item i, the move is k_is (y_is - mean_s' y_is'), the mean
    over the specifications s' that entail nothing for i or the opposite. Positive: the subject follows what is written. ``frame``
    has columns item, family, specification and ``value``. Interval clustered by family. Raises ValueError where no pair
    is entailed.
    """
    poles = {
        (item, name): 1.0 if pole == "plus" else -1.0
        for name, specification in specifications.items()
        for clause in specification.clauses
        for item, pole in clause.entails.items()
    }
    wide = frame.pivot_table(index=["family", "item"], columns="specification", values=value)
    moves: dict[tuple[str, str, str], float] = {}
    for place, row in wide.iterrows():
        family, item = cast("tuple[str, str]", place)
        for name in wide.columns:
            pole = poles.get((item, name))
            others = [row[other] for other in wide.columns if other != name and poles.get((item, other)) != pole]
            if pole is not None and others:
                moves[family, item, str(name)] = pole * float(row[name] - np.mean(others))
    if not moves:
        raise ValueError("no specification in the table entails an answer to any of its items")
    return clustered(pd.Series(moves))
