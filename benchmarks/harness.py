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
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from functional_self import __version__, paths
from functional_self.errors import ParameterError
from functional_self.progress import track

FAMILIES = ("scoring",)
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
) -> tuple[list[tuple[float, float]], list[tuple[Any, Any]]]:
    """Run both sides in turn, ours, peer, ours, peer, on every block and again: seconds and results of every pair."""
    seconds, results = [], []
    with track(what, 2 * repetitions * len(blocks)) as advance:
        for block in list(blocks) * repetitions:
            pair = []
            for side in (ours, peer):
                start = time.perf_counter()
                found = side(block)
                pair.append((time.perf_counter() - start, found))
                advance(1)
            seconds.append((pair[0][0], pair[1][0]))
            results.append((pair[0][1], pair[1][1]))
    return seconds, results


def rates(seconds: Sequence[tuple[float, float]], sizes: Sequence[int]) -> dict[str, Any]:
    """Medians of both sides' requests per second, and each pair's ratio ours / peer, from seconds and requests per pair."""
    ours = [n / a for (a, _), n in zip(seconds, sizes, strict=True)]
    peer = [n / b for (_, b), n in zip(seconds, sizes, strict=True)]
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    return {"ratios": ratios, "ours": statistics.median(ours), "peer": statistics.median(peer), "unit": "requests/s"}


def line(
    name: str, goal: float, ratios: Sequence[float], lower_is_better: bool = False, equal: bool = True, **rest: Any
) -> dict[str, Any]:
    """One comparison: the median ratio against its goal; passed where the goal is met and both sides' results are ``equal``."""
    ratio = statistics.median(ratios)
    met = ratio <= goal if lower_is_better else ratio >= goal
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


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """A line's row in the table."""
    return {
        "name": found["name"],
        "ratio": f"{found['ratio']:.2f} ({found['ratio_min']:.2f} to {found['ratio_max']:.2f})",
        "goal": f"{'at most' if found['lower_is_better'] else 'at least'} {found['goal']:g}",
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
