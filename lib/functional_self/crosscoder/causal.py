"""What latents do: put parts of a difference back into a model and see how far its predictions come back.

Letters: B rows, n sources, d width, F latents, K = n d, N tokens patched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from functional_self.activations import Store, patch
from functional_self.crosscoder import kernels
from functional_self.crosscoder.model import Crosscoder
from functional_self.errors import CrosscoderError


@dataclass(frozen=True)
class Arm:
    """What is put back on top of the base's rows: latents (F, bool), and whether the biases and the error with them."""

    name: str
    keep_F: torch.Tensor
    bias: bool = True
    error: bool = False


def arms(S_F: torch.Tensor, orders: dict[str, torch.Tensor], live_F: torch.Tensor, seed: int = 0, random: int = 3) -> list[Arm]:
    """The arms of a causal test: base, bias only, S, random sets of its size, halves by each order, all, all + error.

    Random sets are drawn from the live latents outside S; an order (say D, or nu) halves the live latents for which it is a
    number, ``high`` and ``low``.

    Args:
        S_F: the latents under test, bool.
        orders: name to a number for every latent.
        live_F: latents that were ever active, bool.
        seed: of the random sets.
        random: how many of them.

    Raises CrosscoderError where fewer live latents lie outside S than in it.
    """
    none_F, size = torch.zeros_like(S_F), int(S_F.sum())
    others = (live_F & ~S_F).nonzero()[:, 0]
    if len(others) < size:
        raise CrosscoderError(f"causal: {size} latents in S and {len(others)} live ones outside it; choose a smaller S")
    found = [Arm("base", none_F, bias=False), Arm("bias only", none_F), Arm("S", S_F)]
    generator = torch.Generator().manual_seed(seed)
    for number in range(1, random + 1):
        chosen = others[torch.randperm(len(others), generator=generator)[:size]]
        found.append(Arm(f"random {number}", none_F.index_fill(0, chosen, True)))
    for name, value_F in orders.items():
        known = (live_F & value_F.isfinite()).nonzero()[:, 0]
        ranked = known[value_F[known].argsort(stable=True)]
        low, high = ranked[: len(ranked) // 2], ranked[(len(ranked) + 1) // 2 :]
        found += [Arm(f"{name} {half}", none_F.index_fill(0, part, True)) for half, part in (("high", high), ("low", low))]
    every_F = torch.ones_like(S_F)
    return [*found, Arm("all", every_F), Arm("all + error", every_F, error=True)]


def rows_with(crosscoder: Crosscoder, x_BK: torch.Tensor, arm: Arm, base: int = 0, chat: int = 1) -> torch.Tensor:
    """h_S = h_base + (c_chat - c_base) + sum_{j in S} f_j (d_j^chat - d_j^base), and + e_chat - e_base with the error; B x d.

    With all latents and the error this is h_chat. Source: Minder et al. 2025 (arXiv 2504.02922), section 3.3.
    """
    n, d, F = crosscoder.config.sources, crosscoder.config.width, crosscoder.config.latents
    with torch.no_grad():
        f_A, at = crosscoder.codes(x_BK)
        D_Fnd, c_nd, x_Bnd = crosscoder.D_FK.reshape(F, n, d), crosscoder.c_K.reshape(n, d), x_BK.reshape(-1, n, d)
        step_Fd = (D_Fnd[:, chat] - D_Fnd[:, base]).contiguous()
        h_Bd = x_Bnd[:, base] + kernels.decode(f_A * arm.keep_F.to(f_A.device)[at.col_A], step_Fd, at)
        if arm.bias:
            h_Bd = h_Bd + c_nd[chat] - c_nd[base]
        if arm.error:
            error_Bnd = x_Bnd - crosscoder.decode(f_A, at).reshape(-1, n, d)
            h_Bd = h_Bd + error_Bnd[:, chat] - error_Bnd[:, base]
        return h_Bd


def causal_kl(
    subject: Any,
    texts: Sequence[Any],
    layer: int,
    x_NK: torch.Tensor,
    tokens: pd.DataFrame,
    crosscoder: Crosscoder,
    tried: Sequence[Arm],
    chat: int = 1,
) -> pd.DataFrame:
    """KL(chat || patched) in nats of every arm at every patched token: columns arm, text, position, token, role, kl.

    The rows of source 0 stand at the patched tokens, with what the arm puts back. A text's first token and outliers are
    masked: they are neither patched nor measured, and keep the chat model's own rows. Runs inside nnsight traces where the
    weights are (``activations.patch``).

    Args:
        subject: the model whose rows are source ``chat``, local or remote.
        texts: the texts that the rows were read from.
        layer: the block whose output the rows are.
        x_NK: rows of all sources side by side.
        tokens: the rows' table, with text, position, token, role, first and outlier.
        crosscoder: trained on such rows.
        tried: from ``arms``.
        chat: index of the subject's own source.

    Raises CrosscoderError where rows and table are of different lengths, or nothing is left to patch.
    """
    x_NK, tokens = unmasked(x_NK, tokens)
    parts = [tokens.assign(arm=arm.name, text=tokens["text"] + len(texts) * number) for number, arm in enumerate(tried)]
    rows_ND = np.concatenate([rows_with(crosscoder, x_NK, arm, 0, chat).float().numpy() for arm in tried])
    placed = Store(rows_ND, pd.concat(parts, ignore_index=True), layer, subject.name, subject.revision)
    found = patch(subject, list(texts) * len(tried), placed)
    return found.assign(text=found["text"] % len(texts))[["arm", "text", "position", "token", "role", "kl"]]


def unmasked(x_NK: torch.Tensor, tokens: pd.DataFrame) -> tuple[torch.Tensor, pd.DataFrame]:
    """The rows, and their table, that are neither a text's first token nor an outlier; CrosscoderError where none is."""
    if len(x_NK) != len(tokens):
        raise CrosscoderError(f"causal: {len(x_NK)} rows and a table of {len(tokens)} tokens; they must be of the same tokens")
    keep_N = ~(tokens["first"] | tokens["outlier"]).to_numpy(bool)
    if not keep_N.any():
        raise CrosscoderError("causal: every token is a text's first or an outlier; nothing is left to patch")
    return x_NK[torch.from_numpy(keep_N)], tokens[keep_N].reset_index(drop=True)


def losses(
    subject: Any, texts: Sequence[Any], layer: int, rows_ND: torch.Tensor, tokens: pd.DataFrame, reconstruction_ND: torch.Tensor
) -> pd.DataFrame:
    """Next-token losses in nats with a source's own rows, with their reconstruction, and with their mean in their place.

    Columns text, position, own, reconstructed, mean; masks as in ``causal_kl``; no line at a text's end.
    """
    (own_ND, tokens), (reconstructed_ND, _) = unmasked(rows_ND, tokens), unmasked(reconstruction_ND, tokens)
    mean_ND = own_ND.double().mean(0).float().expand_as(own_ND)
    both = pd.concat([tokens, tokens.assign(text=tokens["text"] + len(texts))], ignore_index=True)
    placed = Store(torch.cat([reconstructed_ND, mean_ND]).numpy(), both, layer, subject.name, subject.revision)
    found = patch(subject, list(texts) * 2, placed)
    patched_2N = found["loss_patched"].to_numpy().reshape(2, -1)
    own_N = found["loss_own"].to_numpy()[: len(tokens)]
    return tokens[["text", "position"]].assign(own=own_N, reconstructed=patched_2N[0], mean=patched_2N[1]).dropna()


def loss_recovered(found: pd.DataFrame) -> float:
    """1 - (L(reconstruction) - L(own)) / (L(mean) - L(own)) over ``losses``' tokens: 1 loses nothing, 0 is the mean's.

    NaN where the mean is as good as the rows themselves.
    """
    own, reconstructed, mean = (float(found[column].mean()) for column in ("own", "reconstructed", "mean"))
    return 1 - (reconstructed - own) / (mean - own) if mean > own else float("nan")
