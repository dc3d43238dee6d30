"""What a trained crosscoder says of the difference between its sources: norms, bins, and latent scaling.

Letters: B batch, n sources, d width, F latents.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from functional_self.crosscoder.kernels import by_latent, transposed
from functional_self.crosscoder.model import Crosscoder


def norm_profile(norms_Fn: torch.Tensor) -> torch.Tensor:
    """|d_j^m| / max_m |d_j^m|, F x n; NaN for a latent whose decoders are all zero."""
    top_F1 = norms_Fn.max(dim=-1, keepdim=True).values
    return norms_Fn / torch.where(top_F1 > 0, top_F1, torch.nan)


def relative_norm(norms_Fn: torch.Tensor, a: int = 0, b: int = 1) -> torch.Tensor:
    """D_j = (1 + (|d_j^b| - |d_j^a|) / max(|d_j^a|, |d_j^b|)) / 2: 0 only in source a, 1/2 in both alike, 1 only in source b."""
    norm_aF, norm_bF = norms_Fn[:, a], norms_Fn[:, b]
    top_F = torch.maximum(norm_aF, norm_bF)
    return (1 + (norm_bF - norm_aF) / torch.where(top_F > 0, top_F, torch.nan)) / 2


@dataclass(frozen=True)
class Scaling:
    """Latent scaling of every latent in every source, F x n, NaN where a latent was never active.

    ``error`` is beta_e = <e^m f, v> / (C |v|^2) + v.d^m / |v|^2, how far the latent explains the error with its own part put
    back, ``reconstruction`` beta_r = <(h^m - e^m) f, v> / (C |v|^2); v is the decoder of ``target``, C = sum f^2.
    """

    error: torch.Tensor
    reconstruction: torch.Tensor
    target: int

    def nu(self, other: int) -> tuple[torch.Tensor, torch.Tensor]:
        """nu_r and nu_e: beta of ``other`` over beta of the target; 1 shared alike, 0 the target's alone."""
        t = self.target
        return self.reconstruction[:, other] / self.reconstruction[:, t], self.error[:, other] / self.error[:, t]


def latent_scaling(crosscoder: Crosscoder, batches: Iterable[torch.Tensor], target: int = 1) -> Scaling:
    """Least-squares scales of all latents in all sources in one pass over rows (B x n d), on h^m - c^m.

    For latent j with v = d_j^target: beta_e^m minimises sum_i |e_i^m + f_ij d_j^m - beta f_ij v|^2 and beta_r^m minimises
    sum_i |h_i^m - e_i^m - beta f_ij v|^2, e^m = h^m - its reconstruction. Only S_h = sum_i f_ij h_i^m, S_e = sum_i f_ij e_i^m and
    C = sum_i f_ij^2 are needed, in double precision.

    Source: Wright and Sharkey 2024 for one scale; Minder et al. 2025 (arXiv 2504.02922), section 3.2, for nu_r and nu_e.
    """
    n, d, F = crosscoder.config.sources, crosscoder.config.width, crosscoder.config.latents
    S_h, S_e = torch.zeros(2, F, n * d, dtype=torch.float64)
    C_F = torch.zeros(F, dtype=torch.float64)
    with torch.no_grad():
        for x_BK in batches:
            f_A, at = crosscoder.codes(x_BK)
            decoded = crosscoder.decode(f_A, at)
            codes = transposed(at, f_A.double())
            S_h += (codes @ (x_BK - crosscoder.c_K).double()).cpu()
            S_e += (codes @ (x_BK - decoded).double()).cpu()
            C_F += by_latent(at, f_A.double().square()).cpu()
        D_Fnd = crosscoder.D_FK.detach().double().cpu().reshape(F, n, d)
        v_F1d = D_Fnd[:, target : target + 1]
        size_F1 = v_F1d.square().sum(-1)
        live_F1 = torch.where(C_F > 0, C_F, torch.nan)[:, None] * size_F1
        S_h, S_e = S_h.reshape(F, n, d), S_e.reshape(F, n, d)
        own_Fn = (v_F1d * D_Fnd).sum(-1) / size_F1
        return Scaling((v_F1d * S_e).sum(-1) / live_F1 + own_Fn, (v_F1d * (S_h - S_e)).sum(-1) / live_F1, target)
