"""Progress of long work: a bar on a terminal, or a file that another process shows."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm.auto import tqdm

FILE = "FUNCTIONAL_SELF_PROGRESS"
"""Environment variable naming the file a run's kernel reports its progress in."""


@contextmanager
def track(what: str, total: int) -> Iterator[Callable[[int], object]]:
    """Yield ``advance(n)``; progress goes to the file named by the environment, else to a terminal's bar."""
    if target := os.environ.get(FILE):
        done, last = 0, 0.0

        def advance(n: int) -> None:
            nonlocal done, last
            done += n
            if time.monotonic() - last > 0.3 or done >= total:
                last = time.monotonic()
                Path(target).write_text(json.dumps({"what": what, "done": done, "total": total}))

        yield advance
    else:
        with tqdm(total=total, desc=what, disable=not sys.stderr.isatty(), leave=False) as bar:
            yield bar.update
