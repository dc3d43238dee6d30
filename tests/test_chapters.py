"""The real chapters run: small on the real subject, and whole on a simulated one."""

from __future__ import annotations

import pytest
from conftest import REPOSITORY, cli_here, ran
from functional_self.runs import chapter as chapters


@pytest.mark.parametrize("name", chapters.chapters())
def test_a_chapter_runs_on_the_real_subject(name, at_quick):
    results = at_quick(name, *SMALLER.get(name, ())).results
    verdicts = [r["value"] for key, r in results.items() if key.startswith("verdict/")]
    assert len(verdicts) >= (3 if name == "05-simulators" else 4)
    if name < "04":  # the others ask organisms, whose answers are known, or for stories
        assert not results["gates/random-twin/passed"]["value"]
        if not results["gates/subject/passed"]["value"]:
            assert any("not measurable" in said and "G" in said for said in verdicts)
            assert "supported" not in " ".join(
                r["value"] for k, r in results.items() if k.startswith(("verdict/void", "verdict/interp"))
            )
    for key, accepted in CONTROLS.get(name, {}).items():
        assert accepted(results[key]["value"]), (key, results[key])


SMALLER = {
    "01-void": ("-p", "twin_layers=1"),
    "02-specification": ("-p", "twin_layers=1"),
    "03-persistence": ("-p", "twin_layers=1"),
    "05-simulators": ("-p", "n_each=1", "-p", "n_tokens=20", "-p", "n_pairs=2"),
    "06-crosscoder": ("-p", "tokens=1500", "-p", "steps=40", "-p", "latents=128", "-p", "n_items=6"),
    "07-trajectories": (
        *("-p", f"series={','.join(f'smollm2+series-self-s0{c}' for c in ('-c0', '-c2', '-c4', ''))}"),
        *("-p", "tokens=600", "-p", "steps=20"),
    ),
    "08-tools": ("-p", "tokens=1500", "-p", "steps=25", "-p", "latents=128", "-p", "n_items=6", "-p", "scored=200"),
}
"""Less than quick, where the results that are checked need no more; the published runs are redone at their own size."""
CONTROLS = {
    "01-void": {"gates/planted/count": lambda n: n >= 4, "controls/refused": lambda n: n == 4},
    "02-specification": {
        "log-effect/answers-to-the-specification/all": lambda x: x > 0.5,
        "carried/self-like/all": lambda x: x > 0.6,
        "carried/interpretation/all": lambda x: x < 0.5,
    },
    "03-persistence": {
        "self-share/planted-self": lambda x: x > 0.6,
        "self-share/persona-stereotype": lambda x: abs(x) < 0.1,
        "internalisation/planted-self": lambda x: abs(x - 1) < 0.15,
    },
    "05-simulators": {"coder/right": lambda n: n == 24, "rule/random-twin/true": lambda x: abs(x) < 0.5},
    "04-internalisation": {"took": lambda n: n == 4, "apart/index": lambda said: said == "yes"},
    "06-crosscoder": {
        "closes": lambda nats: nats <= 1e-4,
        "identical/off": lambda x: x <= 1e-3,
        "loss-recovered/tuned": lambda x: x > 0,
    },
    "07-trajectories": {"control/null": lambda n: n == 0},
    "08-tools": {"null/mean-difference": lambda n: n == 0, "recall/difference-SAE": lambda x: x > 0},
}


def test_the_void_chapter_prints_shares_where_the_gates_let_it(tmp_path):
    results = ran("01-void", tmp_path, "-p", "subjects=mock:planted", "-p", "n_items=12", "-p", "n_paraphrases=4").results
    assert results["gates/subject/passed"]["value"]
    low, high = results["unfilled/subject/silent"]["interval"]
    assert low <= 0.25 / 2.25 <= high
    assert "a control, not evidence" in " ".join(str(r["value"]) for k, r in results.items() if k.startswith("verdict/"))


def test_interpreters_are_compared_where_they_are_named(tmp_path):
    """One draw of each; how often intervals cover is measured in behaviour/test_coverage.py."""
    mocks = ",".join(f"mock:planted-fill@{m}" for m in range(6))
    small = ("-p", "subjects=mock:planted", "-p", "n_items=12")
    asked = ("-p", f"interpreters={mocks}", "-p", "n_fill=12", "-p", "n_fill_paraphrases=4")
    results = ran("01-void", tmp_path, *small, *asked).results
    assert results["gates/interpreters/passed"]["value"]
    gap = results["fill/interpreters/silent-minus-covered/V"]
    assert gap["interval"][0] > 0 and abs(gap["value"] - 0.35) < 0.3
    members = ",".join(f"mock:planted-self@{m}" for m in (0, 1, 3))
    results = ran("02-specification", tmp_path, *small, "-p", "score=raw", "-p", f"interpreters={members}").results
    assert results["carried/interpreters/silent"]["interval"][0] > 0.5
    results = ran("03-persistence", tmp_path, *small, "-p", "score=raw", "-p", f"organisms={members}").results
    assert results["self-share/organisms"]["interval"][0] > 0.5


@pytest.mark.parametrize("name", chapters.chapters())
def test_published_statistics_are_redone_without_a_model(name, tmp_path):
    empty = {"FUNCTIONAL_SELF_CACHE": str(tmp_path / "no-model"), "PIP_NO_INDEX": "1"}
    done = cli_here("run", name, "--analyse-only", FUNCTIONAL_SELF_ROOT=str(REPOSITORY), **empty)
    assert done.returncode == 0 and "all the same" in done.stdout, done.stdout + done.stderr
    assert not (tmp_path / "no-model").exists()
