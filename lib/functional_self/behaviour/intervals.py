"""Shared, interpretive and unfilled parts of the responses of several interpreters, with intervals that cover.

Letters: I items, K families of items, M interpreters, P paraphrases (an item's own, shared by the interpreters), q = M - 1,
B resamples. Everything is made of products of two responses to one item, so calling an item's minus text plus changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import chdtrc, expit, logit, stdtrit

SHARES = ("D", "F", "U", "V")
DRAWS = 2000
ONE_AXIS = 0.85  # concentrations on one axis above this are taken as 1
SPHERICITY = 0.01  # level of John's test
GUARD = 1.75  # times 1 / q: S1 above it flags one axis


@dataclass(frozen=True)
class Fill:
    """Energies about zero of one class of items, in squared units of the response.

    Shared fill ``D``, interpretive fill ``F``, unfilled ``U`` = ``p`` + ``e`` (wordings alike for all interpreters, the rest),
    their sum ``T``, and ``ms``, the mean squares of item, interpreter, paraphrase and error. Unbiased: estimates may be negative.
    """

    D: float
    F: float
    U: float
    T: float
    p: float
    e: float
    ms: np.ndarray

    @property
    def V(self) -> float:
        """The void index (F + U) / T; NaN where every response is zero."""
        return (self.F + self.U) / self.T if self.T > 0 else float("nan")


def fill(y_IMP: np.ndarray) -> Fill:
    """Unbiased energies of responses y_imp = mu_i + a_im + b_ip + c_imp, crossed and balanced.

    With C_im the cell means, G = C'C / I, H = sum d d' / (I (P - 1)) for d = y minus its cell mean, and delta, o the means of a
    matrix's diagonal and off-diagonal: p = o(H), e = delta(H) - o(H), D = o(G) - p / P, F = delta(G) - o(G) - e / P. From the
    mean squares, whose expectations are (MP D + P F + M p + e, P F + e, M p + e, e). A lean common to all items belongs to F.

    Args:
        y_IMP: responses of shape (items, interpreters, paraphrases), in nats.

    Raises:
        ValueError: fewer than 3 items, 3 interpreters or 2 paraphrases, or a response that is not a finite number.

    Source: Brennan 2001, Generalizability Theory, expected mean squares of interpreters x (paraphrases : items), about zero.
    """
    ms = _mean_squares(_checked(y_IMP)).mean(axis=0)
    D, F, p, e = (float(part) for part in _energies(ms, *y_IMP.shape[1:]))
    return Fill(D, F, p + e, D + F + p + e, p, e, ms)


def axis_share(y_IMP: np.ndarray) -> float:
    """S1: how much of what tells interpreters apart lies on one axis, cross-validated over paraphrases; about 1 / q for none.

    X is the items x interpreters matrix of half the paraphrases, each item centred over interpreters, v the top right singular
    vector of one half's X, S1 = |X v|^2 / |X|^2 in the other half, averaged over the two directions; noise lowers it.
    NaN where the interpreters never differ. Raises ValueError as ``fill`` does.
    """
    _checked(y_IMP)
    s_hMM = [_centred(C.T @ C) for C in (y_IMP[:, :, 0::2].mean(axis=2), y_IMP[:, :, 1::2].mean(axis=2))]
    if min(np.trace(s) for s in s_hMM) <= 0:
        return float("nan")
    tops = [np.linalg.eigh(s)[1][:, -1] for s in s_hMM]
    return float(np.mean([v @ s @ v / np.trace(s) for v, s in zip(tops, s_hMM[::-1])]))


def axis_follows(y_IMP: np.ndarray, other_JMP: np.ndarray) -> float:
    """How much of what tells interpreters apart on other items lies on the axis of the first ones: |X v|^2 / |X|^2.

    X is the other items x interpreters matrix, wordings averaged and each item centred over interpreters, v the top right
    singular vector of the same matrix of the first items. About 1 / q where the two have nothing in common; NaN where the
    interpreters never differ. Raises ValueError as ``fill`` does, or where the interpreters are not as many.
    """
    X_IM, other_JM = (_checked(each).mean(axis=2) for each in (y_IMP, other_JMP))
    if X_IM.shape[1] != other_JM.shape[1]:
        raise ValueError(f"axis: {X_IM.shape[1]} interpreters of the first items and {other_JM.shape[1]} of the others")
    s_MM, other_MM = (_centred(each.T @ each) for each in (X_IM, other_JM))
    if min(np.trace(s_MM), np.trace(other_MM)) <= 0:
        return float("nan")
    v = np.linalg.eigh(s_MM)[1][:, -1]
    return float(v @ other_MM @ v / np.trace(other_MM))


def fill_intervals(
    silent: np.ndarray,
    covered: np.ndarray,
    families: tuple[np.ndarray, np.ndarray] | None = None,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """Shares D / T, F / T, U / T and V of two classes answered by the same interpreters, and their differences, with intervals.

    *Two-way jackknife*: delete one family, delete one interpreter (from both classes); logits of the shares clipped to .002-.998,
    differences as they are; the two variances added, Student's t with Satterthwaite's degrees of freedom, at least q.
    *Axis-adaptive pivots*: families resampled within class, mean squares inverted as pivots, F divided by a chi-square on q
    degrees of freedom as far as the fill lies on one axis, the interpreters' places shared by classes as far as their axes agree.
    Limits are the hull of both; a class's D, F and V have the pivots' alone where it has one axis.

    Args:
        silent: responses of shape (items, interpreters, paraphrases).
        covered: the same of the other class, interpreters in the same order.
        families: what family each silent and each covered item is of; without it every item is its own.
        level: the coverage asked for.
        draws, seed: resamples of the families, and their seed.

    Returns:
        A row per class (silent, covered, silent-minus-covered) and quantity (D, F, U, V): class, quantity, estimate, low, high,
        n_items, n_interpreters, flags. A flag says when the number of interpreters, not of items, limits the intervals.

    Raises:
        ValueError: as ``fill`` does, classes of different numbers of interpreters, or fewer than 3 families.

    Source: pivots after Weerahandi 1993 (JASA 88, 899-905); tests/behaviour/test_coverage.py measures the coverage.
    """
    M = silent.shape[1]
    if covered.shape[1] != M:
        raise ValueError(f"{M} interpreters answered the silent items, {covered.shape[1]} the covered; the same ones are needed")
    rng = np.random.default_rng(seed)
    labels = families or (np.arange(len(silent)), np.arange(len(covered)))
    pair = [_summary(_checked(y), label) for y, label in zip((silent, covered), labels)]
    weights, z = zip(*[(_resample(len(one.family_KI), draws, rng), rng.standard_normal((draws, M))) for one in pair])
    rho, sign = _alignment(*pair)
    places = (z[0], np.sqrt(rho) * z[0] + np.sqrt(1 - rho) * z[1])
    pivots = [_pivots(*parts) for parts in zip(pair, (1.0, sign), weights, places)]
    tails, rows = np.array([(1 - level) / 2, (1 + level) / 2]), []
    for name, one, pivot in zip(("silent", "covered"), pair, pivots):
        centre, left_out, interpreters = (
            logit(np.clip(share, 0.002, 0.998)) for share in (one.shares, one.without_family, one.without_interpreter)
        )
        quantiles = np.quantile(pivot, tails, axis=0)
        limits = _hull(quantiles, expit(_student(centre, [left_out], interpreters, tails)))
        if one.h == 1:
            limits = np.where(np.array(SHARES) == "U", limits, quantiles)
        rows += [(name, *row, len(one.ms_I4), M, one.flag) for row in zip(SHARES, one.shares, *limits)]
    a, b = pair
    gap, paired = a.shares - b.shares, a.without_interpreter - b.without_interpreter
    jackknife = _student(gap, [a.without_family, b.without_family], paired, tails)
    limits = _hull(np.quantile(pivots[0] - pivots[1], tails, axis=0), jackknife)
    size = (len(silent) + len(covered), M, a.flag or b.flag)
    rows += [("silent-minus-covered", *row, *size) for row in zip(SHARES, gap, *limits)]
    return pd.DataFrame(rows, columns=["class", "quantity", "estimate", "low", "high", "n_items", "n_interpreters", "flags"])


def fill_table(
    frame: pd.DataFrame,
    classes: Sequence[str] = ("covered", "silent"),
    value: str = "content",
    interpreter: str = "interpreter",
    cluster: str = "item",
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """``fill_intervals`` of a long table: the shares of every class, and those of the last class minus each other's.

    Args:
        frame: one row per class x item x paraphrase x ``interpreter``, with ``value`` the response in nats.
        classes: two or more of the table's classes; the last is compared with the others.
        value: the response's column.
        interpreter: the column that tells interpreters apart.
        cluster: the column resampled as a whole: 'family' where items of a family may answer alike.
        level, draws, seed: as for ``fill_intervals``.

    Returns:
        The columns of ``fill_intervals``; the class of a difference is '<last>-minus-<other>'.

    Raises:
        ValueError: fewer than two classes, a class that is not in the table or not balanced, or as ``fill`` does.
    """
    if len(classes) < 2:
        raise ValueError(f"classes {tuple(classes)}: at least two are needed to compare")
    rows = frame[frame["class"].isin(classes)]
    M = rows[interpreter].nunique()
    *others, last = classes
    y = {name: _array(rows[rows["class"] == name], name, M, value, interpreter) for name in classes}
    items = rows.drop_duplicates(["class", "item"]).sort_values("item")
    families = {name: items.loc[items["class"] == name, cluster].to_numpy() for name in classes}
    parts: list[pd.DataFrame] = []
    for other in others:
        table = fill_intervals(y[last], y[other], (families[last], families[other]), level, draws, seed)
        table["class"] = table["class"].map({"silent": last, "covered": other, "silent-minus-covered": f"{last}-minus-{other}"})
        parts.append(table[len(SHARES) if parts else 0 :])
    return pd.concat(parts, ignore_index=True)


def _array(rows: pd.DataFrame, name: str, M: int, value: str, interpreter: str) -> np.ndarray:
    """Responses (I, M, P) of one class; items, interpreters and paraphrases in the order of their names."""
    if rows.empty:
        raise ValueError(f"class '{name}' is not in the table")
    keys = ["item", interpreter, "paraphrase"]
    wordings = rows.groupby("item")["paraphrase"].nunique()
    shape = len(wordings), M, int(wordings.max())
    if rows.duplicated(keys).any() or len(rows) != np.prod(shape) or (wordings != shape[2]).any():
        cells = f"{shape[0]} items x {M} interpreters x {shape[2]} paraphrases"
        raise ValueError(f"class '{name}' is not balanced: {len(rows)} rows, but {cells} need exactly one row each")
    return rows.sort_values(keys)[value].to_numpy(dtype=float).reshape(shape)


def _checked(y: np.ndarray) -> np.ndarray:
    if y.ndim != 3 or any(size < least for size, least in zip(y.shape, (3, 3, 2))):
        raise ValueError(f"responses of shape {y.shape}: 3 items, 3 interpreters and 2 paraphrases are the least")
    if not np.isfinite(y).all():
        raise ValueError(f"{int((~np.isfinite(y)).sum())} of {y.size} responses are not finite numbers; every cell needs one")
    return y


def _mean_squares(y: np.ndarray) -> np.ndarray:
    """Per item the mean squares of item, interpreter, paraphrase and error, shape (I, 4)."""
    _, M, P = y.shape
    C, b, mu = y.mean(axis=2), y.mean(axis=1), y.mean(axis=(1, 2))
    rest = y - C[:, :, None] - b[:, None, :] + mu[:, None, None]
    between, wording = ((part - mu[:, None]) ** 2 for part in (C, b))
    squares = [M * P * mu**2, P * between.sum(axis=1) / (M - 1), M * wording.sum(axis=1) / (P - 1)]
    return np.stack([*squares, (rest**2).sum(axis=(1, 2)) / ((M - 1) * (P - 1))], axis=1)


def _energies(ms: np.ndarray, M: int, P: int) -> tuple[np.ndarray, ...]:
    """D, F, p, e from mean squares (..., 4)."""
    item, interpreter, paraphrase, error = np.moveaxis(ms, -1, 0)
    return (item - interpreter - paraphrase + error) / (M * P), (interpreter - error) / P, (paraphrase - error) / M, error


def _shares(D: np.ndarray, F: np.ndarray, U: np.ndarray) -> np.ndarray:
    """Parts of the total and V, shape (..., 4); NaN where the total is zero."""
    T = D + F + U
    return np.stack([D, F, U, F + U], axis=-1) / np.where(T > 0, T, np.nan)[..., None]


def _centred(G: np.ndarray) -> np.ndarray:
    """J G J with J = identity - 11' / M."""
    return G - G.mean(axis=0) - G.mean(axis=1, keepdims=True) + G.mean()


