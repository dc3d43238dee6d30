"""Scores already computed, kept in the user's cache: a run resumes where it was cut, and chapters share what they ask."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

import numpy as np

from functional_self import paths
from functional_self.subjects.base import Progress, Request, Subject

RECOMPUTE = "FUNCTIONAL_SELF_RECOMPUTE"
"""Environment variable: ask the subject again even where an answer is kept (and keep the new one)."""
COUNTS = {"computed": 0, "stored": 0}
CHUNK = 1024
"""Requests scored and kept at a time: what a kill can lose, and all that memory holds."""


class StoredSubject:
    """A subject whose answers are kept on disk; the model behind it is loaded when something is missing.

    A kept answer is found again by the hash of the subject's revision, of the code that scores, and of messages and
    options. Every chunk is kept by one transaction, so a kill loses at most the chunk in hand. ``COUNTS`` says how many
    requests of this process were asked and how many found.
    """

    def __init__(
        self,
        name: str,
        title: str,
        revision: str,
        load: Callable[[], Subject],
        path: Path | None = None,
    ):
        self.name, self.title, self.revision, self.simulated = name, title, revision, False
        self._load = load
        self._model: Subject | None = None
        self._path = path or paths.cache() / "scores.sqlite"

    @property
    def model(self) -> Subject:
        """The subject itself, loaded once."""
        if self._model is None:
            self._model = self._load()
        return self._model

    def option_logprobs(self, requests: Sequence[Request], progress: Progress | None = None) -> list[tuple[float, ...]]:
        """log P(option | messages) in nats, from the store where it is there; every ``CHUNK`` requests are kept as one."""
        answers: list[tuple[float, ...]] = []
        for start in range(0, len(requests), CHUNK):
            chunk = requests[start : start + CHUNK]
            texts = self._recall("scores", [self._key("score", r.messages, r.options) for r in chunk], progress, chunk)
            answers += [tuple(np.frombuffer(text, "<f8").tolist()) for text in texts]
        return answers

    def generate(
        self,
        requests: Sequence[Request],
        max_new_tokens: int = 24,
        temperature: float = 1.0,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[str]:
        """Sampled answers to the prompts, from the store where they are there."""
        how = (max_new_tokens, temperature, seed)
        answers: list[str] = []
        for start in range(0, len(requests), CHUNK):
            chunk = requests[start : start + CHUNK]
            keys = [self._key("generate", r.messages, (*map(str, how), str(start + i))) for i, r in enumerate(chunk)]

            def ask(missing: list[Request], advance: Progress | None, at: int = start) -> list[bytes]:
                found = self.model.generate(missing, max_new_tokens, temperature, seed + at, advance)
                return [text.encode() for text in found]

            answers += [text.decode() for text in self._recall("texts", keys, progress, chunk, ask)]
        return answers

    def _recall(
        self,
        table: str,
        keys: list[bytes],
        progress: Progress | None,
        chunk: Sequence[Request],
        ask: Callable[[list[Request], Progress | None], list[bytes]] | None = None,
    ) -> list[bytes]:
        """The kept value of every key; what is missing is asked for and kept in one transaction."""
        kept = {} if os.environ.get(RECOMPUTE) else self._read(table, keys)
        missing = [i for i, key in enumerate(keys) if key not in kept]
        COUNTS["stored"] += len(keys) - len(missing)
        COUNTS["computed"] += len(missing)
        if progress and len(keys) > len(missing):
            progress(len(keys) - len(missing))
        if missing:
            wanted = [chunk[i] for i in missing]
            if ask is None:
                found = [np.asarray(row, "<f8").tobytes() for row in self.model.option_logprobs(wanted, progress)]
            else:
                found = ask(wanted, progress)
            fresh = dict(zip((keys[i] for i in missing), found, strict=True))
            with self._database() as database, database:
                database.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", fresh.items())  # noqa: S608
            kept |= fresh
        return [kept[key] for key in keys]

    def _read(self, table: str, keys: list[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        try:
            with self._database() as database:
                for start in range(0, len(keys), 500):
                    part = keys[start : start + 500]
                    marks = ",".join("?" * len(part))
                    found |= dict(database.execute(f"SELECT key, value FROM {table} WHERE key IN ({marks})", part))  # noqa: S608
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns()}")
            self._path.replace(aside)
            print(
                f"functional-self: {self._path} was damaged; it is now {aside.name}, scores are computed again", file=sys.stderr
            )
            return {}
        return found

    def _key(self, *what: object) -> bytes:
        text = json.dumps([self.revision, _code(), what], ensure_ascii=False)
        return hashlib.sha256(text.encode()).digest()[:20]

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """The store, made where it is not there."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=120)) as database:
            for table in ("scores", "texts"):
                database.execute(f"CREATE TABLE IF NOT EXISTS {table} (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
            yield database


@cache
def _code() -> str:
    """Hash of the code and the packages that turn a prompt into a score."""
    here = Path(__file__).parent
    files = "".join(paths.sha256(here / name) for name in ("model.py", "forward.py", "prefix.py", "fetch.py"))
    return paths.digest(files + "".join(map(importlib.metadata.version, ("torch", "transformers"))), 16)
