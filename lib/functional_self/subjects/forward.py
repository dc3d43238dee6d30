"""The forward passes of a language model: the code that runs where the weights are, here or on an NDIF server.

A remote request ships these functions by their source, so they use nothing of this library. Letters: B rows of a batch, N nodes
of a packed row, U places where something is predicted, P predicted tokens, S sequences, L tokens of a prompt or prefix, M new
tokens, D the residual stream.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache


class Batch(NamedTuple):
    """Packed rows: ``place_U2`` is (row, node) where tokens are predicted, ``pick_P3`` (place, token, sequence), S sequences."""

    ids_BN: torch.Tensor
    depth_BN: torch.Tensor
    tree_BNN: torch.Tensor
    place_U2: torch.Tensor
    pick_P3: torch.Tensor
    sequences: int


def scores(model: Any, prefix: Sequence[int], batches: Sequence[Sequence[Any]]) -> Iterator[torch.Tensor]:
    """log P of each batch's S sequences after the shared ``prefix``, in nats, float64, one tensor a batch."""
    device = model.lm_head.weight.device
    cache = keys_and_values(model, torch.tensor([prefix], device=device)) if prefix else None
    for batch in batches:
        yield predict(model, cache, len(prefix), device, *batch)


def keys_and_values(model: Any, ids_1L: torch.Tensor) -> DynamicCache:
    """Keys and values of a prefix."""
    cache = DynamicCache()
    with torch.inference_mode(), model.trace(ids_1L, past_key_values=cache, use_cache=True) as tracer:
        model.model.norm.output.save()
        tracer.stop()
    return cache


def predict(
    model: Any,
    prefix: DynamicCache | None,
    skip: int,
    device: torch.device,
    ids_BN: torch.Tensor,
    depth_BN: torch.Tensor,
    tree_BNN: torch.Tensor,
    place_U2: torch.Tensor,
    pick_P3: torch.Tensor,
    sequences: int,
) -> torch.Tensor:
    """One trace over packed rows: hidden states at the predicting nodes, the head there only, summed by sequence."""
    with torch.inference_mode():
        cache = None
        if prefix is not None:
            cache = copy.deepcopy(prefix)
            cache.batch_repeat_interleave(len(ids_BN))
        visible_BNK = torch.nn.functional.pad(tree_BNN, (skip, 0), value=True)
        inputs = {
            "input_ids": ids_BN.to(device),
            "attention_mask": visible_BNK[:, None].to(device),
            "position_ids": (depth_BN + skip).to(device),
        }
        (row_U, node_U), (place_P, token_P, sequence_P) = place_U2.T, pick_P3.T
        with model.trace(inputs, past_key_values=cache, use_cache=cache is not None) as tracer:
            hidden_UD = model.model.norm.output[row_U, node_U]
            logprob_P: Any = torch.zeros(len(place_P))
            head = model.lm_head._module
            plain = type(head) is torch.nn.Linear and head.bias is None
            for start in range(0, len(hidden_UD), 128):  # a few rows of logits at a time: memory does not grow with a batch
                here_P = (start <= place_P) & (place_P < start + 128)
                some_UD = hidden_UD[start : start + 128]
                # a CPU multiplies faster in pieces of the vocabulary
                pieces = [some_UD @ weight_VD.T for weight_VD in head.weight.split(2048)] if plain else [model.lm_head(some_UD)]
                logprob_UV = torch.cat(pieces, -1).log_softmax(-1)
                logprob_P[here_P] = logprob_UV[place_P[here_P] - start, token_P[here_P]].cpu().float()
            logprob_P = logprob_P.save()
            tracer.stop()
        return torch.zeros(sequences, dtype=torch.float64).index_add_(0, sequence_P, logprob_P.double())


def continuations(
    model: Any, batches: Sequence[tuple[int, Sequence[torch.Tensor]]], seed: int, how: dict[str, Any]
) -> Iterator[torch.Tensor]:
    """Token ids (B x M) that follow each numbered batch of left-padded prompts (ids and mask, B x L); seed + number each."""
    device = model.lm_head.weight.device
    for number, (ids_BL, mask_BL) in batches:
        inputs = {"input_ids": ids_BL.to(device), "attention_mask": mask_BL.to(device)}
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(seed + number)
            with model.generate(inputs, **how) as tracer:
                ids_BN = tracer.result.cpu().save()
        yield ids_BN[:, ids_BL.shape[1] :]


def rows(model: Any, batches: Sequence[Sequence[torch.Tensor]], layer: int) -> Iterator[torch.Tensor]:
    """The residual stream after a block at the kept tokens, N x D, float32, of each batch (ids, mask and keep, B x L)."""
    device = model.lm_head.weight.device
    for ids_BL, mask_BL, keep_BL in batches:
        inputs = {"input_ids": ids_BL.to(device), "attention_mask": mask_BL.to(device)}
        with torch.inference_mode(), model.trace(inputs, use_cache=False) as tracer:
            output = model.model.layers[layer].output
            hidden_BLD = output[0] if isinstance(output, tuple) else output
            rows_ND = hidden_BLD[keep_BL.to(hidden_BLD.device)].float().cpu().save()
            tracer.stop()
        yield rows_ND
