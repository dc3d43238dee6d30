"""Read one layer's rows of many texts. Letters: N tokens kept, D the residual stream, B texts of a batch, L tokens of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence

from functional_self.progress import track
from functional_self.subjects.base import Message
from functional_self.subjects.model import BATCH_TOKENS, LanguageSubject

OUTLIER = 10.0
"""A row whose norm is more than this many times the median norm is an outlier (attention sinks, mostly)."""


@dataclass(frozen=True)
class Store:
    """Rows of the residual stream after ``layer`` and, row by row, where each stands.

    ``tokens`` has the columns ``text`` (index), ``position``, ``token`` (id), ``role`` (whose words it is part of: system, user,
    assistant, or text), and the masks ``template`` (part of nobody's words), ``first`` (a text's first token) and ``outlier``.
    """

    rows_ND: np.ndarray
    tokens: pd.DataFrame
    layer: int
    subject: str
    revision: str


def harvest(
    subject: Any,
    texts: Sequence[str | Sequence[Message]],
    layer: int,
    roles: Sequence[str] | None = None,
    template: bool = True,
) -> Store:
    """The residual stream after block ``layer`` at every token of the texts, float32; the forward pass ends there.

    A text is a string, or messages that the subject's template renders. Only the rows asked for leave the place where
    the weights are: of ``roles``, by default all, and of the template's own tokens unless ``template`` is False.

    Args:
        subject: a language model, local or remote, bare or with kept answers.
        texts: what is read.
        layer: index of the block whose output is read, from 0.
        roles: whose words.
        template: whether to keep tokens that are nobody's words.
    """
    model = bare(subject)
    described = [_describe(model, i, text) for i, text in enumerate(texts)]
    for table in described:
        table["keep"] = ~table["template"] & (table["role"].isin(roles) if roles is not None else True)
        if template:
            table["keep"] |= table["template"]
    order = sorted(range(len(texts)), key=lambda i: len(described[i]))
    batches = list(_batches([described[i] for i in order]))
    with track(f"reading layer {layer} of {model.name}", len(texts)) as advance:
        found = []
        for batch, part_ND in zip(batches, model.layer_rows(batches, layer), strict=True):
            found.append(part_ND.numpy())
            advance(len(batch[0]))
    tokens = pd.concat([described[i] for i in order], ignore_index=True)
    tokens = tokens[tokens.pop("keep")].reset_index(drop=True)
    rows_ND = np.concatenate(found)
    norms = np.linalg.norm(rows_ND, axis=1)
    tokens["outlier"] = norms > OUTLIER * np.median(norms) if len(norms) else False
    back = tokens.sort_values(["text", "position"], kind="stable").index.to_numpy()
    return Store(rows_ND[back], tokens.loc[back].reset_index(drop=True), layer, model.name, model.revision)


def bare(subject: Any) -> LanguageSubject:
    """The language model itself, of a subject whose answers are kept or not."""
    return subject if isinstance(subject, LanguageSubject) else subject.model


def _describe(subject: LanguageSubject, index: int, text: str | Sequence[Message]) -> pd.DataFrame:
    """One row a token: id, position, role and masks."""
    whole = text if isinstance(text, str) else subject.render(text, opened=False)
    spans = [("text", 0, len(whole))] if isinstance(text, str) else list(_spans(whole, text))
    encoded = subject.model.tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    starts = np.array([start for start, _ in encoded["offset_mapping"]])
    ends = np.array([end for _, end in encoded["offset_mapping"]])
    role = np.full(len(starts), "", dtype=object)
    for name, start, end in spans:
        role[(ends > start) & (starts < end)] = name
    table = pd.DataFrame({"text": index, "position": np.arange(len(starts)), "token": encoded["input_ids"], "role": role})
    return table.assign(template=role == "", first=table["position"] == 0)


def _spans(whole: str, messages: Sequence[Message]) -> Iterator[tuple[str, int, int]]:
    """Where each message's words stand in the rendered text."""
    at = 0
    for role, content in messages:
        words = content.strip()
        start = whole.index(words, at)
        at = start + len(words)
        yield role, start, at


def _batches(described: Sequence[pd.DataFrame]) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Ids, mask and which tokens to keep, B x L each, of texts in order of length."""
    for part in batched([len(table) for table in described]):
        tables = described[part]
        ids_BL = padded([table["token"].tolist() for table in tables], torch.long)
        mask_BL = padded([[1] * len(table) for table in tables], torch.long)
        yield ids_BL, mask_BL, padded([table["keep"].tolist() for table in tables], torch.bool)


def batched(lengths: Sequence[int]) -> Iterator[slice]:
    """Texts in order of length in batches of about ``BATCH_TOKENS``, padding counted."""
    start = 0
    while start < len(lengths):
        end = start + 1
        while end < len(lengths) and lengths[end] * (end + 1 - start) <= BATCH_TOKENS:
            end += 1
        yield slice(start, end)
        start = end


def padded(texts: Sequence[Sequence[int]], kind: torch.dtype) -> torch.Tensor:
    """B x L, padded with zeros on the right."""
    return pad_sequence([torch.tensor(text, dtype=kind) for text in texts], batch_first=True)
