"""The live server as a fixture. A test that takes ``live`` gets it, with an empty cache of its own and a planted API key."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

import pytest
from functional_self import paths, subjects
from server import Server, missing

KEY = "11111111-2222-3333-4444-555555555555"


@functools.cache
def running() -> Server | RuntimeError:
    """One NDIF server, serving the default subject, or why it does not start: no second test waits for that."""
    try:
        return Server(os.path.realpath(subjects.directory("smollm2", subjects.resolve("smollm2")))).wait()
    except RuntimeError as error:
        return error


def stop() -> None:
    """End the server if there is one: Ray, idle, takes a tenth of a core from the tests that follow."""
    if running.cache_info().currsize and isinstance(there := running(), Server):
        there.stop()
        running.cache_clear()


@pytest.fixture
def server() -> Server:
    """The server, started by the first test that asks and ended with the last of a folder."""
    if reason := missing():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"no live NDIF server: {reason}")
    if isinstance(there := running(), RuntimeError):
        raise there
    return there


def without_answers(cache: Path) -> Path:
    """A new cache folder that holds the subjects of the user's and no answers."""
    cache.mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (cache / "subjects").symlink_to(paths.cache() / "subjects")
    return cache


@pytest.fixture
def live(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server with nothing counted and no fault set; the cache holds the subject and no answers."""
    from functional_self.subjects import jobs, remote, wire

    monkeypatch.setenv("FUNCTIONAL_SELF_CACHE", str(without_answers(tmp_path / "cache")))
    monkeypatch.setenv("NDIF_HOST", server.api.url)
    monkeypatch.setenv("NDIF_API_KEY", KEY)
    monkeypatch.setattr(wire, "PATIENCE", 120.0)
    monkeypatch.setattr(jobs, "SETTLE", 3.0)
    monkeypatch.setattr(remote, "PATIENCE", 3.0)
    remote.server.cache_clear()
    server.api.reset()
    server.store.reset()
    return server
