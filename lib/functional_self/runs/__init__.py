"""Records, provenance and claims of chapters.

A chapter imports ``record``, ``scores``, ``slug``, ``show_table`` and ``show_figure``; everything else here works on
chapters from outside.
"""

from functional_self.runs.record import record, scores, show_figure, show_table, slug

__all__ = ["record", "scores", "show_figure", "show_table", "slug"]
