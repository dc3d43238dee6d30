"""Chapters on the live server: the local numbers, a plan that holds, provenance, and no key anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import cli
from live import KEY
from test_server import processes

REMOTE = ["-p", "subject=smollm2", "-p", "n_paraphrases=1", "-p", "pause=0"]


def run(*arguments: str) -> dict:
    done = cli(*arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


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
    holding = [p for p in project.parent.rglob("*") if p.is_file() and not p.is_symlink() and KEY.encode() in p.read_bytes()]
    assert holding == []


def test_doctor_names_what_is_there_and_never_the_key(live):
    done = cli("doctor", "--remote", "--subject", "smollm2", "--json")
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert done.returncode == 0 and rows["NDIF key"]["found"] == "set" and rows["NDIF subject"]["good"]
    assert KEY not in done.stdout + done.stderr
    with live.api.refusing():
        done = cli("doctor", "--remote")
    assert done.returncode == 1 and "nothing listens there" in done.stdout
