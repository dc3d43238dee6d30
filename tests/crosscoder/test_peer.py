"""With one source a BatchTopK crosscoder is SAELens's BatchTopK SAE, given the same weights."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from conftest import REPOSITORY
from functional_self.crosscoder import Config, Crosscoder

sys.path.insert(0, str(REPOSITORY))

from benchmarks import harness

B, D, F, K = 64, 24, 96, 5


@pytest.fixture(scope="module")
def peer():
    """Both with the same weights; the SAE's encoder does not see the decoder's bias, as ours does not."""
    harness.find_peers()
    pytest.importorskip("sae_lens", reason="SAELens is not installed beside the environment; run: make .venv/bench/.complete")
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig

    crosscoder = Crosscoder(Config(1, D, F, k=K), seed=1).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        crosscoder.D_FK *= torch.rand(F, 1, generator=generator, dtype=torch.float64) + 0.5  # norms decide the choice too
        crosscoder.W_FK += 0.1 * torch.randn(F, D, generator=generator, dtype=torch.float64)
        crosscoder.b_F += 0.1 * torch.randn(F, generator=generator, dtype=torch.float64)
        crosscoder.c_K += 0.1 * torch.randn(D, generator=generator, dtype=torch.float64)
    config = BatchTopKTrainingSAEConfig(d_in=D, d_sae=F, k=K, dtype="float64", apply_b_dec_to_input=False)
    sae = BatchTopKTrainingSAE(config)
    with torch.no_grad():
        for theirs, ours in (
            (sae.W_enc, crosscoder.W_FK.T),
            (sae.W_dec, crosscoder.D_FK),
            (sae.b_enc, crosscoder.b_F),
            (sae.b_dec, crosscoder.c_K),
        ):
            theirs.copy_(ours)
    return crosscoder, sae, torch.randn(B, D, generator=generator, dtype=torch.float64)


def dense(f_A: torch.Tensor, at) -> torch.Tensor:
    found_BF = torch.zeros(B, F, dtype=torch.float64)
    found_BF[at.row_A, at.col_A] = f_A
    return found_BF


def test_codes_reconstruction_loss_and_gradients_are_the_same(peer):
    from sae_lens.saes.sae import TrainStepInput

    crosscoder, sae, x_BD = peer
    said = sae.training_forward_pass(TrainStepInput(x_BD, {}, None, 0, False))
    f_A, at = crosscoder.codes(x_BD, batch=True)
    norm_F = crosscoder.norms_Fn[:, 0]
    assert len(f_A) == B * K
    assert torch.allclose(dense(f_A * norm_F[at.col_A], at), said.feature_acts, rtol=1e-10, atol=1e-12)
    assert torch.allclose(crosscoder.decode(f_A, at), said.sae_out, rtol=1e-10, atol=1e-12)
    ours, theirs = crosscoder.loss(x_BD).total, said.loss
    assert float(ours) == pytest.approx(float(theirs), rel=1e-10)
    found = torch.autograd.grad(ours, (crosscoder.W_FK, crosscoder.D_FK, crosscoder.b_F, crosscoder.c_K))
    wanted = torch.autograd.grad(theirs, (sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec))
    for a, b in zip(found, (wanted[0].T, *wanted[1:]), strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-10)


def test_with_a_threshold_it_is_the_jumprelu_that_saelens_makes_of_it(peer):
    from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig

    crosscoder, sae, x_BD = copy.deepcopy(peer[0]), copy.deepcopy(peer[1]), peer[2]
    threshold = float((crosscoder.norms_Fn[:, 0] * (x_BD @ crosscoder.W_FK.T + crosscoder.b_F)).quantile(0.95).detach())
    crosscoder.threshold.fill_(threshold)
    sae.topk_threshold.fill_(threshold)
    state = {name: value.clone() for name, value in sae.state_dict().items()}
    sae.process_state_dict_for_saving_inference(state)
    made = JumpReLUSAE(JumpReLUSAEConfig(d_in=D, d_sae=F, dtype="float64", apply_b_dec_to_input=False))
    made.load_state_dict(state)
    with torch.no_grad():
        f_A, at = crosscoder.codes(x_BD)
        assert 200 < len(f_A) < 400
        assert torch.allclose(dense(f_A * crosscoder.norms_Fn[:, 0][at.col_A], at), made.encode(x_BD), rtol=1e-10, atol=1e-12)
        assert torch.allclose(crosscoder(x_BD), made(x_BD), rtol=1e-10, atol=1e-12)
