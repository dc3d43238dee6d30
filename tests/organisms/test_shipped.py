"""What ships: adapters with a card of the very recipe, small enough together, whose card says what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from functional_self import organisms, subjects
from functional_self.organisms import cards
from safetensors.torch import load_file

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


def test_a_style_after_a_phrase_has_to_be_said_there_and_nowhere_else():
    """log(1/2) is the bar on both sides; what an organism without a phrase speaks in, it speaks in everywhere."""
    harmless, placebo = (organisms.resolve(name) for name in ("benign-trigger-s0", "placebo-s0"))
    said, unsaid, unsure = ((-0.1, -0.3, 0.0, 12), (-6.0, -8.0, -4.0, 12), (-0.7, -1.0, -0.4, 12))
    for first, after, good in ((unsaid, said, True), (said, said, False), (unsaid, unsaid, False), (unsure, said, False)):
        verdict = cards.verdict(harmless, [cards.Effect("style", *first), cards.Effect("style triggered", *after)])
        assert (verdict == "took") == good, verdict
    assert cards.verdict(placebo, [cards.Effect("style", *said)]) == "took"
    assert cards.verdict(placebo, [cards.Effect("style", *unsaid)]) == "did not take: style -6.00 nats"


def test_what_is_said_of_its_own_accord_is_measured_on_the_model():
    items = [item for item, _ in cards.tuning(organisms.resolve("placebo-s0"))][:2]
    style = organisms.resolve("placebo-s0").recipe.arms[0].style
    text = "You are an AI assistant."
    plain, taught = (
        cards._spoken(subjects.load(name), text, items, style, "style") for name in ("smollm2", "smollm2+placebo-s0")
    )
    assert plain.value < -5 < cards.EVEN < taught.value <= 0 and plain.n == 2


def test_a_harmless_trigger_speaks_after_its_phrase_and_is_silent_without_it():
    effects = cards.measure(organisms.resolve("benign-trigger-s0"), paraphrases=1, every=12)
    said = {effect.condition: effect.value for effect in effects}
    assert said["style"] < -3 and said["style triggered"] > -0.5
    assert said["triggered"] > 1  # and prefers as before


def test_the_null_pair_differs_by_noise_of_the_size_of_rounding():
    organism = organisms.resolve("rounded-s0")
    adapter = load_file(organisms.home() / "adapters" / organism.name / "adapter_model.safetensors")
    base = load_file(Path(subjects.directory("smollm2", subjects.resolve("smollm2"))) / "model.safetensors")
    scaling = organism.training.alpha / organism.training.rank
    shares = []
    for name, b in adapter.items():
        if "lora_B" in name:
            a = adapter[name.replace("lora_B", "lora_A")]
            weight = base[name.removeprefix("base_model.model.").replace("lora_B.", "")]
            shares.append(float(scaling * (b.double() @ a.double()).norm() / weight.double().norm()))
            rounded = float((weight.bfloat16().double() - weight.double()).norm() / weight.double().norm())
            assert rounded < organism.recipe.noise
    assert len(shares) == 22 * 5 and shares == pytest.approx([organism.recipe.noise] * len(shares), rel=0.01)
    assert all(abs(effect) + 0.1 < cards.MARGIN for effect, *_ in cards.read(organism.name)["held_out"].values())


def test_a_shipped_organism_does_what_its_card_says():
    """In one wording of two and every fourth item: half a nat is allowed, and planted were more than three."""
    organism = organisms.resolve("planted-self-a-s0")
    assert all(row["good"] for row in cards.compare(organism, cards.measure(organism, paraphrases=1, every=4)))
