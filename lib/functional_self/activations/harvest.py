"""Read one layer's rows of many texts into memory. Letters: N tokens kept, D the residual stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from functional_self.activations.streaming import OUTLIER, Stream
from functional_self.activations.tokens import Text, bare, table
from functional_self.errors import SubjectError


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
    texts: Sequence[Text],
    layer: int,
    roles: Sequence[str] | None = None,
    template: bool = True,
) -> Store:
    """The residual stream after block ``layer`` at every token of the texts, float32; the forward pass ends there.

    A text is a string, or messages that the subject's template renders. Only the rows asked for leave the place where
    the weights are: of ``roles``, by default all, and of the template's own tokens unless ``template`` is False. Several
    subjects, or more rows than memory holds: ``stream``.

    Args:
        subject: a language model, local or remote, bare or with kept answers.
        texts: what is read.
        layer: index of the block whose output is read, from 0.
        roles: whose words.
        template: whether to keep tokens that are nobody's words.
    """
    model = bare(subject)
    windows = list(Stream([model], texts, layer, roles, template).rows())
    if not windows:
        raise SubjectError("harvest: the texts have no tokens")
    rows_ND = torch.cat([rows.x_NK for rows in windows]).numpy()
    tokens = table(np.concatenate([rows.marks for rows in windows]))
    norms = np.linalg.norm(rows_ND, axis=1)
    tokens["outlier"] = norms > OUTLIER * np.median(norms) if len(norms) else False
    return Store(rows_ND, tokens, layer, model.name, model.revision)
