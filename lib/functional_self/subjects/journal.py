"""Remote jobs on disk: what was sent, what the server calls it, and what came back."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from functional_self import paths

KEEP_DAYS = 60
"""Finished jobs older than this are forgotten."""
State = Literal["sending", "accepted", "done", "failed", "unknown"]


@dataclass(frozen=True)
class Entry:
    """One job: ``key`` says what is asked, ``job`` is its id on the server at ``host``.

    ``sending`` is written before the first byte goes out and ``accepted`` before anything waits, so after a kill at any
    moment an entry says whether the job is known to be with the server. ``unknown``: sent, and nothing says whether it
    arrived.
    """

    key: str
    job: str
    host: str
    what: str
    state: State
    said: str
    created: float
    result: bytes | None
    tokens: int = 0
    seconds: float = 0.0


class Journal:
    """The journal in the user's cache, shared by the processes of this machine."""

    def __init__(self, path: Path | None = None):
        self.path = path or paths.cache() / "jobs.sqlite"

    def get(self, key: str) -> Entry | None:
        """The entry of what is asked, if there is one."""
        with self._database() as database:
            row = database.execute("SELECT * FROM jobs WHERE key = ?", (key,)).fetchone()
        return Entry(*row) if row else None

    def entries(self) -> list[Entry]:
        """Every entry, oldest first, without results."""
        with self._database() as database:
            rows = database.execute(
                "SELECT key, job, host, what, state, said, created, NULL, tokens, seconds FROM jobs ORDER BY created"
            )
            return [Entry(*row) for row in rows]

    def claim(self, key: str, job: str, host: str, what: str, tokens: int = 0, instead: str = "") -> bool:
        """Enter a job as ``sending``, in the place of job ``instead``; False where another process entered one meanwhile."""
        with self._database() as database, database:
            database.execute("DELETE FROM jobs WHERE key = ? AND job = ?", (key, instead))
            done = database.execute(
                "INSERT OR IGNORE INTO jobs VALUES (?, ?, ?, ?, 'sending', '', ?, NULL, ?, 0)",
                (key, job, host, what, time.time(), tokens),
            )
            return done.rowcount == 1

    def note(self, key: str, state: State, said: str = "", job: str | None = None, result: bytes | None = None) -> None:
        """What is known of a job from now on."""
        with self._database() as database, database:
            database.execute(
                "UPDATE jobs SET state = ?, said = ?, job = COALESCE(?, job), result = ? WHERE key = ?",
                (state, said, job, result, key),
            )

    def took(self, key: str, seconds: float) -> None:
        """How long a job was with the server, for the next plan."""
        with self._database() as database, database:
            database.execute("UPDATE jobs SET seconds = ? WHERE key = ?", (seconds, key))

    def rate(self, host: str) -> float | None:
        """Tokens a second of the last jobs at a host; None where there were none."""
        with self._database() as database:
            rows = database.execute(
                "SELECT tokens, seconds FROM jobs WHERE host = ? AND seconds > 0 AND tokens > 0 ORDER BY created DESC LIMIT 20",
                (host,),
            ).fetchall()
        return sum(t for t, _ in rows) / sum(s for _, s in rows) if rows else None

    def forget(self, key: str) -> None:
        """Drop an entry: the job is known not to be with the server."""
        with self._database() as database, database:
            database.execute("DELETE FROM jobs WHERE key = ?", (key,))

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=120)) as database:
            with database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS jobs (key TEXT PRIMARY KEY, job TEXT, host TEXT, what TEXT, state TEXT, "
                    "said TEXT, created REAL, result BLOB, tokens INT, seconds REAL) WITHOUT ROWID"
                )
                old = time.time() - KEEP_DAYS * 86400
                database.execute("DELETE FROM jobs WHERE state IN ('done', 'failed') AND created < ?", (old,))
            yield database
