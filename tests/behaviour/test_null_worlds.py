"""Every headline contrast of chapters 1 to 3 in a world where nothing is there: it is found in at most one of twenty draws.

The contrasts of interpreters' fill are in ``test_coverage``. Figures are recorded for the report.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from functional_self.behaviour import ipsative_difference, paired, shares_by_class, variance_components
from functional_self.behaviour.specification import clash_effect, spec_effect

FULL = bool(os.environ.get("FUNCTIONAL_SELF_ACCEPTANCE"))
DRAWS = 2000 if FULL else 100
LIMIT = 0.065 if FULL else 0.065 + 3 * (0.05 * 0.95 / DRAWS) ** 0.5
ITEMS = 36


def unfilled(rng: np.random.Generator) -> bool:
    """Silent and covered items whose wordings and contexts matter alike."""
    levels = {"class": ["covered", "silent"], "i": range(12), "paraphrase": range(4), "context": range(2)}
    cells = pd.MultiIndex.from_product(levels.values(), names=levels)
    mu, alpha, beta = (rng.normal(size=(2, 12, *shape)) for shape in ((1, 1), (4, 1), (1, 2)))
    y = mu + 0.5 * alpha + 0.3 * beta + 0.5 * rng.normal(size=(2, 12, 4, 2))
    frame = cells.to_frame(index=False).assign(content=y.ravel())
    frame["family"] = frame["item"] = frame["class"] + frame.pop("i").astype(str)
    gap = shares_by_class(frame, ("covered", "silent")).iloc[-1]
    return not gap["low"] <= 0 <= gap["high"]


def item_share(rng: np.random.Generator) -> bool:
    """Items that are exactly half of an answer, asked whether they are more."""
    y = rng.normal(size=(ITEMS, 1)) + rng.normal(size=(ITEMS, 4))
    frame = pd.DataFrame(
        {"content": y.ravel(), "item": np.repeat(np.arange(ITEMS), 4), "paraphrase": np.tile(np.arange(4), ITEMS)}
    )
    found = variance_components(frame.assign(family=frame["item"] // 3, context="bare")).share.loc["item"]
    return not found["low"] <= 0.5 <= found["high"]


def texts(rng: np.random.Generator, n: int, common: float) -> np.ndarray:
    """Answers under n texts that move all items together, by different amounts, and each item by itself."""
    return common * (1 + 0.5 * rng.normal(size=(ITEMS, 1))) * rng.normal(size=(1, n)) + rng.normal(size=(ITEMS, n))


def effect(common: float) -> Callable[[np.random.Generator], bool]:
    """Specifications that are no more than wordings."""

    def draw(rng: np.random.Generator) -> bool:
        found = spec_effect(texts(rng, 5, common), texts(rng, 10, common), np.arange(ITEMS) // 3)
        return not found.low <= 1 <= found.high

    return draw


def clash(rng: np.random.Generator) -> bool:
    """A clause that clashes and does no more than another wording; each item answers to a text by itself."""
    y = texts(rng, 12, 0.0)
    found = clash_effect(y[:, 0] - y[:, 1], y[:, 2:], np.arange(ITEMS) // 3)
    return not found.low <= 0 <= found.high


def stability(rng: np.random.Generator) -> bool:
    """Characters that keep as much of a profile as rewordings of the assistant do."""
    y = rng.normal(size=(ITEMS, 1)) + 0.7 * rng.normal(size=(ITEMS, 6))
    frame = pd.DataFrame(
        {"content": y.ravel(), "item": np.repeat(np.arange(ITEMS), 6), "persona": np.tile(list("abcdef"), ITEMS)}
    )
    found = ipsative_difference(frame.assign(family=frame["item"] // 3), "persona", list("abc"), list("def"))
    return not found.low <= 0 <= found.high


def adherence(rng: np.random.Generator) -> bool:
    """A context that changes nothing."""
    y = rng.normal(size=(12, 1)) + 0.7 * rng.normal(size=(12, 2))
    frame = pd.DataFrame({"content": y.ravel(), "item": np.repeat(np.arange(12), 2), "context": np.tile(["bare", "talk"], 12)})
    found = paired(frame.assign(family=frame["item"]), "content", "context", ("bare", "talk"))
    return not found.low <= 0 <= found.high


@pytest.mark.acceptance
@pytest.mark.parametrize(
    "contrast",
    [unfilled, item_share, effect(0.0), effect(0.5), effect(3.0), clash, stability, adherence],
    ids=["unfilled", "item share", "effect", "effect, texts move all", "effect, only that", "clash", "stability", "adherence"],
)
def test_nothing_is_found_where_nothing_is(contrast, record_property):
    rng = np.random.default_rng(11)
    rate = float(np.mean([contrast(rng) for _ in range(DRAWS)]))
    record_property("false positives", f"{rate:.3f} of {DRAWS}")
    assert rate <= LIMIT
