"""What a model computes on the way: rows of its residual stream, and what follows from other rows in their place."""

from __future__ import annotations

from functional_self.activations.harvest import Store, harvest
from functional_self.activations.patching import patch
from functional_self.activations.shards import Shards, read, write
from functional_self.activations.streaming import Rows, Statistics, Stream, gather, ordinary, statistics, stream
from functional_self.activations.texts import card, texts

__all__ = [
    "Rows",
    "Shards",
    "Statistics",
    "Store",
    "Stream",
    "card",
    "gather",
    "harvest",
    "ordinary",
    "patch",
    "read",
    "statistics",
    "stream",
    "texts",
    "write",
]
