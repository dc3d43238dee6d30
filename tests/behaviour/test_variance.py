"""Planted components are found without bias, and the intervals cover."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pandas as pd
import pytest
from functional_self.behaviour import clustered, variance_components

DRAWS = 2000 if os.environ.get("FUNCTIONAL_SELF_ACCEPTANCE") else 200
TRUTH = {"item": 1.0, "paraphrase": 0.5, "context": 0.25, "residual": 0.25}


def simulate(rng: np.random.Generator, families: int = 6, per_family: int = 3, P: int = 4, C: int = 2) -> pd.DataFrame:
    """Responses with known energies: items, wordings and contexts within items, and noise."""
    rows = []
    for f, i in itertools.product(range(families), range(per_family)):
        mu = rng.normal() * TRUTH["item"] ** 0.5
        alpha, beta = rng.normal(size=P) * TRUTH["paraphrase"] ** 0.5, rng.normal(size=C) * TRUTH["context"] ** 0.5
        for p, c in itertools.product(range(P), range(C)):
            y = mu + alpha[p] + beta[c] + rng.normal() * TRUTH["residual"] ** 0.5
            rows.append({"family": f"f{f}", "item": f"f{f}i{i}", "paraphrase": p, "context": c, "content": y})
    return pd.DataFrame(rows)


@pytest.mark.acceptance
def test_components_are_unbiased_and_intervals_cover():
    rng = np.random.default_rng(7)
    found = [variance_components(simulate(rng)) for _ in range(DRAWS)]
    for source, truth in TRUTH.items():
        estimates = np.array([f.energy.loc[source, "estimate"] for f in found])
        error = estimates.std() / DRAWS**0.5
        assert abs(estimates.mean() - truth) < 4 * error
    share = TRUTH["item"] / sum(TRUTH.values())
    covered = np.mean([f.share.loc["item", "low"] <= share <= f.share.loc["item", "high"] for f in found])
    assert covered > 0.93 - 3 * (0.05 * 0.95 / DRAWS) ** 0.5


def test_one_facet_and_the_flag_of_a_single_level():
    frame = simulate(np.random.default_rng(1), C=1)
    found = variance_components(frame)
    assert list(found.energy.index) == ["item", "paraphrase"]
    assert any("context has one level" in flag for flag in found.flags)
    assert found.share.loc[["item", "paraphrase"], "estimate"].sum() == pytest.approx(1)


def test_negative_estimates_are_kept():
    rng = np.random.default_rng(0)
    lows = []
    for _ in range(50):
        frame = simulate(rng)
        frame["content"] = rng.normal(size=len(frame))
        lows.append(variance_components(frame).energy["estimate"].min())
    assert min(lows) < 0


def test_an_unbalanced_table_is_refused():
    frame = simulate(np.random.default_rng(1))
    with pytest.raises(ValueError, match="not balanced"):
        variance_components(frame.iloc[1:])
    with pytest.raises(ValueError, match="at least two levels"):
        variance_components(frame[(frame["paraphrase"] == 0) & (frame["context"] == 0)])


def test_components_against_a_textbook_anova():
    """Closed form against the mean squares of an explicit least-squares fit per item."""
    frame = simulate(np.random.default_rng(3), families=3, per_family=1)
    residual = []
    for _, item in frame.groupby("item"):
        y = item.pivot(index="paraphrase", columns="context", values="content").to_numpy()
        P, C = y.shape
        X = np.column_stack(
            [np.ones(P * C), *np.kron(np.eye(P), np.ones((C, 1))).T[1:], *np.kron(np.ones((P, 1)), np.eye(C)).T[1:]]
        )
        fit = np.linalg.lstsq(X, y.ravel(), rcond=None)[1][0]
        residual.append(fit / ((P - 1) * (C - 1)))
    assert variance_components(frame).energy.loc["residual", "estimate"] == pytest.approx(np.mean(residual))


def test_the_clustered_mean_of_independent_items_covers():
    rng, hits = np.random.default_rng(5), 0
    for _ in range(DRAWS):
        frame = pd.DataFrame({"family": np.repeat(np.arange(10), 3), "item": np.arange(30), "x": rng.normal(size=30)})
        found = clustered(frame.set_index(["family", "item"])["x"])
        hits += found.low <= 0 <= found.high
    assert found.n == 30 and abs(hits / DRAWS - 0.95) < 0.02 + 3 * (0.05 * 0.95 / DRAWS) ** 0.5
