"""Sparse crosscoders on n sources: model, sparse kernels, training, and what a trained one says of a difference."""

from functional_self.crosscoder.diff import (
    Quality,
    Scaling,
    Stability,
    bins,
    counted,
    difference,
    latent_scaling,
    matched,
    norm_profile,
    quality,
    relative_norm,
    stability,
)
from functional_self.crosscoder.model import Config, Crosscoder
from functional_self.crosscoder.training import Fitted, Training, fit

__all__ = [
    "Config",
    "Crosscoder",
    "Fitted",
    "Quality",
    "Scaling",
    "Stability",
    "Training",
    "bins",
    "counted",
    "difference",
    "fit",
    "latent_scaling",
    "matched",
    "norm_profile",
    "quality",
    "relative_norm",
    "stability",
]
