"""Packing: every sequence is there, in order, and nothing shared is computed twice within a row."""

from __future__ import annotations

import numpy as np
from functional_self.subjects.prefix import plan
from hypothesis import given, settings
from hypothesis import strategies as st

sequences = st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=12).map(tuple), min_size=1, max_size=30)


@settings(max_examples=200, deadline=None)
@given(sequences, st.integers(4, 40), st.integers(1, 3))
def test_every_sequence_can_be_read_back(found, row_tokens, keep):
    groups = plan(found, [keep] * len(found), row_tokens)
    seen = []
    for group in groups:
        for row in group.rows:
            for s, path in zip(row.index, row.paths, strict=True):
                assert group.prefix + tuple(row.tokens_N[path]) == found[s]
                assert len(path) >= keep
                assert list(row.depth_N[path]) == list(range(len(path)))
                for i, node in enumerate(path):
                    assert set(np.flatnonzero(row.ancestors_NN[node])) == set(path[: i + 1])
                seen.append(s)
    assert sorted(seen) == list(range(len(found)))


@settings(max_examples=100, deadline=None)
@given(sequences)
def test_packing_never_costs_more_than_reading_everything(found):
    assert sum(group.cost for group in plan(found, [1] * len(found))) <= sum(map(len, found)) + max(map(len, found))


def test_a_long_shared_prefix_is_read_once():
    found = [(*range(100), 200 + i, 300 + i) for i in range(50)]
    groups = plan(found, [2] * 50)
    assert len(groups) == 1 and groups[0].cost == 100 + 50 * 2
