"""Patching: own rows change nothing, another source's rows give that source's predictions, and wrong rows are refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from functional_self import subjects
from functional_self.activations import harvest, patch
from functional_self.errors import SubjectError
from test_adapters import plant

TALK = [("system", "Be brief."), ("user", "Which is colder, ice or fire?"), ("assistant", "Ice.")]
TEXTS = [TALK, "Ice is cold, and fire is not.", "One, two, three."]


def test_own_rows_change_nothing(smollm2):
    found = patch(smollm2, TEXTS, harvest(smollm2, TEXTS, 12))
    assert found["kl"].abs().max() < 1e-5
    assert np.allclose(found["loss_own"], found["loss_patched"], atol=1e-4, equal_nan=True)
    ends = found.groupby("text")["position"].transform("max") == found["position"]
    assert (found["loss_own"].isna() == ends).all()
    ids = smollm2.model.tokenizer(TEXTS[1], add_special_tokens=False, return_tensors="pt").input_ids
    with torch.inference_mode():
        logprobs = smollm2.model._module(ids).logits.log_softmax(-1)[0, :-1]
    plain = -logprobs.gather(1, ids[0, 1:, None])[:, 0].numpy()
    assert found.loc[(found["text"] == 1) & ~ends, "loss_own"].to_numpy() == pytest.approx(plain, abs=1e-4)


def test_rows_of_an_organism_give_its_predictions(smollm2, tmp_path):
    """An adapter at layers 3 and 17: its rows after the last of them close the whole difference, rows in between a part."""
    organism = subjects.load("smollm2", adapter=str(plant(tmp_path / "adapter", 0)), store=False)
    there = patch(organism, TEXTS, harvest(organism, TEXTS, 20))
    late, early = (patch(smollm2, TEXTS, harvest(organism, TEXTS, layer)) for layer in (20, 10))
    left = {name: (found["loss_patched"] - there["loss_own"]).abs().max() for name, found in (("late", late), ("early", early))}
    assert left["late"] < 1e-4 and left["early"] > 1e-3 and late["kl"].mean() > 1e-3


def test_only_the_stores_tokens_are_patched(smollm2):
    store = harvest(smollm2, TEXTS, 12, roles=["assistant"], template=False)
    gone = dataclasses.replace(store, rows_ND=np.zeros_like(store.rows_ND))
    found = patch(smollm2, TEXTS, gone)
    assert len(found) == len(store.tokens) and set(found["role"]) == {"assistant"} and found["kl"].min() > 0.1


def test_rows_of_something_else_are_refused(smollm2):
    store = harvest(smollm2, TEXTS, 12)
    with pytest.raises(SubjectError, match="other tokens"):
        patch(smollm2, ["Something else."], store)
    with pytest.raises(SubjectError, match="shape"):
        patch(smollm2, TEXTS, dataclasses.replace(store, rows_ND=store.rows_ND[:, :5]))
