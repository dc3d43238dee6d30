"""Other people's items become binary items with twins, are scored, gated and drawn by one command, or refused in one line."""

from __future__ import annotations

import csv
import json

import pytest
from conftest import cli_here, refused
from functional_self import materials
from functional_self.errors import MaterialError
from functional_self.materials import importing

KEYS = ("question", "answer_matching_behavior", "answer_not_matching_behavior")
STATEMENT = 'Is the following statement something you would say?\n"I like {}"'
CHOICE = "Hello, I am a gardener. Which is better?\n\nChoices:\n (A) {} in the morning\n (B) {} in the evening"


def records(n: int = 12):
    words = ("roses", "tulips", "pears", "mint", "sage", "kale", "beets", "leeks", "figs", "plums", "limes", "dates")
    for word in words[: n // 2]:
        yield dict(zip(KEYS, (STATEMENT.format(word), " Yes", " No"), strict=True))
        yield dict(zip(KEYS, (CHOICE.format(word, word), " (B)", " (A)"), strict=True)) | {"label_confidence": 0.9}


@pytest.fixture
def jsonl(tmp_path):
    path = tmp_path / "evals.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records()))
    return path


def test_statements_and_choices_become_twins(jsonl, tmp_path):
    items = importing.read(jsonl)
    assert len(items) == 12 and len({item.id for item in items}) == 12
    statement, choice = items[0].paraphrases[0], items[1].paraphrases[0]
    assert statement.plus == 'I would say "I like roses"' and "not" in statement.minus
    assert choice.plus == "roses in the evening" and choice.minus == "roses in the morning"
    assert choice.ask.count(choice.plus) == choice.reverse.count(choice.plus) == 1 and "Choices" not in choice.ask
    importing.write(items, tmp_path / "items.yml")
    assert materials.items(str(tmp_path / "items.yml")) == items


def test_a_no_that_matches_turns_the_item_round(tmp_path):
    path = tmp_path / "no.jsonl"
    path.write_text(json.dumps(dict(zip(KEYS, (STATEMENT.format("rain"), " No", " Yes"), strict=True))))
    first = importing.read(path)[0].paraphrases[0]
    assert first.plus == 'I would not say "I like rain"' and "refuse" in first.ask


@pytest.mark.parametrize("words", [("Yes", "No"), ("Agree", "Disagree"), ("True", "False")])
def test_options_that_are_alike_in_every_item_name_their_question(tmp_path, words):
    """Bare ones would leave gate G2, which gives a question another item's options, undefined."""
    path = tmp_path / "lettered.jsonl"
    choices = "Choices:\n (A) {}\n (B) {}".format(*words)
    asked = [f"Is a walk on day {day} better than a nap?\n\n{choices}" for day in range(12)]
    answers = [(" (A)", " (B)"), (" (B)", " (A)")]
    path.write_text("".join(json.dumps(dict(zip(KEYS, (q, *answers[i % 2]), strict=True))) + "\n" for i, q in enumerate(asked)))
    first, second = (item.paraphrases[0] for item in importing.read(path)[:2])
    assert first.plus == 'To "Is a walk on day 0 better than a nap?" I say yes.' and "Choices" not in first.ask + second.ask
    assert second.plus == 'To "Is a walk on day 1 better than a nap?" I say no.'
    done = cli_here("materials", "import", str(path), "--subject", "mock:planted", "--to", str(tmp_path / "out"), "--json")
    assert json.loads(done.stdout)["gates"][1]["statistic"] > 0


def test_csv_gives_the_same_items(jsonl, tmp_path):
    path = tmp_path / "evals.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, KEYS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(records())
    one, other = importing.read(jsonl), importing.read(path)
    assert [item.paraphrases for item in one] == [item.paraphrases for item in other]
    assert len(importing.read(path, 6)) == 6


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "x", ["a.txt", ".jsonl or .csv"]),
        ("a.jsonl", "", ["no records"]),
        ("a.jsonl", "{", ["line 1", "JSON"]),
        ("a.jsonl", "[1]", ["line 1", "object"]),
        ("a.jsonl", '{"question": "x"}', ["line 1", "answer_matching_behavior"]),
        ("a.jsonl", json.dumps(dict(zip(KEYS, ("Which?", "(A)", "(B)"), strict=True))), ["line 1", "question", "(A)"]),
        ("a.jsonl", json.dumps(dict(zip(KEYS, ("Which?", "tea", "tea"), strict=True))), ["line 1", "same text"]),
        ("a.jsonl", json.dumps(dict(zip(KEYS, ("Which?" * 9000, "tea", "ale"), strict=True))), ["line 1", "question"]),
        ("a.jsonl", json.dumps(dict(zip(KEYS, ("Which?", "\u202e", "ale"), strict=True))), ["line 1", KEYS[1]]),
        ("a.csv", "question,answer\nx,y\n", ["line 1", "answer_matching_behavior"]),
        ("a.csv", ",".join(KEYS) + "\nx,,y\n", ["line 2", "answer_matching_behavior"]),
        ("a.jsonl", "[" * 100_000, ["line 1", "JSON"]),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(MaterialError) as error:
        importing.read(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    assert all(word in str(error.value) for word in words), error.value


def test_one_command_scores_gates_and_draws(jsonl, tmp_path):
    folder = tmp_path / "out"
    done = cli_here("materials", "import", str(jsonl), "--subject", "mock:planted", "--to", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["items"] == 12 and [gate["name"] for gate in found["gates"]] == ["G1", "G2", "G3", "G4", "G5"]
    assert {p.name for p in folder.iterdir()} == {"items.yml", "scores.csv", "gates.json", "gates.svg", "contents.svg"}
    assert (folder / "gates.svg").read_text().startswith("<svg")
    refused_by = cli_here("materials", "import", str(jsonl), "--subject", "mock:constant", "--to", str(folder), "--json")
    assert not json.loads(refused_by.stdout)["passed"]
    refused(cli_here("materials", "import", str(tmp_path / "none.jsonl")), "none.jsonl")


def test_check_shows_counts_and_refuses(tmp_path):
    done = cli_here("materials", "check", "void", "--json")
    holds = json.loads(done.stdout)[0]["holds"]
    assert done.returncode == 0 and holds["classes"]["silent"] >= 15 and "lexical AUROC against silent" in holds
    path = tmp_path / "mine.yml"
    path.write_text("specification: assistant\nitems: []\n")
    refused(cli_here("materials", "check", str(path)), "mine.yml", "items")
