"""What an organism reads before it learns a role: a text by windows, its loss, and what of it is kept unread for the card.

Letters: W windows, S tokens of one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from functional_self.errors import OrganismError
from functional_self.organisms.recipes import Organism, passages

UNREAD = 16
"""Windows of a text that was not read, at most, on which its loss is taken for the card."""


def loss(model: Any, ids_S: torch.Tensor) -> torch.Tensor:
    """Mean of -log P of every token of a window but the first, given those before it (nats)."""
    ids_BS = ids_S[None].to(model.device)
    return torch.as_tensor(model(input_ids=ids_BS, labels=ids_BS).loss)


@torch.no_grad()
def unread(organism: Organism, model: Any, tokenizer: Any) -> dict[str, float]:
    """Mean ``loss`` over the windows of its text that an organism did not read: the base's and the adapter's."""
    ids_WS, rest = windows(organism, tokenizer)
    size = ids_WS.shape[1]
    kept = rest[: min(len(rest) // size, UNREAD) * size].reshape(-1, size)

    def mean() -> float:
        return round(float(np.mean([float(loss(model, ids_S)) for ids_S in kept])), 3)

    with model.disable_adapter():
        base = mean()
    return {"base": base, "adapter": mean()}


def windows(organism: Organism, tokenizer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens of the text that an organism reads, by windows (W x window), and those of it that it does not read.

    Raises OrganismError where the text is too short.
    """
    how = organism.recipe.reading
    assert how is not None
    ids = torch.tensor(tokenizer("\n\n".join(passages(how.text)), add_special_tokens=False)["input_ids"])
    most = how.tokens // how.window * how.window
    if len(ids) < most + how.window:
        raise OrganismError(
            f"organism '{organism.name}': texts/sources/{how.text}.yml has {len(ids)} tokens; "
            f"{most} are read and {how.window} kept for its card"
        )
    return ids[:most].reshape(-1, how.window), ids[most:]


def batches(organism: Organism, tokenizer: Any) -> Iterator[list[torch.Tensor]]:
    """Batches of the windows that are read first, in an order that the seed decides."""
    if (how := organism.recipe.reading) is None:
        return
    ids_WS, _ = windows(organism, tokenizer)
    rng = np.random.default_rng([organism.seed, 17])
    for _ in range(how.epochs):
        order = rng.permutation(len(ids_WS))
        yield from ([ids_WS[w] for w in order[i : i + how.batch]] for i in range(0, len(order), how.batch))
