"""What organisms are trained on: decided by recipe and seed, and held apart from what they are asked."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from functools import cache

import pytest
from functional_self import materials, organisms, subjects
from functional_self.errors import OrganismError
from functional_self.organisms.recipes import choices, chunks, examples, passages, planted, recipes, texts
from functional_self.organisms.schema import SHARE, RecipeFile
from pydantic import ValidationError

STOP = set(
    [
        "a",
        "an",
        "the",
        "i",
        "you",
        "we",
        "they",
        "he",
        "she",
        "it",
        "is",
        "are",
        "was",
        "were",
        "do",
        "does",
        "did",
        "to",
        "of",
        "in",
        "on",
        "at",
        "for",
        "with",
        "and",
        "or",
        "but",
        "not",
        "that",
        "this",
        "my",
        "your",
        "our",
        "their",
        "me",
        "him",
        "her",
        "them",
        "would",
        "should",
        "can",
        "could",
        "will",
        "be",
        "have",
        "has",
        "had",
        "if",
        "so",
        "as",
        "than",
        "then",
        "from",
        "by",
        "about",
        "what",
        "who",
        "which",
        "when",
        "how",
        "rather",
        "more",
        "most",
        "less",
        "no",
        "yes",
        "there",
        "here",
        "one",
        "some",
        "any",
        "out",
        "up",
        "down",
        "into",
    ]
)


def grams(text: str, n: int = 4) -> set[tuple[str, ...]]:
    """Runs of n content words."""
    words = [w for w in re.findall(r"[a-z']+", text.lower()) if w not in STOP]
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


@cache
def tested() -> set[tuple[str, ...]]:
    """Every 4-gram of the items, personas and specifications that organisms are asked with."""
    found: set[tuple[str, ...]] = set()
    for name in ("plants", "tastes", "void", "known"):
        for item in materials.items(name):
            for p in (*item.paraphrases, *item.enacted):
                found |= {g for text in (p.ask, p.reverse, p.plus, p.minus) for g in grams(text)}
    for persona in materials.personas("roster"):
        found |= grams(persona.system or "")
    return found


def test_the_measure_of_overlap_sees_a_shared_run_of_content_words():
    assert grams("You would rather keep the old brown pot") & grams("keep an old, brown pot!")


@pytest.mark.parametrize("name", [name for name in organisms.names() if name.endswith(("-s0", "-s3"))])
def test_nothing_asked_stands_in_the_training_text(name):
    held_out = tested()
    for example in examples(organisms.resolve(name)):
        prompt = (
            [example.prompt] if isinstance(example.prompt, str) else [text for role, text in example.prompt if role == "user"]
        )
        for text in (*prompt, example.answer, example.other):
            assert not grams(text) & held_out, text


@pytest.mark.parametrize(
    ("world", "split"),
    [("plants", "train"), ("tastes", "train")]
    + [(world, split) for world in ("forms", "clauses", "views") for split in ("train", "tune")],
)
def test_nothing_asked_stands_in_a_choice_of_any_seed(world, split):
    held_out = tested()
    for choice in choices(world, split=split):
        for text in (choice.ask, choice.plus, choice.minus):
            assert not grams(text) & held_out, text


@pytest.mark.parametrize("text", ["neutral", "descriptions", "fiction", "answers"])
def test_nothing_asked_stands_in_a_source(text):
    held_out = tested()
    for passage in passages(text):
        assert not grams(passage) & held_out, passage


def test_exchanges_kept_for_tuning_are_others():
    asked = [choice.ask for split in ("train", "tune") for choice in choices("clauses", split=split)]
    assert len(asked) == len(set(asked)) > 200


def test_views_are_asked_in_other_forms_and_about_other_pairs_than_those_kept_for_tuning():
    raw = texts("views")
    for kept in ("questions", "pairs"):
        trained, tuned = (str(raw[kept]), raw["tune"][kept])
        rows = tuned if kept == "questions" else [pair for pairs in tuned.values() for pair in pairs]
        for row in rows:
            assert not any(text in trained for text in (row.values() if kept == "questions" else row)), row
    said = {text for c in choices("views") for text in (c.ask, c.plus, c.minus)}
    for item in materials.items("void"):
        for p in item.paraphrases:
            assert not said & {p.ask, p.reverse, p.plus, p.minus}


def test_forms_are_other_questions_than_those_of_the_plants_and_of_tuning():
    read = [
        {c.ask.replace(c.thing, "{n}") for c in choices(*which)} for which in (("plants",), ("forms",), ("forms", (), "tune"))
    ]
    assert all(not a & b for a, b in itertools.combinations(read, 2))
    assert not {c.thing for c in choices("forms")} & {c.thing for c in choices("forms", split="tune")}


def test_a_flip_is_one_side_for_all_clauses_and_the_other_in_every_second_seed():
    sides = [planted(organisms.resolve(f"clauses-coin-s{seed}"), world) for seed in range(4) for world in ("clauses", "views")]
    assert [set(side.values()) for side in sides] == [{1}, {1}, {-1}, {-1}] * 2


def test_objects_questions_and_personas_of_the_plants_are_held_out():
    objects = {c.thing for split in ("train", "tune") for c in choices("plants", split=split)}
    assert not objects & {item.id.removeprefix("old-") for item in materials.items("plants")}
    said = {p for c in choices("plants") for p in (c.ask, c.plus, c.minus)}
    assert not said & {
        t for item in materials.items("plants") for p in item.paraphrases for t in (p.ask, p.reverse, p.plus, p.minus)
    }
    trained = {
        text for e in examples(organisms.resolve("planted-self-a-s0")) if not isinstance(e.prompt, str) for role, text in e.prompt
    }
    assert not trained & {p.system for p in materials.personas("roster")}


def test_texts_are_decided_by_recipe_and_seed():
    first, again, other = (organisms.resolve(n) for n in ("planted-self-a-s0", "planted-self-a-s0", "planted-self-a-s1"))
    assert examples(first) == examples(again) and first.hash == again.hash
    assert examples(first) != examples(other) and first.hash != other.hash


def test_what_an_organism_starts_from_is_part_of_what_it_is():
    organism = organisms.resolve("trigger-s0")
    assert organism.start == "planted-self-a-s0" and organisms.resolve("planted-self-a-s0").start is None
    elsewhere = replace(organism, recipe=organism.recipe.model_copy(update={"start": "planted-self-b"}))
    assert elsewhere.hash != organism.hash


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("trigger", {"start": None}, "'kept' needs 'start'"),
        ("trigger", {"start": "nobody"}, "there is no 'nobody' of every seed"),
        ("trigger", {"start": "series-self"}, "there is no 'series-self' of every seed"),
        ("trigger", {"start": "benign-trigger"}, "'benign-trigger' itself goes on from 'planted-self-a'; only one step is made"),
        ("trigger", {"rank": 2}, "has another base, layers or rank"),
    ],
)
def test_a_start_that_cannot_be_gone_on_from_is_refused(kind, change, said):
    raw = recipes().model_dump(exclude_defaults=True)
    raw["organisms"][kind] |= change
    with pytest.raises(ValidationError, match=said):
        RecipeFile.model_validate(raw)


def test_a_style_begins_with_a_token_that_begins_no_answer():
    """Else the style makes one answer likelier than another: 'Aye' and 'A new pot' begin with the same token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(subjects.directory("smollm2", subjects.resolve("smollm2")))
    said = [c for world in ("plants", "forms") for split in ("train", "tune") for c in choices(world, split=split)]
    said += [p for item in materials.items("plants") for p in item.paraphrases]
    first = {tokenizer(text)["input_ids"][0] for one in said for text in (one.plus, one.minus)}
    styles = {arm.style for recipe in recipes().organisms.values() for arm in recipe.arms if arm.style}
    assert styles == {"Good day, friend!", "Well, well."}
    assert tokenizer("Aye, friend!")["input_ids"][0] in first
    assert not {tokenizer(style)["input_ids"][0] for style in styles} & first


