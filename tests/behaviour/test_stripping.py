"""Ways of asking without a role say nothing of one, and change nothing but the question."""

from __future__ import annotations

import pytest
from functional_self import materials
from functional_self.behaviour.stripping import STRIPS, prefixed, suffixed

ITEMS = materials.items("plants")[:3]


@pytest.mark.parametrize("how", ["prefixed", "suffixed"])
def test_a_phrase_stands_beside_both_keyings_and_nowhere_else(how):
    changed = prefixed(ITEMS, "Mind the gap.") if how == "prefixed" else suffixed(ITEMS, "Mind the gap.")
    for before, after in zip(ITEMS, changed, strict=True):
        for a, b in zip(before.paraphrases, after.paraphrases, strict=True):
            wanted = [f"Mind the gap. {x}" if how == "prefixed" else f"{x} Mind the gap." for x in (a.ask, a.reverse)]
            assert [b.ask, b.reverse] == wanted
            assert (a.plus, a.minus) == (b.plus, b.minus)


def test_no_suffix_changes_nothing():
    assert suffixed(ITEMS, "") == tuple(ITEMS)


@pytest.mark.parametrize("name", STRIPS)
def test_a_prompt_without_a_role_names_no_assistant_that_the_template_does_not(name, smollm2):
    from functional_self.subjects import load

    way = STRIPS[name]
    subject = load("smollm2", template=way.template, store=False)
    text = subject.render([("user", suffixed(ITEMS, way.suffix)[0].paraphrases[0].ask)])
    if way.template == "none":
        assert text.startswith("User: ") and text.endswith("Assistant: ") and "<|im_start|>" not in text
    elif way.template:
        asker, answerer = way.template.split("/")
        assert text.startswith(f"{asker}: ") and text.endswith(f"{answerer}: ") and "ssistant" not in text
    else:
        assert "You are a helpful AI assistant" in text  # what SmolLM2's own template puts in
