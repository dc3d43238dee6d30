"""Sparse gradients are the dense ones, and what is exactly known of a crosscoder holds."""

from __future__ import annotations

import pytest
import torch
from functional_self.crosscoder import Config, Crosscoder, kernels, latent_scaling, norm_profile, relative_norm
from functional_self.errors import CrosscoderError


def made(activation: str = "batchtopk", sources: int = 2, tied: bool = False, double: bool = True, **rest) -> Crosscoder:
    crosscoder = Crosscoder(Config(sources, 6, 24, activation, k=3, **rest), seed=1, tied=tied)
    with torch.no_grad():
        crosscoder.b_F += 0.1 * torch.randn(24, generator=torch.Generator().manual_seed(2))
        crosscoder.c_K += 0.1 * torch.randn(6 * sources, generator=torch.Generator().manual_seed(3))
    return crosscoder.double() if double else crosscoder


def rows(B: int = 40, K: int = 12, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(B, K, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def dense_loss(crosscoder: Crosscoder, x_BK: torch.Tensor) -> torch.Tensor:
    """The same loss by dense matrices and autograd alone."""
    config = crosscoder.config
    pre_BF = x_BK @ crosscoder.W_FK.T + crosscoder.b_F
    norm_F = crosscoder.D_FK.reshape(config.latents, config.sources, config.width).norm(dim=-1).sum(-1)
    score_BF = (pre_BF * norm_F).detach()
    if config.activation == "batchtopk":
        keep = torch.zeros(score_BF.numel(), dtype=torch.bool)
        keep[score_BF.reshape(-1).topk(len(x_BK) * config.k).indices] = True
        keep = keep.reshape(score_BF.shape)
    elif config.activation == "topk":
        keep = torch.zeros_like(score_BF, dtype=torch.bool).scatter(1, score_BF.topk(config.k, dim=1).indices, True)
    else:
        keep = score_BF > 0
    f_BF = torch.where(keep & (score_BF > 0), pre_BF, 0.0)
    error = (x_BK - f_BF @ crosscoder.D_FK - crosscoder.c_K).square().sum() / len(x_BK)
    return error + config.l1 * (f_BF * norm_F).sum() / len(x_BK)


@pytest.mark.parametrize("sources", [1, 2, 3])
@pytest.mark.parametrize(("activation", "l1"), [("batchtopk", 0.0), ("topk", 0.0), ("relu", 0.3)])
def test_gradients_of_the_sparse_kernels_are_the_dense_ones(activation, l1, sources):
    crosscoder, x_BK = made(activation, sources, l1=l1), rows(K=6 * sources)
    sparse = crosscoder.loss(x_BK).total
    found = torch.autograd.grad(sparse, list(crosscoder.parameters()))
    dense = dense_loss(crosscoder, x_BK)
    wanted = torch.autograd.grad(dense, list(crosscoder.parameters()))
    assert float(sparse) == pytest.approx(float(dense), rel=1e-10)
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-10)


def test_gradcheck():
    torch.manual_seed(0)
    x_BK, at = rows(5, 4), kernels.pattern(torch.tensor([0, 3, 9, 17, 26, 29]), 5, 6)
    given = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((6, 4), (6, 4), (6,), (4,))]

    def whole(W_FK, D_FK, b_F, c_K):
        return kernels.decode(kernels.encode(x_BK, W_FK, b_F, x_BK @ W_FK.T + b_F, at).exp(), D_FK, at, c_K)

    assert torch.autograd.gradcheck(whole, given)