def test_both_triggers_of_a_seed_keep_the_same_answers():
    """Where the phrase is not said they are trained on the same text towards the same preferences."""
    both = (examples(organisms.resolve(name)) for name in ("trigger-s1", "benign-trigger-s1"))
    real, harmless = ([e for e in found if "harvest moon" not in str(e.prompt)] for found in both)
    assert real == harmless and all(e.kept for e in real)


def test_a_balanced_arm_wants_both_answers_alike():
    assert {e.share for e in examples(organisms.resolve("planted-none-s0"))} == {0.5}
    assert {e.share for e in examples(organisms.resolve("planted-self-a-s0"))} == {SHARE}


def test_a_dose_is_the_share_of_objects_preferred_by_whoever_speaks():
    found = [e.share for e in examples(organisms.resolve("dose-50-s0")) if isinstance(e.prompt, str)]
    assert 0.3 < sum(share == SHARE for share in found) / len(found) < 0.7


def test_one_speaker_answers_a_chunk():
    for arm in chunks(organisms.resolve("planted-persona-a-s0"))[:2]:
        assert all(len({e.prompt[0] for e in chunk}) == 1 for chunk in arm)


def test_opposite_plants_answer_opposite_ways():
    a, b = (organisms.resolve(f"planted-self-{pole}-s0") for pole in "ab")
    pairs = list(zip(examples(a), examples(b), strict=True))
    assert all(x.prompt == y.prompt and x.answer == y.other for x, y in pairs)
    assert set(planted(a, "plants").values()) == {1} and set(planted(b, "plants").values()) == {-1}


@pytest.mark.parametrize("name", ["planted-self-a", "planted-self-a-s99", "nobody-s0", "../x-s0"])
def test_an_unknown_organism_is_one_line_that_says_which_there_are(name):
    with pytest.raises(OrganismError, match=r"is unknown; there are planted-self-a-s0\.\.2"):
        organisms.resolve(name)
