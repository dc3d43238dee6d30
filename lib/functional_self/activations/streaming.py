"""Rows of n sources as they are read: nothing is kept but a shuffle buffer, so memory and disk do not grow with the texts.

Letters: N rows of a window, B rows of a batch, n sources, d width of a source, K = n d, their rows side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch

from functional_self import paths
from functional_self.activations import sources as reading
from functional_self.activations.tokens import MARKS, ROLES, Text, bare, batched, describe, module, padded, table
from functional_self.errors import SubjectError
from functional_self.progress import track

WINDOW = 8192
"""Tokens read at a time, about: what a source's forward passes go over before the next source's."""
OUTLIER = 10.0
"""A row whose norm is more than this many times the median norm is an outlier (attention sinks, mostly)."""


@dataclass(frozen=True)
class Rows:
    """Rows of n sources side by side, N x K float32 on the CPU, and what is known of each: ``marks`` as in ``tokens.MARKS``."""

    x_NK: torch.Tensor
    marks: np.ndarray

    @property
    def tokens(self) -> pd.DataFrame:
        """The marks as a frame: text, position, token, role, template, first, outlier."""
        return table(self.marks)


@dataclass(frozen=True)
class Statistics:
    """Of rows, in double precision: how many, their mean (K), and per source the scale sqrt(E |x^m - mean^m|^2 / d) (n)."""

    rows: int
    mean_K: torch.Tensor
    scale_n: torch.Tensor


class Stream:
    """Rows of the residual stream after block ``layer`` of n sources over the same tokens; made by ``stream``.

    Called with a pass (from 0), or iterated over, it gives batches B x K float32 in an order that seed and pass decide, without
    outliers and texts' first tokens; ``rows()`` gives everything in the texts' order with its marks. Either reads the texts
    anew, one forward a source. A row is an outlier where its norm in any source is more than ``OUTLIER`` times that source's
    median norm over the first window with rows.
    """

    def __init__(
        self,
        subjects: Sequence[Any],
        texts: Iterable[Text],
        layer: int,
        roles: Sequence[str] | None = None,
        template: bool = True,
        batch: int = 2048,
        buffer: int = 16384,
        seed: int = 0,
    ):
        self.subjects = [bare(subject) for subject in subjects]
        self.width = reading.check(self.subjects, layer)
        self.texts, self.layer, self.batch, self.buffer, self.seed = texts, layer, batch, buffer, seed
        if unknown := set(roles or ()) - set(ROLES[1:]):
            raise SubjectError(f"activations: role '{sorted(unknown)[0]}' is unknown; accepted are {', '.join(ROLES[1:])}")
        self._wanted = (*(range(1, len(ROLES)) if roles is None else map(ROLES.index, roles)), *([0] if template else []))
        self.median_n: np.ndarray | None = None
        self.outliers = self.seen = 0

    @property
    def names(self) -> list[str]:
        """The sources, in the order in which they stand side by side."""
        return [subject.name for subject in self.subjects]

    @property
    def outlier_share(self) -> float:
        """Share of outliers among the rows of the last pass so far."""
        return self.outliers / self.seen if self.seen else float("nan")

    def __call__(self, epoch: int = 0) -> Iterator[torch.Tensor]:
        """The batches of one pass."""
        return shuffled(map(ordinary, self.rows()), self.batch, self.buffer, (self.seed, epoch))

    def __iter__(self) -> Iterator[torch.Tensor]:
        return self()

    def rows(self) -> Iterator[Rows]:
        """Windows of rows in the order of the texts, outliers among them, each with its marks."""
        self.outliers = self.seen = 0
        total = len(self.texts) if isinstance(self.texts, Sequence) else 0
        with track(f"reading layer {self.layer} of {', '.join(self.names)}", total) as advance:
            for window in self.windows():
                rows = self.read(window)
                self.outliers += int(rows.marks["outlier"].sum())
                self.seen += len(rows.marks)
                yield rows
                advance(len(window))

    def windows(self) -> Iterator[list[np.ndarray]]:
        """The texts' tokens, about ``WINDOW`` of them at a time; SubjectError where sources read a text differently."""
        window: list[np.ndarray] = []
        tokens = 0
        longest = min(getattr(module(subject).config, "max_position_embeddings", 1 << 30) for subject in self.subjects)
        for index, text in enumerate(self.texts):
            marks = describe(self.subjects[0], index, text)
            if len(marks) > longest:
                raise SubjectError(f"text {index}: {len(marks)} tokens, the sources read {longest} at most; cut it")
            reading.same_tokens(self.subjects, index, text, marks["token"].tolist())
            if not len(marks):
                continue
            window.append(marks)
            tokens += len(marks)
            if tokens >= WINDOW:
                yield window
                window, tokens = [], 0
        if window:
            yield window

    def read(self, window: Sequence[np.ndarray]) -> Rows:
        """The rows of one window; SubjectError where one is not finite."""
        order = sorted(range(len(window)), key=lambda i: len(window[i]))
        kept = [np.isin(marks["role"], self._wanted) for marks in window]
        batches = []
        for part in batched([len(window[i]) for i in order]):
            some = order[part]
            ids_BL = padded([window[i]["token"] for i in some], torch.long)
            mask_BL = padded([np.ones(len(window[i])) for i in some], torch.long)
            batches.append((ids_BL, mask_BL, padded([kept[i] for i in some], torch.bool)))
        marks = np.concatenate([window[i][kept[i]] for i in order])
        back = np.argsort(marks["text"], kind="stable")
        marks = marks[back]
        x_NK = torch.cat(reading.read(self.subjects, batches, self.layer), dim=1)[torch.from_numpy(back)]
        self._judge(x_NK, marks)
        return Rows(x_NK, marks)

    def _judge(self, x_NK: torch.Tensor, marks: np.ndarray) -> None:
        """Mark the outliers."""
        norm_Nn = x_NK.reshape(len(x_NK), len(self.subjects), self.width).norm(dim=-1).double().numpy()
        if not np.isfinite(norm_Nn).all():
            at, source = np.argwhere(~np.isfinite(norm_Nn))[0]
            text, position = marks[["text", "position"]][at].tolist()
            raise SubjectError(
                f"subject '{self.names[source]}': layer {self.layer} is not finite at token {position} of text {text}; "
                "look at the weights of the subject or its adapter"
            )
        if self.median_n is None and len(norm_Nn):
            self.median_n = np.median(norm_Nn, axis=0)
        if self.median_n is not None:
            marks["outlier"] = (norm_Nn > OUTLIER * self.median_n).any(axis=1)

    @cached_property
    def key(self) -> str:
        """What decides the rows, as a hash: the subjects' revisions, layer, roles, and the texts."""
        said = [[subject.revision, subject.template] for subject in self.subjects]
        digest = paths.digest("".join(paths.digest(repr(text)) for text in self.texts))
        return paths.digest(repr([said, self.layer, sorted(self._wanted), WINDOW, OUTLIER, MARKS.descr, digest]), 20)


