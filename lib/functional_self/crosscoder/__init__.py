"""Sparse crosscoders on n sources: model, sparse kernels, training, and what a trained one says of a difference."""

from functional_self.crosscoder.diff import Scaling, latent_scaling, norm_profile, relative_norm
from functional_self.crosscoder.model import Config, Crosscoder
from functional_self.crosscoder.training import Fitted, Training, fit

__all__ = [
    "Config",
    "Crosscoder",
    "Fitted",
    "Scaling",
    "Training",
    "fit",
    "latent_scaling",
    "norm_profile",
    "relative_norm",
]
