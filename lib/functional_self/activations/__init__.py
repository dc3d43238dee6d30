"""What a model computes on the way: rows of its residual stream, with what is known of each token."""

from __future__ import annotations

from functional_self.activations.harvest import Store, harvest

__all__ = ["Store", "harvest"]
