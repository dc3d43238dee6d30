"""Shares of fill: keys do not matter, estimates have no bias, other packages agree, one axis is flagged, errors take one line."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import worlds
from functional_self.behaviour.intervals import axis_follows, axis_share, fill, fill_intervals, fill_table
from generalizit import GeneralizIT
from statsmodels.regression.mixed_linear_model import MixedLM

SHAPE = (60, 6, 4)


def long(y_IMP: np.ndarray, item_class: str = "silent") -> pd.DataFrame:
    """One row per response; paraphrases are numbered within their item."""
    item, interpreter, paraphrase = (axis.ravel() for axis in np.indices(y_IMP.shape))
    return pd.DataFrame(
        {"class": item_class, "item": item, "interpreter": interpreter, "paraphrase": paraphrase, "content": y_IMP.ravel()}
    )


@pytest.mark.parametrize("world", worlds.WORLDS)
def test_no_key_matters(world):
    rng = np.random.default_rng(0)
    for _ in range(15):
        n, M, P = rng.integers(4, 40), rng.integers(3, 9), rng.integers(2, 6)
        pair = worlds.pair(world, (n, M, P), rng)
        flipped = tuple(y * rng.choice([-1, 1], size=(n, 1, 1)) for y in pair)
        for y, other in zip(pair, flipped):
            a, b = fill(y), fill(other)
            assert np.allclose([a.D, a.F, a.U, a.V, *a.ms], [b.D, b.F, b.U, b.V, *b.ms], rtol=0, atol=1e-9)
            assert axis_share(y) == pytest.approx(axis_share(other), abs=1e-9)
        before, after = (fill_intervals(*both, draws=200) for both in (pair, flipped))
        limits = ["estimate", "low", "high"]
        assert np.allclose(before[limits], after[limits], rtol=0, atol=1e-9)
        assert (before["flags"] == after["flags"]).all()


@pytest.mark.parametrize("world", ["a", "b", "c", "l"])
def test_estimates_have_no_bias(world):
    rng = np.random.default_rng(1)
    pairs = [worlds.pair(world, (20, 4, 3), rng) for _ in range(2000)]
    for planted, ys in zip((worlds.SILENT, worlds.COVERED), zip(*pairs)):
        found = np.array([(f.D, f.F, f.U, f.p, f.T) for f in map(fill, ys)])
        D, F, U = planted
        F += worlds.LEAN if world == "c" else 0.0
        truth = np.array([D, F, U, U / 3, D + F + U])
        error = found.std(axis=0) / len(found) ** 0.5
        assert (abs(found.mean(axis=0) - truth) < 4 * error).all()
        assert (error < 0.03).all()


def test_the_mean_squares_are_the_cross_products():
    """D, F, p, e from G and H, as the docstring writes them."""
    y, _ = worlds.pair("c", (30, 5, 3), np.random.default_rng(2))
    C = y.mean(axis=2)
    d = y - C[:, :, None]
    G, H = C.T @ C / 30, np.einsum("imp,inp->mn", d, d) / (30 * 2)
    off = ~np.eye(5, dtype=bool)
    p = H[off].mean()
    e = np.diag(H).mean() - p
    D = G[off].mean() - p / 3
    found = fill(y)
    F = np.diag(G).mean() - G[off].mean() - e / 3
    assert [found.D, found.F, found.p, found.e] == pytest.approx([D, F, p, e])
    expected = [15 * found.D + 3 * found.F + 5 * p + e, 3 * found.F + e, 5 * p + e, e]
    assert found.ms == pytest.approx(expected)
    assert pytest.approx((found.F + found.U) / found.T) == found.V


@pytest.mark.parametrize("world", ["a", "c"])
def test_mixed_models_agree(world):
    """A maximum likelihood fit per class; with the grand mean at zero its intercept is zero."""
    y, _ = worlds.pair(world, SHAPE, np.random.default_rng(3))
    y = y - y.mean()
    parts = {"interpreter": "0 + C(interpreter)", "paraphrase": "0 + C(paraphrase)"}
    model = MixedLM.from_formula("content ~ 1", long(y), groups="item", re_formula="1", vc_formula=parts)
    fit = model.fit(reml=False)
    F, p = fit.vcomp
    found = fill(y)
    assert [found.D, found.F, found.p, found.e] == pytest.approx([fit.cov_re.iloc[0, 0], F, p, fit.scale], rel=0.02)


@pytest.mark.parametrize("world", ["a", "b", "c", "l"])
def test_generalizability_theory_agrees(world):
    """Energies about zero are G theory's: D is item plus mean, F is interpreter plus interpreter x item."""
    y, _ = worlds.pair(world, SHAPE, np.random.default_rng(4))
    frame = long(y).drop(columns="class")
    frame["paraphrase"] = frame["item"].astype(str) + "." + frame["paraphrase"].astype(str)
    theory = GeneralizIT(frame, "interpreter x (paraphrase : item)", "content")
    theory.calculate_anova()
    parts = theory.design.anova_table["Variance"]
    D, F = parts["item"] + parts["mean"], parts["interpreter"] + parts["interpreter x item"]
    p, e = parts["paraphrase:item"], parts["interpreter x (paraphrase:item)"]
    found = fill(y)
    assert [found.D, found.F, found.p, found.e] == pytest.approx([D, F, p, e], rel=0.02, abs=2e-4)


def test_one_axis_is_flagged_and_independent_fills_are_not():
    flagged = {}
    for world in "ab":
        rng = np.random.default_rng(5)
        tables = [fill_intervals(*worlds.pair(world, SHAPE, rng), draws=50) for _ in range(50)]
        flagged[world] = np.mean([table["flags"].iloc[-1] != "" for table in tables])
    assert flagged["a"] == 0 and flagged["b"] > 0.9
    assert "limited by the 6 interpreters" in tables[0]["flags"].iloc[-1]


