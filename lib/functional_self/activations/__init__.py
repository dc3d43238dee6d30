"""What a model computes on the way: rows of its residual stream, and what follows from other rows in their place."""

from __future__ import annotations

from functional_self.activations.harvest import Store, harvest
from functional_self.activations.patching import patch

__all__ = ["Store", "harvest", "patch"]
