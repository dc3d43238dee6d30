"""Training a crosscoder: a step beside its encoder's product, a dense trainer and SAELens; latent scaling beside its definition.

Letters: B rows of a batch, n sources, d width of a source, K = n d, F latents. A step is loss, gradients and optimiser.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from functional_self import subjects
from functional_self.crosscoder import Config, Crosscoder, Training, fit, latent_scaling
from functional_self.errors import FunctionalSelfError

from benchmarks import harness, harvest

SAE_LENS = "6.54.12"
BATCH, SOURCES, WIDTH, LATENTS, K = 2048, 2, 576, 4096, 32
DIRECT = 20
"""Latents whose scales are computed by their definition; the time of all is in proportion."""
MEMORY = (16, 160)
"""Steps of the two processes whose memory is compared."""
TOLERANCE = 1e-3
"""Relative difference allowed between two sides' losses in single precision."""


def lines() -> Iterator[dict[str, Any]]:
    """The rows of this family."""
    yield against_product(LATENTS, goal=1.7) | {"curve": curve()}
    yield against_dense(2 * LATENTS, goal=4.0)
    yield against_saelens(LATENTS)
    yield against_definition(LATENTS)
    yield against_harvest(LATENTS)
    yield memory()
    yield from harvest.lines()


def curve() -> list[dict[str, Any]]:
    """What a step costs over F at two sources, and over n."""
    sizes = [(latents, SOURCES) for latents in (1024, 2048, 8192)] + [(LATENTS, sources) for sources in (1, 3, 6)]
    kept = ("latents", "sources", "ours", "peer", "ratio", "tokens_per_second", "gflops", "flop_utilisation", "peak_rss_mib")
    points = [against_product(latents, sources, repetitions=2) for latents, sources in sizes]
    return [{name: point[name] for name in kept} for point in points]


def rows(batches: int, sources: int = SOURCES) -> list[torch.Tensor]:
    """Batches of rows that sparse features make, so that codes differ from row to row as in a model."""
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(512, sources * WIDTH, generator=generator), dim=1)
    found = []
    for _ in range(batches):
        f_BG = torch.rand(BATCH, 512, generator=generator) * (torch.rand(BATCH, 512, generator=generator) < 0.06)
        found.append(5 * f_BG @ features + 0.05 * torch.randn(BATCH, sources * WIDTH, generator=generator))
    return found


def stepper(crosscoder: Crosscoder, loss: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], float]:
    """A step of fused Adam on a batch; returns its loss."""
    optimiser = torch.optim.Adam(crosscoder.parameters(), lr=1e-4, fused=True)

    def step(x_BK: torch.Tensor) -> float:
        optimiser.zero_grad(set_to_none=True)
        total = loss(x_BK)
        total.backward()
        optimiser.step()
        return float(total.detach())

    return step


def dense_loss(crosscoder: Crosscoder, x_BK: torch.Tensor) -> torch.Tensor:
    """The same loss by dense products and autograd, as published trainers compute it."""
    config = crosscoder.config
    pre_BF = torch.relu(x_BK @ crosscoder.W_FK.T + crosscoder.b_F)
    score_B_F = (pre_BF * crosscoder.norms_Fn.sum(-1)).detach().flatten()
    places = score_B_F.topk(len(x_BK) * config.k, sorted=False).indices
    mask_BF = torch.zeros_like(score_B_F).scatter_(0, places, 1.0).reshape(pre_BF.shape)
    return (x_BK - (pre_BF * mask_BF) @ crosscoder.D_FK - crosscoder.c_K).square().sum() / len(x_BK)


def product(crosscoder: Crosscoder) -> Callable[[torch.Tensor], None]:
    """The encoder's product alone: what a step cannot do without."""
    W_KF = crosscoder.W_FK.detach().T

    def once(x_BK: torch.Tensor) -> None:
        torch.mm(x_BK, W_KF)

    return once


def flops(config: Config) -> float:
    """Multiplications and additions a step needs: the encoder's product, and decoding and three gradients of active codes."""
    return 2.0 * BATCH * config.sources * config.width * (config.latents + 4 * config.k)


def against_product(latents: int, sources: int = SOURCES, goal: float | None = None, repetitions: int = 15) -> dict[str, Any]:
    """Seconds of a step / of its encoder's product; without a goal, a point of the cost curve."""
    config = Config(sources, WIDTH, latents, k=K)
    crosscoder, batches = Crosscoder(config), rows(3, sources)
    step = stepper(crosscoder, lambda x_BK: crosscoder.loss(x_BK).total)
    return compared("crosscoder-step", step, product(crosscoder), batches, repetitions, goal, config, "torch.mm of the encoder")


