"""Training a crosscoder: what it needs reaches it, and a kill or a flipped byte changes nothing unseen."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import torch
from functional_self.activations import Store
from functional_self.crosscoder import Config, Crosscoder, Training, checkpoints, fit, planted, quality, training
from functional_self.errors import CrosscoderError

FULL = "FUNCTIONAL_SELF_ACCEPTANCE" in os.environ
SMALL = Config(2, 6, 24, k=3)
THREADS = str(torch.get_num_threads())
SHORT = Training(steps=30, batch=64, rate=1e-2, dead_after=500)
KILLED = """
import sys, time, torch
from pathlib import Path
from functional_self.crosscoder import Config, Training, fit, training
training.MEASURED = 64
folder, steps, pause = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
log = open(folder / "log", "a", buffering=1)
begun = max((int(path.name.split("-")[1]) for path in folder.glob("kept/*/step-*")), default=0)
def rows(epoch):
    for i in range(50 * epoch, 50 * epoch + 50):
        log.write(f"{i}\\n")
        time.sleep(pause if i >= begun else 0)
        yield torch.randn(32, 12, generator=torch.Generator().manual_seed(i))
found = fit(rows, Config(2, 6, 24, k=3), Training(steps=steps, rate=1e-2, dead_after=500), folder / "kept", keep_every=10)
found.crosscoder.save(folder / "end")
found.history.to_json(folder / "history.json")
"""


def rows(N: int = 600, K: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randn(N, K, generator=torch.Generator().manual_seed(seed))


def begun(aux_quiet: int | None = None) -> checkpoints.Run:
    crosscoder = Crosscoder(SMALL, seed=1)
    run = checkpoints.Run(crosscoder, training._adam(crosscoder, SHORT), torch.zeros(24, dtype=torch.long), [])
    if aux_quiet is not None:
        crosscoder.b_F.data[aux_quiet] = -30.0  # never active
        run.quiet_F[aux_quiet] = SHORT.dead_after
    return run


@pytest.mark.parametrize("aux", [0.0, 0.5])
def test_the_auxiliary_loss_reaches_the_optimiser(aux):
    """A latent that is never active changes by it, and by nothing else."""
    run = begun(aux_quiet=5)
    before = {name: p.detach().clone() for name, p in run.crosscoder.named_parameters()}
    training._step(run, rows(64), replace(SHORT, aux=aux))
    for name in ("W_FK", "D_FK", "b_F"):
        moved = not torch.equal(before[name][5], dict(run.crosscoder.named_parameters())[name][5])
        assert moved == (aux > 0), name


def test_the_auxiliary_loss_is_that_of_the_dead_on_what_is_left():
    run, x_BK, dead = begun(aux_quiet=5), rows(64), torch.tensor([5, 9])
    crosscoder = run.crosscoder.double()
    x_BK = x_BK.double()
    found = crosscoder.loss(x_BK, dead=dead, aux=1.0).total - crosscoder.loss(x_BK).total
    f_A, at = crosscoder.codes(x_BK, batch=True)
    error_BK = (x_BK - crosscoder.decode(f_A, at)).detach()
    pre_BG = (x_BK @ crosscoder.W_FK.T + crosscoder.b_F)[:, dead]  # 128 of them, fewer than B k = 192: all are taken
    wanted = (error_BK - pre_BG @ crosscoder.D_FK[dead]).square().sum() / 64
    assert float(found) == pytest.approx(float(wanted), rel=1e-9)
    for a, b in zip(
        torch.autograd.grad(found, (crosscoder.W_FK, crosscoder.D_FK)),
        torch.autograd.grad(wanted, (crosscoder.W_FK, crosscoder.D_FK)),
        strict=True,
    ):
        assert torch.allclose(a[dead], b[dead], rtol=1e-7, atol=1e-9)


def test_scales_are_folded_once_and_change_no_code():
    crosscoder, x_BK, scale_n = Crosscoder(SMALL, seed=1, tied=False), rows(50), torch.tensor([0.5, 4.0], dtype=torch.float64)
    scale_K = scale_n.float().repeat_interleave(6)
    crosscoder.threshold.fill_(0.8)
    with torch.no_grad():
        f_A, at = crosscoder.codes(x_BK * scale_K)
        decoded_BK = crosscoder.decode(f_A, at)
        norms_Fn = crosscoder.norms_Fn
        crosscoder.fold(scale_n)
        g_A, there = crosscoder.codes(x_BK)
    assert 50 < len(f_A) < 50 * 24 and torch.equal(at.row_A, there.row_A) and torch.equal(at.col_A, there.col_A)
    assert torch.allclose(f_A, g_A, rtol=1e-5) and torch.allclose(crosscoder.scaled_norms_Fn, norms_Fn, rtol=1e-5)
    assert torch.allclose(crosscoder.decode(g_A, there), decoded_BK / scale_K, rtol=1e-4, atol=1e-5)
    with pytest.raises(CrosscoderError, match="already"):
        crosscoder.fold(scale_n)


@pytest.fixture(scope="module")
def known():
    """Planted rows, others of the same features, and a crosscoder trained on the first."""
    one = planted.plant(6000, width=12, each=1)
    config = Config(2, 12, 24, k=2)
    found = fit(one.rows_NK, config, Training(steps=200, batch=256, rate=1e-2, dead_after=4000))
    return found, planted.plant(4000, width=12, each=1, texts=1).rows_NK


def test_a_trained_crosscoder_reads_rows_as_they_are(known):
    found, held_out = known
    groups = {"first": torch.arange(4000) < 1000, "none": torch.zeros(4000, dtype=torch.bool)}
    said = quality(found.crosscoder, held_out.split(1000), groups)
    table = said.fve.set_index(["group", "source"])["fve"]
    with torch.no_grad():
        error_Nn = (held_out - found.crosscoder(held_out)).double().square().reshape(4000, 2, 12).sum(-1)
    for part, name in ((slice(None), "all"), (slice(0, 1000), "first")):
        x_Nnd = held_out[part].double().reshape(-1, 2, 12)
        wanted = 1 - error_Nn[part].sum(0) / (x_Nnd - x_Nnd.mean(0)).square().sum((0, 2))
        assert table[name].tolist() == pytest.approx(wanted.tolist(), abs=1e-9)
    assert (table["all"] > 0.7).all() and table["none"].isna().all()
    assert found.history["loss"].iloc[-20:].mean() < 0.4 * found.history["loss"].iloc[0]


def test_the_running_threshold_keeps_about_k(known):
    found, held_out = known
    assert float(found.crosscoder.threshold) > 0
    assert quality(found.crosscoder, [held_out]).l0 == pytest.approx(2, rel=0.2)


def test_the_same_settings_give_the_same_crosscoder_and_another_seed_another():
    ends = [fit(rows(), SMALL, replace(SHORT, seed=seed)).crosscoder.D_FK for seed in (0, 0, 1)]
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


def test_latents_stay_in_their_part():
    config = Config(2, 6, 24, k=3, shared=6, exclusive=4)
    crosscoder = fit(rows(), config, replace(SHORT, tied=False)).crosscoder
    D_F2d = crosscoder.D_FK.detach().reshape(24, 2, 6) * crosscoder.scale_n.float()[:, None]
    W_F2d = crosscoder.W_FK.detach().reshape(24, 2, 6)
    assert torch.allclose(D_F2d[:6, 0], D_F2d[:6, 1], rtol=1e-5, atol=1e-7)
    assert not torch.allclose(D_F2d[6:16, 0], D_F2d[6:16, 1], rtol=1e-2)
    for part, other in ((slice(16, 20), 1), (slice(20, 24), 0)):
        assert not D_F2d[part, other].any() and not W_F2d[part, other].any()
        assert D_F2d[part, 1 - other].norm(dim=1).min() > 0 and W_F2d[part, 1 - other].norm(dim=1).min() > 0


@pytest.mark.acceptance
def test_killed_trainings_end_as_one_that_was_not(tmp_path, monkeypatch, record_property):
    """Killed at random moments, 20 with the full counts; what is lost is at most what lies between two checkpoints."""
    kills, rng, lost = (20 if FULL else 2), random.Random(0), []
    monkeypatch.setattr(training, "MEASURED", 64)
    for name in ("whole", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        command = [sys.executable, "-c", KILLED, str(folder), str(60 * kills), "0.02"]
        log = folder / "log"
        for _ in range(kills if name == "killed" else 0):
            log.write_text("")
            process = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": THREADS})
            end = time.monotonic() + 240
            while not log.read_text() and process.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 1.0))
            process.send_signal(signal.SIGKILL)
            process.wait()
            step = max((int(path.name.split("-")[1]) for path in folder.glob("kept/*/step-*")), default=0)
            drawn = [int(line) for line in log.read_text().split()]
            if process.returncode == -signal.SIGKILL and drawn and not (folder / "end").exists():
                lost.append(drawn[-1] - step)
        monkeypatch.setattr(sys, "argv", ["-c", *command[3:5], "0"])
        exec(KILLED, {})  # the last one is not killed
        if name == "killed":
            assert lost and max(lost) <= 11, lost  # a batch may have been read for a step that was not taken
    record_property("kills", f"{len(lost)} kills, at most {max(lost)} of 10 steps lost")
    whole, killed = (Crosscoder.load(tmp_path / name / "end").state_dict() for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert (tmp_path / "whole" / "history.json").read_text() == (tmp_path / "killed" / "history.json").read_text()


def interrupted(kept, after: int = 20):
    """A training stopped by its rows after some batches."""

    def until(epoch):
        for i in range(after + 5):
            if i == after:
                raise KeyboardInterrupt
            yield rows(64, seed=i)

    training.MEASURED, before = 64, training.MEASURED
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(until, SMALL, SHORT, kept, keep_every=6)
    finally:
        training.MEASURED = before
    return next(kept.iterdir())


def test_a_flipped_byte_of_a_checkpoint_is_named(tmp_path, monkeypatch):
    folder = interrupted(tmp_path / "kept")
    path = next(folder.glob("step-*"))
    assert path.name.startswith("step-00000018-")
    good = path.read_bytes()
    monkeypatch.setattr(training, "MEASURED", 64)

    def again():
        return fit(lambda epoch: (rows(64, seed=i) for i in range(25)), SMALL, SHORT, tmp_path / "kept")

    for place in [0, 9, len(good) // 2, len(good) - 1]:
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(CrosscoderError, match=r"step-00000018-.*checksum.*delete it") as error:
            again()
        assert "\n" not in str(error.value)
    path.write_bytes(good)
    assert len(again().history) == 30
    assert not list(folder.glob("step-*")) and len(again().history) == 30  # read back
    (folder / "history.json").write_text((folder / "history.json").read_text().replace("1", "2", 1))
    with pytest.raises(CrosscoderError, match=r"history\.json.*checksum"):
        again()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_flipped_byte_of_a_crosscoder_is_named(tmp_path, name):
    Crosscoder(SMALL).save(tmp_path / "one")
    path = tmp_path / "one" / name
    good = path.read_bytes()
    place = good.index(b'"k": 3') + 5 if name == "config.json" else len(good) - 3
    path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    with pytest.raises(CrosscoderError, match=f"{name}.*checksum"):
        Crosscoder.load(tmp_path / "one")


def test_a_crosscoder_goes_to_a_hub_and_back(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, allow_patterns: str(hub / name))
    monkeypatch.setenv("FUNCTIONAL_SELF_CACHE", str(tmp_path / "cache"))
    crosscoder = Crosscoder(SMALL, seed=3)
    assert crosscoder.push("someone/one") == "hub/someone/one"
    assert torch.equal(Crosscoder.load("hub:someone/one").D_FK, crosscoder.D_FK)
    with pytest.raises(CrosscoderError, match="no crosscoder can be read"):
        Crosscoder.load("hub:someone/none")


def test_a_loss_that_is_not_finite_is_one_line():
    with pytest.raises(CrosscoderError, match=r"loss is (nan|inf) at step .* lower 'rate'") as error:
        fit(rows(), SMALL, replace(SHORT, rate=1e25, warm=0.01))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (torch.full((200, 12), torch.nan), "not finite"),
        (torch.zeros(200, 11), "side by side"),
        (torch.zeros(0, 12), "no rows"),
        (torch.cat([rows(200, 6), torch.ones(200, 6)], dim=1), "source 1 is the same in every row"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused(given, word):
    with pytest.raises(CrosscoderError, match=word):
        fit(given, SMALL, SHORT)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"coupling": -2.0}, "coupling"),
        ({"sources": 3, "coupling": -1.0}, "coupling"),
        ({"shared": 20, "exclusive": 3}, "not within"),
        ({"activation": "softmax"}, "unknown"),
        ({"k": 25}, "at most the latents"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, word):
    with pytest.raises(CrosscoderError, match=word):
        replace(SMALL, **settings)


def store(name: str, layer: int = 3, width: int = 6, tokens: int = 80, outlier: int = 7) -> Store:
    table = pd.DataFrame({"text": np.arange(tokens) // 10, "position": np.arange(tokens) % 10, "token": np.arange(tokens)})
    table = table.assign(role="user", template=False, first=table["position"] == 0, outlier=table["token"] == outlier)
    return Store(np.random.default_rng(layer).normal(size=(tokens, width)).astype(np.float32), table, layer, name, "r")


def test_stores_are_put_side_by_side_without_first_tokens_and_outliers():
    rows_NK, keep_N = training.side_by_side([store("a"), store("b", outlier=13)])
    assert rows_NK.shape == (80, 12) and set(np.flatnonzero(~keep_N)) == {*range(0, 80, 10), 7, 13}
    assert len(Crosscoder.fit([store("a"), store("b")], SMALL, SHORT).norms_Fn) == 24


def test_stores_that_do_not_fit_are_named():
    other = store("b")
    other.tokens.loc[5, "token"] = 999
    for wrong, word in (
        (store("b", layer=4), "layers 3 and 4"),
        (store("b", width=7), "widths 6 and 7"),
        (other, "different tokens"),
        (store("b", tokens=70), "different tokens"),
    ):
        with pytest.raises(CrosscoderError, match=f"'a' and 'b'.*{word}"):
            training.side_by_side([store("a"), wrong])


def test_statistics_are_in_double_precision():
    """Rows far from zero: single precision would lose their spread."""
    x_MK = rows(4000) * 0.01 + 3000
    x_MK[:, 6:] *= 2
    scale_n, centre_K = training.measure(x_MK, SMALL)
    wanted_n = 1 / x_MK.double().reshape(4000, 2, 6).var(0, unbiased=False).mean(-1).sqrt()
    assert scale_n.tolist() == pytest.approx(wanted_n.tolist(), rel=1e-9)
    assert centre_K.tolist() == pytest.approx((x_MK.double().mean(0) * wanted_n.repeat_interleave(6)).tolist(), rel=1e-10)


def test_the_geometric_median_is_where_unit_vectors_cancel():
    x_Md = rows(301, 5).double()
    x_Md[:20] += 100
    centre_d = training.geometric_median(x_Md)
    assert torch.nn.functional.normalize(x_Md - centre_d, dim=1).sum(0).norm() < 1e-4
    assert centre_d.norm() < 0.5 < x_Md.mean(0).norm()
    assert training.measure(x_Md.float().repeat(1, 2)[:, :10], Config(2, 5, 8, k=1), "median")[1].norm() < 1.0


def test_rate_and_penalty_follow_their_lines():
    plan = Training(steps=100, warm=0.1, decay=0.2, l1_warm=0.5)
    shares = [training.schedule(step, plan) for step in range(100)]
    assert shares[0] == pytest.approx((0.1, 0.02)) and shares[9][0] == 1 == shares[80][0] and shares[49][1] == 1
    assert shares[90][0] == pytest.approx(0.5) and shares[99][0] == pytest.approx(0.05)


def test_history_is_told(tmp_path):
    found = fit(rows(), SMALL, SHORT, tmp_path)
    assert list(found.history.columns) == ["loss", "l0", "dead"] and len(found.history) == 30
    assert found.history["l0"].iloc[:20].tolist() == pytest.approx([3] * 20)
    said = json.loads((next(tmp_path.iterdir()) / "history.json").read_text())
    assert len(json.loads(said["history"])) == 30