def test_the_table_is_the_arrays():
    """Rows in any order, three classes: the last minus each other."""
    rng = np.random.default_rng(6)
    silent, covered = worlds.pair("b", SHAPE, rng)
    conflict, _ = worlds.pair("b", (30, 6, 4), rng)
    classes = {"covered": covered, "conflict": conflict, "silent": silent}
    frame = pd.concat([long(y, name) for name, y in classes.items()]).sample(frac=1, random_state=0)
    frame = frame.rename(columns={"interpreter": "base", "content": "nats"})
    found = fill_table(frame, tuple(classes), value="nats", interpreter="base", seed=3)
    assert list(found["class"].unique()) == ["silent", "covered", "silent-minus-covered", "conflict", "silent-minus-conflict"]
    assert found.columns.tolist() == ["class", "quantity", "estimate", "low", "high", "n_items", "n_interpreters", "flags"]
    direct = fill_intervals(silent, covered, seed=3)
    pd.testing.assert_frame_equal(found[: len(direct)].drop(columns="class"), direct.drop(columns="class"))
    assert set(found.loc[found["class"] == "conflict", "n_items"]) == {30}
    assert (found["low"] < found["high"]).all()
    families = np.arange(60) // 6
    direct = fill_intervals(silent, covered, (families, families), seed=3)
    by_family = fill_table(frame.assign(family=frame["item"] // 6), ("covered", "silent"), "nats", "base", "family", seed=3)
    pd.testing.assert_frame_equal(by_family, direct)


def test_one_world_seen_twice_gives_one_interval_and_more_level_a_wider_one():
    pair = worlds.pair("b", SHAPE, np.random.default_rng(7))
    first, again, wide = (fill_intervals(*pair, level=level) for level in (0.9, 0.9, 0.99))
    pd.testing.assert_frame_equal(first, again)
    assert (wide["low"] < first["low"]).all() and (wide["high"] > first["high"]).all()


def test_readings_without_noise_and_without_anything():
    """A deterministic subject whose wordings never matter has U = 0; one that never answers has no shares."""
    silent, covered = (y.mean(axis=2, keepdims=True).repeat(4, axis=2) for y in worlds.pair("b", SHAPE, np.random.default_rng(8)))
    found = fill_intervals(silent, covered)
    assert np.isfinite(found[["estimate", "low", "high"]]).all(axis=None)
    assert abs(fill(silent).U) < 1e-12
    nothing = fill_intervals(np.zeros(SHAPE), covered)
    assert nothing.loc[nothing["class"] != "covered", ["estimate", "low", "high"]].isna().all(axis=None)
    assert np.isnan(fill(np.zeros(SHAPE)).V) and np.isnan(axis_share(np.zeros(SHAPE)))


def test_what_cannot_be_computed_is_refused_in_one_line():
    silent, covered = worlds.pair("a", (10, 4, 3), np.random.default_rng(9))
    frame = pd.concat([long(silent), long(covered, "covered")])
    missing = silent.copy()
    missing[0, 0, 0] = np.nan
    repeated = pd.concat([frame.iloc[1:], frame.iloc[1:2]])
    relabelled = frame.copy()
    relabelled.iloc[0, frame.columns.get_loc("paraphrase")] = 7
    refused = [
        (lambda: fill(silent[:, :2]), "3 items, 3 interpreters and 2 paraphrases"),
        (lambda: fill(silent[:, :, :1]), "2 paraphrases"),
        (lambda: axis_share(silent[0]), "shape"),
        (lambda: fill_intervals(missing, covered), "1 of 120 responses"),
        (lambda: fill_intervals(silent, covered[:, :3]), "4 interpreters answered the silent items, 3 the covered"),
        (lambda: fill_intervals(silent, covered, (np.zeros(10), np.arange(10))), "3 families are the least"),
        (lambda: fill_intervals(silent, covered, (np.arange(9), np.arange(10))), "9 labels"),
        (lambda: fill_table(frame, ("silent",)), "at least two"),
        (lambda: fill_table(frame, ("conflict", "silent")), "class 'conflict' is not in the table"),
        (lambda: fill_table(frame.iloc[1:]), "'silent' is not balanced: 119 rows"),
        (lambda: fill_table(repeated), "not balanced"),
        (lambda: fill_table(relabelled), "not balanced"),
        (lambda: fill_table(frame[frame["interpreter"] < 2]), "3 interpreters"),
        (lambda: fill_table(frame[(frame["interpreter"] < 3) | (frame["class"] == "covered")]), "'silent' is not balanced"),
    ]
    for call, words in refused:
        with pytest.raises(ValueError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_an_axis_is_followed_where_other_items_share_it_and_not_where_they_do_not():
    rng = np.random.default_rng(7)
    shared, own = [], []
    for _ in range(200):
        trait = rng.normal(size=(1, 6, 1))
        first, other = (rng.normal(size=(12, 1, 1)) * trait + 0.2 * rng.normal(size=(12, 6, 2)) for _ in range(2))
        shared.append(axis_follows(first, other))
        own.append(axis_follows(first, rng.normal(size=(12, 6, 2))))
        signs = rng.choice([-1, 1], size=(12, 1, 1))
        assert axis_follows(first, signs * other) == pytest.approx(shared[-1], abs=1e-9)
    assert np.mean(shared) > 0.9 and min(shared) > 0.6  # one axis
    assert abs(np.mean(own) - 1 / 5) < 0.02  # nothing in common, 6 interpreters
    assert np.isnan(axis_follows(np.zeros((4, 3, 2)), np.ones((4, 3, 2))))
    with pytest.raises(ValueError, match="interpreters of the first"):
        axis_follows(first, other[:, :5])
