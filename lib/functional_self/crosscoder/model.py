"""A crosscoder on n sources: one dictionary of latents, a decoder for each source.

Letters: B batch, n sources, d width of a source, K = n d, F latents, A active codes of a batch.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

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
    positive, with a penalty ``l1`` sum_j f_j sum_m |d_j^m|. ``coupling`` is lambda of the loss of two sources,
    |e^a|^2 + |e^b|^2 + 2 lambda e^a.e^b: 0 a crosscoder, -1 a dictionary of the difference alone.

    The first ``shared`` latents have one decoder for all sources, under ``shared_l1`` of the penalty; of the last
    n ``exclusive`` ones, the m-th group reads and writes source m only.

    Source: shared latents, Anthropic's diffing update of 2025; exclusive ones, Jiralerspong and Bricken (arXiv 2602.11729).
    """

    sources: int
    width: int
    latents: int
    activation: Literal["batchtopk", "topk", "relu"] = "batchtopk"
    k: int = 32
    l1: float = 0.0
    coupling: float = 0.0
    shared: int = 0
    shared_l1: float = 0.1
    exclusive: int = 0

    def __post_init__(self) -> None:
        if min(self.sources, self.width, self.latents, self.k) < 1 or self.k > self.latents:
            raise CrosscoderError(f"crosscoder: sizes must be positive and k at most the latents; got {asdict(self)}")
        if self.activation not in ("batchtopk", "topk", "relu"):
            raise CrosscoderError(f"crosscoder: activation '{self.activation}' is unknown; use batchtopk, topk or relu")
        if min(self.shared, self.exclusive) < 0 or self.shared + self.sources * self.exclusive > self.latents:
            raise CrosscoderError(
                f"crosscoder: {self.shared} shared latents and {self.exclusive} of each source are not within {self.latents}"
            )
        if not -1 <= self.coupling <= 1 or (self.coupling and self.sources != 2):
            raise CrosscoderError(
                f"crosscoder: coupling {self.coupling} with {self.sources} sources; it is from -1 to 1, and 0 but for two"
            )


class Loss(NamedTuple):
    """The loss of a batch, how often each latent was active, and the least score that was kept (NaN where none was)."""

    total: torch.Tensor
    count_F: torch.Tensor
    least: torch.Tensor


