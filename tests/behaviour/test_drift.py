"""An instruction that is forgotten at a known turn is seen to be forgotten there, and a control that never had it fails."""

from __future__ import annotations

import pytest
from functional_self import materials
from functional_self.behaviour import drift as drifting
from functional_self.materials.schema import DriftScript, Probe


class Forgetful:
    """Obeys the system message (its last word) until ``turn`` user turns have passed; without an instruction it says nothing."""

    name = "forgetful"

    def __init__(self, turn: int):
        self.turn = turn
        self.heard: list[int] = []

    def generate(self, requests, max_new_tokens=24, temperature=1.0, seed=0, progress=None):
        answers = []
        for request in requests:
            turns = sum(role == "user" for role, _ in request.messages) - 1
            self.heard.append(turns)
            word = request.messages[0][1].split()[-1].strip(".")
            answers.append(word if word != "assistant" and turns < self.turn else "")
        return answers


SCRIPTS = tuple(
    DriftScript(
        id=f"s{i}",
        title="a word",
        system=f"The word is walnut{i}.",
        turns=tuple(f"Question {t} here?" for t in range(8)),
        probe=Probe(question="What is the word?", expect=(f"WALNUT{i}",)),
    )
    for i in range(6)
)


def test_the_turn_of_forgetting_is_found():
    table = drifting.drift(Forgetful(5), SCRIPTS)
    found = drifting.rates(table).set_index(["condition", "turn"])["rate"]
    assert found["control", 0] == 0
    assert [found["instructed", t] for t in (0, 2, 4, 6, 8)] == [1, 1, 1, 0, 0]
    assert drifting.lost(table) == pytest.approx(0.5**6)
    assert drifting.lost(drifting.drift(Forgetful(99), SCRIPTS)) == 1


def test_probes_leave_no_trace():
    subject = Forgetful(99)
    drifting.drift(subject, SCRIPTS[:1], probed=(0, 8))
    assert subject.heard == [0, 0, *range(8), 8]  # control, first probe, eight turns, last probe


def test_a_forbidden_word_or_an_empty_answer_is_wrong():
    probe = Probe(question="Which city?", expect=("Lisbon",), forbid=("Paris",))
    assert probe.right("I live in LISBON.") and not probe.right("Lisbon or Paris") and not probe.right("")


def test_the_shipped_scripts_do_not_give_the_answer_away():
    assert len(materials.drift()) >= 6 and all(len(script.turns) == 8 for script in materials.drift())
