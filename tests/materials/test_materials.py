"""The shipped materials are what the chapter says, and a broken file is one line with file and place."""

from __future__ import annotations

import collections
import shutil

import pytest
import yaml
from functional_self import materials
from functional_self.errors import MaterialError
from functional_self.materials import check
from functional_self.materials.schema import LabelFile

CLASSES = ("covered", "conflict", "silent")


def test_the_items_are_enough_and_balanced():
    items = materials.items("void")
    classes = collections.Counter(item.item_class for item in items)
    assert len(items) >= 180 and min(classes[c] for c in CLASSES) >= 60
    families = collections.Counter(item.family for item in items)
    assert len(families) >= 30 and max(families.values()) <= 6 and len({item.domain for item in items}) >= 5
    assert all(len(item.paraphrases) == 4 and len(item.enacted) == 2 for item in items)
    keyed = collections.Counter(item.entailed for item in items if item.item_class == "covered")
    assert abs(keyed["plus"] - keyed["minus"]) <= 1


def test_no_question_stands_in_two_items():
    asked = [p.ask.lower() for item in materials.items("void") for p in (*item.paraphrases, *item.enacted)]
    assert not [text for text, n in collections.Counter(asked).items() if n > 1]


def test_both_labellings_agree_and_leave_sixty_items_per_class():
    found = check.report("items", "void")["agreement"]
    assert found["alpha"] >= check.MIN_ALPHA
    agreed = collections.Counter(item.item_class for item in materials.agreed("void", "void"))
    assert min(agreed[c] for c in CLASSES) >= 60


def test_alpha_by_hand_and_disagreements_leave():
    """Ten items, one of them labelled otherwise: D_o = 2/20, D_e = 1 - sum n_c (n_c - 1) / (20 * 19)."""
    items = [i for c in CLASSES for i in materials.items("void") if i.item_class == c][::22][:10]
    labels = {i.id: i.item_class for i in items} | {items[0].id: "silent"}
    file = LabelFile(items="void", specification="assistant", labeller="a test", instructions="Label them.", labels=labels)
    found = check.agreement(items, file)
    n = collections.Counter([i.item_class for i in items] + list(labels.values())).values()
    expected = 1 - (2 / 20) / (1 - sum(k * (k - 1) for k in n) / (20 * 19))
    assert found["alpha"] == pytest.approx(expected) and found["disagree"] == [items[0].id]


def test_specifications_entail_answers_to_items_that_exist():
    names = [p.stem for p in (materials.DATA / "specifications").glob("*.yml")]
    assert len(names) >= 5 and "assistant-contradiction" in names
    items = {item.id: item for item in materials.items("void")}
    for name in names:
        entailed = [(i, pole) for clause in materials.specification(name).clauses for i, pole in clause.entails.items()]
        assert len(entailed) >= 12 and {i for i, _ in entailed} <= items.keys()
        assert len({i for i, _ in entailed}) == len(dict(set(entailed))), f"{name} entails both poles of an item"
        if name == "assistant":
            assert dict(entailed) == {i.id: i.entailed for i in items.values() if i.item_class == "covered"}
        elif not name.startswith("assistant-"):
            assert sum(items[i].item_class == "silent" for i, _ in entailed) >= 12


def test_the_rest_of_the_materials_is_there():
    assert len(materials.wordings("assistant")) >= 30
    assert len(materials.personas("roster")) >= 12 and len(materials.contexts("battery")) >= 6
    assert all(len(script.turns) == 8 for script in materials.drift())


def test_the_known_answers_are_sixty_twins_balanced_in_naming_order():
    items = materials.items("known")
    assert len(items) >= 60
    first = [i.paraphrases[0].plus.split(" is ")[0].lower() for i in items]
    named_first = sum(i.paraphrases[0].ask.split(", ")[1].lower().startswith(name) for i, name in zip(items, first, strict=True))
    assert abs(named_first - len(items) / 2) <= len(items) * 0.05


def test_the_subset_is_balanced_and_spread_over_families():
    chosen = materials.balanced(materials.items("void"), 6)
    assert set(collections.Counter(i.item_class for i in chosen).values()) == {6}
    assert max(collections.Counter(i.family for i in chosen).values()) <= 2
    with pytest.raises(MaterialError, match="per class"):
        materials.balanced(materials.items("void"), 73)


def unknown_key(raw):
    raw["items"][1]["colour"] = "red"


def duplicate_id(raw):
    raw["items"][1]["id"] = raw["items"][0]["id"]


def missing_twin(raw):
    del raw["items"][2]["paraphrases"][1]["reverse"]


def same_twin(raw):
    raw["items"][2]["paraphrases"][1]["reverse"] = raw["items"][2]["paraphrases"][1]["ask"]


def wrong_type(raw):
    raw["items"][0]["paraphrases"] = "none"


def unknown_clause(raw):
    next(i for i in raw["items"] if i["class"] == "covered")["clauses"] = ["nonsense"]


def too_alike(raw):
    raw["items"][0]["paraphrases"][1] = dict(raw["items"][0]["paraphrases"][0])


def wrong_class(raw):
    raw["items"][0]["class"] = "void"


def huge(raw):
    raw["items"][0]["paraphrases"][0]["ask"] = "x" * 10_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (unknown_key, ["colour"]),
        (duplicate_id, ["duplicate id"]),
        (missing_twin, ["reverse-keyed twin is missing"]),
        (same_twin, ["reverse"]),
        (wrong_type, ["paraphrases"]),
        (unknown_clause, ["nonsense"]),
        (too_alike, ["share"]),
        (wrong_class, ["class"]),
        (huge, ["ask"]),
    ],
)
def test_a_broken_item_file_is_one_line(tmp_path, change, words):
    path = tmp_path / "broken.yml"
    shutil.copy(materials.find("items", "void"), path)
    raw = yaml.safe_load(path.read_text())
    change(raw)
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(MaterialError) as error:
        materials.items(str(path))
    message = str(error.value)
    assert "\n" not in message and "broken.yml" in message and len(message) < 400
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "text", ["", "a: [", "items: &x [1]\nspecification: *x", "!!python/object:os.system {}", "a: 1\na: 2", "[]", "\x00"]
)
def test_yaml_tricks_are_refused(tmp_path, text):
    path = tmp_path / "trick.yml"
    path.write_text(text)
    with pytest.raises(MaterialError, match=r"trick\.yml"):
        materials.items(str(path))
