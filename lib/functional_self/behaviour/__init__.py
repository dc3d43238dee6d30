"""What subjects answer: scores, gates, variance and persistence."""

from functional_self.behaviour.estimate import Estimate, clustered, jackknife, outcome, smallest_effect
from functional_self.behaviour.gates import Gate, gates, holm
from functional_self.behaviour.intervals import Fill, axis_follows, axis_share, fill, fill_table
from functional_self.behaviour.persistence import (
    d_study,
    internalisation,
    ipsative,
    ipsative_difference,
    paired,
    rank_order,
    self_share,
    tost,
)
from functional_self.behaviour.scoring import responses, sampled, score, shuffled
from functional_self.behaviour.variance import Components, shares_by_class, variance_components
from functional_self.behaviour.verdicts import Verdicts

__all__ = [
    "Components",
    "Estimate",
    "Fill",
    "Gate",
    "Verdicts",
    "axis_follows",
    "axis_share",
    "clustered",
    "d_study",
    "fill",
    "fill_table",
    "gates",
    "holm",
    "internalisation",
    "ipsative",
    "ipsative_difference",
    "jackknife",
    "outcome",
    "paired",
    "rank_order",
    "responses",
    "sampled",
    "score",
    "self_share",
    "shares_by_class",
    "shuffled",
    "smallest_effect",
    "tost",
    "variance_components",
]
