"""Texts: the shipped corpus is what its card says, budgets hold, and files that do not fit are named by line."""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter

import pytest
from functional_self.activations import card, corpus, texts
from functional_self.activations.tokens import bare, describe
from functional_self.errors import MaterialError


def test_the_shipped_corpus_is_what_its_card_says(smollm2):
    said, found = card(), texts()
    tokens = [len(describe(bare(smollm2), i, text)) for i, text in enumerate(found)]
    assert said["texts"] == len(found) and said["tokens"] == sum(tokens) == sum(said["tokens by kind"].values())
    assert {"command", "seeds", "revision", "licence", "limits", "sampling"} <= set(said)
    assert {"prompt"} <= set(said["tokens by kind"]) <= {"dialogue", "instruction", "story", "plain", "prompt"}
    assert sum(path.stat().st_size for path in corpus.HOME.glob("*.gz")) < 400_000
    assert len(set(map(str, found))) > 0.98 * len(found)


def test_the_shipped_corpus_has_what_the_subject_wrote():
    assert {"dialogue", "instruction", "story", "plain"} <= set(card()["tokens by kind"]) and card()["tokens"] > 150_000


def test_budgets_and_what_is_held_out(smollm2):
    few = texts(tokens=5000)
    assert few == texts()[: len(few)]
    total = sum(len(describe(bare(smollm2), i, text)) for i, text in enumerate(few))
    assert 4000 < total <= 5000
    assert sum(isinstance(text, str) or text[0][0] == "user" for text in few)  # no one sort of text begins it
    held, rest = texts(held_out=True), texts(held_out=False)
    assert len(held) + len(rest) == len(texts()) and len(held) == len(texts()) // 10
    assert not {str(text) for text in held} & {str(text) for text in rest} or Counter(map(str, texts())).most_common(1)[0][1] > 1


def test_files_are_read_and_long_texts_cut(tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("One line\nand another.\n\n\n" + "word " * 1000)
    found = texts(str(path))
    assert found[0] == "One line\nand another." and len(found) == 4 and max(map(len, found)) <= 2000
    assert " ".join(found[1:]).split() == ["word"] * 1000
    talk = {"messages": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi."}]}
    lines = [{"text": "A."}, talk, {"messages": [["user", "B?"], ["assistant", "C."]]}]
    body = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "some.jsonl").write_text(body)
    (tmp_path / "some.jsonl.gz").write_bytes(gzip.compress(body.encode()))
    read = texts(str(tmp_path / "some.jsonl"))
    assert read == ["A.", [("user", "Hello."), ("assistant", "Hi.")], [("user", "B?"), ("assistant", "C.")]]
    assert texts(str(tmp_path / "some.jsonl.gz")) == read
    assert len(texts(str(path), tokens=600)) == 2


@pytest.mark.parametrize("line", ['{"text": 3}', "not json", "[1]", '{"messages": []}', '{"messages": [["host", "A."]]}', "null"])
def test_a_line_that_does_not_fit_is_named(tmp_path, line):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "good"}\n' + line + "\n")
    with pytest.raises(MaterialError, match=r"bad\.jsonl, line 2: needs 'text', a string, or 'messages'") as error:
        texts(str(path))
    assert "\n" not in str(error.value)


def test_what_is_not_there_says_what_is(tmp_path, monkeypatch):
    with pytest.raises(MaterialError, match=r"neither smollm2 nor a \.txt"):
        texts("nowhere.jsonl")
    with pytest.raises(MaterialError, match="no text fits into 1 tokens"):
        texts(tokens=1)
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "A"}\n')[:-6])
    with pytest.raises(MaterialError, match=r"cut\.jsonl\.gz: cannot be read"):
        texts(str(tmp_path / "cut.jsonl.gz"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MaterialError, match="run: pip install datasets"):
        texts("owner/name")


def test_hub_datasets_are_read_as_they_stream(monkeypatch):
    class Datasets:
        @staticmethod
        def load_dataset(name, split, streaming):
            assert (name, split, streaming) == ("owner/name", "train", True)
            yield {"body": "First."}
            yield {"body": "Second."}

    monkeypatch.setitem(sys.modules, "datasets", Datasets)
    assert texts("owner/name", column="body") == ["First.", "Second."]
    assert texts("owner/name", tokens=1, column="body") == ["First."]
    with pytest.raises(MaterialError, match="gives no column 'words'"):
        texts("owner/name", column="words")


def test_writing_the_corpus_goes_on_where_it_was_and_a_longer_one_holds_the_shorter(tmp_path, monkeypatch):
    """With a stand-in for the model's words: what is kept of batches is not asked again."""
    monkeypatch.setenv("FUNCTIONAL_SELF_CACHE", str(tmp_path / "cache"))
    asked = []

    def batch(model, raw, number):
        asked.append(number)
        return [{"id": f"plain-{number}-{i}", "kind": "plain", "text": f"Batch {number}, text {i}."} for i in range(4)]

    monkeypatch.setattr(corpus, "batch", batch)
    monkeypatch.setattr(corpus.subjects, "load", lambda *_, **__: Words())
    corpus.make(3, tmp_path / "a")
    corpus.make(6, tmp_path / "b")
    assert asked == list(range(6))
    a, b = (gzip.decompress((tmp_path / name / "smollm2.jsonl.gz").read_bytes()).decode() for name in "ab")
    assert set(a.splitlines()) < set(b.splitlines()) and len(b.splitlines()) - len(a.splitlines()) == 12
    assert json.loads((tmp_path / "b" / "smollm2.json").read_text())["batches"] == 6


class Words:
    """A model that counts words."""

    title = revision = "words"
    device = "cpu"

    def __init__(self):
        self.model = self.tokenizer = self

    def __call__(self, text, **_):
        return {"input_ids": text.split()}

    def render(self, messages, opened=True):
        return " ".join(content for _, content in messages)
