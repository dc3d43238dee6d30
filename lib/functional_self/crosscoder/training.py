"""Train a crosscoder: seeded, resumable to the same end state, and with what it needs to be used afterwards.

Letters: B batch, n sources, d width of a source, K = n d, F latents, M rows that are measured before training.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch

from functional_self.activations.harvest import Store
from functional_self.crosscoder import checkpoints
from functional_self.crosscoder.model import Config, Crosscoder
from functional_self.errors import CrosscoderError
from functional_self.progress import track

MEASURED = 16_384
"""Rows read before training: the scales, where the decoder's bias begins, and which data these are."""
AVERAGED = 100
"""Steps over which the running threshold is averaged at most, in a short training fewer, since it falls as the fit improves."""
Batches = torch.Tensor | Callable[[int], Iterable[torch.Tensor]]
"""Rows of all sources side by side: N x K in memory, or a function of the pass (from 0) giving the same batches every time."""


@dataclass(frozen=True)
class Training:
    """How a crosscoder is trained.

    ``rate`` is Adam's, warmed up over the first ``warm`` of the ``steps`` and led to zero over the last ``decay``; the
    penalty grows over the first ``l1_warm``. A latent not active in ``dead_after`` rows is dead and learns by the
    auxiliary loss of weight ``aux``. ``tied`` decoders begin alike in all sources; ``centre`` is where the decoder's
    bias begins. ``batch`` counts where rows are in memory.
    """

    steps: int = 1000
    batch: int = 2048
    rate: float = 1e-3
    warm: float = 0.05
    decay: float = 0.3
    l1_warm: float = 0.3
    aux: float = 1 / 32
    dead_after: int = 50_000
    centre: Literal["mean", "median"] = "mean"
    tied: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.dead_after) < 1 or not self.rate > 0 or self.aux < 0:
            raise CrosscoderError(f"crosscoder: steps, batch, dead_after and rate must be positive; got {asdict(self)}")
        if self.centre not in ("mean", "median"):
            raise CrosscoderError(f"crosscoder: centre '{self.centre}' is unknown; use mean or median")


@dataclass(frozen=True)
class Fitted:
    """A trained crosscoder that reads rows as they are, and its ``history``: loss, l0 and dead latents of every step."""

    crosscoder: Crosscoder
    history: pd.DataFrame


def fit(
    rows: Batches | Sequence[Store],
    config: Config,
    training: Training = Training(),
    kept: Path | None = None,
    keep_every: int = 200,
    device: str = "cpu",
) -> Fitted:
    """Train on rows of all sources until ``training.steps``; a training that was killed goes on where it was kept last.

    Minimises ``Crosscoder.loss`` on a_m x^m, a_m = sqrt(d / mean |x^m - mean|^2) from the first rows in double precision,
    by fused Adam; the a_m are in the weights of what is returned. The threshold of BatchTopK is the running mean of the
    least score that its batches keep.

    Args:
        rows: see ``Batches``; or harvested stores of the same tokens, one a source.
        config: what the crosscoder is.
        training: how it is trained.
        kept: folder of checkpoints, one inside it for each configuration and data; what is finished is read back from it.
        keep_every: steps between checkpoints, what a kill can lose at most.
        device: where the training is computed.

    Raises CrosscoderError where rows do not fit or are not finite, the loss is not finite, or a checkpoint is damaged.
    """
    batches = _passes(rows, training)
    stream, measured_MK = _measured(batches(0), config)
    state = kept / _identity(config, training, measured_MK) if kept else None
    if state and (found := checkpoints.finished(state)):
        return Fitted(*found)
    scale_n, centre_K = measure(measured_MK, config, training.centre)
    crosscoder = Crosscoder(config, training.seed, training.tied).to(device)
    crosscoder.c_K.data.copy_(centre_K)
    run = checkpoints.Run(crosscoder, _adam(crosscoder, training), torch.zeros(config.latents, dtype=torch.long), [])
    run.quiet_F = run.quiet_F.to(device)
    place = checkpoints.resume(state, run) if state else (0, 0)
    scale_K = scale_n.float().repeat_interleave(config.width).to(device)
    with track(f"training {config.latents} latents", training.steps) as advance:
        advance(len(run.history))
        for epoch, at, x_BK in _from(batches, stream, place):
            if len(run.history) >= training.steps:
                break
            run.history.append(_step(run, x_BK.to(device) * scale_K, training))
            if state and len(run.history) % keep_every == 0:
                checkpoints.keep(state, run, (epoch, at + 1))
            advance(1)
    crosscoder.fold(scale_n)
    history = pd.DataFrame(run.history, columns=["loss", "l0", "dead"])
    if state:
        checkpoints.finish(state, crosscoder.cpu(), history)
    return Fitted(crosscoder, history)