@dataclass(frozen=True)
class _Class:
    """What both procedures need of a class: ``A`` the covariance of its fill, ``v`` its top axis, ``h`` the part lying on it."""

    ms_I4: np.ndarray
    C_IM: np.ndarray
    family_KI: np.ndarray
    P: int
    shares: np.ndarray
    without_family: np.ndarray
    without_interpreter: np.ndarray
    A: np.ndarray
    v: np.ndarray
    h: float
    flag: str


def _summary(y: np.ndarray, labels: np.ndarray) -> _Class:
    n, M, P = y.shape
    family_KI = (np.unique(labels)[:, None] == labels).astype(float)
    if len(family_KI) < 3 or len(labels) != n:
        raise ValueError(
            f"{len(labels)} labels of {len(family_KI)} families for {n} items: one per item and 3 families are the least"
        )
    q, ms_I4, C = M - 1, _mean_squares(y), y.mean(axis=2)
    ms = ms_I4.mean(axis=0)
    fewer = np.stack([_mean_squares(np.delete(y, m, axis=1)).mean(axis=0) for m in range(M)])

    def shares(ms: np.ndarray, interpreters: int = M) -> np.ndarray:
        D, F, p, e = _energies(ms, interpreters, P)
        return _shares(D, F, p + e)

    s, noise = _centred(C.T @ C / n), ms[3] / P
    t1, square = np.trace(s), (s**2).sum()
    t2 = n**2 / ((n - 1) * (n + 2)) * (square - t1**2 / n)
    f1, f2 = t1 - q * noise, t2 - 2 * noise * t1 + q * noise**2
    h, S1 = 0.0, axis_share(y)
    if f1 > 0 and chdtrc(q * (q + 1) / 2 - 1, n * q / 2 * (q * square / t1**2 - 1)) < SPHERICITY:
        below = f1**2 - 2 * t2 / n
        r = np.clip(f2 / below, 1 / q, 1) if below > 0 else 1.0
        h = float(np.sqrt((q * r - 1) / (q - 1)))
    flag = f"one axis (S1 {S1:.2f}): limited by the {M} interpreters" if S1 * q > max(GUARD, (1 + np.sqrt(q / n)) ** 2) else ""
    A, v = s - noise * (np.eye(M) - 1 / M), np.linalg.eigh(s)[1][:, -1]
    left_out = shares((n * ms - family_KI @ ms_I4) / (n - family_KI.sum(axis=1, keepdims=True))), shares(fewer, q)
    return _Class(ms_I4, C, family_KI, P, shares(ms), *left_out, A, v, 1.0 if h > ONE_AXIS else h, flag)


