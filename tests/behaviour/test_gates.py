"""Degenerate responders are refused, a planted one passes, and no keying of the items matters."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest
from functional_self.behaviour import gates, responses, score, shares_by_class, shuffled
from functional_self.behaviour.gates import holm
from functional_self.subjects.mock import MockSubject
from hypothesis import given, settings
from hypothesis import strategies as st

SEEDS = 100 if os.environ.get("FUNCTIONAL_SELF_ACCEPTANCE") else 5
DEGENERATE = ("constant", "always-first", "always-yes", "random")
CLASSES = ("covered", "conflict", "silent")


def mock(behaviour: str, seed: int = 0) -> MockSubject:
    return MockSubject(f"mock:{behaviour}", behaviour, behaviour, member=seed)


@pytest.mark.acceptance
@pytest.mark.parametrize("behaviour", DEGENERATE)
@pytest.mark.parametrize("kind", ["raw", "self"])
def test_degenerate_responders_are_refused(bank, behaviour, kind, record_property):
    items = [item for item in bank if item.item_class in CLASSES]
    known = [item for item in bank if item.item_class == "known"]
    passed = []
    for seed in range(SEEDS):
        own = [*items, *shuffled(items, seed), *known]
        passed.append(sum(gate.passed for gate in gates(score(mock(behaviour, seed), own, paraphrases=2), kind, seed=seed)))
    record_property("gates passed, most of 5", max(passed))
    assert max(passed) < 5, passed
    if behaviour == "random":  # nothing is there in any gate, so Holm's correction lets one through in one seed of twenty
        assert np.mean(np.array(passed) > 0) <= 0.05 + 3 * (0.05 * 0.95 / SEEDS) ** 0.5
    else:
        assert max(passed) <= 1


@pytest.mark.acceptance
def test_the_planted_responder_passes(bank):
    for seed in range(SEEDS):
        found = gates(score(mock("planted", seed), bank, paraphrases=2), seed=seed)
        assert all(gate.passed for gate in found), [(g.name, g.p_holm) for g in found if not g.passed]


def test_a_constant_responders_stability_is_undefined(bank):
    for gate in gates(score(mock("constant"), bank, paraphrases=2)):
        assert np.isnan(gate.statistic) and not gate.passed


@pytest.mark.parametrize(
    "name", ["random:smollm2@2", *(["random:smollm2"] if "FUNCTIONAL_SELF_ACCEPTANCE" in os.environ else [])]
)
@pytest.mark.acceptance
def test_the_random_twin_is_refused(name):
    from functional_self import materials, subjects

    twin = subjects.load(name, store=False)
    items = materials.balanced(materials.items("void"), 2)
    own = score(twin, [*items, *shuffled(items)], paraphrases=2)
    known = score(twin, materials.items("known"), orders="alternate")
    found = {gate.name: gate.passed for gate in gates(pd.concat([own, known]))}
    assert not found["G4"] and not found["G2"]


def test_fewer_than_sixty_known_twins_cannot_pass(bank):
    few = [item for item in bank if item.item_class != "known"] + [i for i in bank if i.item_class == "known"][:59]
    assert not {g.name: g.passed for g in gates(score(mock("planted"), few, paraphrases=2))}["G4"]


def test_a_missing_part_is_named(bank):
    table = score(mock("planted"), [item for item in bank if item.item_class != "shuffled"], paraphrases=1)
    with pytest.raises(KeyError, match="shuffled"):
        gates(table)


def flip(table: pd.DataFrame, items: set[str]) -> pd.DataFrame:
    """The same responses with the minus text of some items called plus: orders, forms and texts swap."""
    flipped = table.copy()
    rows = flipped["item"].isin(items)
    swap = {"plus-first": "minus-first", "minus-first": "plus-first"}
    flipped.loc[rows, "order"] = flipped.loc[rows, "order"].map(swap)
    pairs = [("ask_plus", "reverse_minus"), ("ask_minus", "reverse_plus"), ("base_plus", "base_minus")]
    for a, b in pairs:
        flipped.loc[rows, [a, b]] = flipped.loc[rows, [b, a]].to_numpy(copy=True)
    return flipped


class Leaning(MockSubject):
    """Planted preferences plus position, agreement and text biases, so that nothing is symmetric by accident."""

    def _scores(self, request):
        scores = MockSubject._scores(self, request)
        scores[0] += 0.3
        if request.affirms is not None:
            scores[request.affirms] += 0.2
        return scores + self._normal("bias", request.wording, request.options, size=2) * 0.2


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_keying_changes_no_statistic(bank_table, seed):
    rng = np.random.default_rng(seed)
    names = bank_table.loc[bank_table["class"] != "known", "item"].unique()
    flipped = flip(bank_table, set(names[rng.random(len(names)) < 0.5]))
    for kind in ("raw", "self"):
        for a, b in zip(gates(bank_table, kind), gates(flipped, kind), strict=True):
            assert a.passed == b.passed
            for value, flipped_value in zip(vars(a).values(), vars(b).values(), strict=True):
                assert value == pytest.approx(flipped_value, abs=1e-9) if isinstance(value, float) else value == flipped_value
        before, after = (shares_by_class(responses(t, kind)) for t in (bank_table, flipped))
        for column in ("estimate", "low", "high"):
            assert np.allclose(before[column], after[column], atol=1e-9)


@pytest.fixture(scope="module")
def bank_table(bank):
    return score(Leaning("mock:planted", "leaning", "planted"), bank, paraphrases=2)


def test_flipping_twice_is_the_identity(bank_table):
    names = set(bank_table["item"])
    pd.testing.assert_frame_equal(flip(flip(bank_table, names), names), bank_table, check_dtype=False)


def test_biases_are_found_and_kept_out_of_content(bank):
    items = [item for item in bank if item.item_class in CLASSES]
    first = responses(score(mock("always-first"), items), "raw")
    assert np.allclose(first["position_bias"], 4.0) and np.allclose(first[["content", "acquiescence"]], 0)
    agrees = responses(score(mock("always-yes"), items), "raw")
    assert np.allclose(agrees["acquiescence"], 4.0) and np.allclose(agrees[["content", "position_bias"]], 0)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
