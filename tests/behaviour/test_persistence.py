"""Planted selves, personas and stereotypes are told apart, and the small statistics agree with hand and package."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from functional_self import materials
from functional_self.behaviour import (
    Estimate,
    clustered,
    d_study,
    internalisation,
    ipsative,
    paired,
    rank_order,
    responses,
    score,
    self_share,
    smallest_effect,
    tost,
    variance_components,
)
from functional_self.materials.schema import Persona
from functional_self.subjects import load

FAMILIES = ("planted-self", "planted-persona", "persona-stereotype")
PERSONAS = tuple(Persona(id=f"p{k}", title=f"persona {k}", system=f"You are person {k}.") for k in range(6))


@pytest.fixture(scope="module")
def items():
    return materials.balanced(materials.items("void"), 12)


def profiles(family: str, items, members=range(6)) -> tuple[np.ndarray, list[str]]:
    """y_SKIP of a family's members, scored with the baseline of the member that prefers neither."""
    stack = []
    for k in members:
        table = score(load(f"mock:{family}@{k}"), items, personas=PERSONAS, reference=load(f"mock:{family}@2"))
        frame = responses(table, "reference").sort_values(["family", "item", "persona", "paraphrase"])
        stack.append(frame["content"].to_numpy().reshape(len(items), len(PERSONAS), 4).transpose(1, 0, 2))
    clusters = frame.drop_duplicates("item")["family"].tolist()
    return np.stack(stack), clusters


@pytest.fixture(scope="module")
def shares(items):
    return {family: self_share(*profiles(family, items)) for family in FAMILIES}


def test_self_share_tells_the_families_apart(shares):
    assert shares["planted-self"].low > 0.5
    assert shares["planted-self"].low > max(shares[f].high for f in FAMILIES[1:])
    assert shares["planted-persona"].low > shares["persona-stereotype"].high
    assert abs(shares["persona-stereotype"].value) < 0.1


def test_three_seeds_of_one_plant_have_no_self_share(items):
    same = self_share(*profiles("planted-self", items, members=(0, 3, 6)))
    assert same.value < 0.35  # what is left is each seed's own small part


def test_internalisation_tells_self_from_persona(items):
    found = {}
    for family in FAMILIES[:2]:
        reference = load(f"mock:{family}@2")

        def halves(member: int, role: bool, family=family, reference=reference):
            subject = load(f"mock:{family}@{member}")
            frame = responses(score(subject, items, reference=reference, role=role), "reference")
            wide = frame.assign(half=frame["paraphrase"] % 2).pivot_table(
                index=["family", "item"], columns="half", values="content"
            )
            return wide

        full, strip = (halves(0, role) - halves(2, role) for role in (True, False))
        found[family] = internalisation(
            (full[0].to_numpy(), full[1].to_numpy()),
            (strip[0].to_numpy(), strip[1].to_numpy()),
            full.index.get_level_values(0),
        )
    assert found["planted-self"].low > found["planted-persona"].high
    assert found["planted-self"].value == pytest.approx(1, abs=0.15)
    assert abs(found["planted-persona"].value) < 0.3


def test_internalisation_is_undefined_without_a_change():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4, 40))
    found = internalisation((noise[0], noise[1]), (noise[2], noise[3]), list(range(40)))
    assert np.isnan(found.value)


def test_a_planted_self_survives_the_reference_score_and_not_its_own_baseline(items):
    table = score(load("mock:planted-self@0"), items, reference=load("mock:planted-self@2"))
    size = {
        kind: float(responses(table, kind).groupby("item")["content"].mean().abs().mean())
        for kind in ("raw", "self", "reference")
    }
    assert size["reference"] > 0.8 * size["raw"]
    assert size["self"] < 0.5 * size["raw"]


