"""A specification's effect is told from its wording's, and following what is written from merely reacting."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from functional_self.behaviour.specification import adherence, clash_effect, clause_moved, spec_effect
from functional_self.materials.schema import Clause, Specification


def test_the_effect_is_one_where_only_wording_matters_and_large_where_content_does():
    rng = np.random.default_rng(0)
    families = np.repeat(np.arange(20), 3)
    wording = rng.normal(size=(60, 30))
    none = spec_effect(rng.normal(size=(60, 5)), wording, families)
    assert none.low < 1 < none.high
    some = spec_effect(3 * rng.normal(size=(60, 5)), wording, families)
    assert some.low > 4
    assert np.isnan(spec_effect(wording, np.zeros((60, 4)), families).value)
    assert np.isnan(spec_effect(wording[:, :2], wording[:, 2:], families).low), "two specifications give no interval"
    with pytest.raises(ValueError, match="at least two"):
        spec_effect(wording[:, :1], wording, families)


def test_a_clash_is_more_than_a_wording_or_is_not():
    rng = np.random.default_rng(4)
    families, wordings, base = np.repeat(np.arange(12), 3), rng.normal(size=(36, 10)), rng.normal(size=36)
    same = clash_effect(rng.normal(size=36) - base, wordings, families)
    assert same.low < 0 < same.high
    assert clash_effect(4 * rng.normal(size=36), wordings, families).low > 4


def test_keys_do_not_matter():
    rng = np.random.default_rng(1)
    y, w, flips = rng.normal(size=(30, 4)), rng.normal(size=(30, 9)), rng.choice([-1.0, 1.0], size=(30, 1))
    a, b = spec_effect(y, w, range(30)), spec_effect(y * flips, w * flips, range(30))
    assert max(abs(a.value - b.value), abs(a.low - b.low), abs(a.high - b.high)) < 1e-9


def specs(pole: str, other: str) -> dict[str, Specification]:
    def make(name: str, entails: dict[str, str]) -> Specification:
        clause = Clause.model_validate({"id": "c", "text": "Do it.", "entails": entails})
        return Specification(id=name, title=name, opening="You are it.", items="void", clauses=(clause,))

    return {"one": make("one", {f"i{i}": pole for i in range(12)}), "two": make("two", {}), "three": make("three", {"i0": other})}


def test_following_is_positive_and_reacting_is_not():
    rng = np.random.default_rng(2)
    rows = [
        {"family": f"f{i % 4}", "item": f"i{i}", "specification": s, "content": (s == "one") * 2.0 + 0.1 * rng.normal()}
        for i in range(12)
        for s in ("one", "two", "three")
    ]
    frame = pd.DataFrame(rows)
    assert adherence(frame, specs("plus", "minus")).low > 1
    assert adherence(frame, specs("minus", "plus")).high < -1
    flipped = adherence(frame.assign(content=-frame["content"]), specs("minus", "plus"))
    assert flipped.value == pytest.approx(adherence(frame, specs("plus", "minus")).value)
    with pytest.raises(ValueError, match="entails"):
        adherence(frame, {"two": specs("plus", "minus")["two"]})


def interpreters(rng, shared: float, own: float) -> np.ndarray:
    """24 items x 6 interpreters x 2 wordings: a mean per item, a deviation per interpreter, a little noise."""
    mean, apart = rng.choice([-1.0, 1.0], size=(24, 1, 1)), rng.normal(size=(24, 6, 1))
    return shared * mean + own * apart + 0.2 * rng.normal(size=(24, 6, 2))


def test_v_rises_where_interpreters_differ_and_not_where_they_share_another_answer():
    rng = np.random.default_rng(1)
    families, covered = np.repeat(np.arange(6), 4), 0
    for _ in range(60):
        kept = interpreters(rng, 3.0, 0.5)
        rise = clause_moved(kept, interpreters(rng, 1.0, 3.0), families)
        assert rise.low > 0
        same = clause_moved(kept, -interpreters(rng, 3.0, 0.5), families)
        covered += same.low <= 0 <= same.high
    assert covered >= 55, covered
    with pytest.raises(ValueError, match="at least four"):
        clause_moved(kept[:, :3], kept, families)


def test_the_interpretive_share_rises_where_wordings_leave_v_no_room():
    rng = np.random.default_rng(2)
    families, found = np.repeat(np.arange(6), 4), []
    for _ in range(60):
        kept, moved = (interpreters(rng, 0.5, own) + 2.0 * rng.normal(size=(24, 1, 2)) for own in (0.2, 1.5))
        found.append([clause_moved(kept, moved, families, share) for share in ("F", "V")])
    f, v = zip(*found)
    assert sum(e.low > 0 for e in f) >= 50 > 10 >= sum(e.low > 0 for e in v)
    assert sum(clause_moved(kept, -kept, families, "F").low > 0 for e in f) == 0
