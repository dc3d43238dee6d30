"""Calling any items' minus text plus changes no statistic on which a verdict of chapters 1 to 3 rests, from the scores on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from functional_self import behaviour, materials
from functional_self.behaviour.specification import adherence, clash_effect, spec_effect
from functional_self.subjects import load
from hypothesis import given, settings
from hypothesis import strategies as st
from test_gates import Leaning, flip

SPECIFICATIONS = ("assistant", "librarian", "host")
MEMBERS = 4


@pytest.fixture(scope="module")
def tables():
    """Scores of a responder with every bias under specifications, contexts and personas, and of several interpreters."""
    items = materials.balanced(materials.items("void"), 6)
    who = Leaning("mock:planted-spec", "leaning", "planted-spec")
    contexts, personas = materials.contexts("battery")[:3], materials.personas("roster")[1:4]
    by_specification = [
        behaviour.score(who, items, specification=materials.specification(name)).assign(specification=name)
        for name in SPECIFICATIONS
    ]
    interpreters = [
        behaviour.score(load(f"mock:planted-self@{m}"), items, personas=personas, reference=load("mock:planted-self@2")).assign(
            member=m
        )
        for m in range(MEMBERS)
    ]
    return {
        "specification": pd.concat(by_specification, ignore_index=True),
        "situation": behaviour.score(who, items, contexts, personas),
        "member": pd.concat(interpreters, ignore_index=True),
    }


def statistics(tables, flipped: set[str]) -> dict[str, list[float]]:
    """Every statistic and its interval, by name."""
    found: dict[str, list[float]] = {}

    def keep(name, estimate):
        found[name] = [estimate.value, estimate.low, estimate.high]

    read = {name: rekeyed(materials.specification(name), flipped) for name in SPECIFICATIONS}
    poles = {i: p for clause in read["assistant"].clauses for i, p in clause.entails.items()}
    long = pd.concat(
        behaviour.responses(rows, "self").assign(specification=name)
        for name, rows in tables["specification"].groupby("specification")
    )
    wide = long.pivot_table(index=["family", "item"], columns="specification", values="content").to_numpy()
    words = long.pivot_table(index=["family", "item"], columns="paraphrase", values="content")
    keep("effect", spec_effect(wide, words.to_numpy(), words.index.get_level_values(0)))
    keep("clash", clash_effect(wide[:, 0] - wide[:, 1], words.to_numpy(), words.index.get_level_values(0)))
    keep("adherence", adherence(long, read))
    frame = behaviour.responses(tables["situation"], "self")
    for over in ("context", "persona"):
        keep(f"ipsative over {over}", behaviour.ipsative(frame, over))
    one = frame[frame["persona"] == frame["persona"].iloc[0]]
    found["rho"] = behaviour.d_study(behaviour.variance_components(one))["rho"].tolist()
    covered = one[one["class"] == "covered"].copy()
    covered["content"] *= covered["item"].map({i: 1 if p == "plus" else -1 for i, p in poles.items()})
    change = behaviour.paired(covered, "content", "context", tuple(dict.fromkeys(covered["context"]))[:2])
    keep("change of adherence", change)
    found["the same"] = [behaviour.tost(change, 0.5)]
    several = pd.concat(
        behaviour.responses(rows, "reference").assign(subject=m) for m, rows in tables["member"].groupby("member")
    ).sort_values(["subject", "persona", "family", "item", "paraphrase"])
    keep("rank order", behaviour.rank_order(several, "persona"))
    items = several.drop_duplicates("item")
    y = several["content"].to_numpy().reshape(MEMBERS, 3, len(items), 4)
    keep("self share", behaviour.self_share(y, items["family"]))
    halves = [(y[0] - y[2]).mean(axis=0)[:, h::2].mean(axis=1) for h in (0, 1)]
    other = [(y[0] - y[2])[1][:, h::2].mean(axis=1) for h in (0, 1)]
    keep("internalisation", behaviour.internalisation(tuple(halves), tuple(other), items["family"]))
    alone = several[several["persona"] == several["persona"].iloc[0]].rename(columns={"subject": "interpreter"})
    shares = behaviour.fill_table(alone, ("covered", "conflict", "silent"), draws=200)
    found["fill"] = shares[["estimate", "low", "high"]].to_numpy().ravel().tolist()
    found["S1"] = [behaviour.axis_share(y[:, 0].transpose(1, 0, 2))]
    return found


def rekeyed(specification, flipped: set[str]):
    """The specification with the poles of flipped items called the other way."""
    other = {"plus": "minus", "minus": "plus"}
    clauses = [
        clause.model_copy(update={"entails": {i: other[p] if i in flipped else p for i, p in clause.entails.items()}})
        for clause in specification.clauses
    ]
    return specification.model_copy(update={"clauses": tuple(clauses)})


def rekey(tables, flipped: set[str]):
    """The same scores under the other names; a reference's baseline swaps as the subject's own does."""
    out = {}
    for name, table in tables.items():
        out[name] = flip(table, flipped)
        if "reference_plus" in table:
            rows = table["item"].isin(flipped)
            columns = ["reference_plus", "reference_minus"]
            out[name].loc[rows, columns] = table.loc[rows, columns[::-1]].to_numpy(copy=True)
    return out


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_verdict_depends_on_which_text_is_called_plus(tables, seed):
    rng = np.random.default_rng(seed)
    names = tables["situation"]["item"].unique()
    flipped = set(names[rng.random(len(names)) < 0.5])
    before, after = statistics(tables, set()), statistics(rekey(tables, flipped), flipped)
    assert before.keys() == after.keys() and len(before) >= 12
    for name, values in before.items():
        assert np.isfinite(values).any(), name
        assert np.allclose(values, after[name], rtol=0, atol=1e-9, equal_nan=True), name
