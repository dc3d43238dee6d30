"""What a trained crosscoder says of the difference between its sources: fit, norms, bins, latent scaling, and over seeds.

Letters: B batch, N rows, n sources, d width, F latents, S seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import stats
from scipy.optimize import linear_sum_assignment

from functional_self.behaviour.estimate import Estimate, clustered
from functional_self.crosscoder.kernels import by_latent, products
from functional_self.crosscoder.model import Crosscoder
from functional_self.errors import CrosscoderError

BINS = {"a only": (0.0, 0.1), "shared": (0.4, 0.6), "b only": (0.9, 1.0)}
"""Bins of D_j, bounds included; what lies elsewhere is between. Source: Minder et al. 2025 (arXiv 2504.02922)."""


def norm_profile(norms_Fn: torch.Tensor) -> torch.Tensor:
    """|d_j^m| / max_m |d_j^m|, F x n; NaN for a latent whose decoders are all zero."""
    top_F1 = norms_Fn.max(dim=-1, keepdim=True).values
    return norms_Fn / torch.where(top_F1 > 0, top_F1, torch.nan)


def relative_norm(norms_Fn: torch.Tensor, a: int = 0, b: int = 1) -> torch.Tensor:
    """D_j = (1 + (|d_j^b| - |d_j^a|) / max(|d_j^a|, |d_j^b|)) / 2: 0 only in source a, 1/2 in both alike, 1 only in source b."""
    norm_aF, norm_bF = norms_Fn[:, a], norms_Fn[:, b]
    top_F = torch.maximum(norm_aF, norm_bF)
    return (1 + (norm_bF - norm_aF) / torch.where(top_F > 0, top_F, torch.nan)) / 2


def difference(crosscoder: Crosscoder, count_F: torch.Tensor, a: int = 0, b: int = 1) -> torch.Tensor:
    """D_j of the latents that were active (``count_F`` times, see ``quality``), NaN for the dead.

    Norms are in units of each source's spread, so that a source that is another one times a number differs nowhere.
    Raises CrosscoderError at lambda = -1, where only d^b - d^a is identified.
    """
    _identified(crosscoder)
    return torch.where(count_F > 0, relative_norm(crosscoder.scaled_norms_Fn.detach(), a, b), torch.nan)


def bins(D_F: torch.Tensor) -> pd.Series:
    """How many latents lie in each bin of D, between the bins, and are dead."""
    found = {name: int((D_F.ge(low) & D_F.le(high)).sum()) for name, (low, high) in BINS.items()}
    dead = int(D_F.isnan().sum())
    return pd.Series({**found, "between": len(D_F) - dead - sum(found.values()), "dead": dead}, name="latents")


@dataclass(frozen=True)
class Quality:
    """How well held-out rows are reconstructed.

    ``fve`` has a row for each group of rows and source: 1 - sum |e^m|^2 / sum |x^m - mean|^2 within the group, and ``rows``.
    ``l0`` is active latents a row, ``dead`` the share of latents never active, ``count_F`` how often each was.
    """

    fve: pd.DataFrame
    l0: float
    dead: float
    count_F: torch.Tensor


def quality(crosscoder: Crosscoder, batches: Iterable[torch.Tensor], groups: Mapping[str, torch.Tensor] | None = None) -> Quality:
    """Fraction of variance explained, L0 and dead latents over batches of rows, sums in double precision.

    Args:
        crosscoder: trained.
        batches: rows B x K, read once.
        groups: masks of all N rows in the order of the batches (bool), for example by role; all rows are a group always.
    """
    n, d = crosscoder.config.sources, crosscoder.config.width
    masks = {"all": None, **(groups or {})}
    sums = {name: [torch.zeros(n * d, dtype=torch.float64), *torch.zeros(2, n, dtype=torch.float64), 0] for name in masks}
    count_F, rows = torch.zeros(crosscoder.config.latents, dtype=torch.long), 0
    with torch.no_grad():
        for x_BK in batches:
            f_A, at = crosscoder.codes(x_BK)
            count_F += torch.bincount(at.col_A, minlength=len(count_F)).cpu()
            error_Bn = (x_BK - crosscoder.decode(f_A, at)).double().square().reshape(-1, n, d).sum(-1)
            for name, mask_N in masks.items():
                inside = slice(None) if mask_N is None else mask_N[rows : rows + len(x_BK)].to(x_BK.device)
                part_BK = x_BK[inside].double()
                new = part_BK.sum(0), part_BK.square().reshape(-1, n, d).sum(-1).sum(0), error_Bn[inside].sum(0)
                sums[name] = [*(old + value.cpu() for old, value in zip(sums[name], new)), sums[name][3] + len(part_BK)]
            rows += len(x_BK)
    table = []
    for name, (sum_K, square_n, error_n, size) in sums.items():
        spread_n = square_n - sum_K.square().reshape(n, d).sum(-1) / max(size, 1)
        for m in range(n):
            table.append((name, m, float(1 - error_n[m] / spread_n[m]) if size > 1 else float("nan"), size))
    fve = pd.DataFrame(table, columns=["group", "source", "fve", "rows"])
    return Quality(fve, float(count_F.sum()) / max(rows, 1), float((count_F == 0).double().mean()), count_F)


@dataclass(frozen=True)
class Scaling:
    """Latent scaling of every latent in every source, F x n, NaN where a latent was never active.

    ``error`` is beta_e = <e^m f, v> / (C |v|^2) + v.d^m / |v|^2, how far the latent explains the error with its own part put
    back, ``reconstruction`` beta_r = <(h^m - e^m) f, v> / (C |v|^2); v is the decoder of ``target``, C = sum f^2.
    ``uncentred`` is beta_r with the decoder's bias left in h^m - e^m, as some published code has it.
    """

    error: torch.Tensor
    reconstruction: torch.Tensor
    target: int
    uncentred: torch.Tensor

    def nu(self, other: int) -> tuple[torch.Tensor, torch.Tensor]:
        """nu_r and nu_e: beta of ``other`` over beta of the target; 1 shared alike, 0 the target's alone."""
        t = self.target
        return self.reconstruction[:, other] / self.reconstruction[:, t], self.error[:, other] / self.error[:, t]


