"""Seeds are matched, and a count has an interval."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from functional_self.crosscoder import Config, Crosscoder, counted, matched, stability

EVERY = torch.ones(8, dtype=torch.bool)


def shuffled(seed: int, noise: float = 0.0) -> tuple[Crosscoder, torch.Tensor]:
    """The crosscoder of seed 1 with its latents in another order, each rescaled, and that order."""
    one = Crosscoder(Config(2, 6, 8, k=3), seed=1, tied=False)
    generator = torch.Generator().manual_seed(seed)
    order_F = torch.randperm(8, generator=generator)
    scale_F1 = torch.rand(8, 1, generator=generator) + 0.5
    one.D_FK.data = one.D_FK.data[order_F] * scale_F1 + noise * torch.randn(8, 12, generator=generator)
    return one, order_F


def test_latents_in_another_order_are_found_again():
    one, (other, order_F) = Crosscoder(Config(2, 6, 8, k=3), seed=1, tied=False), shuffled(2)
    pairs = matched(one, other, EVERY, EVERY)
    assert order_F[pairs["other"].to_numpy()].tolist() == pairs["one"].tolist() == list(range(8))
    assert pairs["cosine"].tolist() == pytest.approx([1] * 8, abs=1e-6)


def test_the_pairing_has_the_largest_sum():
    """Against every permutation of five latents; dead ones are paired with nobody."""
    one, other = (Crosscoder(Config(2, 6, 8, k=3), seed=seed, tied=False) for seed in (1, 2))
    live_F = torch.tensor([True] * 5 + [False] * 3)
    pairs = matched(one, other, live_F, live_F)
    unit = [torch.nn.functional.normalize(c.D_FK.detach()[:5].double(), dim=1) for c in (one, other)]
    cosine = unit[0] @ unit[1].T
    best = max(sum(float(cosine[i, p[i]]) for i in range(5)) for p in itertools.permutations(range(5)))
    assert float(pairs["cosine"].sum()) == pytest.approx(best, abs=1e-9) and set(pairs["one"]) == set(range(5))


def test_a_count_has_the_wider_of_two_intervals():
    alike = counted([5, 5, 5])  # seeds that agree: Poisson's interval of 15, a third of it
    assert (alike.low, alike.high) == (pytest.approx(8.395 / 3, abs=1e-3), pytest.approx(24.740 / 3, abs=1e-3))
    apart = counted([0, 10, 50])
    assert apart.value == 20 and apart.low == 0 and apart.high == pytest.approx(20 + 4.3027 * 15.2753, abs=1e-2)
    none = counted([0, 0, 0])
    assert none.low == 0 and none.high == pytest.approx(-math.log(0.025) / 3, abs=1e-6)
    assert math.isnan(counted([3]).high)


def test_what_comes_again_in_every_seed_is_counted():
    crosscoders = [Crosscoder(Config(2, 6, 8, k=3), seed=1, tied=False)]
    chosen = [torch.tensor([True, True, True, False, False, False, False, False])]
    for seed in (2, 3):
        other, order_F = shuffled(seed, noise=0.01)
        crosscoders.append(other)
        chosen.append(order_F < 2)  # the third is called exclusive in the first seed alone
    found = stability(crosscoders, [EVERY] * 3, chosen)
    assert found.reproduced == 2 and found.count.value == pytest.approx(7 / 3)
    other = torch.randn(1, 12, generator=torch.Generator().manual_seed(9))
    crosscoders[2].D_FK.data[(order_F == 0).nonzero()[0]] = other  # another direction in one seed
    assert stability(crosscoders, [EVERY] * 3, chosen).reproduced == 1
