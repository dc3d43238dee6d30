"""The tools beside the crosscoder: what two sources' rows or logits say of their difference without a dictionary of both.

Letters: N tokens, D width, V vocabulary, M directions. Source a comes first: a difference is b - a. Sums are in double
precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from functional_self.errors import CrosscoderError


def differences(a_ND: torch.Tensor, b_ND: torch.Tensor) -> torch.Tensor:
    """b - a row by row: what a diff-SAE, a crosscoder of one source, is trained on.

    Raises CrosscoderError where the rows are not of the same tokens by their shape, or hold numbers that are not finite.
    """
    if a_ND.shape != b_ND.shape or a_ND.ndim != 2:
        raise CrosscoderError(
            f"rows of shapes {tuple(a_ND.shape)} and {tuple(b_ND.shape)}; two sources need the same tokens and width"
        )
    found_ND = b_ND - a_ND
    if not torch.isfinite(found_ND).all():
        raise CrosscoderError("activations that are not finite numbers; look at the layer and the texts they come from")
    return found_ND


def mean_difference(a_ND: torch.Tensor, b_ND: torch.Tensor) -> torch.Tensor:
    """mean(b - a), D: what differs at every token alike. Source: activation-difference lens, arXiv 2510.13900."""
    return differences(a_ND.double(), b_ND.double()).mean(0)


@dataclass(frozen=True)
class Principal:
    """Unit directions (M x D), largest first, and the share of the centred difference's variance along each (M)."""

    directions_MD: torch.Tensor
    share_M: torch.Tensor


def principal(a_ND: torch.Tensor, b_ND: torch.Tensor, count: int) -> Principal:
    """Principal components of b - a about its mean: eigenvectors of its covariance; a share is NaN where nothing varies."""
    delta_ND = differences(a_ND.double(), b_ND.double())
    centred_ND = delta_ND - delta_ND.mean(0)
    value_D, vector_DD = torch.linalg.eigh(centred_ND.T @ centred_ND)
    order_M = value_D.argsort(descending=True)[:count]
    return Principal(vector_DD.T[order_M], value_D[order_M] / value_D.clamp_min(0).sum())


def lens(direction_MD: torch.Tensor, gain_D: torch.Tensor, unembedding_VD: torch.Tensor) -> torch.Tensor:
    """Logits that a direction adds if it is read as the last layer's: U (g * v), M x V, up to the final norm's scale.

    The activation-difference lens reads the mean difference so. Source: arXiv 2510.13900; logit lens, nostalgebraist 2020.
    """
    return (direction_MD * gain_D) @ unembedding_VD.T


@dataclass(frozen=True)
class Probe:
    """A linear reading of which source a row comes from: positive for b; ``direction_D`` is not normalised."""

    direction_D: torch.Tensor
    offset: float

    def __call__(self, rows_ND: torch.Tensor) -> torch.Tensor:
        """w.h + c of each row."""
        return rows_ND.double() @ self.direction_D + self.offset

    def accuracy(self, a_ND: torch.Tensor, b_ND: torch.Tensor) -> float:
        """Share of rows on their own source's side; a row at zero counts half."""
        right_N = torch.cat([-self(a_ND), self(b_ND)])
        return float(((right_N > 0).double() + 0.5 * (right_N == 0).double()).mean())


def probe(a_ND: torch.Tensor, b_ND: torch.Tensor, ridge: float = 1e-3) -> Probe:
    """Ridge regression of the source, -1 for a and +1 for b, on the rows: w = (X'X / N + r I)^-1 X'y / N on centred rows.

    ``ridge`` is r over the mean variance of a column, so that scaling all rows changes no prediction. Identical
    sources give w = 0. In closed form because one small system is all there is to solve.
    """
    differences(a_ND, b_ND)
    rows_ND = torch.cat([a_ND, b_ND]).double()
    mean_D = rows_ND.mean(0)
    centred_ND = rows_ND - mean_D
    y_N = torch.cat([-torch.ones(len(a_ND)), torch.ones(len(b_ND))]).double()
    gram_DD = centred_ND.T @ centred_ND / len(y_N)
    gram_DD.diagonal().add_(ridge * float(gram_DD.diagonal().mean()) or 1.0)
    w_D = torch.linalg.solve(gram_DD, centred_ND.T @ y_N / len(y_N))
    return Probe(w_D, -float(mean_D @ w_D))


def token_kl(a_NV: torch.Tensor, b_NV: torch.Tensor) -> torch.Tensor:
    """KL(b || a) of next-token distributions from logits, nats per token, N."""
    p_NV, q_NV = b_NV.double().log_softmax(-1), a_NV.double().log_softmax(-1)
    return (p_NV.exp() * (p_NV - q_NV)).sum(-1)


def logit_difference(a_NV: torch.Tensor, b_NV: torch.Tensor) -> torch.Tensor:
    """Logits of b less those of a, each centred over the vocabulary, N x V: the softmax does not see a common shift."""
    delta_NV = b_NV - a_NV
    return delta_NV - delta_NV.mean(-1, keepdim=True)


def average_precision(score_N: torch.Tensor, truth_N: torch.Tensor) -> float:
    """Mean over the true tokens of the precision at each one's score; ties count as if the false ones came first.

    A score that ranks every true token first has 1, one that knows nothing about the share of true tokens; NaN where none is.
    """
    truth_N = truth_N.bool()
    if not truth_N.any():
        return float("nan")
    order_N = torch.argsort(truth_N.long(), stable=True)  # false before true, kept among equal scores
    order_N = order_N[torch.argsort(score_N[order_N], descending=True, stable=True)]
    hit_N = truth_N[order_N].double()
    precision_N = hit_N.cumsum(0) / torch.arange(1, len(hit_N) + 1)
    return float((precision_N * hit_N).sum() / hit_N.sum())
