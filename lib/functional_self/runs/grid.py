"""Many runs from one file: chapters x subjects x seeds x parameters, by as many workers as one likes over one shared folder."""

from __future__ import annotations

import itertools
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from functional_self import paths
from functional_self.errors import ParameterError
from functional_self.runs import chapter as chapters
from functional_self.runs import execute, provenance

LEASE = 60.0
"""Seconds after which a cell that its worker no longer touches is free again."""
BEAT = 10.0


class Grid(BaseModel):
    """A grid file: every combination of ``chapters`` and of the values in ``over`` (parameter: values), at one ``preset``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    chapters: list[str] = Field(min_length=1)
    preset: str = "quick"
    over: dict[str, list[Any]] = {}
    parameters: dict[str, Any] = {}

    def cells(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Chapter and overrides of every run, in order."""
        for name, values in itertools.product(self.chapters, itertools.product(*self.over.values())):
            chosen = self.parameters | dict(zip(self.over, values, strict=True))
            yield name, {key: value if isinstance(value, str) else repr(value) for key, value in chosen.items()}


def read(path: Path) -> Grid:
    """A grid file; ParameterError says what is wrong in it and where."""
    try:
        return Grid.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ParameterError(f"grid {path}: there is no such file") from error
    except yaml.YAMLError as error:
        raise ParameterError(f"grid {path}: not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "top level"
        raise ParameterError(f"grid {path}: {where}: {first['msg']}; it has chapters, preset, over and parameters") from error


def run(grid: Grid, wait: float = 2.0) -> pd.DataFrame:
    """Execute what is missing and return one table of all runs' results, one row a run and result.

    Each cell is an ordinary run, found again by its key. A worker holds a cell by a lock beside the runs that it touches every
    few seconds; a cell held by another worker is waited for, and one whose worker was killed is taken over after ``LEASE``.
    """
    left = []
    for name, overrides in grid.cells():
        loaded = chapters.load(name)
        determined = provenance.determinants(loaded, loaded.resolve(grid.preset, overrides))
        left.append((loaded, overrides, f"{loaded.name}-{provenance.key(determined)}"))
    cells = list(left)
    while left:
        busy = []
        for loaded, overrides, home in left:
            if (paths.runs() / home).is_dir():
                continue
            with held(paths.runs() / f".{home}.lock") as ours:
                if ours:
                    execute.run(loaded, grid.preset, overrides)
                else:
                    busy.append((loaded, overrides, home))
        left = busy
        if left:
            time.sleep(wait)
    return table([(execute.Run(paths.runs() / home), overrides) for _, overrides, home in cells])


def table(runs: list[tuple[execute.Run, dict[str, str]]]) -> pd.DataFrame:
    """One row a run and result: the run's name, what was varied, the result's name, value, interval, n and unit."""
    rows = [
        {
            "run": run.name,
            **overrides,
            "result": name,
            **{k: r[k] for k in ("value", "n", "unit")},
            "interval": json.dumps(r["interval"]),
        }
        for run, overrides in runs
        for name, r in run.results.items()
    ]
    return pd.DataFrame(rows)


@contextmanager
def held(lock: Path) -> Iterator[bool]:
    """Yield whether the lock is ours; it is touched while held and removed after. Made by one atomic link, also over NFS."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    mine = lock.with_name(f"{lock.name}.{uuid.uuid4().hex[:8]}")
    mine.write_text(f"{socket.gethostname()} {os.getpid()}\n")
    done = threading.Event()
    try:
        ours = _take(lock, mine)
        if ours:
            threading.Thread(target=_beat, args=(lock, done), daemon=True).start()
        yield ours
    finally:
        done.set()
        if mine.exists() and lock.exists() and lock.samefile(mine):
            lock.unlink(missing_ok=True)
        mine.unlink(missing_ok=True)


def _take(lock: Path, mine: Path) -> bool:
    try:
        os.link(mine, lock)
        return True
    except FileExistsError:
        pass
    try:
        if time.time() - lock.stat().st_mtime < LEASE:
            return False
        aside = lock.with_name(f"{mine.name}.stale")
        lock.rename(aside)  # one of several wins; the others find nothing to rename
        if time.time() - aside.stat().st_mtime < LEASE:  # somebody took it over meanwhile: put it back
            os.link(aside, lock)
            aside.unlink()
            return False
        for name in lock.parent.glob(f"{lock.name}.*"):  # what the killed worker left, and aside itself last
            if name != aside and name.samefile(aside):
                name.unlink()
        aside.unlink()
        os.link(mine, lock)
        return True
    except (FileNotFoundError, FileExistsError):
        return False


def _beat(lock: Path, done: threading.Event) -> None:
    while not done.wait(BEAT):
        try:
            os.utime(lock)
        except OSError:
            return