def measure(rows_MK: torch.Tensor, config: Config, centre: str = "mean") -> tuple[torch.Tensor, torch.Tensor]:
    """a_m = sqrt(d / mean |x^m - mean^m|^2) (n), and the mean or geometric median of a_m x^m (K), in double precision.

    Raises CrosscoderError where a source never changes.
    """
    rows_MK = rows_MK.double()
    spread_n = (rows_MK - rows_MK.mean(0)).square().reshape(-1, config.sources, config.width).sum(-1).mean(0)
    if not (spread_n > 0).all():
        raise CrosscoderError(f"crosscoder: source {int(spread_n.argmin())} is the same in every row")
    scale_n = (config.width / spread_n).sqrt()
    scaled_MK = rows_MK * scale_n.repeat_interleave(config.width)
    if centre == "mean":
        return scale_n, scaled_MK.mean(0)
    parts = scaled_MK.reshape(-1, config.sources, config.width).unbind(1)
    return scale_n, torch.cat([geometric_median(part_Md) for part_Md in parts])


def geometric_median(rows_Md: torch.Tensor, tolerance: float = 1e-9, most: int = 200) -> torch.Tensor:
    """argmin_c sum_i |x_i - c| by Weiszfeld's iteration, until a step is below ``tolerance`` of the rows' spread."""
    centre_d = rows_Md.mean(0)
    spread = float((rows_Md - centre_d).norm(dim=1).mean()) or 1.0
    for _ in range(most):
        weight_M = 1 / (rows_Md - centre_d).norm(dim=1).clamp_min(1e-12 * spread)
        moved_d = weight_M @ rows_Md / weight_M.sum()
        if float((moved_d - centre_d).norm()) < tolerance * spread:
            return moved_d
        centre_d = moved_d
    return centre_d


def side_by_side(stores: Sequence[Store]) -> tuple[torch.Tensor, np.ndarray]:
    """The rows of stores of the same tokens, N x K, and which are neither a text's first token nor an outlier in any source.

    Raises CrosscoderError naming the store whose tokens, layer or width are not the first one's.
    """
    first, place = stores[0], ["text", "position", "token"]
    for store in stores[1:]:
        names = f"stores of '{first.subject}' and '{store.subject}'"
        if store.layer != first.layer:
            raise CrosscoderError(f"{names}: layers {first.layer} and {store.layer}; read the same layer")
        if not np.array_equal(store.tokens[place].to_numpy(), first.tokens[place].to_numpy()):
            raise CrosscoderError(f"{names} hold different tokens; harvest the same texts with the same tokeniser")
        if store.rows_ND.shape != first.rows_ND.shape:
            raise CrosscoderError(f"{names}: widths {first.rows_ND.shape[1]} and {store.rows_ND.shape[1]}; they must be the same")
    masked_N = np.any([store.tokens["first"] | store.tokens["outlier"] for store in stores], axis=0)
    return torch.from_numpy(np.concatenate([store.rows_ND for store in stores], axis=1)), ~masked_N


def schedule(step: int, training: Training) -> tuple[float, float]:
    """Shares of the full rate and of the full penalty at a step: a straight line up, and for the rate one down to zero."""
    up = min(1.0, (step + 1) / max(1.0, training.warm * training.steps))
    down = min(1.0, (training.steps - step) / max(1.0, training.decay * training.steps))
    return up * down, min(1.0, (step + 1) / max(1.0, training.l1_warm * training.steps))


