"""A store on disk gives the stream's batches, survives being killed, and names what is damaged."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from functional_self import activations, subjects
from functional_self.activations import shards, statistics, stream, streaming
from functional_self.errors import CrosscoderError

TEXTS = [f"Then came the number {i}, and then the number {i + 1}, which was one more than {i}." for i in range(36)]
TURNS = 20 if os.environ.get("FUNCTIONAL_SELF_ACCEPTANCE") else 3


@pytest.fixture(scope="module")
def twin():
    torch.set_num_threads(1)  # forked below
    return subjects.load("random:smollm2@2", store=False)


@pytest.fixture
def made(twin, monkeypatch):
    monkeypatch.setattr(streaming, "WINDOW", 100)
    return stream([twin, twin], TEXTS, 0, batch=64, buffer=256, seed=5)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_store_gives_the_streams_batches(made, tmp_path):
    written = activations.write(made, tmp_path / "store")
    found = activations.read(tmp_path / "store", batch=64, buffer=256, seed=5)
    for epoch in (0, 1):
        assert all(map(torch.equal, made(epoch), found(epoch))) and all(map(torch.equal, made(epoch), written(epoch)))
    assert sum(map(len, found)) == len(torch.cat(list(made)))
    for a, b in zip(made.rows(), found.rows(), strict=True):
        assert torch.equal(a.x_NK, b.x_NK) and a.tokens.equals(b.tokens)
    said, again = found.statistics, statistics(made, 2)
    assert said.rows == again.rows and said.mean_K.numpy() == pytest.approx(again.mean_K.numpy(), rel=1e-12, abs=1e-15)
    assert said.scale_n.tolist() == pytest.approx(again.scale_n.tolist(), rel=1e-12)
    assert found.outlier_share == made.outlier_share and (found.names, found.layer, found.width) == (made.names, 0, 576)
    size = sum(path.stat().st_size for path in (tmp_path / "store").glob("*.safetensors"))
    assert size / sum(len(rows.marks) for rows in found.rows()) < 4 * 2 * 576 + 40


@pytest.mark.acceptance
def test_killed_at_any_moment_it_loses_one_shard_at_most_and_ends_the_same(made, tmp_path, monkeypatch, record_property):
    start = time.monotonic()
    activations.write(made, tmp_path / "whole")
    whole, seconds = bytes_of(tmp_path / "whole"), time.monotonic() - start
    windows = sum(1 for _ in made.windows())
    rng, cut, lost = random.Random(7), [], []
    for turn in range(TURNS):
        folder = tmp_path / f"cut-{turn}"
        process = multiprocessing.get_context("fork").Process(target=activations.write, args=(made, folder))
        process.start()
        process.join(rng.random() * seconds)
        process.kill()
        process.join()
        there = {path.name for path in folder.glob("shard-*.safetensors")} if folder.is_dir() else set()
        again = []
        with monkeypatch.context() as patched:
            read = made.read
            patched.setattr(made, "read", lambda window, read=read, again=again: (again.append(1), read(window))[1])
            activations.write(made, folder)
        assert bytes_of(folder) == whole
        lost.append(len(again) - (windows - len(there)))
        cut.append(len(there) < windows)
    assert set(lost) <= {0, 1}
    assert any(cut)
    record_property("kills", f"{TURNS} kills, {sum(cut)} before the end, {sum(lost)} shards read again")


def test_any_flipped_byte_is_found_and_named(made, tmp_path):
    folder = tmp_path / "store"
    activations.write(made, folder)
    rng = np.random.default_rng(0)
    for path in sorted(folder.iterdir()):
        before = path.read_bytes()
        changed = bytearray(before)
        changed[int(rng.integers(len(before)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        for use in (lambda: activations.read(folder), lambda: activations.write(made, folder)):
            with pytest.raises(CrosscoderError, match=rf"{path.name}: is damaged") as error:
                use()
            assert "\n" not in str(error.value)
        path.write_bytes(before)
    activations.read(folder)


def test_truncated_renamed_missing_and_unfinished_are_named(made, tmp_path):
    folder = tmp_path / "store"
    activations.write(made, folder)
    whole = bytes_of(folder)
    one, two = folder / "shard-00001.safetensors", folder / "shard-00002.safetensors"
    one.write_bytes(whole[one.name][:-10])
    with pytest.raises(CrosscoderError, match=r"shard-00001\.safetensors: is damaged"):
        activations.read(folder)
    one.write_bytes(whole[two.name])
    with pytest.raises(CrosscoderError, match=r"shard-00001\.safetensors: is damaged"):
        activations.read(folder)
    one.rename(folder / "elsewhere.safetensors")
    with pytest.raises(CrosscoderError, match=r"shard-00001\.safetensors: is missing"):
        activations.read(folder)
    (folder / "elsewhere.safetensors").unlink()
    activations.write(made, folder)
    assert bytes_of(folder) == whole
    index = json.loads(whole[shards.INDEX]) | {"whole": False}
    shards._keep(folder, index)
    with pytest.raises(CrosscoderError, match="was cut after"):
        activations.read(folder)
    with pytest.raises(CrosscoderError, match=r"no index\.json"):
        activations.read(tmp_path)


def test_another_streams_folder_is_not_written_over(made, twin, tmp_path):
    folder = tmp_path / "store"
    activations.write(made, folder)
    whole = bytes_of(folder)
    for other in (stream([twin, twin], TEXTS, 1), stream([twin], TEXTS, 0), stream([twin, twin], TEXTS[1:], 0)):
        with pytest.raises(CrosscoderError, match="holds other rows than asked for"):
            activations.write(other, folder)
    assert bytes_of(folder) == whole