def _alignment(a: _Class, b: _Class) -> tuple[float, float]:
    """The cosine (from 0) of the two trace-free covariances of fill, and the sign that turns b's axis towards a's."""
    J = np.eye(len(a.v)) - 1 / len(a.v)
    left, right = (one.A - np.trace(one.A) / (len(J) - 1) * J for one in (a, b))
    length = np.sqrt((left**2).sum() * (right**2).sum())
    return float(np.clip((left * right).sum() / length, 0, 1)) if length > 0 else 0.0, -1.0 if a.v @ b.v < 0 else 1.0


def _resample(n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n families is drawn when n are drawn with replacement, shape (B, n)."""
    drawn = rng.integers(0, n, (draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * n).reshape(draws, n)


def _pivots(one: _Class, sign: float, weights_BK: np.ndarray, z_BM: np.ndarray) -> np.ndarray:
    """Pivots (B, 4) of the shares: theta = ms (ms / ms_b)^kappa, the interpreters' places on the axis drawn anew."""
    (n, M), P, h = one.C_IM.shape, one.P, one.h
    q, kappa = M - 1, 1 + 6 / len(one.family_KI)
    lean_I = one.C_IM @ (sign * one.v) * one.C_IM.mean(axis=1)
    *totals, size_B = (weights_BK @ (one.family_KI @ np.column_stack([one.ms_I4, lean_I, np.ones(n)]))).T
    *ms_B4, lean_B = totals / size_B
    item, interpreter, paraphrase, error = (
        m * np.divide(m, m_B, out=np.ones_like(m_B), where=m_B > 0) ** kappa for m, m_B in zip(one.ms_I4.mean(axis=0), ms_B4)
    )
    W = (z_BM[:, 1:] ** 2).mean(axis=1)
    v0, p = np.maximum((interpreter - error) / P, 0), np.maximum((paraphrase - error) / M, 0)
    D = (item - paraphrase) / (M * P) - (1 - h) * v0 / M
    if h > 0:
        lean, place = lean_I.mean() + kappa * (lean_I.mean() - lean_B), z_BM[:, 0] / np.sqrt(M * q * W)
        D = D + place**2 * h * v0 * q - 2 * place * lean
    return _shares(np.maximum(D, 0), v0 * (1 - h + h / W), p + error)


def _student(centre: np.ndarray, families: Sequence[np.ndarray], interpreters: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """Jackknife limits (2, 4): the variances of families (one set per class) and of interpreters added, df at least M - 1."""
    A, B = sum((len(left) - 1) * left.var(axis=0) for left in families), (len(interpreters) - 1) * interpreters.var(axis=0)
    d_A, d_B = sum(len(left) - 1 for left in families), len(interpreters) - 1
    df = np.maximum((A + B) ** 2 / np.maximum(A**2 / d_A + B**2 / d_B, 1e-300), d_B)
    return np.stack([centre + stdtrit(df, tail) * np.sqrt(A + B) for tail in tails])


def _hull(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([np.minimum(a[0], b[0]), np.maximum(a[1], b[1])])
