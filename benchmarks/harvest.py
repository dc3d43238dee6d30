"""Reading activations: tokens per second beside a raw truncated forward and beside nnterp, memory and disk of a long stream.

The rows of ``make bench BENCH=crosscoder`` that are about the harvest; ``benchmarks.crosscoder`` yields them with its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from functional_self import activations, paths, subjects
from functional_self.activations import tokens
from functional_self.errors import FunctionalSelfError

from benchmarks import harness

LAYER, BLOCKS, BLOCK_TOKENS = 12, 4, 3000
NNTERP = "1.3.0"
ORGANISMS = ("planted-self-a-s0", "planted-none-s0")
TOLERANCE = 1e-4
MEMORY = (50_000, 500_000)
"""Tokens of the two streams whose memory is compared."""
STREAMED_LAYER = 1
"""A low layer, so that half a million tokens take minutes."""
Batches = list[tuple[torch.Tensor, torch.Tensor]]


def lines() -> Iterator[dict[str, Any]]:
    """The rows of this family."""
    base = subjects.load("smollm2", store=False)
    texts = blocks()
    truncated = Truncated(base)
    yield speed("harvest-raw", 0.9, [base], truncated, texts, "transformers' own forward, cut after the layer, ids given")
    three = [base, *(subjects.load("smollm2", adapter=name, store=False) for name in ORGANISMS)]
    thrice = Separate(three)
    yield speed("harvest-shared", 1.3, three, thrice, texts, "the same forward of base and two adapters one by one, ids given")
    base = subjects.load("smollm2", store=False)
    with Nnterp() as peer:
        yield speed("harvest-nnterp", 0.9, [base], peer, texts, f"nnterp {NNTERP} on nnsight {peer.nnsight}, tracer.stop()")
    yield memory()


def read(sources: Sequence[Any], texts: Sequence[tokens.Text]) -> torch.Tensor:
    """Rows of all sources side by side after block ``LAYER``, as the library streams them."""
    return torch.cat([rows.x_NK for rows in activations.stream(sources, texts, LAYER).rows()])


def blocks() -> list[list[tokens.Text]]:
    """Beginnings of the shipped corpus in blocks of about ``BLOCK_TOKENS``."""
    found = activations.texts(tokens=BLOCKS * BLOCK_TOKENS)
    return [found[i::BLOCKS] for i in range(BLOCKS)]


def batches(subject: Any, texts: Sequence[tokens.Text]) -> tuple[Batches, torch.Tensor]:
    """Ids and mask in the batches that the harvest reads, and where the texts' tokens, one after the other, stand in them."""
    found = [tokens.describe(tokens.bare(subject), i, text) for i, text in enumerate(texts)]
    found.sort(key=len)
    cut = [[marks["token"] for marks in found[part]] for part in tokens.batched(list(map(len, found)))]
    given = [(tokens.padded(ids, torch.long), tokens.padded([np.ones(len(each)) for each in ids], torch.long)) for ids in cut]
    return given, torch.from_numpy(np.argsort(np.concatenate(found)["text"], kind="stable"))


class Truncated:
    """transformers' forward over blocks 0 to ``LAYER`` and nothing after them."""

    def __init__(self, subject: Any):
        self.inner = tokens.module(tokens.bare(subject))._module.model

    def __call__(self, given: Batches) -> torch.Tensor:
        """Rows after block ``LAYER``, in the batches' order."""
        inner, every, norm = self.inner, self.inner.config.num_hidden_layers, self.inner.norm
        inner.config.num_hidden_layers, inner.norm = LAYER + 1, torch.nn.Identity()
        try:
            with torch.inference_mode():
                found = [
                    inner(input_ids=ids_BL, attention_mask=mask_BL, use_cache=False).last_hidden_state[mask_BL.bool()]
                    for ids_BL, mask_BL in given
                ]
        finally:
            inner.config.num_hidden_layers, inner.norm = every, norm
        return torch.cat(found)


class Separate:
    """The same, of several subjects one after the other."""

    def __init__(self, sources: Sequence[Any]):
        self.sources = sources

    def __call__(self, given: Batches) -> torch.Tensor:
        """Rows of every source side by side."""
        found = []
        for source in self.sources:
            _ = source.model  # its adapter in place
            found.append(Truncated(source)(given))
        return torch.cat(found, dim=1)


