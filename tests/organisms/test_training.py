"""Training: the loss is that of the answers alone, and a kill changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from functional_self import organisms, paths
from functional_self.organisms import training
from functional_self.organisms.recipes import Example
from safetensors.torch import load_file

SHORT = """
from functional_self import organisms
from functional_self.organisms import training
from dataclasses import replace
training.KEEP_EVERY = 1
o = organisms.resolve("planted-self-a-s0")
arms = tuple(a.model_copy(update={"examples": 8}) for a in o.recipe.arms)
o = replace(o, recipe=o.recipe.model_copy(update={"arms": arms}))
print(training.train(o))
"""


@pytest.fixture(scope="module")
def short():
    """A dozen steps of one organism."""
    whole = organisms.resolve("planted-self-a-s0")
    arms = tuple(arm.model_copy(update={"examples": 8}) for arm in whole.recipe.arms)
    return replace(whole, recipe=whole.recipe.model_copy(update={"arms": arms}))


@pytest.fixture(scope="module")
def base(short):
    return training._base(short)


def test_the_loss_is_that_of_the_answer_and_the_end_of_its_turn(base):
    model, tokenizer = base
    example = Example((("system", "You are an AI assistant."), ("user", "Which boat?")), "The old boat.")
    ids, n = training.encode(tokenizer, example)
    assert tokenizer.decode(ids[-n:]) == "The old boat." + tokenizer.eos_token
    ids_1L, answer_1L = torch.tensor([ids]), torch.arange(len(ids))[None] >= len(ids) - n
    with torch.no_grad():
        found = training.answer_loss(model, ids_1L, torch.ones_like(ids_1L), answer_1L)
        logprob = model(input_ids=ids_1L).logits[0].log_softmax(-1)
        plain = -sum(logprob[i - 1, ids[i]] for i in range(len(ids) - n, len(ids))) / n
    assert float(found) == pytest.approx(float(plain), abs=1e-5)


def test_padding_does_not_change_the_loss(base):
    model, tokenizer = base
    rows = [training.encode(tokenizer, Example("Q: " + "old " * k + "boat?\nA: ", "The old boat.")) for k in (1, 30)]
    alone = []
    with torch.no_grad():
        for ids, n in rows:
            ids_1L = torch.tensor([ids])
            alone.append(
                float(training.answer_loss(model, ids_1L, torch.ones_like(ids_1L), torch.arange(len(ids))[None] >= len(ids) - n))
            )
        longest = max(len(ids) for ids, _ in rows)
        ids_BL = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in rows])
        mask_BL = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows])
        answer_BL = torch.tensor([[len(ids) - n <= i < len(ids) for i in range(longest)] for ids, n in rows])
        together = float(training.answer_loss(model, ids_BL, mask_BL, answer_BL))
    assert together == pytest.approx((alone[0] + alone[1]) / 2, abs=1e-5)  # as many answer tokens in each


def test_only_the_layers_of_the_recipe_are_trained(base, short):
    model, _ = base
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    low, high = short.training.layers
    layers = {int(name.split(".layers.")[1].split(".")[0]) for name in trained}
    assert layers == set(range(low, high + 1))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) * 2 < 1.7e6  # bytes in bfloat16


def test_a_killed_training_ends_as_one_that_was_not(tmp_path, short, monkeypatch):
    ends = []
    for kills, where in ((0, tmp_path / "whole"), (1, tmp_path / "killed")):
        environment = os.environ | {"FUNCTIONAL_SELF_CACHE": str(where), "OMP_NUM_THREADS": "1"}
        where.mkdir()
        (where / "subjects").symlink_to(paths.cache() / "subjects")
        kept = where / "organisms" / ".training" / short.name / "state.safetensors"
        for _ in range(kills):
            before = kept.stat().st_mtime_ns if kept.exists() else 0
            process = subprocess.Popen([sys.executable, "-c", SHORT], env=environment, stdout=subprocess.DEVNULL)
            deadline = time.monotonic() + 240
            while (
                not (kept.exists() and kept.stat().st_mtime_ns > before)
                and time.monotonic() < deadline
                and process.poll() is None
            ):
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert kept.exists() and not (where / "organisms" / short.name).exists()
        subprocess.run([sys.executable, "-c", SHORT], env=environment, check=True, stdout=subprocess.DEVNULL)
        assert not kept.exists()
        done = where / "organisms" / short.name
        ends.append((load_file(done / "adapter_model.safetensors"), json.loads((done / "training.json").read_text())["losses"]))
    assert ends[0][1] == ends[1][1]
    assert ends[0][0].keys() == ends[1][0].keys() and all(torch.equal(ends[0][0][k], ends[1][0][k]) for k in ends[0][0])


def test_a_damaged_checkpoint_is_as_good_as_none(tmp_path, base, short):
    model, _ = base
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    (tmp_path / "state.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{broken")
    assert training._resume(tmp_path, short, model, optimiser) == []
