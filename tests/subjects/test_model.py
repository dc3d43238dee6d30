"""The real subject: scores equal a plain full-logit forward, and its random twin is what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from functional_self import materials, subjects
from functional_self.behaviour import score
from functional_self.behaviour.scoring import prompt
from functional_self.materials.schema import Persona
from functional_self.subjects import Request
from transformers import AutoModelForCausalLM, AutoTokenizer


@pytest.fixture(scope="module")
def plain():
    """The same weights through transformers alone."""
    where = subjects.directory("smollm2", subjects.resolve("smollm2"))
    return AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32), AutoTokenizer.from_pretrained(where)


def full_logits(plain, messages, option: str) -> float:
    """log P(option | messages) from a full forward over prompt and option as one string."""
    model, tokenizer = plain
    turns = [{"role": role, "content": content} for role, content in messages]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    encoded = tokenizer(text + option, add_special_tokens=False, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    first = next(i for i, (_, end) in enumerate(encoded["offset_mapping"]) if end > len(text))
    with torch.inference_mode():
        logprobs = model(torch.tensor([ids])).logits.log_softmax(-1)[0]
    return sum(logprobs[i - 1, ids[i]].item() for i in range(first, len(ids)))


def test_scores_equal_plain_transformers(smollm2, plain):
    items = materials.balanced(materials.items("void"), 4)[::6]
    personas = (
        Persona(id="specified", title="the specification"),
        Persona(id="pirate", title="a pirate", system="You are a pirate."),
    )
    contexts = materials.contexts()[::2]
    table = score(smollm2, items, contexts=contexts, personas=personas, paraphrases=2)
    assert len(table) == len(items) * len(contexts) * 2 * 2 * 2
    system = {"specified": materials.specification("assistant").text, "pirate": "You are a pirate."}
    for row in table.sample(4, random_state=0).itertuples():
        wording = next(i for i in items if i.id == row.item).paraphrases[row.paraphrase]
        options = (wording.plus, wording.minus) if row.order == "plus-first" else (wording.minus, wording.plus)
        context = next(c for c in contexts if c.id == row.context)
        for form, question in (("ask", wording.ask), ("reverse", wording.reverse), ("base", None)):
            messages = prompt(question, options, system[row.persona], context)
            for text in ("plus", "minus"):
                expected = full_logits(plain, messages, getattr(wording, text))
                assert getattr(row, f"{form}_{text}") == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        ("Yes.", "No."),
        ("Yes", "Yes, of course", "Yes, of course not"),
        ("Ünïcödé — 日本語 🙂", "plain ascii"),
        (" leading space", "two\nlines"),
        ("a " * 60 + "long option", "short"),
    ],
)
def test_odd_options_score_like_plain_transformers(smollm2, plain, options):
    messages = (("system", "Be brief."), ("user", "Say something 🙂."))
    found = smollm2.option_logprobs([Request(messages, options), Request((("user", "Other?"),), options)])
    for given, scores in zip((messages, (("user", "Other?"),)), found, strict=True):
        for option, value in zip(options, scores, strict=True):
            # fp32 log_softmax errors add up over tokens: 1e-4 is for options of ordinary length
            assert value == pytest.approx(full_logits(plain, given, option), abs=1e-4 if len(option) < 60 else 5e-4)


def test_shared_tokens_are_read_once(smollm2):
    items = materials.balanced(materials.items("void"), 4)
    before = smollm2.tokens_read
    table = score(smollm2, items, paraphrases=1)
    read = smollm2.tokens_read - before
    tokenizer = smollm2.model.tokenizer
    system = len(tokenizer(materials.specification("assistant").text).input_ids)
    assert read < 6 * len(table) * system, "six strings a row would each read the system text without sharing"


def test_the_random_twin_is_random_and_the_same_every_time(smollm2):
    request = [Request((("user", "Which is colder, ice or fire?"),), ("Ice.", "Fire."))]
    a, b = (subjects.load("random:smollm2", store=False).option_logprobs(request) for _ in range(2))
    assert a == b
    assert not np.allclose(a, smollm2.option_logprobs(request), atol=0.5)
    small = subjects.load("random:smollm2@2", store=False)
    assert small.model.config.num_hidden_layers == 2 and small.option_logprobs(request) != a


def test_a_local_directory_is_the_same_subject(smollm2):
    where = subjects.directory("smollm2", subjects.resolve("smollm2"))
    request = [Request((("user", "Which is colder, ice or fire?"),), ("Ice.", "Fire."))]
    assert subjects.load(where, store=False).option_logprobs(request) == smollm2.option_logprobs(request)
