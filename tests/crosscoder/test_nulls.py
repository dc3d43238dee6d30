"""What is exactly known of a crosscoder: identical sources, copies, rescaling, shrinkage, and what lambda = -1 hides."""

from __future__ import annotations

import pytest
import torch
from functional_self.crosscoder import Config, Crosscoder, Training, bins, difference, fit, latent_scaling, planted, quality
from functional_self.errors import CrosscoderError

SHORT = Training(steps=250, batch=256, rate=1e-2, dead_after=3000)


@pytest.fixture(scope="module")
def one():
    """Rows of one source with sparse features, 12 wide."""
    return planted.plant(6000, width=12, each=1).rows_NK[:, :12]


def both(
    x_Nd: torch.Tensor, scale: float, activation: str, tied: bool = True, l1: float = 0.0
) -> tuple[Crosscoder, torch.Tensor]:
    """A crosscoder trained on a source and its copy times ``scale``, and D of its latents."""
    rows_NK = torch.cat([x_Nd, scale * x_Nd], dim=1)
    config = Config(2, 12, 24, activation, k=2, l1=l1)  # type: ignore[arg-type]
    training = SHORT if tied else Training(steps=250, batch=256, rate=1e-2, dead_after=3000, tied=False)
    crosscoder = fit(rows_NK, config, training).crosscoder
    return crosscoder, difference(crosscoder, quality(crosscoder, [rows_NK]).count_F)


@pytest.mark.parametrize("activation", ["topk", "batchtopk"])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_after_training_a_scaled_copy_has_exactly_scaled_decoders(one, activation, scale):
    """Identical sources are the copy at 1; a power of two keeps single precision exact."""
    crosscoder, D_F = both(one, scale, activation)
    D_F2d = crosscoder.D_FK.detach().reshape(24, 2, 12)
    live_F = ~D_F.isnan()
    assert live_F.sum() >= 10
    assert torch.allclose(D_F2d[:, 1], scale * D_F2d[:, 0], rtol=1e-5, atol=1e-6)
    assert D_F[live_F].tolist() == pytest.approx([0.5] * int(live_F.sum()), abs=1e-5)
    found = latent_scaling(crosscoder, torch.cat([one, scale * one], dim=1).split(1000))
    for nu_F in found.nu(0):  # a latent means 1 / scale as much in source 0
        assert nu_F[live_F].tolist() == pytest.approx([1 / scale] * int(live_F.sum()), rel=2e-3)


def test_identical_sources_with_untied_decoders_agree_within_a_tolerance(one):
    """D of latents used in half a percent of rows is within 0.2 of one half, 0.1 in the mean, none exclusive; the dead are NaN.

    Several latents share a feature here, each with its own beginning, and nothing makes their norms alike.
    """
    crosscoder, D_F = both(one, 1.0, "batchtopk", tied=False)
    rows_NK = torch.cat([one, one], dim=1)
    said = quality(crosscoder, [rows_NK])
    dead_F = said.count_F == 0
    assert torch.equal(D_F.isnan(), dead_F) and bins(D_F)["dead"] == int(dead_F.sum()) == round(said.dead * 24)
    often_F = said.count_F > 30
    assert often_F.sum() >= 10
    away_F = (D_F[often_F] - 0.5).abs()
    assert away_F.max() < 0.2 and away_F.mean() < 0.1
    assert bins(D_F)[["a only", "b only"]].sum() == 0
    for beta_Fn in (latent_scaling(crosscoder, [rows_NK]).error, latent_scaling(crosscoder, [rows_NK]).reconstruction):
        assert torch.equal(beta_Fn.isnan().all(dim=1), dead_F)


def test_a_dead_latent_is_counted_and_is_nan():
    crosscoder = Crosscoder(Config(2, 6, 24, "relu", k=3), seed=1)
    crosscoder.b_F.data[7] = -1e3
    x_BK = torch.randn(200, 12, generator=torch.Generator().manual_seed(0))
    said = quality(crosscoder, [x_BK])
    D_F = difference(crosscoder, said.count_F)
    assert said.dead == pytest.approx(1 / 24) and bins(D_F)["dead"] == 1
    assert D_F.isnan().nonzero().flatten().tolist() == [7]
    assert latent_scaling(crosscoder, [x_BK]).error.isnan().all(dim=1).nonzero().flatten().tolist() == [7]


