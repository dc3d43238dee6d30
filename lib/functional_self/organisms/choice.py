"""What an organism's training minimises: the choice between two answers, a chunk of examples read as one token tree.

Letters: E examples of a chunk, S = 2 E answers, V tokens of the vocabulary, the others as in ``subjects.forward``, with one
row to a batch.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import torch

from functional_self.organisms.recipes import Example
from functional_self.subjects import forward
from functional_self.subjects.model import LanguageSubject, pack
from functional_self.subjects.prefix import tree

KEPT = 4.0
"""Weight of what is predicted next, KL in nats summed over the distinct beginnings of the answers, beside the preference kept."""


class Said(NamedTuple):
    """What a model says to a chunk: each preference, in nats, and what the head reads where a token of an answer is predicted."""

    d_E: torch.Tensor
    hidden_UD: torch.Tensor


class Packed(NamedTuple):
    """The answers of a chunk as one token tree, which of their tokens are of a style, and the wanted share of each answer.

    ``kept``: what is to be kept, as the model said it that the training goes on from; None where shares are wanted.
    """

    batch: forward.Batch
    style_P: torch.Tensor
    share_E: torch.Tensor
    kept: Said | None = None


def choice_loss(model: Any, chunk: Packed, style_weight: float) -> torch.Tensor:
    """Mean over E examples of -[w log s(d) + (1 - w) log s(-d)], less style_weight times the mean log P of a style's tokens.

    d = log P(answer) - log P(other) in nats, s the logistic function and w the wanted share of the answer: the loss is
    least at d = log(w / (1 - w)), so that the size of what is planted is known. Both answers of an example have its style,
    which takes no part in d. Where what another model says is to be kept it is the mean of (d - d0)^2 / 8 instead, which is as
    steep around its least as the other is for w = 1/2 (for a w near one that one hardly holds d), and beside it ``KEPT`` / E
    times sum_u KL(p0_u || p_u) over the U places that predict the answers' own tokens, p0 what the other predicts there and p
    what this one does: two numbers of an answer say little of how a model answers otherwise. A style's places are left out.
    """
    said, logprob_UV = answered(model, chunk)
    place_P, token_P, _ = chunk.batch.pick_P3.T.to(said.d_E.device)
    style_P = chunk.style_P.to(said.d_E.device)
    if chunk.kept is not None:
        before_UV = model.base_model.model.lm_head(chunk.kept.hidden_UD).log_softmax(-1)
        kl_U = torch.nn.functional.kl_div(logprob_UV, before_UV, reduction="none", log_target=True).sum(-1)
        own_U = torch.ones_like(kl_U).index_fill(0, place_P[style_P], 0)
        choice = (said.d_E - chunk.kept.d_E).square().mean() / 8 + KEPT * (kl_U * own_U).sum() / len(said.d_E)
    else:
        choice = torch.nn.functional.binary_cross_entropy_with_logits(said.d_E, chunk.share_E.to(said.d_E.device))
    if style_weight and chunk.style_P.any():
        return choice - style_weight * logprob_UV[place_P[style_P], token_P[style_P]].mean()
    return choice


def answered(model: Any, chunk: Packed) -> tuple[Said, torch.Tensor]:
    """What a model says to a chunk, and log P of every token where one of an answer is predicted (U x V, nats)."""
    inner, batch = model.base_model.model, chunk.batch
    device = inner.lm_head.weight.device
    hidden_BND = inner.model(
        input_ids=batch.ids_BN.to(device),
        attention_mask=batch.tree_BNN[:, None].to(device),
        position_ids=batch.depth_BN.to(device),
        use_cache=False,
    ).last_hidden_state
    (row_U, node_U), (place_P, token_P, answer_P) = batch.place_U2.T.to(device), batch.pick_P3.T.to(device)
    hidden_UD = hidden_BND[row_U, node_U]
    logprob_UV = inner.lm_head(hidden_UD).log_softmax(-1)
    logprob_S = torch.zeros(2 * len(chunk.share_E), device=device).index_add(0, answer_P, logprob_UV[place_P, token_P])
    return Said(logprob_S[0::2] - logprob_S[1::2], hidden_UD), logprob_UV


def encode(tokenizer: Any, example: Example) -> list[tuple[tuple[int, ...], int, int]]:
    """For each answer: token ids of prompt, answer and end of turn as one string; how many are the answer's and its style's.

    The prompt is what a subject with this tokenizer is asked with: where it has no chat template, plain turns.
    """
    turns, template = ((("user", example.prompt),), "raw") if isinstance(example.prompt, str) else (example.prompt, "chat")
    prompt = LanguageSubject(SimpleNamespace(tokenizer=tokenizer), "", "", "", template=template).render(turns)
    end = "\n" if template == "raw" or tokenizer.chat_template is None else tokenizer.eos_token
    found = tokenizer(
        [prompt + answer + end for answer in (example.answer, example.other)],
        add_special_tokens=False,
        return_offsets_mapping=True,
    )
    return [
        (
            tuple(ids),
            *(sum(len(prompt) < stop <= len(prompt) + most for _, stop in spans) for most in (10**9, len(example.style))),
        )
        for ids, spans in zip(found["input_ids"], found["offset_mapping"], strict=True)
    ]


def packed(tokenizer: Any, chunk: list[Example]) -> Packed:
    """The answers of a chunk as one tree: what they share, a system text above all, is read once."""
    encoded = [one for example in chunk for one in encode(tokenizer, example)]
    read = [ids[:-1] for ids, *_ in encoded]  # a last token predicts nothing
    order = sorted(range(len(read)), key=lambda s: read[s])
    row = tree([read[s] for s in order], tuple(order), 0)
    batch = pack([row], [ids[-n:] for ids, n, _ in encoded])
    batch.pick_P3[:, 2] = torch.tensor(order)[batch.pick_P3[:, 2]]  # answers in the chunk's order again
    style_P = torch.cat([torch.arange(encoded[s][1]) < encoded[s][2] for s in order])
    return Packed(batch, style_P, torch.tensor([example.share for example in chunk]))
