"""Sparse crosscoders on n sources: model, sparse kernels, and what a trained one says of a difference."""

from functional_self.crosscoder.diff import Scaling, latent_scaling, norm_profile, relative_norm
from functional_self.crosscoder.model import Config, Crosscoder

__all__ = ["Config", "Crosscoder", "Scaling", "latent_scaling", "norm_profile", "relative_norm"]
