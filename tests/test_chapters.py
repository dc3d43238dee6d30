"""The real chapters run: small on the real subject, and whole on a simulated one."""

from __future__ import annotations

import json

import pytest
from conftest import REPOSITORY, cli
from functional_self.runs import chapter as chapters

SMALL = {"01-void": ["-p", "n_items=4"]}


@pytest.mark.parametrize("name", chapters.chapters())
def test_a_chapter_runs_on_the_real_subject(name, tmp_path):
    done = cli("run", name, *SMALL[name], "--json", FUNCTIONAL_SELF_RUNS=str(tmp_path), FUNCTIONAL_SELF_ROOT=str(REPOSITORY))
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert results["gates/planted/count"]["value"] >= 4
    assert results["controls/refused"]["value"] == 4
    assert not results["gates/random-twin/passed"]["value"]
    if not results["gates/subject/passed"]["value"]:
        assert "Not measurable" in results["headline"]["value"] and "unfilled/subject/silent" not in results


def test_the_void_chapter_prints_shares_where_the_gates_let_it(tmp_path):
    done = cli(
        *("run", "01-void", "-p", "subject=mock:planted", "-p", "n_items=12", "-p", "n_paraphrases=4", "--json"),
        FUNCTIONAL_SELF_RUNS=str(tmp_path),
        FUNCTIONAL_SELF_ROOT=str(REPOSITORY),
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert results["gates/subject/passed"]["value"]
    low, high = results["unfilled/subject/silent"]["interval"]
    assert low <= 0.25 / 2.25 <= high


@pytest.mark.parametrize("name", chapters.chapters())
def test_published_statistics_are_redone_without_a_model(name, tmp_path):
    empty = {"FUNCTIONAL_SELF_CACHE": str(tmp_path / "no-model"), "PIP_NO_INDEX": "1", "HF_HUB_OFFLINE": "1"}
    done = cli("run", name, "--analyse-only", FUNCTIONAL_SELF_ROOT=str(REPOSITORY), **empty)
    assert done.returncode == 0 and "all the same" in done.stdout, done.stdout + done.stderr
    assert not (tmp_path / "no-model").exists()
