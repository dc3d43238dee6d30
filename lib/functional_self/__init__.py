"""functional_self: an instrument for asking whether language models have a functional self.

Import the parts: ``subjects`` (who is asked), ``materials`` (what they are asked), ``behaviour``
(scores, gates, variance), ``runs`` (records, provenance, claims).
"""

__version__ = "0.1.0"
