"""Planted differences: the generator is what it says, the table counts rightly, and what two trainings find."""

from __future__ import annotations

import os

import pandas as pd
import pytest
import torch
from functional_self.crosscoder import Config, Crosscoder, Training, fit, planted

FULL = "FUNCTIONAL_SELF_ACCEPTANCE" in os.environ
SIZE = {"rows": 60_000, "width": 48, "each": 4} if FULL else {"rows": 8_000, "width": 24, "each": 1}
STEPS = 2000 if FULL else 300


@pytest.fixture(scope="module")
def truth():
    return planted.plant(20_000, width=24, each=2, noise=0.0)


def given(truth: planted.Planted, swapped: bool = False) -> Crosscoder:
    """The crosscoder that a perfect training would find; ``swapped`` writes every feature into the other source."""
    G, K = truth.direction_GK.shape
    crosscoder = Crosscoder(Config(2, K // 2, G + 2, "relu", k=1))
    D_GK = truth.direction_GK.double()
    W_GK = torch.linalg.pinv(D_GK).T
    c_K = truth.rows_NK.double().mean(0) - torch.tensor(truth.frequency).double() @ D_GK
    with torch.no_grad():
        for parameter, value in ((crosscoder.W_FK, W_GK), (crosscoder.b_F, -(W_GK @ c_K)), (crosscoder.D_FK, D_GK)):
            parameter[:G] = value.float()
            parameter[G:] = 0.0  # two latents are dead
        if swapped:
            crosscoder.D_FK.copy_(crosscoder.D_FK.reshape(-1, 2, K // 2).flip(1).reshape(-1, K))
        crosscoder.c_K.copy_(c_K)
        crosscoder.threshold.fill_(0.2)
    return crosscoder


def test_features_are_as_often_and_as_strong_as_said(truth):
    G, K = truth.direction_GK.shape
    assert G == 24 == len(truth.kind) and truth.kind.count("scaled") == 6
    norm_G2 = truth.direction_GK.reshape(G, 2, K // 2).norm(dim=-1)
    assert torch.allclose(norm_G2, torch.tensor([planted.KINDS[kind] for kind in truth.kind]), atol=1e-6)
    centred_NK = truth.rows_NK.double() - given(truth).c_K.double()
    f_NG = centred_NK @ torch.linalg.pinv(truth.direction_GK.double())
    often_G = (f_NG > 0.25).double().mean(0)
    for often, wanted in zip(often_G.tolist(), truth.frequency, strict=True):
        assert often == pytest.approx(wanted, abs=5 * (wanted / 20_000) ** 0.5)
    active = f_NG[f_NG > 0.25]
    assert active.min() > 0.45 and active.max() < 1.55
    again, others = planted.plant(100, width=24, each=2, noise=0.0), planted.plant(100, width=24, each=2, noise=0.0, texts=1)
    assert torch.equal(again.direction_GK, others.direction_GK) and not torch.equal(again.rows_NK, others.rows_NK)


def test_the_table_of_a_perfect_crosscoder_is_perfect(truth):
    table = planted.recovery(given(truth), truth, truth).set_index("kind")
    assert (table.drop("false")["found"] == 2).all()
    for name in ("bins", "nu_r", "nu_e"):
        assert (table.loc[["a only", "b only"], name] == 2).all() and (table.loc[["shared", "scaled"], name] == 0).all(), name
        assert table.loc["false", name] == 0


def test_the_table_of_a_crosscoder_with_its_sources_swapped_is_all_false(truth):
    table = planted.recovery(given(truth, swapped=True), truth, truth).set_index("kind")
    assert (table.loc[["a only", "b only"], ["found", "bins", "nu_r", "nu_e"]] == 0).all(axis=None)
    assert table.loc["false", "bins"] == 12


def trained(activation: str, seed: int) -> pd.DataFrame:
    """The table of one training, its features and its weights of one seed, on rows held out."""
    rows = planted.plant(SIZE["rows"], SIZE["width"], SIZE["each"], seed=seed)
    config = Config(2, SIZE["width"], 2 * len(rows.kind), activation, k=2 if FULL else 1, l1=2.0 if activation == "relu" else 0.0)  # type: ignore[arg-type]
    training = Training(steps=STEPS, batch=512, rate=3e-3 if FULL else 1e-2, dead_after=20_000, seed=seed)
    crosscoder = fit(rows.rows_NK, config, training).crosscoder
    held_out = planted.plant(20_000, SIZE["width"], SIZE["each"], seed=seed, texts=1)
    return planted.recovery(crosscoder, rows, held_out).assign(activation=activation, seed=seed)


@pytest.mark.acceptance
@pytest.mark.parametrize("activation", ["batchtopk", "relu"])
def test_what_trainings_find(activation, record_property):
    """Recall of every kind at every frequency and false positives, bins and nu apart; three seeds with the full counts."""
    seeds = range(3 if FULL else 1)
    whole = pd.concat([trained(activation, seed) for seed in seeds])
    table = (
        whole.groupby(["kind", "frequency"], dropna=False, sort=False)[["found", "bins", "nu_r", "nu_e", "of"]]
        .sum()
        .reset_index()
    )
    for row in table.itertuples():
        where = "false positives" if row.kind == "false" else f"{row.kind} at {row.frequency:g}: {row.found} of {row.of} found"
        record_property(
            f"{row.kind} {row.frequency}", f"{activation}, {where}; bins {row.bins}, nu_r {row.nu_r}, nu_e {row.nu_e}"
        )
    often = table[(table["frequency"] == 0.1)].set_index("kind")
    assert (often["found"] >= 0.75 * often["of"]).all()
    assert (0.75 * often.loc[["a only", "b only"], "of"] <= often.loc[["a only", "b only"], ["bins", "nu_e"]].T).all(axis=None)
    assert often.loc[["shared", "scaled"], "bins"].sum() == 0, "a frequent shared feature is never called exclusive"
