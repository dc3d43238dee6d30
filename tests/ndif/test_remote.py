"""Remote subjects on the live server: the local numbers, few requests, few bytes."""

from __future__ import annotations

import numpy as np
import pytest
from functional_self import materials, subjects
from functional_self.behaviour import score
from functional_self.behaviour.scoring import _prompts
from functional_self.errors import SubjectError
from functional_self.materials.schema import Context, Persona
from functional_self.subjects import Request, remote
from functional_self.subjects.prefix import plan
from test_adapters import ASKED, plant


def numbers(table):
    return table[[c for c in table if c.endswith(("_plus", "_minus"))]].to_numpy(float)


def test_scores_are_the_local_ones_and_little_comes_back(live, smollm2):
    items = materials.balanced(materials.items("void"), 4)[:2]
    there = subjects.load("smollm2", backend="remote")
    table = score(there, items, paraphrases=1)
    assert np.abs(numbers(table) - numbers(score(smollm2, items, paraphrases=1))).max() < 1e-4
    assert live.api.count("POST", "/request") == 1
    back = sum(e.down for e in [*live.api.exchanges, *live.store.exchanges] if "/response" in e.path or ".pt" in e.path)
    assert 0 < back <= 1024 * 6 * len(table)
    asked = len(live.api.exchanges)
    assert numbers(score(there, items, paraphrases=1)).tolist() == numbers(table).tolist()
    assert len(live.api.exchanges) == asked, "kept answers are not asked for again"


def test_two_hundred_items_need_at_most_eight_requests(smollm2):
    items = materials.items("void")
    where = ((Context(id="bare", title="nothing before"),), (Persona(id="specified", title="the specification"),))
    _, rows = _prompts(items, *where, 3, materials.specification("assistant"), "both", True)
    keys = {}
    for row in rows[:200]:
        for _, request in row:
            keys |= dict.fromkeys(smollm2._tokenise(request))
    assert len(rows) > 200
    groups = plan([tokens[:-1] for tokens, _ in keys], [n for _, n in keys])
    parts = list(remote.requests(groups, [tokens[-n:] for tokens, n in keys]))
    assert len(parts) <= 8
    assert sorted(s for index, _, _ in parts for s in index) == list(range(len(keys)))


def test_sampled_answers_are_the_local_ones(live, smollm2):
    asked = [Request((("user", text),), ()) for text in ("Name a colour.", "Say hello to me.", "What is ice?")]
    there = subjects.load("smollm2", backend="remote", store=False)
    for temperature in (0.0, 1.0):
        assert there.generate(asked, 8, temperature, 3) == smollm2.generate(asked, 8, temperature, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda found: found["versions"].update(nnsight="0.7.0"),
            ("other versions", "nnsight 0.8.1 here, 0.7.0 there", "pip install"),
        ),
        (lambda found: found["deployments"].clear(), ("is not deployed", "running there: nothing")),
        (lambda found: found["deployments"][0].update(application_state="DEPLOYING"), ("not running yet",)),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_sent(live, monkeypatch, change, words):
    found = remote.server(live.api.url)
    change(found)
    with pytest.raises(SubjectError) as error:
        subjects.load("smollm2", backend="remote", store=False)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value) and live.api.count("POST", "/") == 0


def test_adapters_are_swapped_on_the_server(live, smollm2, tmp_path):
    """Two adapters, the bare base, and another adapter in the place of the first: equal to the local ones."""
    folders = [plant(tmp_path / str(seed), seed) for seed in range(2)]
    for place, adapter in enumerate((None, str(folders[0]), str(folders[1]), None, str(folders[0]))):
        if place == 4:
            plant(folders[0], 5)
        there = subjects.load("smollm2", backend="remote", adapter=adapter, store=False)
        here = subjects.load("smollm2", adapter=adapter, store=False)
        assert np.abs(np.array(there.option_logprobs(ASKED)) - here.option_logprobs(ASKED)).max() < 1e-4
