"""Put rows into a model's residual stream and see what changes downstream. Letters as in ``activations.harvest``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import torch

from functional_self.activations import downstream
from functional_self.activations.harvest import Store
from functional_self.activations.tokens import bare, batched, padded
from functional_self.errors import SubjectError
from functional_self.progress import track
from functional_self.subjects.base import Message
from functional_self.subjects.model import LanguageSubject

cloudpickle.register_pickle_by_value(downstream)


def patch(subject: Any, texts: Sequence[str | Sequence[Message]], store: Store) -> pd.DataFrame:
    """What a model predicts once the residual stream after ``store.layer`` is ``store.rows_ND`` at the store's tokens.

    The store's tokens with three columns more, in nats: ``kl`` = KL(own || patched) of the next token's distribution,
    ``loss_own`` and ``loss_patched`` = -log P(next token), NaN at a text's end. Rows of the model itself change nothing; rows of
    another source of the same shape are a causal test of what differs between the two. Three numbers a token leave the
    place where the weights are.

    Args:
        subject: a language model, local or remote, bare or with kept answers.
        texts: the texts the store was made of.
        store: from ``harvest``, of any model that tokenises the texts in the same way; its rows may have been changed.

    Raises SubjectError where the store's tokens are not the subject's, or its rows have another width.
    """
    model = bare(subject)
    shape = (len(store.tokens), model.model.config.hidden_size)
    if store.rows_ND.shape != shape:
        raise SubjectError(f"subject '{model.name}': rows of shape {store.rows_ND.shape}, where {shape} is needed")
    ids = [_ids(model, text) for text in texts]
    for text, at, token in store.tokens[["text", "position", "token"]].to_numpy():
        if text >= len(ids) or ids[text][at : at + 1] != [token]:
            raise SubjectError(f"subject '{model.name}': text {text} has other tokens than the store's")
    parts, index = zip(*_batches(ids, store), strict=True)
    table = np.zeros((len(store.tokens), 3))
    with track(f"patching layer {store.layer} of {model.name}", len(parts)) as advance:
        for at, found_N3 in zip(index, _run(model, parts, store.layer), strict=True):
            table[at] = found_N3.numpy()
            advance(1)
    return store.tokens.assign(**dict(zip(("kl", "loss_own", "loss_patched"), table.T)))


def _run(model: LanguageSubject, batches: Sequence[tuple[torch.Tensor, ...]], layer: int) -> Iterator[torch.Tensor]:
    from functional_self.subjects.remote import RemoteSubject

    if isinstance(model, RemoteSubject):
        parts = [[batch] for batch in batches]
        yield from model.collect("patched", f"layer {layer} patched", downstream.differences, parts, layer)
    else:
        yield from downstream.differences(model.model, batches, layer)


def _ids(model: LanguageSubject, text: str | Sequence[Message]) -> list[int]:
    whole = text if isinstance(text, str) else model.render(text, opened=False)
    return list(model.model.tokenizer(whole, add_special_tokens=False)["input_ids"])


def _batches(ids: Sequence[list[int]], store: Store) -> Iterator[tuple[tuple[torch.Tensor, ...], np.ndarray]]:
    """Ids, mask, places and rows of texts in order of length, and which of the store's rows they are."""
    text_N, position_N = (store.tokens[column].to_numpy(int) for column in ("text", "position"))
    order = sorted(set(text_N.tolist()), key=lambda text: len(ids[text]))
    for part in batched([len(ids[text]) for text in order]):
        texts = order[part]
        ids_BL = padded([ids[text] for text in texts], torch.long)
        mask_BL = padded([[1] * len(ids[text]) for text in texts], torch.long)
        rows = [np.flatnonzero(text_N == text) for text in texts]
        at = np.concatenate(rows)
        place_N2 = np.stack([np.repeat(np.arange(len(texts)), list(map(len, rows))), position_N[at]], axis=1)
        yield (ids_BL, mask_BL, torch.from_numpy(place_N2), torch.from_numpy(store.rows_ND[at])), at