def against_dense(latents: int, goal: float) -> dict[str, Any]:
    """Seconds of a dense trainer's step / of ours, from the same weights on the same batches; the losses are compared."""
    config = Config(SOURCES, WIDTH, latents, k=K)
    ours, peer = Crosscoder(config), Crosscoder(config)
    step = stepper(ours, lambda x_BK: ours.loss(x_BK).total)
    dense = stepper(peer, lambda x_BK: dense_loss(peer, x_BK))
    return compared("crosscoder-dense", step, dense, rows(3), 3, goal, config, "dense step, torch.topk and autograd", True)


def against_saelens(latents: int) -> dict[str, Any]:
    """Seconds of SAELens's training step with one source / of ours, from the same weights on the same batches."""
    harness.find_peers()
    try:
        from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
        from sae_lens.saes.sae import TrainStepInput
    except ImportError as error:
        raise FunctionalSelfError(
            f"bench crosscoder: SAELens {SAE_LENS} is not installed; run: make bench BENCH=crosscoder"
        ) from error
    config = Config(1, WIDTH, latents, k=K)
    ours = Crosscoder(config)
    sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=WIDTH, d_sae=latents, k=K, apply_b_dec_to_input=False))
    with torch.no_grad():
        for theirs, own in ((sae.W_enc, ours.W_FK.T), (sae.W_dec, ours.D_FK), (sae.b_enc, ours.b_F), (sae.b_dec, ours.c_K)):
            theirs.copy_(own)
    optimiser = torch.optim.Adam(sae.parameters(), lr=1e-4, fused=True)

    def peer(x_BK: torch.Tensor) -> float:
        optimiser.zero_grad(set_to_none=True)
        said = sae.training_forward_pass(TrainStepInput(x_BK, {}, None, 0, False))
        said.loss.backward()
        optimiser.step()
        return float(said.loss.detach())

    step = stepper(ours, lambda x_BK: ours.loss(x_BK).total)
    return compared("crosscoder-saelens", step, peer, rows(3, 1), 3, 1.0, config, f"SAELens {SAE_LENS} BatchTopK step", True)


def compared(
    name: str,
    ours: Callable[[torch.Tensor], Any],
    peer: Callable[[torch.Tensor], Any],
    batches: list[torch.Tensor],
    repetitions: int,
    goal: float,
    config: Config,
    peer_name: str,
    same: bool = False,
) -> dict[str, Any]:
    """Both sides in turn; with ``same`` losses are compared and the ratio is the peer's seconds / ours, else the inverse."""
    first = [(ours(batches[0]), peer(batches[0]))]  # the first call of either is slower
    seconds_PSC, results = harness.alternate(ours, peer, batches, repetitions, name)
    wall_PS, cpu_PS = seconds_PSC[:, :, 0], seconds_PSC[:, :, 1]
    top, bottom = (1, 0) if same else (0, 1)
    difference = max(abs(a - b) / abs(b) for a, b in first + results) if same else 0.0
    step, other = (float(np.median(wall_PS[:, side])) for side in (0, 1))
    mm = 2.0 * BATCH * config.sources * config.width * config.latents
    return harness.line(
        name,
        goal,
        (wall_PS[:, top] / wall_PS[:, bottom]).tolist(),
        lower_is_better=not same,
        equal=difference <= TOLERANCE,
        cpu_ratio=statistics.median(cpu_PS[:, top] / cpu_PS[:, bottom]),
        **harness.durations(wall_PS),
        peer_name=peer_name,
        repetitions=repetitions,
        sources=config.sources,
        width=config.width,
        latents=config.latents,
        k=config.k,
        batch=BATCH,
        tokens_per_second=BATCH / step,
        gflops=flops(config) / step / 1e9,
        flop_utilisation=None if same else flops(config) / step / (mm / other),
        max_relative_loss_difference=difference if same else None,
    )


