"""The forward passes of patching: code that runs where the weights are, so it uses nothing of this library.

Letters: B texts of a batch, L tokens, N patched tokens, D the residual stream, V the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch


def differences(model: Any, batches: Sequence[Sequence[torch.Tensor]], layer: int) -> Iterator[torch.Tensor]:
    """KL(own || patched), own loss and patched loss at the patched tokens, N x 3 in nats, float32, of each batch.

    A batch is ids and mask (B x L), the patched places (N x 2: text, position) and what stands there instead (N x D). The loss is
    that of the next token, NaN where there is none.
    """
    device = model.lm_head.weight.device
    for ids_BL, mask_BL, place_N2, rows_ND in batches:
        inputs = {"input_ids": ids_BL.to(device), "attention_mask": mask_BL.to(device)}
        text_N, at_N = place_N2.T.to(device)
        with torch.inference_mode():
            whole_BL, same_B = torch.cat(list(inputs.values()), dim=1).unique(dim=0, return_inverse=True)
            once = dict(zip(inputs, whole_BL.chunk(2, dim=1)))  # a text patched in several ways is read once as it is
            own_N = same_B[text_N]
            with model.trace(once, use_cache=False):
                own_NV = model.lm_head.output[own_N, at_N].float().log_softmax(-1).save()
            with model.trace(inputs, use_cache=False):
                output = model.model.layers[layer].output
                hidden_BLD = output[0] if isinstance(output, tuple) else output
                hidden_BLD[text_N, at_N] = rows_ND.to(device, hidden_BLD.dtype)
                patched_NV = model.lm_head.output[text_N, at_N].float().log_softmax(-1).save()
            kl_N = (own_NV.exp() * (own_NV - patched_NV)).sum(-1)
            ends_B = mask_BL.sum(1).to(device)
            next_N = torch.minimum(at_N + 1, ends_B[text_N] - 1)
            target_N1 = inputs["input_ids"][text_N, next_N][:, None]
            last_N = at_N + 1 >= ends_B[text_N]
            losses = [-logprob_NV.gather(1, target_N1)[:, 0] for logprob_NV in (own_NV, patched_NV)]
            losses = [torch.where(last_N, torch.full_like(loss_N, float("nan")), loss_N) for loss_N in losses]
            yield torch.stack([kl_N, *losses], dim=1).cpu()