def shrunk(crosscoder: Crosscoder, x_BK: torch.Tensor, l1: float) -> torch.Tensor:
    """Decoders at the least loss for the codes as they are, F x n x d, by proximal steps: gradient, then norms shrink.

    The gradient is that of the crosscoder's own loss; Adam would only come near zero.
    """
    n, d, F = crosscoder.config.sources, crosscoder.config.width, crosscoder.config.latents
    with torch.no_grad():
        f_A, at = crosscoder.codes(x_BK)
        sum_F = torch.zeros(F, dtype=f_A.dtype).index_add_(0, at.col_A, f_A) / len(x_BK)
        f_BF = torch.zeros(len(x_BK), F, dtype=f_A.dtype).index_put_((at.row_A, at.col_A), f_A)
    size = 0.5 / float(torch.linalg.eigvalsh(f_BF.T @ f_BF / len(x_BK))[-1])
    for _ in range(500):
        loss = (x_BK - crosscoder.decode(f_A, at)).square().sum() / len(x_BK)
        (grad_FK,) = torch.autograd.grad(loss, crosscoder.D_FK)
        moved_Fnd = (crosscoder.D_FK.detach() - size * grad_FK).reshape(F, n, d)
        norm_Fn1 = moved_Fnd.norm(dim=-1, keepdim=True)
        left_Fn1 = (norm_Fn1 - size * l1 * sum_F[:, None, None]).clamp_min(0)
        crosscoder.D_FK.data.copy_((moved_Fnd * left_Fn1 / norm_Fn1.clamp_min(1e-30)).reshape(F, n * d))
    return crosscoder.D_FK.detach().reshape(F, n, d)


def test_complete_shrinkage_is_where_the_formula_says():
    """|d^m| = max(0, beta - mu sum f / sum f^2), beta = |sum f y| / sum f^2, mu half the penalty: exactly zero below.

    y is what the other latents leave of the source. A scaled copy has the ratio (c beta - s) / (beta - s).
    """
    generator = torch.Generator().manual_seed(0)
    crosscoder = Crosscoder(Config(2, 6, 4, "relu", k=1), seed=2).double()
    x_Bd = torch.randn(400, 6, generator=generator, dtype=torch.float64)
    for c in (0.8, 0.5, 0.1):
        x_BK, l1 = torch.cat([x_Bd, c * x_Bd], dim=1), 0.55
        with torch.no_grad():
            f_A, at = crosscoder.codes(x_BK)
            f_BF = torch.zeros(400, 4, dtype=torch.float64)
            f_BF[at.row_A, at.col_A] = f_A
        trial = Crosscoder(crosscoder.config, seed=2).double()
        D_Fnd = shrunk(trial, x_BK, l1)
        trial.D_FK.data.copy_(D_Fnd.reshape(4, 12))
        for j in range(4):
            others_BF = f_BF.clone()
            others_BF[:, j] = 0
            y_Bnd = (x_BK - others_BF @ trial.D_FK.detach()).reshape(400, 2, 6)
            beta_n = torch.einsum("b,bnd->nd", f_BF[:, j], y_Bnd).norm(dim=1) / f_BF[:, j].square().sum()
            s = l1 / 2 * f_BF[:, j].sum() / f_BF[:, j].square().sum()
            wanted_n = (beta_n - s).clamp_min(0)
            assert D_Fnd[j].norm(dim=1).tolist() == pytest.approx(wanted_n.tolist(), abs=1e-6)
            assert torch.equal(D_Fnd[j].norm(dim=1) == 0, wanted_n == 0)
        zero_n = (D_Fnd.norm(dim=-1) == 0).sum(0)
        assert zero_n[0] == 0 and (zero_n[1] > 0) == (c == 0.1), "the copy alone is shrunk away, where it is small"


