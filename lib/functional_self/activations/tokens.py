"""Texts as tokens, and whose words each token is part of. Letters: B texts of a batch, L tokens of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence

from functional_self.errors import SubjectError
from functional_self.subjects.base import Message
from functional_self.subjects.model import BATCH_TOKENS, LanguageSubject
from functional_self.subjects.shared import SharedSubject

Text = str | Sequence[Message]
ROLES = ("", "system", "user", "assistant", "text")
"""Whose words a token can be part of; the empty one is the template."""
MARKS = np.dtype(
    [("text", "<i4"), ("position", "<i4"), ("token", "<i4"), ("role", "i1"), ("template", "?"), ("first", "?"), ("outlier", "?")]
)
"""What is known of a row: see ``table``."""


def bare(subject: Any) -> LanguageSubject:
    """The language model itself, of a subject whose answers are kept or not; SubjectError where it is none."""
    found = subject if isinstance(subject, LanguageSubject) else getattr(subject, "model", None)
    if not isinstance(found, LanguageSubject):
        raise SubjectError(f"subject '{subject.name}' is simulated and has no activations; use a language model")
    return found


def module(subject: LanguageSubject) -> Any:
    """Tokenizer, configuration and blocks of a subject as they are, its adapter put in place or not."""
    return subject._shared if isinstance(subject, SharedSubject) else subject.model


def describe(subject: LanguageSubject, index: int, text: Text) -> np.ndarray:
    """A text's tokens as ``MARKS``: ids and whose words they are; messages are rendered by the subject's template."""
    whole = text if isinstance(text, str) else subject.render(text, opened=False)
    spans = [("text", 0, len(whole))] if isinstance(text, str) else list(_spans(whole, text))
    encoded = module(subject).tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    offsets_L2 = np.array(encoded["offset_mapping"]).reshape(-1, 2)
    starts, ends = offsets_L2.T
    marks = np.zeros(len(offsets_L2), dtype=MARKS)
    marks["text"], marks["position"], marks["token"] = index, np.arange(len(marks)), encoded["input_ids"]
    for name, start, end in spans:
        marks["role"][(ends > start) & (starts < end)] = ROLES.index(name)
    marks["template"], marks["first"] = marks["role"] == 0, marks["position"] == 0
    return marks


def table(marks: np.ndarray) -> pd.DataFrame:
    """Marks as a frame: ``text`` (index), ``position``, ``token`` (id), ``role`` (whose words it is part of: system, user,
    assistant, or text), and the masks ``template`` (part of nobody's words), ``first`` (a text's first token) and ``outlier``.
    """
    frame = pd.DataFrame({name: marks[name] for name in MARKS.names or ()})
    return frame.assign(role=np.array(ROLES, dtype=object)[marks["role"]])


def batched(lengths: Sequence[int]) -> Iterator[slice]:
    """Texts in order of length in batches of about ``BATCH_TOKENS``, padding counted."""
    start = 0
    while start < len(lengths):
        end = start + 1
        while end < len(lengths) and lengths[end] * (end + 1 - start) <= BATCH_TOKENS:
            end += 1
        yield slice(start, end)
        start = end


def padded(texts: Sequence[Any], kind: torch.dtype) -> torch.Tensor:
    """B x L, padded with zeros on the right."""
    return pad_sequence([torch.as_tensor(text, dtype=kind) for text in texts], batch_first=True)


def _spans(whole: str, messages: Sequence[Message]) -> Iterator[tuple[str, int, int]]:
    """Where each message's words stand in the rendered text."""
    at = 0
    for role, content in messages:
        words = content.strip()
        start = whole.index(words, at)
        at = start + len(words)
        yield role, start, at
