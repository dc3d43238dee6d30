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
_note: list[Callable[[str], object]] = []


def note(text: str) -> None:
    """Say beside the innermost bar what its work is waiting for."""
    if _note:
        _note[-1](text)


@contextmanager
def track(what: str, total: int) -> Iterator[Callable[[int], object]]:
    """Yield ``advance(n)``; progress goes to the file named by the environment, else to a terminal's bar."""
    if target := os.environ.get(FILE):
        done, last, said = 0, 0.0, ""

        def write() -> None:
            text = f"{what} ({said})" if said else what
            Path(target).write_text(json.dumps({"what": text, "done": done, "total": total}))

        def advance(n: int) -> None:
            nonlocal done, last
            done += n
            if time.monotonic() - last > 0.3 or done >= total:
                last = time.monotonic()
                write()

        def say(text: str) -> None:
            nonlocal said
            said = text
            write()

        _note.append(say)
        try:
            yield advance
        finally:
            _note.pop()
    else:
        with tqdm(total=total, desc=what, disable=not sys.stderr.isatty(), leave=False) as bar:
            _note.append(bar.set_postfix_str)
            try:
                yield bar.update
            finally:
                _note.pop()
