"""What a remote run would ask is counted once, however often a chapter loads a subject and asks."""

from __future__ import annotations

from functional_self import subjects
from functional_self.subjects import jobs, planned
from functional_self.subjects.base import Request


def test_a_prompt_asked_twice_is_planned_once(monkeypatch):
    monkeypatch.setattr(planned, "ASKED", {})
    monkeypatch.delitem(jobs.SEEN, "plan", raising=False)
    first, second = (Request((("user", said),), ("Yes.", "No.")) for said in ("Is it so?", "Is it?"))
    for asked, items in (([first], 1), ([first], 1), ([first, second], 2)):
        subjects.load("smollm2", backend="plan").option_logprobs(asked)
        found = jobs.SEEN["plan"]["smollm2"]
        assert (found["items"], found["jobs"]) == (items, items)
    jobs.SEEN.pop("plan")
