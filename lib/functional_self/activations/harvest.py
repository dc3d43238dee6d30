"""Read one layer's rows of many texts into memory. Letters: N tokens kept, D the residual stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from functional_self.activations.streaming import OUTLIER, Stream, gather
from functional_self.activations.tokens import Text, bare


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
    found = gather(Stream([model], texts, layer, roles, template).rows())
    norms = found.x_NK.norm(dim=1).numpy()
    tokens = found.tokens.assign(outlier=norms > OUTLIER * np.median(norms))
    return Store(found.x_NK.numpy(), tokens, layer, model.name, model.revision)
