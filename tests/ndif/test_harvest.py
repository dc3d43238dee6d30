"""Rows of one layer: the local ones come back, and little more than their own bytes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from functional_self import subjects
from functional_self.activations import harvest, patch, stream
from functional_self.errors import SubjectError
from functional_self.subjects import jobs

TALK = [("system", "Be brief."), ("user", "Which is colder, ice or fire?"), ("assistant", "Ice.")]


def test_rows_are_a_plain_forwards_and_masks_say_whose_words(smollm2):
    store = harvest(smollm2, [TALK, "Ice is cold."], 12)
    text = smollm2.render(TALK, opened=False)
    ids = smollm2.model.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        plain = smollm2.model._module(ids, output_hidden_states=True).hidden_states[13][0]
    first = store.tokens["text"] == 0
    assert np.abs(store.rows_ND[first] - plain.numpy()).max() < 1e-3
    said = store.tokens[first & (store.tokens["role"] == "assistant")]
    assert smollm2.model.tokenizer.decode(said["token"].tolist()) == "Ice."
    assert store.tokens["first"].sum() == 2 and store.tokens[first & store.tokens["template"]].size
    words = harvest(smollm2, [TALK], 12, roles=["user"], template=False)
    assert smollm2.model.tokenizer.decode(words.tokens["token"].tolist()) == TALK[1][1]
    with pytest.raises(SubjectError, match="layers 0 to 29"):
        harvest(smollm2, [TALK], 30)


def test_remote_rows_are_the_local_ones_and_cost_little_more(live, smollm2):
    texts = [TALK, *(f"The number {i} is followed by {i + 1}, and then by others, one after another." * 4 for i in range(24))]
    planned = harvest(subjects.load("smollm2", backend="plan"), texts, 12)
    assert live.api.count("POST", "/") == 0, "a plan sends nothing"
    plan = jobs.SEEN.pop("plan")["smollm2"]
    there = harvest(subjects.load("smollm2", backend="remote"), texts, 12)
    here = harvest(smollm2, texts, 12)
    assert np.abs(there.rows_ND - here.rows_ND).max() < 1e-5
    assert there.tokens.equals(here.tokens)
    back = sum(e.down for e in [*live.api.exchanges, *live.store.exchanges] if "/response" in e.path or ".pt" in e.path)
    assert back < 1.3 * here.rows_ND.nbytes
    posts = [e for e in live.api.exchanges if e.method == "POST"]
    assert plan["jobs"] == len(posts) and plan["up"] == pytest.approx(sum(e.up for e in posts), rel=0.2)
    assert planned.tokens["token"].equals(here.tokens["token"]) and planned.rows_ND.shape == here.rows_ND.shape
    assert plan["down"] == pytest.approx(back, rel=0.2)


def test_remote_patching_is_the_local_one(live, smollm2):
    texts = [TALK, "Ice is cold, and fire is not."]
    store = harvest(smollm2, texts, 12)
    gone = dataclasses.replace(store, rows_ND=store.rows_ND * 0.5)
    there, here = patch(subjects.load("smollm2", backend="remote"), texts, gone), patch(smollm2, texts, gone)
    for column in ("kl", "loss_own", "loss_patched"):
        assert np.allclose(there[column], here[column], atol=1e-4, equal_nan=True) and here[column].max() > 0.1


def test_remote_streams_are_the_local_ones(live, smollm2):
    """Base and organism, each read whole on the server, are what shared lower layers give here."""
    names = (None, "planted-none-s0")
    there, here = (
        [subjects.load("smollm2", adapter=adapter, backend=backend, store=False) for adapter in names]
        for backend in ("remote", "local")
    )
    (far,), (near,) = (list(stream(both, [TALK, "Ice is cold, and fire is not."], 12).rows()) for both in (there, here))
    assert float((far.x_NK - near.x_NK).abs().max()) < 1e-4 and (far.marks == near.marks).all()
