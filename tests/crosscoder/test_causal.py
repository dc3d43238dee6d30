"""Patching latents: with all of them and the error nothing is left of a difference, and each arm puts back what it says."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from functional_self.activations import harvest, patch
from functional_self.crosscoder import Config, Crosscoder, causal
from functional_self.errors import CrosscoderError

TEXTS = [
    "Ice is cold, and fire is not.",
    "The old pot stands on the stove, and the new one is in the shop.",
    "One, two, three, four.",
]
LAYER = 12


def exact(F: int = 4, d: int = 6) -> tuple[Crosscoder, torch.Tensor]:
    """A crosscoder that reconstructs its rows exactly: latent 0 is shared, 1 the base's, 2 the chat's, 3 is never active."""
    crosscoder = Crosscoder(Config(2, d, F, "relu", k=1)).double()
    D_F2d = torch.zeros(F, 2, d, dtype=torch.float64)
    D_F2d[0, :, 0], D_F2d[1, 0, 1], D_F2d[2, 1, 2], D_F2d[3, :, 3] = 1, 1, 1, 1
    with torch.no_grad():
        crosscoder.D_FK.copy_(D_F2d.reshape(F, -1))
        crosscoder.W_FK.copy_(D_F2d.reshape(F, -1) / D_F2d.sum((1, 2))[:, None])
        crosscoder.c_K.zero_()
        crosscoder.c_K[d + 5] = 0.0
    f_BF = torch.rand(50, F, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    f_BF[:, 3] = 0
    return crosscoder, f_BF @ crosscoder.D_FK.detach()


def test_each_arm_puts_back_what_it_says():
    crosscoder, x_BK = exact()
    base_Bd, chat_Bd = x_BK[:, :6], x_BK[:, 6:]
    only = {j: torch.arange(4) == j for j in range(4)}
    moved = {j: causal.rows_with(crosscoder, x_BK, causal.Arm("", keep)) - base_Bd for j, keep in only.items()}
    assert torch.allclose(moved[0], torch.zeros_like(base_Bd)) and torch.allclose(moved[3], torch.zeros_like(base_Bd))
    assert torch.allclose(moved[2][:, 2], chat_Bd[:, 2]) and torch.allclose(moved[1][:, 1], -base_Bd[:, 1])
    whole = causal.rows_with(crosscoder, x_BK, causal.Arm("all", torch.ones(4, dtype=torch.bool)))
    assert torch.allclose(whole, chat_Bd)


def test_all_and_the_error_give_the_chat_rows_whatever_the_crosscoder():
    crosscoder = Crosscoder(Config(2, 6, 24, k=3), seed=1, tied=False).double()
    x_BK = torch.randn(40, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        crosscoder.c_K += torch.arange(12.0)
    every = torch.ones(24, dtype=torch.bool)
    assert torch.allclose(causal.rows_with(crosscoder, x_BK, causal.Arm("", every, error=True)), x_BK[:, 6:])
    bias = causal.rows_with(crosscoder, x_BK, causal.Arm("", ~every))
    assert torch.allclose(bias - x_BK[:, :6], torch.full((40, 6), 6.0, dtype=torch.float64))
    assert torch.equal(causal.rows_with(crosscoder, x_BK, causal.Arm("", ~every, bias=False)), x_BK[:, :6])


def test_arms_are_controls_of_equal_size_and_halves():
    S, live = torch.arange(20) < 4, torch.arange(20) < 17
    D = torch.arange(20.0)
    D[5] = torch.nan
    found = {arm.name: arm for arm in causal.arms(S, {"D": D}, live, random=2)}
    assert list(found) == ["base", "bias only", "S", "random 1", "random 2", "D high", "D low", "all", "all + error"]
    for name in ("random 1", "random 2"):
        keep = found[name].keep_F
        assert keep.sum() == 4 and not (keep & S).any() and not (keep & ~live).any()
    assert not torch.equal(found["random 1"].keep_F, found["random 2"].keep_F)
    assert D[found["D low"].keep_F].max() < D[found["D high"].keep_F].min()
    assert found["D low"].keep_F.sum() == found["D high"].keep_F.sum() == 8
    with pytest.raises(CrosscoderError, match="smaller S"):
        causal.arms(live, {}, live)


@pytest.fixture(scope="module")
def pair(smollm2):
    """Rows of the subject and, as its base before them, the same rows with a planted difference; and their table."""
    store = harvest(smollm2, TEXTS, LAYER)
    chat_ND = torch.from_numpy(store.rows_ND)
    noise_ND = torch.randn(chat_ND.shape, generator=torch.Generator().manual_seed(0))
    return torch.cat([chat_ND + 0.5 * noise_ND, chat_ND], dim=1), store


def test_all_and_the_error_close_the_kl_and_base_is_plain_patching(smollm2, pair):
    x_NK, store = pair
    crosscoder = Crosscoder(Config(2, x_NK.shape[1] // 2, 64, k=8), seed=0)
    S, live = torch.arange(64) < 5, torch.ones(64, dtype=torch.bool)
    tried = causal.arms(S, {}, live, random=1)
    found = causal.causal_kl(smollm2, TEXTS, LAYER, x_NK, store.tokens, crosscoder, tried)
    kl = found.groupby("arm")["kl"]
    assert kl.max()["all + error"] <= 1e-4
    assert kl.mean()["base"] > 0.01
    kept_NK, tokens = causal.unmasked(x_NK, store.tokens)
    base_ND = kept_NK[:, : x_NK.shape[1] // 2].numpy()
    plain = patch(smollm2, TEXTS, dataclasses.replace(store, rows_ND=base_ND, tokens=tokens))
    assert found.loc[found["arm"] == "base", "kl"].to_numpy() == pytest.approx(plain["kl"].to_numpy(), abs=1e-5)
    assert len(tokens) < len(store.tokens) and not (found["position"] == 0).any()


def test_what_does_not_fit_is_refused(pair):
    x_NK, store = pair
    with pytest.raises(CrosscoderError, match="same tokens") as error:
        causal.unmasked(x_NK[1:], store.tokens)
    assert "\n" not in str(error.value)
    with pytest.raises(CrosscoderError, match="nothing is left"):
        causal.unmasked(x_NK, store.tokens.assign(outlier=True))


def test_loss_recovered_is_one_for_the_rows_and_zero_for_their_mean(smollm2, pair):
    x_NK, store = pair
    own_ND = x_NK[:, x_NK.shape[1] // 2 :]
    found = causal.losses(smollm2, TEXTS, LAYER, own_ND, store.tokens, own_ND)
    assert causal.loss_recovered(found) == pytest.approx(1, abs=1e-4)
    mean_ND = causal.unmasked(own_ND, store.tokens)[0].mean(0).expand_as(own_ND)
    found = causal.losses(smollm2, TEXTS, LAYER, own_ND, store.tokens, mean_ND)
    assert causal.loss_recovered(found) == pytest.approx(0, abs=1e-3)
