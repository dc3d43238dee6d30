"""What the families share: timing two sides in turn, the line a comparison becomes, and the run over families."""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from functional_self import __version__, paths
from functional_self.errors import ParameterError
from functional_self.progress import track

FAMILIES = ("scoring", "crosscoder")
PACKAGES = ("torch", "transformers", "nnsight", "numpy")


def run(family: str | None = None) -> Iterator[dict[str, Any]]:
    """The lines of one family, or of all."""
    if family is not None and family not in FAMILIES:
        raise ParameterError(f"bench '{family}': not a family; accepted are {', '.join(FAMILIES)}")
    for name in [family] if family else FAMILIES:
        yield from importlib.import_module(f"benchmarks.{name}").lines()


def find_peers() -> None:
    """Make importable what ``make bench`` installed to compare with; what is locked goes first."""
    sys.path.append(str(Path(sys.prefix) / "bench"))


def alternate(
    ours: Callable[[Any], Any], peer: Callable[[Any], Any], blocks: Sequence[Any], repetitions: int, what: str
) -> tuple[np.ndarray, list[tuple[Any, Any]]]:
    """Run both sides in turn, ours, peer, ours, peer, on every block and again.

    Returns seconds_PSC (pair; ours, peer; on the wall's clock, of this process's processors) and the results of every pair.
    """
    seconds, results = [], []
    with track(what, 2 * repetitions * len(blocks)) as advance:
        for block in list(blocks) * repetitions:
            pair, found = [], []
            for side in (ours, peer):
                start = time.perf_counter(), time.process_time()
                found.append(side(block))
                pair.append((time.perf_counter() - start[0], time.process_time() - start[1]))
                advance(1)
            seconds.append(pair)
            results.append((found[0], found[1]))
    return np.array(seconds), results


def rates(seconds_PSC: np.ndarray, sizes: Sequence[int]) -> dict[str, Any]:
    """Medians of both sides' requests per second and every pair's ratio ours / peer, from the requests of every pair.

    ``cpu_ratio`` is the median ratio by processor time: it tells more on a busy machine.
    """
    ours_P, peer_P = (np.array(sizes) / seconds_PSC[:, side, 0] for side in (0, 1))
    cpu_P = seconds_PSC[:, 1, 1] / seconds_PSC[:, 0, 1]
    return {
        "ratios": (ours_P / peer_P).tolist(),
        "ours": float(np.median(ours_P)),
        "peer": float(np.median(peer_P)),
        "unit": "requests/s",
        "cpu_ratio": float(np.median(cpu_P)),
    }


def durations(wall_PS: np.ndarray) -> dict[str, Any]:
    """Medians of both sides' seconds, in milliseconds."""
    ours, peer = 1000 * np.median(wall_PS, axis=0)
    return {"ours": float(ours), "peer": float(peer), "unit": "ms"}


def line(
    name: str, goal: float | None, ratios: Sequence[float], lower_is_better: bool = False, equal: bool = True, **rest: Any
) -> dict[str, Any]:
    """One comparison: the median ratio against its goal; passed where the goal, if any, is met and both sides are ``equal``."""
    ratio = statistics.median(ratios)
    met = goal is None or (ratio <= goal if lower_is_better else ratio >= goal)
    return {
        "name": name,
        "ratio": ratio,
        "goal": goal,
        "lower_is_better": lower_is_better,
        "passed": met and equal,
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "ratios": [round(r, 4) for r in ratios],
        "pairs": len(ratios),
        "peak_rss_mib": peak_rss(),
        **rest,
        "machine": machine(),
        "versions": {"functional_self": __version__, **{p: importlib.metadata.version(p) for p in PACKAGES}},
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
    }


def grown(family: str, sizes: tuple[int, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ``python -m benchmarks.FAMILY SIZE`` prints last, at the smaller and the larger size, each in a process of its own."""
    found = []
    with track(f"{family}-memory", sum(sizes)) as advance:
        for size in sizes:
            command = [sys.executable, "-m", f"benchmarks.{family}", str(size)]
            done = subprocess.run(command, cwd=paths.root(), check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
            advance(size)
    return found[0], found[1]


def memory(family: str, few: dict[str, Any], many: dict[str, Any], peer_name: str, **rest: Any) -> dict[str, Any]:
    """The line of a peak memory that shall not grow with the work: at most a tenth more for ten times as much."""
    return line(
        f"{family}-memory",
        1.10,
        [many["peak"] / few["peak"]],
        lower_is_better=True,
        ours=many["peak"],
        peer=few["peak"],
        unit="MiB",
        peer_name=peer_name,
        repetitions=1,
        peak_rss_mib=many["peak"],
        **rest,
    )


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """A line's row in the table."""
    return {
        "name": found["name"],
        "ratio": f"{found['ratio']:.2f} ({found['ratio_min']:.2f} to {found['ratio_max']:.2f})",
        "goal": "none" if found["goal"] is None else f"{'at most' if found['lower_is_better'] else 'at least'} {found['goal']:g}",
        "ours": f"{found['ours']:.1f} {found['unit']}",
        "peer": f"{found['peer']:.1f} {found['unit']}, {found['peer_name']}",
        "pairs": found["pairs"],
        "passed": found["passed"],
    }


def peak_rss() -> float:
    """The largest resident set of this process so far, in MiB.

    Linux's ``VmHWM`` starts anew with the program; ``getrusage`` would inherit the parent's and serves elsewhere.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        found = dict(row.split(":", 1) for row in status.read_text().splitlines())
        return round(int(found["VmHWM"].split()[0]) / 1024, 1)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def machine() -> dict[str, Any]:
    """The processor, its cores, the threads used and how busy the machine is, without its name."""
    import torch

    info = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*: (.*)$", info.read_text(), flags=re.MULTILINE) if info.is_file() else []
    return {
        "cpu": (models or [platform.processor() or platform.machine()])[0],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def write(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """One JSON object a line."""
    paths.write_text(path, "".join(json.dumps(found) + "\n" for found in lines))