class Crosscoder(torch.nn.Module):
    """f = act(sum_m W^m x^m + b), xhat^m = sum_j f_j d_j^m + c^m; score of a latent: s_j = f_j sum_m a_m |d_j^m|.

    Sources stand side by side: ``W_FK`` and ``D_FK`` hold the encoder and the decoder of all sources, ``b_F`` and ``c_K`` the
    biases. ``threshold`` is the score above which a code is kept where there is no batch to choose from; zero until trained.
    ``scale_n`` are the a_m that training multiplied the sources by: one until ``fold`` puts them into the weights.

    Source: Lindsey et al. 2024, Sparse crosscoders; BatchTopK: Bussmann et al. 2024 (arXiv 2412.06410), Minder et al. 2025
    (arXiv 2504.02922).
    """

    threshold: torch.Tensor
    scale_n: torch.Tensor
    folded: torch.Tensor

    def __init__(self, config: Config, seed: int = 0, tied: bool = True):
        super().__init__()
        self.config = config
        F, n, d = config.latents, config.sources, config.width
        generator = torch.Generator().manual_seed(seed)
        direction = torch.randn(F, 1 if tied else n, d, generator=generator).expand(F, n, d).clone()
        direction[: config.shared] = direction[: config.shared, :1]
        D_FK = self._within((direction / direction.norm(dim=-1, keepdim=True) / n**0.5).reshape(F, n * d))
        self.D_FK = torch.nn.Parameter(D_FK.clone())
        self.W_FK = torch.nn.Parameter(D_FK.clone())
        self.b_F = torch.nn.Parameter(torch.zeros(F))
        self.c_K = torch.nn.Parameter(torch.zeros(n * d))
        self.register_buffer("threshold", torch.zeros((), dtype=torch.float64))
        self.register_buffer("scale_n", torch.ones(n, dtype=torch.float64))
        self.register_buffer("folded", torch.zeros((), dtype=torch.bool))
        if config.exclusive:
            self.W_FK.register_hook(self._within)
        if config.shared or config.exclusive:
            self.D_FK.register_hook(lambda grad_FK: self._alike(self._within(grad_FK)))

    @property
    def norms_Fn(self) -> torch.Tensor:
        """Norm of every latent's decoder in every source, |d_j^m|."""
        return self.D_FK.reshape(self.config.latents, self.config.sources, self.config.width).norm(dim=-1)

    @property
    def scaled_norms_Fn(self) -> torch.Tensor:
        """a_m |d_j^m|: the norms in units of each source's own spread, in which scores and penalties are."""
        return self.norms_Fn * self.scale_n.to(self.D_FK.dtype) if self.folded else self.norms_Fn

    def codes(self, x_BK: torch.Tensor, batch: bool = False) -> tuple[torch.Tensor, kernels.Pattern]:
        """Active codes f_A and where they are; with ``batch``, BatchTopK chooses within the batch, else by its threshold."""
        pre_BF, at, _ = self._choose(x_BK, batch)
        return kernels.encode(x_BK, self.W_FK, self.b_F, pre_BF, at), at

    def decode(self, f_A: torch.Tensor, at: kernels.Pattern) -> torch.Tensor:
        """xhat of all sources, B x K."""
        return kernels.decode(f_A, self.D_FK, at, self.c_K)

    def loss(self, x_BK: torch.Tensor, l1: float | None = None, dead: torch.Tensor | None = None, aux: float = 0.0) -> Loss:
        """Mean over the batch of sum_m |e^m|^2 + 2 lambda e^a.e^b + l1 sum_j f_j sum_m |d_j^m| + aux |e - ehat|^2.

        e^m = x^m - xhat^m. ehat is what the B k largest pre-activations of the latents ``dead`` (indices), of either sign,
        decode to; it is fitted to e, which it does not change, so that dead latents learn what the living leave.

        Args:
            x_BK: rows of all sources side by side, in the units of training.
            l1: the penalty's weight, the configuration's own unless given (it is warmed up).
            dead: which latents have not been active for long.
            aux: weight of their loss. Source: Gao et al. 2024 (arXiv 2406.04093), section 2.4.
        """
        pre_BF, at, norm_F = self._choose(x_BK, batch=True)
        f_A = kernels.encode(x_BK, self.W_FK, self.b_F, pre_BF, at)
        decoded_BK = self.decode(f_A, at)
        total = torch.nn.functional.mse_loss(decoded_BK, x_BK, reduction="sum")
        if self.config.coupling:
            a_BD, b_BD = (x_BK - decoded_BK).chunk(2, dim=1)
            total = total + 2 * self.config.coupling * (a_BD * b_BD).sum()
        if l1 := self.config.l1 if l1 is None else l1:
            weight_F = self.scaled_norms_Fn.sum(-1)
            if self.config.shared:
                part_F = torch.ones_like(weight_F)
                part_F[: self.config.shared] = self.config.shared_l1
                weight_F = weight_F * part_F
            total = total + l1 * (f_A * weight_F[at.col_A]).sum()
        if aux and dead is not None and len(dead):
            total = total + aux * self._left(x_BK, pre_BF, dead, x_BK - decoded_BK.detach())
        score_A = f_A.detach() * norm_F[at.col_A]
        least = score_A.min() if len(score_A) else score_A.new_tensor(math.nan)
        return Loss(total / len(x_BK), torch.bincount(at.col_A, minlength=self.config.latents), least)

    def forward(self, x_BK: torch.Tensor) -> torch.Tensor:
        """The reconstruction of rows, one by one."""
        return self.decode(*self.codes(x_BK))

    def fold(self, scale_n: torch.Tensor) -> None:
        """Put the scales of the sources into the weights, once: W^m a_m, d^m / a_m, c^m / a_m.

        A crosscoder trained on a_m x^m then reads x^m: the codes are the same, since scores keep the units of training.
        Raises CrosscoderError the second time.
        """
        if self.folded:
            raise CrosscoderError("crosscoder: the scales of its sources are in its weights already")
        scale_K = scale_n.to(self.W_FK).repeat_interleave(self.config.width)
        with torch.no_grad():
            self.W_FK.mul_(scale_K)
            self.D_FK.div_(scale_K)
            self.c_K.div_(scale_K)
            self.scale_n.copy_(scale_n)
            self.folded.fill_(True)

    def save(self, folder: Path) -> None:
        """Write config.json, with a checksum of all, and model.safetensors, whole or not at all."""
        with paths.staging(folder.parent) as scratch:
            whole = scratch / "whole"
            whole.mkdir()
            save_file({k: v.contiguous() for k, v in self.state_dict().items()}, whole / "model.safetensors")
            said: dict[str, Any] = {"config": asdict(self.config), "weights": paths.sha256(whole / "model.safetensors")}
            said["check"] = paths.digest(json.dumps(said))
            (whole / "config.json").write_text(json.dumps(said, indent=1) + "\n")
            if folder.exists():
                folder.rename(scratch / "before")
            whole.rename(folder)

    def push(self, repository: str) -> str:
        """Save into a hub repository (owner/name), which is made if it is not there; returns the commit's address."""
        from huggingface_hub import HfApi

        with paths.staging(paths.cache() / "crosscoders") as scratch:
            self.save(scratch / "pushed")
            HfApi().create_repo(repository, exist_ok=True)
            return str(HfApi().upload_folder(repo_id=repository, folder_path=scratch / "pushed"))

    @classmethod
    def load(cls, where: Path | str) -> Crosscoder:
        """Read what ``save`` or ``push`` wrote, from a directory or from ``hub:owner/name``.

        Raises CrosscoderError naming the directory where a file is missing, damaged or another's.
        """
        folder = Path(where)
        try:
            if str(where).startswith("hub:"):
                from huggingface_hub import snapshot_download

                wanted = ["config.json", "model.safetensors"]
                folder = Path(snapshot_download(str(where).removeprefix("hub:"), allow_patterns=wanted))
            said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            check = said.pop("check")
            for name, right in (
                ("config.json", check == paths.digest(json.dumps(said))),
                ("model.safetensors", said["weights"] == paths.sha256(folder / "model.safetensors")),
            ):
                if not right:
                    raise ValueError(f"{name} is not as it was written (checksum)")
            found = cls(Config(**said["config"]))
            state = load_file(folder / "model.safetensors")
            found.to(state["W_FK"].dtype)
            found.load_state_dict(state)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise CrosscoderError(
                f"{paths.shown(folder)}: no crosscoder can be read: {' '.join(str(error).split())[:200]}"
            ) from error
        return found

    @classmethod
    def fit(cls, stores: Any, config: Config, training: Any = None, **rest: Any) -> Crosscoder:
        """A crosscoder trained on harvested stores of the same tokens, one a source, or on rows; see ``training.fit``."""
        from functional_self.crosscoder import training as trainer

        return trainer.fit(stores, config, training or trainer.Training(), **rest).crosscoder

    def latent_scaling(self, batches: Any, target: int = 1) -> Any:
        """Scales of all latents in all sources; see ``diff.latent_scaling``."""
        from functional_self.crosscoder import diff

        return diff.latent_scaling(self, batches, target)

    def _choose(self, x_BK: torch.Tensor, batch: bool) -> tuple[torch.Tensor, kernels.Pattern, torch.Tensor]:
        """All pre-activations, which are active, and the weights of the scores; the gradient goes through the active alone."""
        self._fits(x_BK)
        with torch.no_grad():
            pre_BF = torch.addmm(self.b_F, x_BK, self.W_FK.T)
            norm_F = self.scaled_norms_Fn.sum(-1)
            match self.config.activation:
                case "batchtopk" if batch:
                    flat_A = kernels.largest(pre_BF, norm_F, len(x_BK) * self.config.k)
                case "topk":
                    best_Bk = (pre_BF * norm_F).topk(self.config.k, dim=-1)
                    places = best_Bk.indices + torch.arange(len(x_BK), device=x_BK.device)[:, None] * self.config.latents
                    flat_A = places[best_Bk.values > 0].sort().values
                case _:
                    flat_A = kernels.above(pre_BF, norm_F, self.threshold)
            return pre_BF, kernels.pattern(flat_A, len(x_BK), self.config.latents), norm_F

    def _left(self, x_BK: torch.Tensor, pre_BF: torch.Tensor, dead: torch.Tensor, error_BK: torch.Tensor) -> torch.Tensor:
        """|e - ehat|^2 summed over the batch."""
        pre_BG = pre_BF[:, dead]
        lifted_BG = pre_BG - pre_BG.min() + 1
        places = kernels.largest(lifted_BG, torch.ones_like(lifted_BG[0]), min(len(x_BK) * self.config.k, pre_BG.numel()))
        row_A = places.div(len(dead), rounding_mode="floor")
        flat_A = row_A * self.config.latents + dead[places - row_A * len(dead)]
        at = kernels.pattern(flat_A, len(x_BK), self.config.latents)
        f_A = kernels.encode(x_BK, self.W_FK, self.b_F, pre_BF, at)
        return (error_BK - kernels.decode(f_A, self.D_FK, at)).square().sum()

    def _within(self, value_FK: torch.Tensor) -> torch.Tensor:
        """Zero where an exclusive latent meets another source."""
        F, n, d, e = self.config.latents, self.config.sources, self.config.width, self.config.exclusive
        value_FK = value_FK.clone()
        for m in range(n if e else 0):
            rows = value_FK[F - (n - m) * e :][:e]
            rows[:, : m * d] = 0.0
            rows[:, (m + 1) * d :] = 0.0
        return value_FK

    def _alike(self, value_FK: torch.Tensor) -> torch.Tensor:
        """The mean over sources where a latent is shared: what begins alike stays so."""
        s, n, d = self.config.shared, self.config.sources, self.config.width
        if s:
            value_FK[:s] = value_FK[:s].reshape(s, n, d).mean(1, keepdim=True).expand(s, n, d).reshape(s, n * d)
        return value_FK

    def _fits(self, x_BK: torch.Tensor) -> None:
        n, d = self.config.sources, self.config.width
        if x_BK.ndim != 2 or x_BK.shape[1] != n * d:
            raise CrosscoderError(
                f"crosscoder: rows of shape {tuple(x_BK.shape)}; {n} sources of width {d} side by side are {n * d}"
            )
        if not torch.isfinite(x_BK.sum()):
            raise CrosscoderError(
                "crosscoder: activations that are not finite numbers; look at the layer and the texts they come from"
            )
