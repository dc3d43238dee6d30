"""Chapters on the live server: the local numbers, a plan that holds, provenance, and no key anywhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from conftest import REPOSITORY, cli_here, ran
from functional_self.subjects import remote
from live import KEY
from test_server import processes

BOOK = ["01-void", "03-persistence", "02-specification", "04-internalisation", "05-simulators", "06-crosscoder"]
REMOTE = ["-p", "subject=smollm2", "-p", "n_paraphrases=1", "-p", "pause=0"]


def run(*arguments: str) -> dict:
    done = cli_here(*arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def holding(folder: Path) -> list[Path]:
    """Files that have the planted key in them."""
    return [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink() and KEY.encode() in p.read_bytes()]


def test_a_chapter_runs_remotely_as_planned(project, live):
    [planned] = run("plan", "tiny", "--preset", "quick", *REMOTE)
    assert live.api.count("POST", "/") == 0 and planned["state"] == "running"
    there = run("run", "tiny", *REMOTE, "-p", "backend=remote")
    posts = [e for e in live.api.exchanges if e.method == "POST"]
    assert len(posts) == planned["requests"]
    assert sum(e.up for e in posts) == pytest.approx(planned["bytes up"], rel=0.2)
    assert not [text for text in processes(KEY)]
    here = run("run", "tiny", *REMOTE)
    assert there["results"]["mean"]["value"] == pytest.approx(here["results"]["mean"]["value"], abs=1e-4)
    manifest = json.loads((Path(there["path"]) / "manifest.json").read_text())
    assert manifest["device"] == "remote" and manifest["parameters"]["backend"] == "remote"
    assert manifest["remote"]["servers"][live.api.url]["nnsight"] == "0.8.1"
    assert len(manifest["remote"]["jobs"]) == len(posts)
    assert holding(project.parent) == []


@pytest.mark.acceptance
@pytest.mark.parametrize("name", BOOK if os.environ.get("FUNCTIONAL_SELF_ACCEPTANCE") else [])
def test_a_chapter_of_the_book_gives_the_local_numbers(name, live, at_quick, tmp_path, monkeypatch, record_property):
    """Scores within 1e-4 nats, every verdict and gate the same, as much sent as planned, at most 1 KiB back a scored item."""
    monkeypatch.setenv("FUNCTIONAL_SELF_ROOT", str(REPOSITORY))
    here = at_quick(name)
    plans = run("plan", name, "--preset", "quick")
    planned = {part: sum(row[part] for row in plans) for part in ("requests", "bytes up")}
    assert live.api.count("POST", "/") == 0
    there = ran(name, tmp_path / "runs", "-p", "backend=remote")

    differences, rows = [0.0], 0
    tables = [] if name > "06" else sorted(p.name for p in (here.path / "scores").iterdir())  # rows of a layer are no scores
    assert tables == [p for p in sorted(p.name for p in (there.path / "scores").iterdir()) if name < "06"]
    for table in tables:
        one, two = (pd.read_csv(side.path / "scores" / table) for side in (here, there))
        numbers = one.select_dtypes("float").columns
        assert one.drop(columns=numbers).equals(two.drop(columns=numbers)), table
        differences += (one[numbers] - two[numbers]).abs().max().tolist()
        rows += len(one) if table in ("subject.csv.gz", "gates-subject.csv.gz") or name > "04" else 0
    assert max(differences) < 1e-4
    same = [key for key in here.results if key.startswith("verdict") or key.endswith(("/passed", "/failed", "headline"))]
    assert same and {key: here.results[key] for key in same} == {key: there.results[key] for key in same}

    posts = [e for e in live.api.exchanges if e.method == "POST"]
    back = sum(e.down for e in [*live.api.exchanges, *live.store.exchanges] if "/response" in e.path or ".pt" in e.path)
    up = sum(e.up for e in posts)
    record_property("largest difference", f"{max(differences):.1e} nats")
    record_property("back", f"{back / rows:.0f} bytes a scored item" if rows else f"{back} bytes")
    record_property("sent over planned", f"bytes {up / planned['bytes up']:.2f}, requests {len(posts)} / {planned['requests']}")
    record_property("wall, remote over local", f"{there.seconds:.0f} / {here.seconds:.0f} s = {there.seconds / here.seconds:.2f}")
    assert back <= 1024 * rows or not tables
    assert up == pytest.approx(planned["bytes up"], rel=0.2) and len(posts) == pytest.approx(planned["requests"], rel=0.2)
    if name == "01-void":
        assert there.seconds <= 1.5 * here.seconds
    assert holding(tmp_path) == []


def test_doctor_names_what_is_there_and_never_the_key(live):
    done = cli_here("doctor", "--remote", "--subject", "smollm2", "--json")
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert done.returncode == 0 and rows["NDIF key"]["found"] == "set" and rows["NDIF subject"]["good"]
    assert KEY not in done.stdout + done.stderr
    remote.server.cache_clear()
    with live.api.refusing():
        done = cli_here("doctor", "--remote")
    assert done.returncode == 1 and "nothing listens there" in done.stdout
