"""Exercises, student notebooks, slides and handouts: the teaching side of the book, made from the published results."""

from functional_self.teaching.redo import redo

__all__ = ["redo"]