class Nnterp:
    """nnterp in a process of its own, with the nnsight it can use; it reads the same batches."""

    def __init__(self) -> None:
        peers = Path(os.environ.get("FUNCTIONAL_SELF_PEERS", Path(sys.prefix) / "bench"))
        if not (peers / "nnterp").is_dir():
            raise FunctionalSelfError(f"bench crosscoder: nnterp {NNTERP} is not installed; run: make bench BENCH=crosscoder")
        where = str(subjects.directory("smollm2", subjects.resolve("smollm2")))
        command = [
            sys.executable,
            str(Path(__file__).with_name("nnterp_peer.py")),
            where,
            str(LAYER),
            str(torch.get_num_threads()),
        ]
        environment = os.environ | {"PYTHONPATH": str(peers)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.folder = tempfile.TemporaryDirectory()
        self.nnsight = self._answer()["nnsight"]

    def __enter__(self) -> Nnterp:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.folder.cleanup()

    def __call__(self, given: Batches) -> torch.Tensor:
        """Rows after block ``LAYER``; their seconds, measured there, are in ``seconds``."""
        torch.save(given, Path(self.folder.name) / "given.pt")
        print(self.folder.name, file=self.process.stdin, flush=True)
        self.seconds = self._answer()["seconds"]
        return torch.load(Path(self.folder.name) / "found.pt", weights_only=True)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            if text.startswith("{"):
                return json.loads(text)
        raise FunctionalSelfError("bench crosscoder: nnterp ended; its error is above")


def speed(
    name: str, goal: float, sources: Sequence[Any], peer: Callable[[Batches], torch.Tensor], texts: list[Any], peer_name: str
) -> dict[str, Any]:
    """Tokens per second of the harvest, tokenisation and masks included, over the peer's, which is given ids."""

    def ours(block: int) -> torch.Tensor:
        return read(sources, texts[block])

    given, back = zip(*(batches(sources[0], some) for some in texts), strict=True)
    ours(0)
    peer(given[0])  # the first call of either is slower
    told: list[tuple[float, float]] = []

    def theirs(block: int) -> torch.Tensor:
        found = peer(given[block])
        told.append(getattr(peer, "seconds", (0.0, 0.0)))
        return found[back[block]]

    seconds, results = harness.alternate(ours, theirs, range(len(texts)), 2, name)
    if any(map(sum, told)):
        seconds[:, 1] = told
    sizes = [int(sum(mask_BL.sum() for _, mask_BL in some)) for some in given]
    difference = max(float((a - b).abs().max()) for a, b in results)
    return harness.line(
        name,
        goal,
        equal=difference <= TOLERANCE,
        **harness.rates(seconds, sizes * 2) | {"unit": "tokens/s"},
        peer_name=peer_name,
        repetitions=2,
        tokens=sum(sizes),
        layer=LAYER,
        sources=len(sources),
        max_abs_difference=difference,
        tolerance=TOLERANCE,
    )


def memory() -> dict[str, Any]:
    """Peak memory of a long stream / of one of a tenth, each in a process of its own, and what either left on the disk."""
    few, many = harness.grown("harvest", MEMORY)
    return harness.memory(
        "harvest",
        few,
        many,
        f"this library with {MEMORY[0]} tokens",
        equal=all(one["disk_bytes"] == 0 for one in (few, many)),
        tokens=MEMORY[1],
        rows=many["rows"],
        beyond_loading=[one["peak"] - one["loaded"] for one in (many, few)],
        disk_bytes=[one["disk_bytes"] for one in (many, few)],
        stored_bytes_per_token=many["stored_bytes_per_token"],
    )


class Repeated:
    """Texts over and over until so many tokens were given; to be iterated over again."""

    def __init__(self, texts: Sequence[tokens.Text], counts: Sequence[int], total: int):
        self.texts, self.counts, self.total = texts, counts, total

    def __iter__(self) -> Iterator[tokens.Text]:
        given = 0
        while True:
            for text, count in zip(self.texts, self.counts):
                if given >= self.total:
                    return
                given += count
                yield text


def main(total: int) -> None:
    """Stream ``total`` tokens of two sources; print this process's memory, what the disk holds more, and a store's bytes."""
    texts = activations.texts(tokens=20_000)
    sources = [subjects.load("smollm2", store=False), subjects.load("smollm2", adapter=ORGANISMS[0], store=False)]
    counts = [len(tokens.describe(tokens.bare(sources[0]), i, text)) for i, text in enumerate(texts)]
    few = activations.stream(sources, texts[:4], STREAMED_LAYER)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        with tempfile.TemporaryDirectory() as store:
            activations.write(few, Path(store))
            stored = _size(Path(store)) / sum(counts[:4])
        before, loaded = _size(Path(folder)) + _size(paths.cache()), harness.peak_rss()
        rows = sum(map(len, activations.stream(sources, Repeated(texts, counts, total), STREAMED_LAYER)))
        disk = _size(Path(folder)) + _size(paths.cache()) - before
    print(
        json.dumps(
            {"loaded": loaded, "peak": harness.peak_rss(), "rows": rows, "disk_bytes": disk, "stored_bytes_per_token": stored}
        )
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != "scores.sqlite")


if __name__ == "__main__":
    main(int(sys.argv[1]))