def test_flips_change_nothing(items):
    y, clusters = profiles("planted-self", items)
    flips = np.where(np.random.default_rng(1).random(y.shape[2]) < 0.5, -1.0, 1.0)[None, None, :, None]
    a, b = self_share(y, clusters), self_share(y * flips, clusters)
    assert max(abs(a.value - b.value), abs(a.low - b.low), abs(a.high - b.high)) < 1e-9


def test_paired_and_tost_agree_with_the_textbook():
    from scipy import stats
    from statsmodels.stats.weightstats import ttost_paired

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30))
    rows = [{"family": f"f{i}", "item": f"i{i}", "condition": c, "x": v[i]} for i in range(30) for c, v in (("a", a), ("b", b))]
    found = paired(pd.DataFrame(rows), "x", "condition", ("a", "b"))
    classic = stats.ttest_rel(b, a).confidence_interval()
    assert (found.low, found.high) == pytest.approx((classic.low, classic.high))
    assert tost(found, 0.5) == pytest.approx(ttost_paired(b, a, -0.5, 0.5)[0])
    with pytest.raises(ValueError, match="positive"):
        tost(found, 0)
    with pytest.raises(KeyError, match="'c' is not in the table"):
        paired(pd.DataFrame(rows), "x", "condition", ("a", "c"))


def test_the_smallest_effect_is_found_four_times_in_five():
    rng = np.random.default_rng(0)
    n, draws = 20, 2000
    effect = smallest_effect(1 / n**0.5, n - 1)
    found = 0
    for _ in range(draws):
        values = pd.Series(rng.normal(effect, 1, size=n), index=pd.MultiIndex.from_product([range(n), ["x"]]))
        found += clustered(values).low > 0
    assert found / draws == pytest.approx(0.8, abs=0.03)


def test_clusters_widen_an_interval():
    rng = np.random.default_rng(3)
    values = np.repeat(rng.normal(size=8), 5) + 0.1 * rng.normal(size=40)
    alone = clustered(pd.Series(values, index=pd.MultiIndex.from_arrays([range(40), range(40)])))
    together = clustered(pd.Series(values, index=pd.MultiIndex.from_arrays([np.repeat(range(8), 5), range(40)])))
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_d_study_by_hand():
    rows = []
    rng = np.random.default_rng(2)
    for i in range(40):
        mu, alpha = rng.normal(), rng.normal(size=4)
        rows += [
            {"family": f"f{i}", "item": f"i{i}", "paraphrase": p, "context": "bare", "content": mu + alpha[p]} for p in range(4)
        ]
    found = variance_components(pd.DataFrame(rows))
    i, p = found.energy["estimate"]
    table = d_study(found).set_index(["paraphrases", "contexts"])["rho"]
    assert table[1, 1] == pytest.approx(i / (i + p)) and table[4, 1] == pytest.approx(i / (i + p / 4))
    assert table[4, 8] == table[4, 1]  # one context only: nothing is known about more


def test_ipsative_and_rank_order_know_the_extremes():
    rng = np.random.default_rng(0)
    rows = []
    for i in range(30):
        for s in range(5):
            y = rng.normal()
            for context, value in (("a", y), ("b", y), ("c", rng.normal())):
                rows.append({"family": f"f{i % 6}", "item": f"i{i}", "subject": s, "context": context, "content": value})
    frame = pd.DataFrame(rows)
    same, other = frame[frame["context"] != "c"], frame[frame["context"] != "a"]
    one = frame["subject"] == 0
    assert ipsative(same[one], "context").value == pytest.approx(1) and abs(ipsative(other[one], "context").value) < 0.4
    assert rank_order(same, "context").value == pytest.approx(1) and abs(rank_order(other, "context").value) < 0.3
    with pytest.raises(ValueError, match="at least three"):
        rank_order(frame[frame["subject"] < 2], "context")


def test_an_estimate_names_its_smallest_effect():
    assert Estimate(0, -1, 1, 0.5, 30, 31).smallest == pytest.approx(0.5 * (2.0423 + 0.8538), abs=1e-3)
