"""A stream's rows on disk: shards of safetensors, an index with their checksums, written whole and resumed where it was cut.

Letters as in ``streaming``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from functional_self import paths
from functional_self.activations.streaming import Rows, Statistics, Stream, ordinary, shuffled, statistics
from functional_self.activations.tokens import MARKS
from functional_self.errors import CrosscoderError
from functional_self.progress import track

INDEX = "index.json"


class Shards:
    """Rows in a folder, to be read as often as wanted, as a ``Stream`` is: called with a pass, iterated over, or by ``rows()``.

    With the same ``batch``, ``buffer`` and ``seed`` the batches are those of the stream it was written from. ``statistics`` are
    of the rows that batches give; ``outlier_share`` is of all.
    """

    def __init__(self, folder: Path, index: dict[str, Any], batch: int = 2048, buffer: int = 16384, seed: int = 0):
        self.folder, self.index, self.batch, self.buffer, self.seed = folder, index, batch, buffer, seed
        self.names: list[str] = index["sources"]
        self.layer, self.width = int(index["layer"]), int(index["width"])

    @property
    def outlier_share(self) -> float:
        """Share of outliers among all rows."""
        return sum(one["outliers"] for one in self.index["shards"]) / max(1, sum(one["rows"] for one in self.index["shards"]))

    @property
    def statistics(self) -> Statistics:
        """Count, mean and scale, in double precision."""
        said = self.index["statistics"]
        mean_K, scale_n = (torch.tensor(said[name], dtype=torch.float64) for name in ("mean", "scale"))
        return Statistics(said["rows"], mean_K, scale_n)

    def __call__(self, epoch: int = 0) -> Iterator[torch.Tensor]:
        """The batches of one pass."""
        return shuffled(map(ordinary, self.rows()), self.batch, self.buffer, (self.seed, epoch))

    def __iter__(self) -> Iterator[torch.Tensor]:
        return self()

    def rows(self) -> Iterator[Rows]:
        """One shard after the other, in the order of the texts, outliers among them."""
        for one in self.index["shards"]:
            found = load_file(self.folder / one["file"])
            marks = np.zeros(one["rows"], dtype=MARKS)
            for name in MARKS.names or ():
                marks[name] = found[name].numpy()
            yield Rows(found["x_NK"], marks)


def write(stream: Stream, folder: Path | str) -> Shards:
    """Write a stream's rows into a folder, a shard for each window of texts, and return them to be read.

    A writing that was killed goes on where it was: at most the shard in hand is lost, and the folder ends the same. A shard
    that was deleted is written again. About 4 K + 20 bytes a row.

    Raises CrosscoderError where the folder holds other rows, or a shard in it is damaged.
    """
    folder = Path(folder)
    with paths.staging(folder):  # sweeps what a kill left
        index = _index(folder) if (folder / INDEX).is_file() else _empty(stream)
    if index["key"] != stream.key:
        held = f"layer {index['layer']} of {', '.join(index['sources'])}"
        raise CrosscoderError(f"{folder}: holds other rows than asked for ({held}, or other texts); take another folder")
    known = {one["file"]: one for one in index["shards"]}
    if index["median"] is not None:
        stream.median_n = np.array(index["median"])
    with track(f"writing layer {stream.layer} of {', '.join(stream.names)}", 0) as advance:
        for number, window in enumerate(stream.windows()):
            file = f"shard-{number:05d}.safetensors"
            if file in known and (folder / file).exists():
                _verify(folder, known[file])
            else:
                known[file] = _shard(folder, file, stream.read(window))
                index["shards"] = [known[name] for name in sorted(known)]
                index["median"] = None if stream.median_n is None else stream.median_n.tolist()
                _keep(folder, index)
            advance(1)
    if not index["whole"]:
        found = Shards(folder, index)
        said = statistics(map(ordinary, found.rows()), len(stream.names))
        index["statistics"] = {"rows": said.rows, "mean": said.mean_K.tolist(), "scale": said.scale_n.tolist()}
        index["whole"] = True
        _keep(folder, index)
    return Shards(folder, index, stream.batch, stream.buffer, stream.seed)


def read(folder: Path | str, batch: int = 2048, buffer: int = 16384, seed: int = 0) -> Shards:
    """The rows that ``write`` left in a folder, every byte of them checked.

    Raises CrosscoderError naming the file that is missing or damaged, or where the writing has not ended.
    """
    folder = Path(folder)
    if not (folder / INDEX).is_file():
        raise CrosscoderError(f"{folder}: no {INDEX}; activations.write(stream, folder) makes it")
    index = _index(folder)
    for one in index["shards"]:
        _verify(folder, one)
    if not index["whole"]:
        done = len(index["shards"])
        raise CrosscoderError(f"{folder}: the writing was cut after {done} shards; write it again, it goes on there")
    return Shards(folder, index, batch, buffer, seed)


def _empty(stream: Stream) -> dict[str, Any]:
    return {
        "key": stream.key,
        "sources": stream.names,
        "revisions": [subject.revision for subject in stream.subjects],
        "layer": stream.layer,
        "width": stream.width,
        "whole": False,
        "median": None,
        "shards": [],
        "statistics": None,
    }


def _shard(folder: Path, file: str, rows: Rows) -> dict[str, Any]:
    """Write one shard, renamed into place when whole, and say what it holds."""
    tensors = {name: torch.from_numpy(rows.marks[name].copy()) for name in MARKS.names or ()}
    with paths.staging(folder) as scratch:
        save_file({"x_NK": rows.x_NK.contiguous(), **tensors}, scratch / file)
        digest = paths.sha256(scratch / file)
        (scratch / file).replace(folder / file)
    return {"file": file, "rows": len(rows.marks), "outliers": int(rows.marks["outlier"].sum()), "sha256": digest}


def _keep(folder: Path, index: dict[str, Any]) -> None:
    index["sha256"] = _digest(index)
    with paths.staging(folder) as scratch:
        (scratch / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        (scratch / INDEX).replace(folder / INDEX)


def _index(folder: Path) -> dict[str, Any]:
    """The index of a folder, its own checksum compared."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        good = index["sha256"] == _digest(index)
    except (OSError, ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise CrosscoderError(f"{folder / INDEX}: is damaged; delete the folder and write it again")
    return index


def _digest(index: dict[str, Any]) -> str:
    return paths.digest(json.dumps({name: value for name, value in index.items() if name != "sha256"}, sort_keys=True))


def _verify(folder: Path, one: dict[str, Any]) -> None:
    path = folder / one["file"]
    if not path.is_file():
        raise CrosscoderError(f"{path}: is missing; write the rows again, only this shard is read anew")
    if paths.sha256(path) != one["sha256"]:
        raise CrosscoderError(f"{path}: is damaged (its bytes are not those written); delete it and write the rows again")
