"""Every tool beside the crosscoder finds a difference whose answer is known, and nothing where there is none."""

from __future__ import annotations

import math

import pytest
import torch
from functional_self.crosscoder import baselines
from functional_self.errors import CrosscoderError

N, D, V = 400, 12, 30


def rows(seed: int = 0, n: int = N, d: int = D) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_the_mean_difference_of_a_shift_is_the_shift():
    shift = torch.arange(D).double()
    assert torch.allclose(baselines.mean_difference(rows(), rows() + shift), shift, atol=1e-5)
    assert torch.equal(baselines.mean_difference(rows(), rows()), torch.zeros(D).double())


def test_principal_components_are_the_planted_ones_in_order():
    u = torch.linalg.qr(rows(1, D, D)).Q.T
    f = rows(2, N, 2) * torch.tensor([3.0, 1.0])
    found = baselines.principal(rows(), rows() + f @ u[:2], 3)
    cosine = (found.directions_MD[:2] @ u[:2].double().T).abs()
    assert cosine.diagonal().min() > 0.99
    assert found.share_M[0] == pytest.approx(0.9, abs=0.03) and found.share_M.sum() == pytest.approx(1, abs=1e-6)
    assert baselines.principal(rows(), rows(), 2).share_M.isnan().all()


def test_a_constant_shift_is_no_component():
    found = baselines.principal(rows(), rows() + 5 * torch.ones(D) + 0.1 * rows(3), 1)
    assert abs(float(found.directions_MD[0].sum())) < 0.9 * D**0.5


def test_the_lens_reads_the_token_whose_direction_it_is():
    unembedding, gain = rows(4, V, D), torch.rand(D, generator=torch.Generator().manual_seed(5)) + 0.5
    logits = baselines.lens(unembedding[7:8] / gain, gain, unembedding)
    assert logits.shape == (1, V) and int(logits[0].argmax()) == 7
    assert float(logits[0, 7]) == pytest.approx(float(unembedding[7].square().sum()), rel=1e-5)


def test_a_probe_separates_what_is_linear_and_knows_nothing_of_identical_sources():
    shift = torch.zeros(D)
    shift[3] = 8.0
    found = baselines.probe(rows(), rows(1) + shift)
    assert found.accuracy(rows(2), rows(3) + shift) > 0.99
    assert int(found.direction_D.abs().argmax()) == 3
    again = baselines.probe(100 * rows(), 100 * (rows(1) + shift))
    assert again.accuracy(100 * rows(2), 100 * (rows(3) + shift)) == found.accuracy(rows(2), rows(3) + shift)
    same = baselines.probe(rows(), rows())
    assert same.accuracy(rows(2), rows(2)) == 0.5 and float(same.direction_D.abs().max()) < 1e-12
    chance = baselines.probe(rows(), rows(1)).accuracy(rows(2), rows(3))
    assert abs(chance - 0.5) < 4 * math.sqrt(0.25 / (2 * N))


def test_the_probe_is_the_ridge_solution():
    a, b, r = rows().double(), rows(1).double() + 0.3, 0.05
    found = baselines.probe(a, b, r)
    x, y = torch.cat([a, b]), torch.cat([-torch.ones(N), torch.ones(N)]).double()
    centred = x - x.mean(0)
    penalty = (2 * N * r * centred.square().mean()).sqrt() * torch.eye(D).double()
    stacked = torch.linalg.lstsq(torch.cat([centred, penalty]), torch.cat([y, torch.zeros(D).double()])[:, None]).solution
    assert torch.allclose(found.direction_D, stacked[:, 0], atol=1e-10)


def test_kl_per_token_is_that_of_two_coins():
    p, q = 0.9, 0.5
    a, b = (torch.tensor([[math.log(x), math.log(1 - x)]]) for x in (q, p))
    wanted = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert float(baselines.token_kl(a, b + 7)) == pytest.approx(wanted, abs=1e-6)
    assert float(baselines.token_kl(b, b)) == 0.0
    assert (baselines.token_kl(rows(0, N, V), rows(1, N, V)) >= 0).all()


def test_a_logit_difference_does_not_see_a_common_shift():
    a = rows(0, 5, V)
    b = a.clone()
    b[2, 4] += 3.0
    found = baselines.logit_difference(a, b + 11.0)
    assert float(found[2, 4]) == pytest.approx(3 - 3 / V, abs=1e-5)
    assert found[[0, 1, 3, 4]].abs().max() < 1e-5


def test_average_precision_of_a_perfect_a_blind_and_a_tied_score():
    truth = torch.arange(100) < 10
    assert baselines.average_precision(-torch.arange(100.0), truth) == 1.0
    assert baselines.average_precision(torch.zeros(100), truth) == pytest.approx(sum((i + 1) / (91 + i) for i in range(10)) / 10)
    assert baselines.average_precision(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([1, 0, 1])) == pytest.approx((1 + 2 / 3) / 2)
    assert math.isnan(baselines.average_precision(torch.zeros(3), torch.zeros(3)))


def test_the_input_of_a_difference_sae_is_the_difference_and_is_checked():
    assert torch.equal(baselines.differences(rows(), rows(1)), rows(1) - rows())
    with pytest.raises(CrosscoderError, match="same tokens"):
        baselines.differences(rows(), rows(1, 3))
    with pytest.raises(CrosscoderError, match="not finite"):
        baselines.differences(rows(), torch.full((N, D), torch.nan))
