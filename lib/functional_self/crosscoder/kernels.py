"""Sparse codes: which latents are active, what they decode to, and gradients that touch active latents only.

Letters: B batch, F latents, K = n d the widths of all n sources side by side, A active codes. Codes are kept by rows (CSR):
``crow_B1`` says where each row's codes begin, ``col_A`` which latents they are.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


@dataclass(frozen=True, eq=False)
class Pattern:
    """Which codes of a batch are active, row by row: ``row_A`` ascending, ``col_A`` the latents."""

    crow_B1: torch.Tensor
    row_A: torch.Tensor
    col_A: torch.Tensor
    latents: int

    @cached_property
    def by_column(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The same by latents: where each latent's codes begin (F + 1), and their order; found once for both gradients."""
        crow_F1 = torch.zeros(self.latents + 1, dtype=torch.long, device=self.col_A.device)
        crow_F1[1:] = torch.bincount(self.col_A, minlength=self.latents).cumsum(0)
        return crow_F1, self.col_A.argsort(stable=True)


def pattern(flat_A: torch.Tensor, rows: int, latents: int) -> Pattern:
    """The pattern of active codes given by their places row F + latent, ascending."""
    row_A = flat_A.div(latents, rounding_mode="floor")
    crow_B1 = torch.zeros(rows + 1, dtype=torch.long, device=flat_A.device)
    crow_B1[1:] = torch.bincount(row_A, minlength=rows).cumsum(0)
    return Pattern(crow_B1, row_A, flat_A - row_A * latents, latents)


def above(pre_BF: torch.Tensor, weight_F: torch.Tensor, threshold: torch.Tensor | float) -> torch.Tensor:
    """Places row F + latent where pre-activation times weight is above a threshold that is not negative."""
    least_F = threshold / weight_F  # nothing is above it where the weight is zero
    chosen_BF = pre_BF > least_F.to(pre_BF.dtype)
    if pre_BF.is_cuda:
        return chosen_BF.reshape(-1).nonzero()[:, 0]
    return torch.from_numpy(np.flatnonzero(chosen_BF.numpy()))


def largest(pre_BF: torch.Tensor, weight_F: torch.Tensor, count: int) -> torch.Tensor:
    """Places row F + latent, ascending, of the ``count`` largest positive products of pre-activation and weight, or of all.

    On a CPU a threshold is guessed from a sample and only what lies above it is partitioned: exact, and a fraction of
    ``torch.topk``'s time over the flattened batch.
    """
    latents = pre_BF.shape[1]
    if pre_BF.is_cuda:
        value_A, place_A = (pre_BF * weight_F).reshape(-1).topk(min(count, pre_BF.numel()))
        return place_A[value_A > 0].sort().values
    stride = max(1, pre_BF.numel() // 65536)
    across = min(8, stride)
    sample = (pre_BF[:: stride // across, ::across] * weight_F[::across]).numpy().reshape(-1)
    enough = min(sample.size, 2 * count * sample.size // pre_BF.numel() + 8)  # twice as many as needed lie above it, about
    threshold = max(float(np.partition(sample, -enough)[-enough]), 0.0)
    places = above(pre_BF, weight_F, threshold)
    if len(places) < count and threshold > 0:  # the sample was unlucky
        places = above(pre_BF, weight_F, 0.0)
    if len(places) > count:
        scores_A = pre_BF.reshape(-1)[places] * weight_F[places % latents]
        chosen = np.argpartition(scores_A.numpy(), -count)[-count:]
        chosen.sort()
        places = places[torch.from_numpy(chosen)]
    return places


class _Encode(torch.autograd.Function):
    """Active pre-activations; the gradients of weights and biases are products with the sparse gradient."""

    @staticmethod
    def forward(ctx: Any, pre_BF: torch.Tensor, x_BK: torch.Tensor, W_FK: torch.Tensor, b_F: torch.Tensor, at: Pattern) -> Any:
        ctx.at = at
        ctx.save_for_backward(x_BK)
        return pre_BF[at.row_A, at.col_A]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_A: torch.Tensor) -> Any:
        (x_BK,) = ctx.saved_tensors
        return None, None, gathered(ctx.at, grad_A, x_BK), by_latent(ctx.at, grad_A), None


class _Decode(torch.autograd.Function):
    """sum_j f_j d_j over the active codes, and the bias."""

    @staticmethod
    def forward(ctx: Any, f_A: torch.Tensor, D_FK: torch.Tensor, c_K: torch.Tensor, at: Pattern) -> torch.Tensor:
        ctx.at = at
        ctx.save_for_backward(f_A, D_FK)
        bags_BK = torch.nn.functional.embedding_bag(at.col_A, D_FK, at.crow_B1[:-1], mode="sum", per_sample_weights=f_A)
        return bags_BK.add_(c_K)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BK: torch.Tensor) -> Any:
        f_A, D_FK = ctx.saved_tensors
        at, grad_BK = ctx.at, grad_BK.contiguous()
        return products(at, grad_BK, D_FK), gathered(at, f_A, grad_BK), grad_BK.sum(0), None


def products(at: Pattern, rows_BK: torch.Tensor, D_FK: torch.Tensor) -> torch.Tensor:
    """<x_i, d_j> of every active code (A), from contiguous rows; a gather of both sides takes many times as long."""
    shape, zeros_A = (len(at.crow_B1) - 1, at.latents), rows_BK.new_zeros(len(at.col_A))
    empty = torch.sparse_csr_tensor(at.crow_B1, at.col_A, zeros_A, shape, check_invariants=False)
    return torch.sparse.sampled_addmm(empty, rows_BK, D_FK.T, beta=0.0).values()


def gathered(at: Pattern, value_A: torch.Tensor, rows_BK: torch.Tensor) -> torch.Tensor:
    """sum_i v_ij x_i for every latent j, F x K: the codes' values, transposed, times rows.

    An embedding bag for each latent takes a third of the time of the sparse product.
    """
    begin_F1, order_A = at.by_column
    row_A, weight_A = at.row_A[order_A], value_A[order_A]
    return torch.nn.functional.embedding_bag(row_A, rows_BK, begin_F1[:-1], mode="sum", per_sample_weights=weight_A)


def by_latent(at: Pattern, value_A: torch.Tensor) -> torch.Tensor:
    """Sums of the codes' values by latent."""
    return torch.zeros(at.latents, dtype=value_A.dtype, device=value_A.device).index_add_(0, at.col_A, value_A)


def encode(x_BK: torch.Tensor, W_FK: torch.Tensor, b_F: torch.Tensor, pre_BF: torch.Tensor, at: Pattern) -> torch.Tensor:
    """Active pre-activations W x + b, differentiable in W and b; ``pre_BF`` are all of them, computed before."""
    active: torch.Tensor = _Encode.apply(pre_BF.detach(), x_BK, W_FK, b_F, at)
    return active


def decode(f_A: torch.Tensor, D_FK: torch.Tensor, at: Pattern, c_K: torch.Tensor | None = None) -> torch.Tensor:
    """sum_j f_j d_j + c of every row, B x K, differentiable in the codes, the decoder and the bias."""
    decoded: torch.Tensor = _Decode.apply(f_A, D_FK, D_FK.new_zeros(D_FK.shape[1]) if c_K is None else c_K, at)
    return decoded
