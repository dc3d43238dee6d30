"""Faults at the wire: no result lost, no job of a known id sent again, and every end is a success or one clear line."""

from __future__ import annotations

import ast
import itertools
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from functional_self import subjects
from functional_self.errors import RemoteError, UnknownOutcomeError
from functional_self.subjects import Request, jobs, remote
from functional_self.subjects.journal import Journal

ASKED = [Request((("user", "Which is colder, ice or fire?"),), ("Ice.", "Fire."))]
EVERY = ["refused", "reset", "lost", "dropped", "truncated", "401", "403", "429", "500", "503", "slow", "restarted", "killed"]
TURNS = range(5) if "FUNCTIONAL_SELF_ACCEPTANCE" in os.environ else []
SEVERAL = [
    Request((("user", f"Which is colder, {thing} or fire?"),), (f"The {thing}.", "The fire."))
    for thing in ("ice", "snow", "rain", "wind")
]


def ask_several(monkeypatch: pytest.MonkeyPatch | None = None) -> list[tuple[float, ...]]:
    """The same of four requests, a job each."""
    if monkeypatch:
        monkeypatch.setattr(remote, "REQUEST_TOKENS", 30)
    else:
        remote.REQUEST_TOKENS = 30
    return subjects.load("smollm2", backend="remote", store=False).option_logprobs(SEVERAL)


def ask() -> list[tuple[float, ...]]:
    return subjects.load("smollm2", backend="remote", store=False).option_logprobs(ASKED)


@pytest.fixture(scope="module")
def answer(smollm2):
    return smollm2.option_logprobs(ASKED)


def good(found, answer) -> bool:
    return found[0] == pytest.approx(answer[0], abs=1e-4)


def new(live, before: int) -> list[str]:
    return live.executed()[before:]


@pytest.mark.parametrize("fault", ["dropped", "truncated", "429", "503", "slow"])
def test_a_passing_fault_at_submission_ends_in_the_result(live, answer, fault):
    before = len(live.executed())
    live.api.inject(fault)
    assert good(ask(), answer)
    ran = new(live, before)
    assert len(ran) == len(set(ran)) == 1, "executed once"
    assert [e.state for e in Journal().entries()] == ["done"]


@pytest.mark.parametrize("fault", ["reset", "dropped", "truncated", "429", "500", "503", "slow"])
def test_a_passing_fault_while_waiting_ends_in_the_result(live, answer, fault):
    before = len(live.executed())
    live.api.inject(fault, method="GET", path="/response", times=2)
    live.store.inject(fault, method="GET", path="/", times=1)
    assert good(ask(), answer)
    assert len(new(live, before)) == 1 and live.api.count("POST", "/request") == 1


@pytest.mark.parametrize(("fault", "word"), [("401", "NDIF_API_KEY"), ("403", "NDIF_API_KEY")])
def test_a_refusal_is_one_line_and_nothing_is_kept(live, fault, word):
    live.api.inject(fault, times=9)
    with pytest.raises(RemoteError, match=word) as error:
        ask()
    assert "\n" not in str(error.value) and os.environ["NDIF_API_KEY"] not in str(error.value)
    assert Journal().entries() == [] and live.api.count("POST", "/request") == 1


def test_a_refused_connection_is_one_line(live):
    with live.api.refusing(), pytest.raises(RemoteError, match="nothing listens there") as error:
        ask()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fault", ["reset", "lost", "500"])
def test_an_unknown_outcome_is_named_and_not_sent_again_unless_asked(live, answer, monkeypatch, fault):
    live.api.inject(fault)
    for _ in range(2):
        with pytest.raises(UnknownOutcomeError, match="outcome is unknown") as error:
            ask()
        assert "\n" not in str(error.value)
    assert [e.state for e in Journal().entries()] == ["unknown"]
    assert live.api.count("POST", "/request") == 1
    monkeypatch.setenv(jobs.RESUBMIT, "1")
    assert good(ask(), answer)


def client_with_a_job(code: str = "test_faults.ask()") -> subprocess.Popen[str]:
    """A client in a process of its own, once its job is in the journal as accepted."""
    started = subprocess.Popen(
        [sys.executable, "-c", f"import test_faults; {code}"],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        stdout=subprocess.PIPE,
        text=True,
    )
    while not [e for e in Journal().entries() if e.state == "accepted"]:
        assert started.poll() is None
        time.sleep(0.05)
    return started