def against_definition(latents: int) -> dict[str, Any]:
    """Seconds of latent scaling by its definition, least squares for each latent and source / in one pass, for all latents."""
    (x_BK,) = rows(1)
    crosscoder = fit(lambda epoch: iter([x_BK]), Config(SOURCES, WIDTH, latents, k=K), Training(steps=5)).crosscoder
    found = latent_scaling(crosscoder, [x_BK])
    with torch.no_grad():
        f_A, at = crosscoder.codes(x_BK)
    chosen = torch.linspace(0, latents - 1, DIRECT).long()

    def one_pass(_: Any) -> None:
        latent_scaling(crosscoder, [x_BK])

    def direct(_: Any) -> torch.Tensor:
        with torch.no_grad():
            f_BF = torch.zeros(BATCH, latents).index_put_((at.row_A, at.col_A), f_A)
            decoded_BK = crosscoder.decode(f_A, at)
            said = []
            for j in chosen.tolist():
                for m in range(SOURCES):
                    part = slice(m * WIDTH, (m + 1) * WIDTH)
                    v_d, own_d = crosscoder.D_FK[j, WIDTH:], crosscoder.D_FK[j, part]
                    basis = (f_BF[:, j, None] * v_d).double().reshape(-1, 1)
                    error_Bd = (x_BK - decoded_BK)[:, part].double()
                    target = error_Bd + f_BF[:, j, None] * own_d
                    said.append(
                        [
                            float(torch.linalg.lstsq(basis, t.reshape(-1, 1)).solution)
                            for t in (target, (decoded_BK - crosscoder.c_K)[:, part].double())
                        ]
                    )
            return torch.tensor(said, dtype=torch.float64).reshape(DIRECT, SOURCES, 2)

    seconds_PSC, results = harness.alternate(one_pass, direct, [0], 3, "crosscoder-scaling")
    ours_Fn2 = torch.stack([found.error, found.reconstruction], dim=-1)[chosen]
    live = ours_Fn2.isfinite()
    difference = float((ours_Fn2 - results[0][1])[live].abs().max())
    wall_PS = seconds_PSC[:, :, 0] * np.array([1.0, latents / DIRECT])
    return harness.line(
        "crosscoder-scaling",
        10.0,
        (wall_PS[:, 1] / wall_PS[:, 0]).tolist(),
        equal=difference <= TOLERANCE,
        **harness.durations(wall_PS),
        peer_name=f"least squares by torch.linalg.lstsq, timed on {DIRECT} of the latents",
        repetitions=3,
        latents=latents,
        batch=BATCH,
        tokens_per_second=BATCH / float(np.median(wall_PS[:, 0])),
        max_abs_difference=difference,
    )


def against_harvest(latents: int) -> dict[str, Any]:
    """Seconds of latent scaling over rows of two sources / of reading those rows from the model."""
    sources = [subjects.load("smollm2", store=False), subjects.load("smollm2", adapter=harvest.ORGANISMS[0], store=False)]
    texts = harvest.blocks()[0]

    x_NK = harvest.read(sources, texts)
    batches = x_NK.split(BATCH)
    crosscoder = fit(lambda epoch: iter(batches), Config(SOURCES, WIDTH, latents, k=K), Training(steps=20)).crosscoder
    l0 = float(len(crosscoder.codes(x_NK)[0])) / len(x_NK)
    seconds_PSC, _ = harness.alternate(
        lambda _: latent_scaling(crosscoder, batches),
        lambda _: harvest.read(sources, texts),
        [0],
        5,
        "crosscoder-scaling-harvest",
    )
    wall_PS = seconds_PSC[:, :, 0]
    return harness.line(
        "crosscoder-scaling-harvest",
        0.1,
        (wall_PS[:, 0] / wall_PS[:, 1]).tolist(),
        lower_is_better=True,
        **harness.durations(wall_PS),
        peer_name=f"the harvest of both sources after layer {harvest.LAYER}",
        repetitions=5,
        latents=latents,
        rows=len(x_NK),
        l0=l0,
        tokens_per_second=len(x_NK) / float(np.median(wall_PS[:, 0])),
    )


def memory() -> dict[str, Any]:
    """Peak memory of many steps / of a tenth of them, each in a process of its own."""
    few, many = harness.grown("crosscoder", MEMORY)
    return harness.memory(
        "crosscoder",
        few,
        many,
        f"{MEMORY[0]} steps",
        tokens_per_second=many["rows"] / many["seconds"],
    )


def main(steps: int) -> None:
    """Train on rows made as they are read, and print this process's peak memory and speed."""
    batches = rows(2)
    start = time.perf_counter()
    config = Config(SOURCES, WIDTH, 1024, k=K)
    fit(lambda epoch: (batches[i % 2].clone() for i in range(steps)), config, Training(steps=steps))
    print(json.dumps({"peak": harness.peak_rss(), "seconds": time.perf_counter() - start, "rows": steps * BATCH}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
