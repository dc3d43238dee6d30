"""The crosscoder's benchmarks compare the same thing on both sides; sizes are small here and no peer is run."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY))

from functional_self.crosscoder import Config, Crosscoder

from benchmarks import crosscoder as family


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, value in (("BATCH", 64), ("WIDTH", 8), ("K", 4), ("LATENTS", 64), ("DIRECT", 16)):
        monkeypatch.setattr(family, name, value)


def test_rows_are_sparse_features_and_the_same_each_time():
    (x_BK,), (again_BK,) = family.rows(1), family.rows(1)
    assert x_BK.shape == (64, 16) and torch.equal(x_BK, again_BK)


def test_the_dense_side_has_the_same_loss_and_gradients():
    crosscoder, (x_BK,) = Crosscoder(Config(2, 8, 64, k=4)), family.rows(1)
    parameters = list(crosscoder.parameters())
    sparse, dense = crosscoder.loss(x_BK).total, family.dense_loss(crosscoder, x_BK)
    assert float(sparse) == pytest.approx(float(dense), rel=1e-5)
    for a, b in zip(torch.autograd.grad(sparse, parameters), torch.autograd.grad(dense, parameters), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_lines_say_what_was_compared():
    dense = family.against_dense(64, 4.0)
    assert dense["max_relative_loss_difference"] < 1e-4 and dense["flop_utilisation"] is None
    product = family.against_product(64, repetitions=1)
    assert product["lower_is_better"] and product["latents"] == 64 and product["tokens_per_second"] > 0
    assert product["gflops"] == pytest.approx(2 * 64 * 16 * (64 + 16) / (product["ours"] / 1000) / 1e9)
    scaling = family.against_definition(64)
    assert scaling["max_abs_difference"] < 1e-4 and scaling["unit"] == "ms"
    json.dumps([dense, product, scaling], allow_nan=False)


def test_saelens_is_pinned_to_the_version_compared_with():
    assert f"sae-lens=={family.SAE_LENS}\n" in (REPOSITORY / "benchmarks" / "requirements.lock").read_text()
