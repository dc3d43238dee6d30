"""What ships: adapters with a card of the very recipe, small enough together, whose card says what was measured."""

from __future__ import annotations

import json
import re

import pytest
from functional_self import organisms
from functional_self.organisms import cards

SHIPPED = sorted(path.parent.name for path in (organisms.home() / "adapters").glob("*/adapter_config.json"))
CARDS = sorted(path.stem for path in (organisms.home() / "cards").glob("*.json"))


def test_adapters_ship_each_with_a_card_and_are_small_together():
    assert len(SHIPPED) >= 4
    assert {re.sub(r"-c\d+$", "", name) for name in SHIPPED} <= set(CARDS)  # a checkpoint is its organism's
    files = [path for path in (organisms.home() / "adapters").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 40e6
    assert {path.name for path in files} == {"adapter_config.json", "adapter_model.safetensors"}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_of_its_recipe_and_says_what_was_measured(name):
    card, organism = cards.read(name), organisms.resolve(name)
    assert card["hash"] == organism.hash, "the recipe has changed: train it again with --card"
    assert card["steps"] == card["of"] and card["tolerance"]["reason"]
    assert "/" not in json.dumps(card["base"]) and card["licence"]
    effects = [cards.Effect(condition, *said) for condition, said in card["held_out"].items()]
    assert card["verdict"] == cards.verdict(organism, effects)


def test_a_shipped_organism_does_what_its_card_says():
    organism = organisms.resolve("planted-self-a-s0")
    assert all(row["good"] for row in cards.compare(organism, cards.measure(organism)))