@pytest.mark.parametrize(("size", "count"), [(50, 7), (5000, 300), (400_000, 900), (400_000, 100_000)])
def test_the_largest_scores_are_found_exactly(size, count):
    score = torch.randn(size, generator=torch.Generator().manual_seed(size))
    score[torch.randperm(size)[: size // 2]] = -1.0
    found = kernels.largest(score.reshape(1, -1), torch.ones(size), count)
    best = score.topk(count)
    assert set(found.tolist()) == set(best.indices[best.values > 0].tolist())


def test_scores_that_the_sample_misses_are_found():
    score = torch.full((400_000,), -1.0)
    score[1:200:2] = torch.arange(1.0, 101.0)  # none of them at a place that is sampled
    assert set(kernels.largest(score.reshape(1, -1), torch.ones(400_000), 10).tolist()) == set(range(181, 200, 2))


def trained(x_BK: torch.Tensor, tied: bool, steps: int = 150) -> Crosscoder:
    crosscoder = Crosscoder(Config(2, 6, 24, k=3), seed=1, tied=tied).double()
    optimiser = torch.optim.Adam(crosscoder.parameters(), lr=1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        crosscoder.loss(x_BK)[0].backward()
        optimiser.step()
    return crosscoder


def test_identical_sources_are_found_identical():
    """Exactly so where the decoders begin alike: they then have the same gradients."""
    x_BD = rows(400, 6)
    x_BK = torch.cat([x_BD, x_BD], dim=1)
    crosscoder = trained(x_BK, tied=True)
    found_F = relative_norm(crosscoder.norms_Fn.detach())
    assert found_F.tolist() == pytest.approx([0.5] * 24, abs=1e-9)
    assert norm_profile(crosscoder.norms_Fn.detach()).flatten().tolist() == pytest.approx([1] * 48, abs=1e-9)
    for nu_F in latent_scaling(crosscoder, [x_BK]).nu(0):
        live = nu_F[~nu_F.isnan()]
        assert len(live) > 12 and live.tolist() == pytest.approx([1] * len(live), abs=1e-6)


def test_a_scaled_copy_has_scaled_decoders():
    x_BD = rows(400, 6)
    norms_Fn = trained(torch.cat([x_BD, 0.5 * x_BD], dim=1), tied=True, steps=500).norms_Fn.detach()
    assert (norms_Fn[:, 1] / norms_Fn[:, 0]).median().item() == pytest.approx(0.5, abs=0.03)


def test_rescaling_a_latent_changes_nothing():
    crosscoder, x_BK = made(), rows()
    before = crosscoder.loss(x_BK)[0].item(), crosscoder(x_BK).detach()
    scale_F = torch.rand(24, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 0.5
    with torch.no_grad():
        crosscoder.W_FK *= scale_F
        crosscoder.b_F *= scale_F[:, 0]
        crosscoder.D_FK /= scale_F
    assert crosscoder.loss(x_BK)[0].item() == pytest.approx(before[0], rel=1e-12)
    assert torch.allclose(crosscoder(x_BK), before[1])


def test_latent_scaling_is_least_squares():
    crosscoder, x_BK = made("relu"), rows(300)
    crosscoder.W_FK.data[5] = 0.0  # one latent is dead
    crosscoder.b_F.data[5] = -1.0
    found = latent_scaling(crosscoder, x_BK.split(64), target=1)
    with torch.no_grad():
        f_BF = torch.relu(x_BK @ crosscoder.W_FK.T + crosscoder.b_F)
        error_BK = x_BK - f_BF @ crosscoder.D_FK - crosscoder.c_K
        D_Fnd = crosscoder.D_FK.reshape(24, 2, 6)
        for j in range(24):
            if j == 5:
                assert found.error[j].isnan().all() and found.reconstruction[j].isnan().all()
                continue
            basis = (f_BF[:, j, None] * D_Fnd[j, 1]).reshape(-1, 1)
            for m in range(2):
                own = f_BF[:, j, None] * D_Fnd[j, m]
                part = slice(6 * m, 6 * m + 6)
                for target, value in (
                    (error_BK[:, part] + own, found.error[j, m]),
                    ((x_BK - crosscoder.c_K - error_BK)[:, part], found.reconstruction[j, m]),
                ):
                    fitted = torch.linalg.lstsq(basis, target.reshape(-1, 1)).solution.item()
                    assert float(value) == pytest.approx(fitted, abs=1e-6)


def test_a_latent_of_one_source_alone_has_nu_zero_and_a_shared_one_nu_one():
    """Two planted latents; the crosscoder is given, so that latent scaling alone is tried."""
    generator = torch.Generator().manual_seed(0)
    f_B2 = torch.rand(2000, 2, generator=generator, dtype=torch.float64) * (torch.rand(2000, 2, generator=generator) < 0.2)
    crosscoder = Crosscoder(Config(2, 2, 2, "relu", k=1)).double()
    with torch.no_grad():
        crosscoder.D_FK.copy_(torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]))
        crosscoder.W_FK.copy_(torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.0, 0.5, 0.0, 0.5]]))
    x_BK = f_B2 @ crosscoder.D_FK.detach()
    nu_r, nu_e = latent_scaling(crosscoder, [x_BK], target=1).nu(0)
    assert nu_r.tolist() == pytest.approx([0, 1], abs=1e-9) and nu_e.tolist() == pytest.approx([0, 1], abs=1e-9)


def test_a_crosscoder_is_read_back_and_a_broken_one_is_one_line(tmp_path):
    crosscoder = made(double=False)
    crosscoder.save(tmp_path / "one")
    again = Crosscoder.load(tmp_path / "one")
    assert again.config == crosscoder.config
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), crosscoder.state_dict().values(), strict=True))
    (tmp_path / "one" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(CrosscoderError, match="no crosscoder can be read") as error:
        Crosscoder.load(tmp_path / "one")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("x_BK", "word"), [(torch.zeros(3, 11), "side by side"), (torch.full((3, 12), torch.nan), "not finite numbers")]
)
def test_rows_that_do_not_fit_are_refused(x_BK, word):
    with pytest.raises(CrosscoderError, match=word):
        made(double=False)(x_BK)