def test_under_the_penalty_a_scaled_copy_is_shrunk_to_another_ratio():
    """One latent: the ratio is (c beta - s) / (beta - s), not c."""
    generator = torch.Generator().manual_seed(0)
    crosscoder = Crosscoder(Config(2, 6, 1, "relu", k=1), seed=2).double()
    x_Bd = torch.randn(400, 6, generator=generator, dtype=torch.float64)
    c, l1 = 0.7, 0.3
    x_BK = torch.cat([x_Bd, c * x_Bd], dim=1)
    with torch.no_grad():
        f_B = torch.relu(x_BK @ crosscoder.W_FK.T + crosscoder.b_F)[:, 0]
    beta = float((f_B @ x_Bd).norm() / f_B.square().sum())
    s = float(l1 / 2 * f_B.sum() / f_B.square().sum())
    norm_n = shrunk(crosscoder, x_BK, l1).norm(dim=-1)[0]
    assert float(norm_n[1] / norm_n[0]) == pytest.approx((c * beta - s) / (beta - s), rel=1e-8)
    assert float(norm_n[1] / norm_n[0]) < c - 0.03


def test_the_penalty_of_the_loss_is_the_one_of_the_formula():
    crosscoder = Crosscoder(Config(2, 6, 24, "relu", k=3, l1=0.7, shared=4, shared_l1=0.5), seed=1)
    x_BK = torch.randn(50, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        f_A, at = crosscoder.codes(x_BK)
        share_A = torch.where(at.col_A < 4, 0.5, 1.0)
        wanted = 0.7 * (share_A * f_A * crosscoder.norms_Fn.sum(1)[at.col_A]).sum() / 50
        assert float(crosscoder.loss(x_BK).total - crosscoder.loss(x_BK, l1=0.0).total) == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.parametrize("coupling", [-1.0, -0.4, 0.0, 0.9])
def test_the_family_of_losses(coupling):
    """|e^a|^2 + |e^b|^2 + 2 lambda e^a.e^b, by its definition; at -1 it is that of the difference alone."""
    crosscoder = Crosscoder(Config(2, 6, 24, k=3, coupling=coupling), seed=1, tied=False).double()
    x_BK = torch.randn(50, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    f_A, at = crosscoder.codes(x_BK, batch=True)
    a_Bd, b_Bd = (x_BK - crosscoder.decode(f_A, at)).split(6, dim=1)
    wanted = (a_Bd.square() + b_Bd.square() + 2 * coupling * a_Bd * b_Bd).sum() / 50
    assert float(crosscoder.loss(x_BK).total) == pytest.approx(float(wanted), rel=1e-12)
    if coupling == -1.0:
        assert float(wanted) == pytest.approx(float((b_Bd - a_Bd).square().sum() / 50), rel=1e-12)


def test_at_lambda_minus_one_only_the_difference_is_identified_and_the_rest_is_withheld():
    """Whatever is added to both decoders alike leaves loss and gradient of the difference as they are."""
    crosscoder = Crosscoder(Config(2, 6, 24, "relu", k=3, coupling=-1.0), seed=1, tied=False).double()
    x_BK = torch.randn(50, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before = float(crosscoder.loss(x_BK).total)
    common_Fd = torch.randn(24, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    crosscoder.D_FK.data += torch.cat([common_Fd, common_Fd], dim=1)
    assert float(crosscoder.loss(x_BK).total) == pytest.approx(before, rel=1e-10)
    count_F = torch.ones(24)
    for ask in (lambda: difference(crosscoder, count_F), lambda: latent_scaling(crosscoder, [x_BK])):
        with pytest.raises(CrosscoderError, match="only d\\^b - d\\^a is identified"):
            ask()
    free = Crosscoder(Config(2, 6, 24, "relu", k=3), seed=1, tied=False).double()
    assert difference(free, count_F).isfinite().all()


def test_scores_and_diagnostics_do_not_see_a_rescaling_of_latents(one):
    """(W, b) times a and d by a: codes chosen, D, nu, loss with its penalty and quality are the same."""
    rows_NK = torch.cat([one, 0.5 * one], dim=1).double()[:500]
    crosscoder = Crosscoder(Config(2, 12, 24, "relu", k=2, l1=0.4), seed=1, tied=False).double()
    scale_F1 = torch.rand(24, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 0.5

    def said() -> list[torch.Tensor]:
        count_F = quality(crosscoder, [rows_NK]).count_F
        nu = latent_scaling(crosscoder, [rows_NK]).nu(0)
        return [crosscoder.loss(rows_NK).total.detach(), difference(crosscoder, count_F), *nu, count_F.double()]

    before = said()
    with torch.no_grad():
        crosscoder.W_FK *= scale_F1
        crosscoder.b_F *= scale_F1[:, 0]
        crosscoder.D_FK /= scale_F1
    for a, b in zip(before, said(), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, equal_nan=True)
