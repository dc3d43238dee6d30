"""A crosscoder on n sources: one dictionary of latents, a decoder for each source.

Letters: B batch, n sources, d width of a source, K = n d, F latents, A active codes of a batch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from functional_self import paths
from functional_self.crosscoder import kernels
from functional_self.errors import CrosscoderError


@dataclass(frozen=True)
class Config:
    """What a crosscoder is: sizes, and how codes are chosen.

    ``batchtopk`` keeps the B ``k`` largest scores of a batch, ``topk`` the ``k`` largest of each row, ``relu`` all that are
    positive, with a penalty ``l1`` sum_j f_j sum_m |d_j^m|.
    """

    sources: int
    width: int
    latents: int
    activation: Literal["batchtopk", "topk", "relu"] = "batchtopk"
    k: int = 32
    l1: float = 0.0

    def __post_init__(self) -> None:
        if min(self.sources, self.width, self.latents, self.k) < 1 or self.k > self.latents:
            raise CrosscoderError(f"crosscoder: sizes must be positive and k at most the latents; got {asdict(self)}")
        if self.activation not in ("batchtopk", "topk", "relu"):
            raise CrosscoderError(f"crosscoder: activation '{self.activation}' is unknown; use batchtopk, topk or relu")


class Crosscoder(torch.nn.Module):
    """f = act(sum_m W^m x^m + b), xhat^m = sum_j f_j d_j^m + c^m; score of a latent: s_j = f_j sum_m |d_j^m|.

    Sources stand side by side: ``W_FK`` and ``D_FK`` hold the encoder and the decoder of all sources, ``b_F`` and ``c_K`` the
    biases. ``threshold`` is the score above which a code is kept where there is no batch to choose from; zero until trained.

    Source: Lindsey et al. 2024, Sparse crosscoders; BatchTopK: Bussmann et al. 2024 (arXiv 2412.06410), Minder et al. 2025
    (arXiv 2504.02922).
    """

    threshold: torch.Tensor

    def __init__(self, config: Config, seed: int = 0, tied: bool = True):
        super().__init__()
        self.config = config
        F, n, d = config.latents, config.sources, config.width
        generator = torch.Generator().manual_seed(seed)
        direction = torch.randn(F, 1 if tied else n, d, generator=generator).expand(F, n, d)
        D_FK = (direction / direction.norm(dim=-1, keepdim=True) / n**0.5).reshape(F, n * d)
        self.D_FK = torch.nn.Parameter(D_FK.clone())
        self.W_FK = torch.nn.Parameter(D_FK.clone())
        self.b_F = torch.nn.Parameter(torch.zeros(F))
        self.c_K = torch.nn.Parameter(torch.zeros(n * d))
        self.register_buffer("threshold", torch.zeros((), dtype=torch.float64))

    @property
    def norms_Fn(self) -> torch.Tensor:
        """Norm of every latent's decoder in every source, |d_j^m|."""
        return self.D_FK.reshape(self.config.latents, self.config.sources, self.config.width).norm(dim=-1)

    def codes(self, x_BK: torch.Tensor, batch: bool = False) -> tuple[torch.Tensor, kernels.Pattern]:
        """Active codes f_A and where they are; with ``batch``, BatchTopK chooses within the batch, else by its threshold."""
        self._fits(x_BK)
        with torch.no_grad():  # the gradient goes through the active codes alone
            pre_BF = torch.addmm(self.b_F, x_BK, self.W_FK.T)
            score_BF = pre_BF * self.norms_Fn.sum(-1)
        match self.config.activation:
            case "batchtopk" if batch:
                flat_A = kernels.largest(score_BF, len(x_BK) * self.config.k)
            case "topk":
                best_Bk = score_BF.topk(self.config.k, dim=-1)
                places = best_Bk.indices + torch.arange(len(x_BK), device=x_BK.device)[:, None] * self.config.latents
                flat_A = places[best_Bk.values > 0]
            case _:
                flat_A = (score_BF.reshape(-1) > self.threshold).nonzero()[:, 0]
        at = kernels.pattern(flat_A, len(x_BK), self.config.latents)
        return kernels.encode(x_BK, self.W_FK, self.b_F, pre_BF, at), at

    def decode(self, f_A: torch.Tensor, at: kernels.Pattern) -> torch.Tensor:
        """xhat of all sources, B x K."""
        return kernels.decode(f_A, self.D_FK, at) + self.c_K

    def loss(self, x_BK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean over the batch of sum_m |x^m - xhat^m|^2 + l1 sum_j f_j sum_m |d_j^m|, and how often each latent was active."""
        f_A, at = self.codes(x_BK, batch=True)
        error = (x_BK - self.decode(f_A, at)).square().sum() / len(x_BK)
        if self.config.l1:
            error = error + self.config.l1 * (f_A * self.norms_Fn.sum(-1)[at.col_A]).sum() / len(x_BK)
        return error, torch.bincount(at.col_A, minlength=self.config.latents)

    def forward(self, x_BK: torch.Tensor) -> torch.Tensor:
        """The reconstruction of rows, one by one."""
        return self.decode(*self.codes(x_BK))

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors, whole or not at all."""
        with paths.staging(folder.parent) as scratch:
            whole = scratch / "whole"
            whole.mkdir()
            save_file({k: v.contiguous() for k, v in self.state_dict().items()}, whole / "model.safetensors")
            (whole / "config.json").write_text(json.dumps(asdict(self.config), indent=1) + "\n")
            if folder.exists():
                folder.rename(scratch / "before")
            whole.rename(folder)

    @classmethod
    def load(cls, folder: Path) -> Crosscoder:
        """Read what ``save`` wrote; raises CrosscoderError naming the file that does not fit."""
        try:
            config = Config(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
            found = cls(config)
            found.load_state_dict(load_file(folder / "model.safetensors"))
        except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            raise CrosscoderError(
                f"{paths.shown(folder)}: no crosscoder can be read: {' '.join(str(error).split())[:200]}"
            ) from error
        return found

    def _fits(self, x_BK: torch.Tensor) -> None:
        n, d = self.config.sources, self.config.width
        if x_BK.ndim != 2 or x_BK.shape[1] != n * d:
            raise CrosscoderError(
                f"crosscoder: rows of shape {tuple(x_BK.shape)}; {n} sources of width {d} side by side are {n * d}"
            )
        if not torch.isfinite(x_BK).all():
            raise CrosscoderError(
                "crosscoder: activations that are not finite numbers; look at the layer and the texts they come from"
            )
