"""What subjects answer: scores, gates and variance."""

from functional_self.behaviour.gates import Gate, gates
from functional_self.behaviour.scoring import responses, sampled, score, shuffled
from functional_self.behaviour.variance import Components, clustered_mean, shares_by_class, variance_components

__all__ = [
    "Components",
    "Gate",
    "clustered_mean",
    "gates",
    "responses",
    "sampled",
    "score",
    "shares_by_class",
    "shuffled",
    "variance_components",
]
