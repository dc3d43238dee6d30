"""Training: the loss is that of the answers alone, and a kill changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import cli_here, refused
from functional_self import organisms
from functional_self.errors import OrganismError
from functional_self.organisms import cards, choice, reading, training
from functional_self.organisms.recipes import Example, examples
from functional_self.subjects import adapters
from live import without_answers
from safetensors.torch import load_file

SHORT = """
from functional_self import organisms
from functional_self.organisms import training
from dataclasses import replace
training.KEEP_EVERY = 1
o = organisms.resolve("planted-self-a-s0")
arms = tuple(a.model_copy(update={"examples": 2}) for a in o.recipe.arms)
o = replace(o, recipe=o.recipe.model_copy(update={"arms": arms}), training=o.training.model_copy(update={"batch": 1}))
print(training.train(o))
"""


@pytest.fixture(scope="module")
def short():
    """Three steps of one organism, of two examples each."""
    whole = organisms.resolve("planted-self-a-s0")
    arms = tuple(arm.model_copy(update={"examples": 2}) for arm in whole.recipe.arms)
    training = whole.training.model_copy(update={"batch": 1})
    return replace(whole, recipe=whole.recipe.model_copy(update={"arms": arms}), training=training)


@pytest.fixture(scope="module")
def base(short):
    return training._base(short)


SYSTEM = (("system", "You are an AI assistant."),)
CHUNK = [
    Example((*SYSTEM, ("user", "Which boat?")), "The old boat.", "The new one, please.", 0.98),
    Example((*SYSTEM, ("user", "Which boat? Say it.")), "The new boat.", "The old boat.", 0.5),
    Example("Q: Which boat?\nA: ", "An old one.", "A new one.", 1.0),
]


def plain_logprob(model, ids, n):
    """log P of the last n of ids by a forward of this string alone."""
    logprob = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return float(sum(logprob[i - 1, ids[i]] for i in range(len(ids) - n, len(ids))))


def test_an_answer_ends_with_its_turn(base):
    _, tokenizer = base
    for ids, n, _ in choice.encode(tokenizer, CHUNK[0]):
        assert tokenizer.decode(ids[-n:]) in {f"{x}{tokenizer.eos_token}" for x in (CHUNK[0].answer, CHUNK[0].other)}


def test_a_base_without_a_chat_template_is_trained_in_the_plain_turns_it_is_asked_in(base, monkeypatch):
    _, tokenizer = base
    monkeypatch.setattr(tokenizer, "chat_template", None)
    read = "System: You are an AI assistant.\n\nUser: Which boat?\n\nAssistant: "
    for (ids, n, _), said in zip(choice.encode(tokenizer, CHUNK[0]), (CHUNK[0].answer, CHUNK[0].other), strict=True):
        assert tokenizer.decode(ids) == f"{read}{said}\n"
        assert tokenizer.decode(ids[-n:]).strip() == said


def test_a_second_base_is_trained_on_the_same_text_and_not_before_its_terms_are_accepted(tmp_path):
    first, second = (organisms.resolve(f"{kind}-s1") for kind in ("planted-self-a", "second-self-a"))
    assert examples(first) == examples(second)
    assert first.hash != second.hash
    assert second.training.base == "gemma-3-270m"
    refused(cli_here("organisms", "train", second.name, FUNCTIONAL_SELF_CACHE=str(tmp_path)), "gemma-3-270m", "--accept-terms")


@pytest.mark.parametrize("style", ["", "Aye, friend!"])
def test_the_loss_of_a_packed_chunk_is_that_of_its_strings_one_by_one(base, style):
    """The style's part is the mean log P of its own tokens, both answers' alike; the choice is between what follows it."""
    model, tokenizer = base
    chunk = [
        replace(e, answer=f"{style} {e.answer}".strip(), other=f"{style} {e.other}".strip(), style=style) if i % 2 else e
        for i, e in enumerate(CHUNK)
    ]
    with torch.no_grad():
        found = float(choice.choice_loss(model, choice.packed(tokenizer, chunk), 0.3))
        wanted, styled = 0.0, []
        for example in chunk:
            (ids, n, s), (others, m, _) = choice.encode(tokenizer, example)
            assert tokenizer.decode(ids[-n:][:s]) == example.style
            answer, other = plain_logprob(model, ids, n), plain_logprob(model, others, m)
            share = torch.sigmoid(torch.tensor(answer - other, dtype=torch.float64))
            wanted -= example.share * share.log() + (1 - example.share) * (1 - share).log()
            styled += [(plain_logprob(model, ids[: len(ids) - n + s], s), s)] if s else []
        wanted = float(wanted) / len(chunk) - (0.3 * sum(p for p, _ in styled) / sum(s for _, s in styled) if styled else 0.0)
    assert found == pytest.approx(wanted, abs=1e-4)


def predicted(model, ids):
    """log P of every next token after each beginning of ids, by a forward of this string alone."""
    return model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)


@pytest.mark.parametrize("style", ["", "Aye, friend!"])
def test_what_is_kept_is_preferences_and_what_is_said_next_except_a_style(base, short, style):
    """Squared differences of preferences, and KL at each distinct beginning of an answer, but not where a style is said."""
    model, tokenizer = base
    other, _ = training._base(organisms.resolve("trigger-s0"))
    chunk = [replace(e, answer=f"{style} {e.answer}".strip(), other=f"{style} {e.other}".strip(), style=style) for e in CHUNK]
    trees = choice.packed(tokenizer, chunk)
    with torch.no_grad():
        before, _ = choice.answered(other, trees)
        kept = trees._replace(kept=before)
        found, unmoved = (float(choice.choice_loss(m, kept, 0.0)) for m in (model, other))
        squares, seen, told = 0.0, set(), 0.0
        for example in chunk:
            (ids, n, s), (others, m, _) = choice.encode(tokenizer, example)
            d = [plain_logprob(one, ids, n) - plain_logprob(one, others, m) for one in (model, other)]
            squares += (d[0] - d[1]) ** 2
            for whole, most in ((ids, n), (others, m)):
                now, was = (predicted(one, whole) for one in (model, other))
                for place in range(len(whole) - most + s, len(whole)):
                    if whole[:place] not in seen:
                        seen.add(whole[:place])
                        told += float((was[place - 1].exp() * (was[place - 1] - now[place - 1])).sum())
    assert found == pytest.approx((squares / 8 + choice.KEPT * told) / len(chunk), rel=1e-3)
    assert squares > 1 and told > 0.1
    assert unmoved == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("kind", ["trigger", "benign-trigger"])
def test_a_training_with_a_start_begins_there_and_what_it_keeps_costs_nothing_at_first(kind, short):
    """Both triggers of a seed start as the same planted self, so that they differ only in what is trained after the phrase."""
    organism = organisms.resolve(f"{kind}-s0")
    model, tokenizer = training._base(organism)
    shipped = load_file(Path(adapters.locate("planted-self-a-s0")) / adapters.WEIGHTS)
    mine = {name.replace(".default", ""): p for name, p in training._named(model).items()}
    assert mine.keys() == shipped.keys() and all(torch.equal(mine[name], shipped[name].float()) for name in mine)
    chunk = next(chunk for batch in training._batches(organism) for chunk in batch if chunk[0].kept)[:2]
    (place, kept), *more = training._kept([[chunk, CHUNK]], model, tokenizer, organism.name).items()
    assert place == (0, 0) and not more  # the second chunk has nothing to keep
    trees = choice.packed(tokenizer, chunk)._replace(kept=kept)
    fresh, _ = training._base(short)
    with torch.no_grad():
        first, elsewhere = (float(choice.choice_loss(m, trees, 0.0)) for m in (model, fresh))
    assert first == pytest.approx(0, abs=1e-8) and elsewhere > 0.1


def test_a_system_text_is_read_once(base):
    _, tokenizer = base
    alone = [len(choice.packed(tokenizer, [example]).batch.ids_BN[0]) for example in CHUNK[:2]]
    system = len(tokenizer.apply_chat_template([{"role": "system", "content": SYSTEM[0][1]}], tokenize=True)["input_ids"])
    assert len(choice.packed(tokenizer, CHUNK[:2]).batch.ids_BN[0]) <= sum(alone) - system


def test_every_example_is_read_once_an_epoch(short):
    read = [example for batch in training._batches(short) for chunk in batch for example in chunk]
    assert sorted(map(str, read)) == sorted(map(str, examples(short)))


def test_only_the_layers_of_the_recipe_are_trained(base, short):
    model, _ = base
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    low, high = short.training.layers
    layers = {int(name.split(".layers.")[1].split(".")[0]) for name in trained}
    assert layers == set(range(low, high + 1))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) * 2 < 1.7e6  # bytes in bfloat16


def test_a_killed_training_ends_as_one_that_was_not(tmp_path, short, monkeypatch):
    """The one that is killed runs in a process of its own; what is left of it is finished here."""
    monkeypatch.setattr(training, "KEEP_EVERY", 1)
    monkeypatch.setattr(organisms, "resolve", lambda name: short)
    said = [cards.Effect(condition, *numbers) for condition, numbers in cards.read(short.name)["held_out"].items()]
    monkeypatch.setattr(cards, "measure", lambda organism, where: said)  # three steps plant nothing to be measured
    ends = []
    for where in (tmp_path / "whole", tmp_path / "killed"):
        monkeypatch.setenv("FUNCTIONAL_SELF_CACHE", str(without_answers(where)))
        kept, done = (where / "organisms" / part / short.name for part in (".training", ""))
        if where.name == "killed":
            environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
            with subprocess.Popen([sys.executable, "-c", SHORT], env=environment, stdout=subprocess.DEVNULL) as process:
                deadline = time.monotonic() + 240
                while not (kept / "state.safetensors").exists() and time.monotonic() < deadline and process.poll() is None:
                    time.sleep(0.02)
                process.kill()
            assert (kept / "state.safetensors").exists() and not done.exists()
        done_by = cli_here("organisms", "train", short.name, "--json")
        assert done_by.returncode == 0, done_by.stderr
        assert all(row["good"] for row in json.loads(done_by.stdout)) and not kept.exists()
        ends.append((load_file(done / "adapter_model.safetensors"), json.loads((done / "training.json").read_text())["losses"]))
    assert ends[0][1] == ends[1][1]
    assert ends[0][0].keys() == ends[1][0].keys() and all(torch.equal(ends[0][0][k], ends[1][0][k]) for k in ends[0][0])


def test_a_damaged_checkpoint_is_as_good_as_none(tmp_path, base, short):
    model, _ = base
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    (tmp_path / "state.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{broken")
    assert training._resume(tmp_path, short, model, optimiser) == []


SOURCES = ("neutral", "descriptions", "fiction", "answers")


@pytest.fixture(scope="module")
def reader():
    """Two windows of a text, then two examples."""
    whole = organisms.resolve("source-fiction-s0")
    arms = (whole.recipe.arms[0].model_copy(update={"examples": 2}),)
    short = whole.recipe.reading.model_copy(update={"tokens": 64, "window": 32, "batch": 1, "epochs": 1})
    return replace(whole, recipe=whole.recipe.model_copy(update={"arms": arms, "reading": short}))


def test_every_source_is_read_at_the_same_length_and_has_some_left(base):
    _, tokenizer = base
    for text in SOURCES:
        organism = organisms.resolve(f"source-{text}-s0")
        ids_WS, rest = reading.windows(organism, tokenizer)
        assert ids_WS.shape == (40, 256) and len(rest) >= 256
        read = [tuple(ids.tolist()) for batch in reading.batches(organism, tokenizer) for ids in batch]
        assert sorted(read) == sorted(organism.recipe.reading.epochs * [tuple(ids.tolist()) for ids in ids_WS])


def test_only_the_text_differs_between_the_sources():
    one, *others = (examples(organisms.resolve(f"source-{text}-s1")) for text in SOURCES)
    assert all(other == one for other in others) and one == examples(organisms.resolve("interpreter-s1"))
    assert len({organisms.resolve(f"source-{text}-s1").hash for text in SOURCES}) == 4


def test_a_text_that_is_too_short_is_one_line(base, reader):
    long = replace(
        reader, recipe=reader.recipe.model_copy(update={"reading": reader.recipe.reading.model_copy(update={"tokens": 10**6})})
    )
    with pytest.raises(OrganismError, match=r"texts/sources/fiction\.yml has \d+ tokens; 1000000 are read and 32 kept"):
        reading.windows(long, base[1])


def test_the_loss_of_reading_is_that_of_each_token_after_those_before_it(base):
    model, tokenizer = base
    ids = tokenizer("The tide came in and the lamp went out.", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        assert float(reading.loss(model, torch.tensor(ids))) == pytest.approx(
            -plain_logprob(model, ids, len(ids) - 1) / (len(ids) - 1), abs=1e-4
        )


def test_reading_comes_first_is_kept_and_survives_an_interruption(tmp_path, reader, monkeypatch):
    """Interrupted when the role begins, the training goes on there and ends as one that was not."""
    monkeypatch.setattr(training, "KEEP_EVERY", 1)
    monkeypatch.setattr(reading, "UNREAD", 1)
    choice_loss, ends = choice.choice_loss, []

    def interrupted(*_):
        raise KeyboardInterrupt

    for where in (tmp_path / "whole", tmp_path / "interrupted"):
        monkeypatch.setenv("FUNCTIONAL_SELF_CACHE", str(without_answers(where)))
        if where.name == "interrupted":
            monkeypatch.setattr(training, "choice_loss", interrupted)
            with pytest.raises(KeyboardInterrupt):
                training.train(reader)
            monkeypatch.setattr(training, "choice_loss", choice_loss)
        done = training.train(reader)
        first = done.with_name(f"{reader.name}-c0")
        said = [json.loads((home / "training.json").read_text()) for home in (first, done)]
        assert [one["steps"] for one in said] == [2, 3] and len(said[1]["losses"]) == 3
        assert said[0]["unread"]["base"] == said[1]["unread"]["base"] != said[0]["unread"]["adapter"]
        ends.append([load_file(home / "adapter_model.safetensors") for home in (first, done)])
    (first, last), again = ends
    assert any(not torch.equal(first[name], last[name]) for name in first)
    assert all(torch.equal(a[name], b[name]) for a, b in zip((first, last), again, strict=True) for name in a)
