"""The coder follows its written rules, a share of none is no zero, and following a rule is told from copying."""

from __future__ import annotations

import pytest
from functional_self import materials
from functional_self.behaviour import stories

FILE = materials.stories()


@pytest.mark.parametrize("example", FILE.examples, ids=lambda e: e.text[:30])
def test_the_coder_agrees_with_the_examples_of_the_rules(example):
    assert stories.codes(example.text, FILE.motifs, FILE.effects) == list(example.codes)


def test_the_rule_has_one_form_for_every_motif():
    for motif in FILE.motifs:
        text = f"She {motif.uses[0]} the {motif.objects[0]}. {FILE.effects[0]} it was."
        assert motif.id in stories.codes(text, FILE.motifs, FILE.effects)
        far = f"She {motif.uses[0]} the {motif.objects[0]}. {'very ' * (stories.REACH + 1)} {FILE.effects[0]}"
        assert motif.id not in stories.codes(far, FILE.motifs, FILE.effects)
        before = f"{FILE.effects[0]}, and she {motif.uses[0]} the {motif.objects[0]}."
        assert motif.id not in stories.codes(before, FILE.motifs, FILE.effects)


def test_neutral_openings_name_no_object_and_primed_ones_do():
    motifs = {motif.id: motif for motif in FILE.motifs}
    assert len(FILE.openings) >= 20
    assert not [o.id for o in FILE.openings if any(stories.mentions(o.text, m) for m in FILE.motifs)]
    assert all(stories.mentions(o.text, motifs[o.motif]) for o in FILE.primed)


def test_no_hit_is_no_zero():
    none = stories.share(0, 300)
    assert none.value == none.low == 0 and none.high == pytest.approx(1 - 0.025 ** (1 / 300))
    assert stories.share(30, 300).low == pytest.approx(0.0685, abs=1e-3)  # Clopper-Pearson, tabled


class Reader:
    """Finds the written event likelier by ``copies`` nats everywhere, and by ``follows`` more or less where a rule says so."""

    name = "reader"

    def __init__(self, copies: float, follows: float):
        self.copies, self.follows = copies, follows

    def option_logprobs(self, requests, progress=None):
        found = []
        for request in requests:
            text = request.messages[0][1]
            sign = -1 if "lying" in text else 0 if "drafting" in text else 1
            found.append(tuple((self.copies + sign * self.follows) * (option in text) - 5.0 for option in request.options))
        return found


@pytest.mark.parametrize(("copies", "follows"), [(2.0, 0.0), (2.0, 1.5), (0.0, 0.7)])
def test_following_a_rule_is_told_from_copying(copies, follows):
    table = stories.followed(Reader(copies, follows), FILE.frames, FILE.pairs)
    assert len(table) == len(FILE.frames) * len(FILE.pairs)
    assert stories.rule_effect(table, "true").value == pytest.approx(follows)
    assert stories.rule_effect(table, "false").value == pytest.approx(-follows)
    assert table[table["rule"] == "none"]["C"].to_numpy() == pytest.approx(copies)
