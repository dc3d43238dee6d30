"""Score many token sequences that share prefixes, computing every shared token once.

Letters: S sequences, N nodes of a packed row, L tokens of a group's shared prefix.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Tokens = tuple[int, ...]

GROUP_OVERHEAD = 48
"""Tokens' worth of time that starting one more prefix group costs (cache set-up, smaller batches)."""


@dataclass(frozen=True)
class Row:
    """Some sequences of one group as a token tree, flattened depth first, without the group's prefix.

    ``tokens_N``, ``depth_N`` (0 for the first token after the prefix) and ``ancestors_NN`` (true where
    the column's token precedes or is the row's token in some sequence) describe the tree;
    ``paths[s]`` lists the nodes of sequence ``index[s]`` in order.
    """

    tokens_N: np.ndarray
    depth_N: np.ndarray
    ancestors_NN: np.ndarray
    index: tuple[int, ...]
    paths: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Group:
    """Sequences that start with the same ``prefix`` tokens, packed into rows."""

    prefix: Tokens
    rows: tuple[Row, ...]

    @property
    def cost(self) -> int:
        """Tokens the forward passes read: the prefix once and every node once."""
        return len(self.prefix) + sum(len(row.tokens_N) for row in self.rows)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Number of leading tokens that ``a`` and ``b`` share."""
    n = min(len(a), len(b))
    for i in range(n):
        if a[i] != b[i]:
            return i
    return n


def plan(sequences: Sequence[Tokens], keep: Sequence[int], row_tokens: int = 160) -> list[Group]:
    """Pack sequences into prefix groups and rows of at most about ``row_tokens`` nodes.

    Sorted sequences make a trie's cost additive: a sequence adds its length minus what it shares
    with the one before. Groups are the runs whose neighbours share at least t tokens; the t that
    costs the fewest tokens, counting an overhead per group, is taken. The last ``keep[s]`` tokens of
    sequence s stay out of its group's prefix.
    """
    order = sorted(range(len(sequences)), key=lambda s: sequences[s])
    ordered = [sequences[s] for s in order]
    shared = [0] + [common_prefix(a, b) for a, b in itertools.pairwise(ordered)]
    best: list[tuple[int, int, int]] = []
    best_cost = float("inf")
    for threshold in sorted(set(shared)):
        starts = [i for i, lcp in enumerate(shared) if i == 0 or lcp < threshold]
        spans = []
        for lo, hi in zip(starts, [*starts[1:], len(ordered)], strict=True):
            inside = min(shared[lo + 1 : hi], default=len(ordered[lo]))
            allowed = min(len(ordered[i]) - keep[order[i]] for i in range(lo, hi))
            spans.append((lo, hi, min(inside, allowed)))
        cost = sum(
            skip + GROUP_OVERHEAD + sum(size for *_, size in _cut(ordered, shared, lo, hi, skip, row_tokens))
            for lo, hi, skip in spans
        )
        if cost < best_cost:
            best, best_cost = spans, cost
    return [
        Group(
            prefix=ordered[lo][:skip],
            rows=tuple(
                tree(ordered[a:b], tuple(order[a:b]), skip) for a, b, _ in _cut(ordered, shared, lo, hi, skip, row_tokens)
            ),
        )
        for lo, hi, skip in best
    ]


def _cut(
    ordered: Sequence[Tokens], shared: Sequence[int], lo: int, hi: int, skip: int, row_tokens: int
) -> Iterator[tuple[int, int, int]]:
    """Cut ``ordered[lo:hi]`` into rows (start, end, nodes) of at most ``row_tokens`` nodes where possible, at the least cost.

    Nodes of a row from a to b = sum_{a <= i < b} added_i + again_a: a cut before sequence a reads again what a shares
    with the one before, so the cuts taken are those with the smallest sum of ``again``.
    """
    n = hi - lo
    again = [0] + [max(shared[i], skip) - skip for i in range(lo + 1, hi)]
    added = [len(ordered[lo + i]) - skip - again[i] for i in range(n)]
    cost, first = [0] * (n + 1), [0] * (n + 1)  # of the best cuts of the first so many sequences; where their last row starts
    for end in range(1, n + 1):
        start, size = end - 1, added[end - 1]
        cost[end], first[end] = cost[start] + again[start], start
        while start and size + added[start - 1] <= row_tokens:
            start -= 1
            size += added[start]
            if size + again[start] <= row_tokens and cost[start] + again[start] < cost[end]:
                cost[end], first[end] = cost[start] + again[start], start
    ends = [n]
    while first[ends[-1]]:
        ends.append(first[ends[-1]])
    for start, end in itertools.pairwise([0, *reversed(ends)]):
        yield lo + start, lo + end, again[start] + sum(added[start:end])


def tree(ordered: Sequence[Tokens], index: tuple[int, ...], skip: int) -> Row:
    """Flatten sorted sequences (their first ``skip`` tokens dropped) into one token tree."""
    tokens: list[int] = []
    depth: list[int] = []
    ancestry: list[list[int]] = []
    paths: list[np.ndarray] = []
    path: list[int] = []
    previous: Tokens = ()
    for sequence in ordered:
        rest = sequence[skip:]
        path = path[: common_prefix(previous, rest)]
        for d in range(len(path), len(rest)):
            path.append(len(tokens))
            tokens.append(rest[d])
            depth.append(d)
            ancestry.append(path.copy())
        paths.append(np.array(path))
        previous = rest
    ancestors = np.zeros((len(tokens), len(tokens)), dtype=bool)
    for node, line in enumerate(ancestry):
        ancestors[node, line] = True
    return Row(np.array(tokens), np.array(depth), ancestors, index, tuple(paths))
