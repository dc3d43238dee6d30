"""This library beside others on the same machine, in one run: one line per comparison.

A family is a module here with ``lines()``, which yields dictionaries made by ``harness.line``; ``FAMILIES`` lists them.
"""
