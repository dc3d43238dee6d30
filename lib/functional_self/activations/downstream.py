"""The forward passes of patching: code that runs where the weights are, so it uses nothing of this library.

Letters: B texts of a batch, L tokens, N patched tokens, U distinct ones of them, D the residual stream, V the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch


def differences(model: Any, batches: Sequence[Sequence[torch.Tensor]], layer: int) -> Iterator[torch.Tensor]:
    """KL(own || patched), own loss and patched loss at the patched tokens, N x 3 in nats, float32, of each batch.

    A batch is ids and mask (B x L), the patched places (N x 2: text, position) and what stands there instead (N x D). The loss is
    that of the next token, NaN where there is none. A text patched in several ways is read once as it is, and the blocks up to
    ``layer``, which would put out the same again, are not run for the patched pass.
    """
    head, device = model.lm_head._module, model.lm_head.weight.device
    for ids_BL, mask_BL, place_N2, rows_ND in batches:
        inputs = {"input_ids": ids_BL.to(device), "attention_mask": mask_BL.to(device)}
        text_N, at_N = place_N2.T.to(device)
        with torch.inference_mode():
            whole_BL, same_B = torch.cat(list(inputs.values()), dim=1).unique(dim=0, return_inverse=True)
            once = dict(zip(inputs, whole_BL.chunk(2, dim=1)))
            with model.trace(once, use_cache=False) as tracer:
                output = model.model.layers[layer].output.save()
                own_BLD = model.lm_head.input.save()
                tracer.stop()
            alone = not isinstance(output, tuple)
            hidden_BLD = (output if alone else output[0])[same_B]
            hidden_BLD[text_N, at_N] = rows_ND.to(device, hidden_BLD.dtype)
            with model.trace(inputs, use_cache=False) as tracer:
                for block in range(layer + 1):
                    model.model.layers[block].skip(hidden_BLD if alone else (hidden_BLD, *output[1:]))
                patched_ND = model.lm_head.input[text_N, at_N].save()
                tracer.stop()
            last_N = at_N + 1 >= mask_BL.to(device).sum(1)[text_N]
            target_N1 = inputs["input_ids"][text_N, torch.where(last_N, at_N, at_N + 1)][:, None]
            found_N3 = torch.empty(len(at_N), 3, device=device)
            place_N = same_B[text_N] * ids_BL.shape[1] + at_N
            for some in place_N.argsort(stable=True).split(256):  # memory does not grow with a batch's logits
                place_U, which = place_N[some].unique(return_inverse=True)
                own_NV = head(own_BLD.flatten(0, 1)[place_U]).float().log_softmax(-1)[which]
                patched_NV = head(patched_ND[some]).float().log_softmax(-1)
                kl_N = (own_NV.exp() * (own_NV - patched_NV)).sum(-1)
                losses = [-logprob_NV.gather(1, target_N1[some])[:, 0] for logprob_NV in (own_NV, patched_NV)]
                found_N3[some] = torch.stack([kl_N, *losses], dim=1)
            found_N3[:, 1:] = found_N3[:, 1:].masked_fill(last_N[:, None], float("nan"))
            yield found_N3.cpu()
