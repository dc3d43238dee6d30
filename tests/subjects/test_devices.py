"""A GPU of one's own gives the processor's numbers; skipped where there is none."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from functional_self import activations, behaviour, materials, organisms, subjects
from functional_self.crosscoder import Config, Training, fit
from functional_self.organisms import training
from functional_self.subjects import Request

THERE = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
pytestmark = pytest.mark.parametrize(
    "device", [pytest.param(name, marks=pytest.mark.skipif(not here(), reason=f"no {name} here")) for name, here in THERE.items()]
)


def both(device):
    return [subjects.load("smollm2", device=where, store=False) for where in ("cpu", device)]


def test_scores_are_the_same(device):
    bank = materials.balanced(materials.items("void"), 2)
    cpu, gpu = (behaviour.score(subject, bank, paraphrases=2) for subject in both(device))
    columns = cpu.select_dtypes("number").columns
    assert float((cpu[columns] - gpu[columns]).abs().max().max()) < 1e-4


def test_rows_are_the_same(device):
    texts = activations.texts(tokens=600)
    cpu, gpu = (activations.gather(activations.stream([subject], texts, 12).rows()).x_NK for subject in both(device))
    assert float((cpu - gpu).norm() / cpu.norm()) < 1e-5


def test_a_seed_gives_the_same_answers_again(device):
    asked = [Request((("user", "Tell me about boats."),), ())] * 3
    _, gpu = both(device)
    first = gpu.generate(asked, 12, 1.0, 5)
    assert first == gpu.generate(asked, 12, 1.0, 5) and len(set(first)) > 1
    assert first != gpu.generate(asked, 12, 1.0, 6)


def test_a_crosscoder_learns_the_same(device):
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(256, 64, generator=generator) for _ in range(8)]
    losses = [
        fit(lambda epoch: iter(rows), Config(2, 32, 128, k=8), Training(steps=12), device=where).history["loss"]
        for where in ("cpu", device)
    ]
    assert losses[1].to_numpy() == pytest.approx(losses[0].to_numpy(), rel=1e-3)


def test_an_organism_learns_the_same(device):
    whole = organisms.resolve("planted-self-a-s0")
    arms = tuple(arm.model_copy(update={"examples": 16}) for arm in whole.recipe.arms)
    few = whole.training.model_copy(update={"batch": 1})
    short = replace(whole, name=f"on-{device}-s0", recipe=whole.recipe.model_copy(update={"arms": arms}), training=few)
    losses = []
    for where in ("cpu", device):
        path = training.train(short, force=True, device=where) / "training.json"
        losses.append(json.loads(path.read_text())["losses"])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[0][-1] < losses[0][0]