def _step(run: checkpoints.Run, x_BK: torch.Tensor, training: Training) -> tuple[float, float, int]:
    """One step of the optimiser; the loss before it, active latents a row, and dead latents."""
    step, crosscoder = len(run.history), run.crosscoder
    rate, penalty = schedule(step, training)
    for group in run.optimiser.param_groups:
        group["lr"] = training.rate * rate
    dead = (run.quiet_F >= training.dead_after).nonzero()[:, 0]
    run.optimiser.zero_grad(set_to_none=True)
    loss = crosscoder.loss(x_BK, crosscoder.config.l1 * penalty, dead, training.aux)
    total = float(loss.total.detach())
    if not math.isfinite(total):
        raise CrosscoderError(f"crosscoder: the loss is {total} at step {step + 1}; lower 'rate' (it is {training.rate:g})")
    loss.total.backward()
    run.optimiser.step()
    run.quiet_F = torch.where(loss.count_F > 0, 0, run.quiet_F + len(x_BK))
    if crosscoder.config.activation == "batchtopk" and not loss.least.isnan():
        crosscoder.threshold += (loss.least.double() - crosscoder.threshold) / min(step + 1, AVERAGED, 1 + training.steps // 20)
    return total, float(loss.count_F.sum()) / len(x_BK), len(dead)


def _adam(crosscoder: Crosscoder, training: Training) -> torch.optim.Adam:
    return torch.optim.Adam(crosscoder.parameters(), lr=training.rate, fused=True)


def _passes(rows: Batches | Sequence[Store], training: Training) -> Callable[[int], Iterable[torch.Tensor]]:
    """Batches of a pass: as they come, or rows in memory in an order that seed and pass decide."""
    if isinstance(rows, Sequence):
        every_NK, keep_N = side_by_side(rows)
        rows = every_NK[torch.from_numpy(keep_N)]
    if not isinstance(rows, torch.Tensor):
        return rows
    rows_NK = rows

    def shuffled(epoch: int) -> Iterator[torch.Tensor]:
        order_N = torch.from_numpy(np.random.default_rng([training.seed, epoch]).permutation(len(rows_NK)))
        for part_B in order_N.split(training.batch):
            yield rows_NK[part_B]

    return shuffled


def _measured(batches: Iterable[torch.Tensor], config: Config) -> tuple[Iterator[torch.Tensor], torch.Tensor]:
    """The same batches, and the first rows among them, which are read once."""
    stream = iter(batches)
    first: list[torch.Tensor] = []
    while sum(map(len, first)) < MEASURED and (batch_BK := next(stream, None)) is not None:
        if batch_BK.ndim != 2 or batch_BK.shape[1] != config.sources * config.width:
            raise CrosscoderError(
                f"crosscoder: rows of shape {tuple(batch_BK.shape)}; {config.sources} sources of width {config.width} "
                f"side by side are {config.sources * config.width}"
            )
        first.append(batch_BK)
    if sum(map(len, first)) < 2:
        raise CrosscoderError("crosscoder: no rows to train on")
    measured_MK = torch.cat(first)
    if not torch.isfinite(measured_MK).all():
        raise CrosscoderError(
            "crosscoder: activations that are not finite numbers; look at the layer and the texts they come from"
        )
    return itertools.chain(first, stream), measured_MK


def _from(
    batches: Callable[[int], Iterable[torch.Tensor]], stream: Iterator[torch.Tensor], place: tuple[int, int]
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Pass, place in it and batch, without end, from a place on; ``stream`` is the first pass, begun already."""
    for epoch in itertools.count(place[0]):
        skipped = place[1] if epoch == place[0] else 0
        one: Iterable[torch.Tensor] = stream if epoch == 0 else batches(epoch)
        at = None
        for at, x_BK in enumerate(itertools.islice(one, skipped, None), skipped):
            yield epoch, at, x_BK
        if at is None and not skipped:
            raise CrosscoderError(f"crosscoder: pass {epoch} over the rows gives none; they must be readable again")


def _identity(config: Config, training: Training, measured_MK: torch.Tensor) -> str:
    """A name of configuration, training and data."""
    said = hashlib.sha256(json.dumps([asdict(config), asdict(training)]).encode())
    said.update(measured_MK.contiguous().numpy().tobytes())
    return said.hexdigest()[:20]