def test_a_client_killed_after_submission_is_resumed(live, answer):
    before = len(live.executed())
    live.api.inject("slow", method="GET", path="/response", times=99, seconds=30)
    client = client_with_a_job()
    client.kill()
    client.wait()
    live.api.faults.clear()
    assert good(ask(), answer)
    assert live.api.count("POST", "/request") == 1 and len(new(live, before)) == 1


def test_an_error_in_the_block_is_one_line(live):
    there = subjects.load("smollm2", backend="remote", store=False)
    with pytest.raises(RemoteError, match="failed on the server") as error:
        there.generate([Request((("user", "Hello."),), ())], max_new_tokens=-5)
    assert "\n" not in str(error.value)
    assert [e.state for e in Journal().entries()] == ["failed"]


def test_an_api_restarted_before_the_result_is_collected_costs_nothing(live, answer):
    """A job still in the api's own queue when that is killed is lost by ndif itself; one that ran is not."""
    before = len(live.executed())
    live.api.inject("slow", method="GET", path="/response", times=99, seconds=5)
    client = client_with_a_job("print(test_faults.ask())")
    while not new(live, before):
        assert client.poll() is None
        time.sleep(0.05)
    live.order("kill api")
    live.api.faults.clear()
    live.order("start api")
    said, _ = client.communicate(timeout=240)
    assert good(ast.literal_eval(said), answer)
    assert live.api.count("POST", "/request") == 1 and len(new(live, before)) == 1
    live.wait()  # for the tests after this one: the api needs about a minute to find Ray again


@pytest.mark.acceptance
@pytest.mark.parametrize(
    ("fault", "turn"), itertools.product(EVERY, range(5)) if "FUNCTIONAL_SELF_ACCEPTANCE" in os.environ else []
)
def test_a_fault_at_a_random_moment_loses_nothing(live, smollm2, monkeypatch, record_property, fault, turn):
    """Four jobs, one fault: each attempt ends in the result or in one line, and no job of a known id is sent again."""
    dice = random.Random(f"{fault} {turn}")
    monkeypatch.setattr(jobs, "FORGOTTEN", 20.0)
    monkeypatch.setattr(jobs, "STALLED", 60.0)
    before, moment = len(live.executed()), dice.uniform(0, 2)
    helper = None
    if fault == "killed":
        helper = client_with_a_job("test_faults.ask_several()")
        time.sleep(moment)
        helper.kill()
        helper.wait()
    elif fault in ("refused", "restarted"):
        helper = threading.Thread(target=break_for_a_while, args=(live, fault, moment))
        helper.start()
    else:
        if dice.random() < 0.5 or fault in ("lost", "401", "403"):
            live.api.inject(fault, after=dice.randrange(4))
        else:
            live.api.inject(fault, method="GET", path="/response", after=dice.randrange(8))
    lines = []
    for _ in range(4):
        try:
            found = ask_several(monkeypatch)
            break
        except RemoteError as error:
            lines.append(str(error))
            if isinstance(error, UnknownOutcomeError):
                monkeypatch.setenv(jobs.RESUBMIT, "1")
    if isinstance(helper, threading.Thread):
        helper.join()
        live.wait()
    assert np.abs(np.array(found) - np.array(smollm2.option_logprobs(SEVERAL))).max() < 1e-4
    assert all("\n" not in line for line in lines) and not any(os.environ["NDIF_API_KEY"] in line for line in lines)
    ran = new(live, before)
    resubmitted = sum("--resubmit" in line for line in lines)
    assert len(ran) == len(set(ran)), "no id is executed twice"
    parts = len(Journal().entries())
    assert parts <= len(ran) <= parts + resubmitted
    record_property("ended", f"{fault}: {lines[0][:60] if lines else 'success'}")


def break_for_a_while(live, fault: str, moment: float) -> None:
    """Refuse connections, or kill and start the api, after some seconds."""
    time.sleep(moment)
    if fault == "refused":
        with live.api.refusing():
            time.sleep(3)
    else:
        live.order("kill api")
        live.order("start api")