def stream(
    subjects: Sequence[Any],
    texts: Iterable[Text],
    layer: int,
    roles: Sequence[str] | None = None,
    template: bool = True,
    batch: int = 2048,
    buffer: int = 16384,
    seed: int = 0,
) -> Stream:
    """Rows of the residual stream after block ``layer`` of n sources, side by side, to be read as often as wanted.

    ``found(epoch)`` and ``iter(found)`` give batches B x K float32, K = n d, on the CPU; ``crosscoder.fit`` takes it as it is.
    The forward of each source ends at the layer; local sources that are adapters on one base compute the base's blocks below
    the first adapted one once. Nothing is written, and memory holds one window and the shuffle buffer, however many texts
    there are. Local and remote subjects alike; of remote ones every source is read whole.

    Args:
        subjects: the n sources, language models as ``subjects.load`` gives them, of one width and one tokenizer.
        texts: strings, or messages that the subjects' template renders; anything that can be iterated over again.
        layer: index of the block whose output is read, from 0.
        roles: whose words, by default everyone's: system, user, assistant, text.
        template: whether to keep tokens that are nobody's words.
        batch: B, rows of a batch; the last may be smaller.
        buffer: rows among which the order is shuffled.
        seed: of the order.

    Raises SubjectError, one line, where sources differ in width or tokens, a layer is not there, or a row is not finite.
    """
    return Stream(subjects, texts, layer, roles, template, batch, buffer, seed)


def gather(windows: Iterable[Rows]) -> Rows:
    """All windows of a stream's or a store's ``rows()`` as one, in memory; SubjectError where there is no row."""
    found = list(windows)
    if not sum(len(rows.marks) for rows in found):
        raise SubjectError("activations: no rows; are there texts with tokens of these roles?")
    return Rows(torch.cat([rows.x_NK for rows in found]), np.concatenate([rows.marks for rows in found]))


def ordinary(rows: Rows) -> torch.Tensor:
    """Rows that are neither outliers nor a text's first token, N x K."""
    return rows.x_NK[torch.from_numpy(~(rows.marks["outlier"] | rows.marks["first"]))]


def shuffled(parts: Iterable[torch.Tensor], batch: int, buffer: int, seed: tuple[int, int]) -> Iterator[torch.Tensor]:
    """Rows in batches, mixed: a buffer is filled, half of it is given out in random order, and it is filled again."""
    rng = np.random.default_rng(seed)
    waiting: list[torch.Tensor] = []
    count = 0

    def drawn(least: int) -> Iterator[torch.Tensor]:
        nonlocal waiting, count
        pool_NK = torch.cat(waiting)
        order_N = torch.from_numpy(rng.permutation(count))
        end = (count - least) // batch * batch if least else count
        waiting, count = [pool_NK[order_N[end:]]], count - end
        for start in range(0, end, batch):
            yield pool_NK[order_N[start : min(start + batch, end)]]

    for part_NK in parts:
        waiting.append(part_NK)
        count += len(part_NK)
        if count >= buffer + batch:
            yield from drawn(buffer // 2)
    if count:
        yield from drawn(0)


def statistics(batches: Iterable[torch.Tensor], sources: int) -> Statistics:
    """Count, mean and scale per source of rows (B x K), summed in double precision: see ``Statistics``."""
    rows, total_K, square_K = 0, torch.zeros(()).double(), torch.zeros(()).double()
    for x_BK in batches:
        wide_BK = x_BK.double()
        rows, total_K, square_K = rows + len(x_BK), total_K + wide_BK.sum(0), square_K + wide_BK.square().sum(0)
    if not rows:
        raise SubjectError("activations: no rows, so no statistics; are there texts with tokens of these roles?")
    mean_K = total_K / rows
    spread_nd = (square_K / rows - mean_K.square()).clamp(min=0).reshape(sources, -1)
    return Statistics(rows, mean_K, spread_nd.mean(1).sqrt())
