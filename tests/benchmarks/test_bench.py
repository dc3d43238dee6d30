"""Benchmarks: the arithmetic of pairs, the lines, and workloads of the size they say; no peer is run here."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from conftest import REPOSITORY, cli, cli_here, refused

sys.path.insert(0, str(REPOSITORY))

from benchmarks import harness, scoring


def test_both_sides_take_turns_and_are_timed_apart(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(harness.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(harness.time, "process_time", lambda: clock[0] / 2)

    def side(name: str, seconds: float):
        def work(block: int) -> str:
            calls.append((name, block))
            clock[0] += seconds * block
            return f"{name}{block}"

        return work

    seconds, results = harness.alternate(side("ours", 1.0), side("peer", 4.0), [1, 2], 2, "pairs")
    assert calls == [(name, block) for block in (1, 2, 1, 2) for name in ("ours", "peer")]
    assert results == [(f"ours{block}", f"peer{block}") for block in (1, 2, 1, 2)]
    assert seconds.tolist() == [[[block * 1.0, block * 0.5], [block * 4.0, block * 2.0]] for block in (1, 2, 1, 2)]


def test_ratios_are_of_pairs_and_the_median_is_taken():
    wall, cpu = np.array([(1.0, 3.0), (2.0, 4.0), (1.0, 8.0)]), np.array([(1.0, 5.0), (1.0, 4.0), (1.0, 1.0)])
    found = harness.rates(np.stack([wall, cpu], axis=-1), [10, 40, 10])
    assert found == {"ratios": [3.0, 2.0, 8.0], "ours": 10, "peer": pytest.approx(10 / 3), "unit": "requests/s", "cpu_ratio": 4.0}
    line = harness.line("x", 2.5, **found)
    assert (line["ratio"], line["ratio_min"], line["ratio_max"], line["pairs"]) == (3.0, 2.0, 8.0, 3)


@pytest.mark.parametrize(
    ("ratio", "goal", "lower", "equal", "passed"),
    [
        (2.0, 2.0, False, True, True),
        (1.99, 2.0, False, True, False),
        (9.0, 2.0, False, False, False),
        (1.1, 1.1, True, True, True),
        (1.11, 1.1, True, True, False),
    ],
)
def test_a_goal_is_met_or_missed(ratio, goal, lower, equal, passed):
    assert harness.line("x", goal, [ratio], lower, equal)["passed"] is passed


def test_a_line_is_one_json_object_with_the_keys_people_rely_on(tmp_path):
    lines = [harness.line("x", 2.0, [2.5], ours=5.0, peer=2.0, unit="requests/s", peer_name="another")] * 2
    harness.write(lines, tmp_path / "lines.jsonl")
    for text in (tmp_path / "lines.jsonl").read_text().splitlines():
        found = json.loads(text)
        assert {"name", "ratio", "goal", "lower_is_better", "passed", "ours", "peer", "unit", "peak_rss_mib"} <= found.keys()
        assert found["machine"]["cpu"] and found["machine"]["threads"] >= 1 and found["versions"]["torch"]
        assert 10 < found["peak_rss_mib"] < 1e6
    assert "2.50" in harness.summary(lines[0])["ratio"]


def test_workloads_have_the_size_they_say():
    blocks = [[scoring.short()], scoring.shared(), [scoring.grown(200)]]
    pairs = [[(r.messages, option) for block in workload for r in block for option in r.options] for workload in blocks]
    assert [len(found) for found in pairs] == [576, 2304, 400]
    assert all(len(set(found)) == len(found) for found in pairs), "a repeated request would be scored once by this library"


def test_lm_eval_is_pinned_to_the_version_compared_with():
    assert f"lm_eval=={scoring.LM_EVAL}\n" in (REPOSITORY / "benchmarks" / "requirements.lock").read_text()


def test_kept_results_are_lines():
    for path in (REPOSITORY / "benchmarks" / "results").glob("*.jsonl"):
        for text in path.read_text().splitlines():
            assert {"name", "ratio", "goal", "lower_is_better", "machine"} <= json.loads(text).keys()


def test_the_command_names_the_families_it_has():
    refused(cli_here("bench", "nonsense", FUNCTIONAL_SELF_ROOT=str(REPOSITORY)), "nonsense", "scoring")


def test_the_command_needs_a_checkout(tmp_path):
    # in a process of its own: here the checkout's benchmarks are imported already, and would be run
    refused(cli("bench", FUNCTIONAL_SELF_ROOT=str(tmp_path)), "benchmarks/", "checkout")