def latent_scaling(crosscoder: Crosscoder, batches: Iterable[torch.Tensor], target: int = 1) -> Scaling:
    """Least-squares scales of all latents in all sources in one pass over rows (B x n d), on h^m - c^m.

    For latent j with v = d_j^target: beta_e^m minimises sum_i |e_i^m + f_ij d_j^m - beta f_ij v|^2 and beta_r^m minimises
    sum_i |h_i^m - e_i^m - beta f_ij v|^2, e^m = h^m - its reconstruction. Only sum_i f_ij <v, h_i^m>, sum_i f_ij <v, e_i^m> and
    C = sum_i f_ij^2 are needed, over active codes, summed in double precision.

    Source: Wright and Sharkey 2024 for one scale; Minder et al. 2025 (arXiv 2504.02922), section 3.2, for nu_r and nu_e.
    """
    _identified(crosscoder)
    n, d, F = crosscoder.config.sources, crosscoder.config.width, crosscoder.config.latents
    vS_h, vS_e = torch.zeros(2, F, n, dtype=torch.float64)
    C_F, f_F = torch.zeros(2, F, dtype=torch.float64)
    with torch.no_grad():
        v_Fd = crosscoder.D_FK.reshape(F, n, d)[:, target].contiguous()
        for x_BK in batches:
            f_A, at = crosscoder.codes(x_BK)
            weight_A, rest = f_A.double(), (x_BK - crosscoder.c_K, x_BK - crosscoder.decode(f_A, at))
            for found_Fn, rows_BK in zip((vS_h, vS_e), rest):
                for m, rows_Bd in enumerate(rows_BK.split(d, dim=1)):
                    found_Fn[:, m] += by_latent(at, weight_A * products(at, rows_Bd.contiguous(), v_Fd)).cpu()
            C_F += by_latent(at, weight_A.square()).cpu()
            f_F += by_latent(at, weight_A).cpu()
        D_Fnd = crosscoder.D_FK.detach().double().cpu().reshape(F, n, d)
        v_F1d = D_Fnd[:, target : target + 1]
        size_F1 = v_F1d.square().sum(-1)
        live_F1 = torch.where(C_F > 0, C_F, torch.nan)[:, None] * size_F1
        own_Fn = (v_F1d * D_Fnd).sum(-1) / size_F1
        beta_r = (vS_h - vS_e) / live_F1
        bias_Fn = (v_F1d * crosscoder.c_K.detach().double().cpu().reshape(n, d)).sum(-1) * f_F[:, None] / live_F1
        return Scaling(vS_e / live_F1 + own_Fn, beta_r, target, beta_r + bias_Fn)


