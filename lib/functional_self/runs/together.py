"""Execute several chapters at once, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from functional_self.errors import RunError
from functional_self.progress import track
from functional_self.runs import chapter, execute, warm

COMMAND = (sys.executable, "-c", "from functional_self.cli import main; main()", "run", "--json", "--preset")


def together(names: Sequence[str], preset: str = "quick") -> Iterator[tuple[execute.Run, bool]]:
    """Execute chapters as ``execute.run`` does, two more at once than there are processors (four at most), the last first.

    Each has a process of its own and its share of the threads, one at least: small forward passes gain little from a second one,
    and with more chapters than processors none of these is idle while the last ones run. Later chapters ask for more and start
    first, since one that starts late ends alone. Ctrl-C and SIGTERM end them all.
    Yields each chapter's run and whether it was executed now.

    Raises:
        RunError: a chapter failed; the message is that of ``execute.run``.
    """
    processors = os.cpu_count() or 1
    workers = min(len(names), processors + 2, 4)
    if min(workers, processors) < 2:
        for name in names:
            yield execute.run(chapter.load(name), preset)
        return
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, processors // workers))}
    running: list[subprocess.Popen[str]] = []

    def apart(name: str) -> tuple[execute.Run, bool]:
        process = subprocess.Popen(
            [*COMMAND, preset, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        running.append(process)
        out, err = process.communicate()
        if process.returncode:
            last = (err.strip().splitlines() or [f"{name}: ended with {process.returncode}"])[-1]
            raise RunError(last.removeprefix("functional-self: "))
        said = json.loads(out)
        return execute.Run(Path(said["path"])), said["executed"]

    with (
        _terminable(),
        warm.serving(environment, at_once=True) as served,
        ThreadPoolExecutor(workers) as pool,
        track(f"chapters at {preset}", len(names)) as advance,
    ):
        environment |= served
        futures = {name: pool.submit(apart, name) for name in reversed(names)}
        try:
            for name in names:
                yield futures[name].result()
                advance(1)
        except BaseException as end:
            if not isinstance(end, Exception):  # after an error what runs may end, and is kept
                for process in running:
                    process.terminate()
            raise
        finally:
            for future in futures.values():
                future.cancel()


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM raises ``SystemExit`` in the main thread, as Ctrl-C raises ``KeyboardInterrupt``."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
