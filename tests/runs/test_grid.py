"""Grids: every cell once, whatever is killed and however many workers there are."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from conftest import cli, leftovers, refused
from functional_self.runs import grid

GRID = "chapters: [tiny]\nover: {subject: ['mock:planted', 'mock:constant', 'mock:random'], n_paraphrases: [1, 2]}\nparameters: {pause: 0.5}\n"


def worker(file: Path) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("functional-self")), "run", "--grid", str(file), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_two_workers_and_a_kill_end_with_every_run_once(project, monkeypatch):
    file = project / "grid.yml"
    file.write_text(GRID.replace("n_paraphrases: [1, 2]", "n_paraphrases: [1]"))
    killed = worker(file)
    end = time.monotonic() + 120
    while not list((project / "runs").glob(".*.lock")) and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(killed.pid, 9)
    killed.wait()
    for lock in (project / "runs").glob(".*.lock"):
        os.utime(lock, (0, 0))  # its lease is over
    both = [worker(file), worker(file)]
    said = [each.communicate(timeout=300) for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    runs = sorted(p.name for p in (project / "runs").glob("tiny-*"))
    assert len(runs) == 3 and all(json.loads(out)["runs"] == runs for out, _ in said)
    rows = list(csv.DictReader((project / "runs" / "grid-grid.csv").open()))
    assert {row["subject"] for row in rows if row["result"] == "mean"} == {"mock:planted", "mock:constant", "mock:random"}
    starts = {p: (project / "runs" / p / "manifest.json").read_text() for p in runs}
    assert cli("run", "--grid", str(file)).returncode == 0
    assert starts == {p: (project / "runs" / p / "manifest.json").read_text() for p in runs}, "nothing is executed again"
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
    refused(cli("run", "--grid", str(file)), "grid.yml", "chapters")
    refused(cli("run", "--grid", "absent.yml"), "absent.yml", "no such file")
    refused(cli("run"), "--grid")
