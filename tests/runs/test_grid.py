"""Grids: every cell once, whatever is killed and however many workers there are."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import cli_here, leftovers, refused
from functional_self.runs import grid

FULL = "FUNCTIONAL_SELF_ACCEPTANCE" in os.environ
GRID = """chapters: [tiny]
over: {subject: ['mock:planted', 'mock:constant', 'mock:random'], n_paraphrases: [1, 2]}
parameters: {pause: 0.5}
"""


def worker(file: Path) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("functional-self")), "run", "--grid", str(file), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.acceptance
def test_two_workers_and_kills_end_with_every_run_once(project, monkeypatch):
    """Twelve runs and three kills with the full counts, three runs and one kill otherwise."""
    cells, kills = (12, 3) if FULL else (3, 1)
    file, finished = project / "grid.yml", project / "finished"
    file.write_text(GRID.replace("n_paraphrases: [1, 2]", f"n_paraphrases: {list(range(1, cells // 3 + 1))}"))
    chapter = project / "chapters" / "tiny.md"
    last = f"with open({str(finished)!r}, 'a') as log:\n    print(subject, n_paraphrases, file=log)"
    chapter.write_text(chapter.read_text() + f"\n```{{code-cell}} ipython3\n{last}\n```\n")
    for _ in range(kills):
        killed, end = worker(file), time.monotonic() + 120
        while not list((project / "runs").glob(".*.lock")) and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(random.uniform(0, 1.5))
        os.killpg(killed.pid, 9)
        killed.wait()
        for lock in (project / "runs").glob(".*.lock"):
            os.utime(lock, (0, 0))  # its lease is over
    kept = {p.name for p in (project / "runs").glob("tiny-*")}
    finished.unlink(missing_ok=True)  # a kill after the last cell and before the run is in its place has that run executed again
    both = [worker(file), worker(file)]
    said = [each.communicate(timeout=300) for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    runs = sorted(p.name for p in (project / "runs").glob("tiny-*"))
    assert len(runs) == cells and all(json.loads(out)["runs"] == runs for out, _ in said)
    rows = list(csv.DictReader((project / "runs" / "grid-grid.csv").open()))
    assert {row["subject"] for row in rows if row["result"] == "mean"} == {"mock:planted", "mock:constant", "mock:random"}
    starts = {p: (project / "runs" / p / "manifest.json").read_text() for p in runs}
    assert cli_here("run", "--grid", str(file)).returncode == 0
    assert starts == {p: (project / "runs" / p / "manifest.json").read_text() for p in runs}, "nothing is executed again"
    completed = finished.read_text().splitlines()
    assert len(completed) == len(set(completed)) == cells - len(kept), "none is executed to its end twice, nor one that is there"
    assert [name for name in leftovers(project / "runs") if "stale" in name] == []


def test_a_lock_is_held_by_one_and_taken_over_when_its_holder_is_gone(tmp_path):
    lock = tmp_path / ".cell.lock"
    with grid.held(lock) as first, grid.held(lock) as second:
        assert first and not second
        os.utime(lock, (0, 0))
        with grid.held(lock) as third:
            assert third
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_grid_is_one_line(project):
    file = project / "grid.yml"
    file.write_text("chapter: [tiny]\n")
    refused(cli_here("run", "--grid", str(file)), "grid.yml", "chapters")
    refused(cli_here("run", "--grid", "absent.yml"), "absent.yml", "no such file")
    refused(cli_here("run"), "--grid")