def matched(one: Crosscoder, other: Crosscoder, live_F: torch.Tensor, other_live_F: torch.Tensor) -> pd.DataFrame:
    """Live latents of two crosscoders paired by the Hungarian method: columns one, other, cosine, the largest sum of cosines.

    The cosine is that of the decoders of all sources together, in units of each source's spread.
    """
    index, other_index = live_F.nonzero()[:, 0], other_live_F.nonzero()[:, 0]
    cosine = (_directions(one)[index] @ _directions(other)[other_index].T).numpy()
    row, column = linear_sum_assignment(cosine, maximize=True)
    return pd.DataFrame({"one": index.numpy()[row], "other": other_index.numpy()[column], "cosine": cosine[row, column]})


def counted(counts: Sequence[int], level: float = 0.95) -> Estimate:
    """Mean of a count over seeds with its interval: the wider of Student's over seeds and Poisson's exact one of their sum.

    Seeds that agree by chance do not make a count certain: none in three leaves up to 1.2 a seed. One seed has no interval.
    """
    found = clustered(pd.Series([float(c) for c in counts]), level)
    if len(counts) < 2:
        return found
    total, tail = sum(counts), (1 - level) / 2
    low = float(stats.chi2.ppf(tail, 2 * total)) / 2 if total else 0.0
    high = float(stats.chi2.isf(tail, 2 * total + 2)) / 2
    return Estimate(
        found.value,
        max(0.0, min(found.low, low / len(counts))),
        max(found.high, high / len(counts)),
        found.error,
        found.df,
        found.n,
    )


@dataclass(frozen=True)
class Stability:
    """Latents of a kind over seeds: their ``count`` a seed, and how many of the first seed's are found in every other one."""

    count: Estimate
    reproduced: int


def stability(
    crosscoders: Sequence[Crosscoder], live_SF: Sequence[torch.Tensor], chosen_SF: Sequence[torch.Tensor], least: float = 0.7
) -> Stability:
    """How many latents are chosen (say exclusive), over seeds, and which come again.

    A latent of the first seed comes again where its partner of ``matched`` is chosen too, at a cosine of ``least`` or more,
    in every other seed.
    """
    again_F = chosen_SF[0].clone()
    for other, live_F, chosen_F in list(zip(crosscoders, live_SF, chosen_SF, strict=True))[1:]:
        pairs = matched(crosscoders[0], other, live_SF[0], live_F)
        good = pairs[(pairs["cosine"] >= least) & chosen_F.numpy()[pairs["other"]]]
        found_F = torch.zeros_like(again_F)
        found_F[torch.from_numpy(np.array(good["one"]))] = True
        again_F &= found_F
    return Stability(counted([int(chosen_F.sum()) for chosen_F in chosen_SF]), int(again_F.sum()))


def _directions(crosscoder: Crosscoder) -> torch.Tensor:
    """Unit decoders of all sources together, F x K."""
    scale_K = crosscoder.scale_n.repeat_interleave(crosscoder.config.width)
    return torch.nn.functional.normalize(crosscoder.D_FK.detach().double().cpu() * scale_K.cpu(), dim=1)


def _identified(crosscoder: Crosscoder) -> None:
    if crosscoder.config.coupling == -1:
        raise CrosscoderError("crosscoder: at lambda = -1 only d^b - d^a is identified; D and nu say nothing of it")
