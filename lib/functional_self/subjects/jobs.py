"""Jobs on an NDIF server: sent once, journalled before anything waits, collected now or by a later run."""

from __future__ import annotations

import io
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import zstandard

from functional_self import progress
from functional_self.errors import RemoteError, UnknownOutcomeError
from functional_self.subjects.journal import Journal
from functional_self.subjects.store import RECOMPUTE
from functional_self.subjects.wire import NotTakenError, Wire

RESUBMIT = "FUNCTIONAL_SELF_RESUBMIT"
"""Environment variable: send jobs again whose fate is unknown, or which the server has forgotten."""
AT_ONCE = 4
"""Jobs with the server at a time."""
SETTLE = 15.0
"""Seconds in which a job that was taken shows up under the id it was sent with."""
FORGOTTEN = 120.0
"""Seconds of 'no such job' after which the server is taken to have lost one."""
STALLED = 3600.0
"""Seconds without a change after which waiting ends and the job's fate is called unknown."""
POLL = (0.1, 2.0)
SEEN: dict[str, Any] = {"jobs": [], "bytes up": 0, "bytes down": 0}
"""What this process asked of servers, for the run's manifest."""


@dataclass(frozen=True)
class Job:
    """Something to ask: ``key`` identifies it, ``what`` names it to people, ``build`` gives the traced block's bytes."""

    key: str
    what: str
    model_key: str
    env: dict[str, Any]
    build: Callable[[], bytes]
    tokens: int = 0


@dataclass
class _Waiting:
    job: Job
    number: str
    status: str = "RECEIVED"
    said: str = ""
    since: float = 0.0

    def __post_init__(self) -> None:
        self.sent = time.monotonic()


class Jobs:
    """Sends jobs to one host and collects their results in the order asked."""

    def __init__(self, wire: Wire, journal: Journal | None = None):
        self.wire, self.journal, self._last = wire, journal or Journal(), 0.0

    def results(self, jobs: Iterable[Job]) -> Iterator[dict[str, Any]]:
        """Each job's saved values, in order; at most ``AT_ONCE`` are with the server.

        A job that the journal knows is not sent again: its result is there, or it is collected by its id. Raises
        UnknownOutcomeError where one was sent and may or may not have arrived, and RemoteError where the server refuses or
        the block failed; other jobs stay journalled and a later run collects them.
        """
        queue: list[_Waiting | bytes] = []
        waiting = iter(jobs)
        more = True
        while more or queue:
            while more and len(queue) < AT_ONCE:
                job = next(waiting, None)
                more = job is not None
                if job is not None:
                    queue.append(self._begin(job))
            if queue:
                first = queue.pop(0)
                yield _load(first if isinstance(first, bytes) else self._collect(first))

    def _begin(self, job: Job) -> _Waiting | bytes:
        """The journalled result, or the job as it is with the server, sent now if it was not."""
        entry = self.journal.get(job.key)
        if entry and entry.state == "done" and entry.result is not None and not os.environ.get(RECOMPUTE):
            return entry.result
        if entry and entry.state == "accepted":
            return self._note(_Waiting(job, entry.job, since=time.monotonic()))
        if entry and entry.state in ("sending", "unknown") and not os.environ.get(RESUBMIT):
            return self._find(job, entry.job, entry.created)
        blob, number = job.build(), uuid.uuid4().hex
        if not self.journal.claim(job.key, number, self.wire.host, job.what, job.tokens, instead=entry.job if entry else ""):
            return self._begin(job)  # another process was faster
        return self._send(job, number, blob)

    def _send(self, job: Job, number: str, blob: bytes) -> _Waiting:
        envelope = {"model_key": job.model_key, "session_id": "", "compress": True, "env": job.env, "id": number}
        try:
            given = self.wire.submit(envelope, blob)
        except UnknownOutcomeError as error:
            self.journal.note(job.key, "unknown", str(error))
            return self._find(job, number, time.time())
        except RemoteError:  # known not to be with the server
            self.journal.forget(job.key)
            raise
        self.journal.note(job.key, "accepted", job=given)
        return self._note(_Waiting(job, given, since=time.monotonic()))

    def _find(self, job: Job, number: str, sent: float) -> _Waiting:
        """Look for a job of unknown fate under the id it was sent with, which ndif takes from the request."""
        end = time.monotonic() + SETTLE
        while True:
            if self.wire.get(f"/response/{number}", missing=True) is not None:
                self.journal.note(job.key, "accepted", job=number)
                return self._note(_Waiting(job, number, since=time.monotonic()))
            if time.monotonic() > end:
                break
            time.sleep(POLL[1] / 4)
        entry = self.journal.get(job.key)
        why = f" ({entry.said.split('; ')[0]})" if entry and entry.said else ""
        self.journal.note(job.key, "unknown", entry.said if entry else "")
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(sent))
        raise UnknownOutcomeError(
            f"{job.what}: job {number} was sent at {when} and its outcome is unknown{why}; the server does not show it. "
            "Run again to look for it once more, or with --resubmit to send it again (nothing but time is lost if it ran twice)"
        )

    def _collect(self, waiting: _Waiting) -> bytes:
        """Wait for one job's result and journal it."""
        pause = POLL[0]
        while True:
            found = self._poll(waiting)
            if found is not None:
                self.journal.note(waiting.job.key, "done", result=found)
                self.journal.took(waiting.job.key, time.monotonic() - max(waiting.sent, self._last))
                self._last = time.monotonic()
                SEEN["bytes up"], SEEN["bytes down"] = self.wire.sent, self.wire.received
                return found
            time.sleep(pause)
            pause = min(pause * 1.2, POLL[1])

    def _poll(self, waiting: _Waiting) -> bytes | None:
        """The result if it is there; raises where it never will be."""
        job, number = waiting.job, waiting.number
        body = self.wire.get(f"/response/{number}", missing=True)
        quiet = time.monotonic() - waiting.since
        if body is None:
            if quiet < FORGOTTEN:
                return None
            self.journal.note(job.key, "unknown", "the server no longer knows it")
            raise UnknownOutcomeError(
                f"{job.what}: NDIF at {self.wire.host} does not know job {number}, which it took; it may have been "
                "restarted. Run again to look for it once more, or with --resubmit to send it again"
            )
        try:
            reply = json.loads(body)
            status, said = str(reply["status"]), str(reply.get("description") or "")
        except (ValueError, KeyError, TypeError):
            return None  # asked again
        if (status, said) != (waiting.status, waiting.said):  # the place in the queue is in what it says
            progress.note(f"{status.lower()}{': ' + said if 'position' in said else ''}, {self.wire.traffic()}")
            waiting.status, waiting.said, waiting.since = status, said, time.monotonic()
        elif quiet > STALLED:
            self.journal.note(job.key, "unknown", f"'{status}' without a change")
            raise UnknownOutcomeError(
                f"{job.what}: job {number} has been '{status}' for {quiet / 60:.0f} minutes; a server that was restarted forgets "
                "its queue. Run again to go on waiting, or with --resubmit to send it again"
            )
        if status == "ERROR":
            self.journal.note(job.key, "failed", self.wire.redact(said))
            raise RemoteError(f"{job.what}: job {number} failed on the server: {self.wire.redact(_last_line(said))}")
        if status != "COMPLETED":
            return None
        try:
            return self.wire.get(str(reply["data"]))
        except NotTakenError:
            raise
        except RemoteError as error:
            self.journal.note(job.key, "unknown", "its result can no longer be fetched")
            raise RemoteError(
                f"{job.what}: the result of job {number} can no longer be fetched (results are kept for an hour); run again with "
                "--resubmit"
            ) from error

    @staticmethod
    def _note(waiting: _Waiting) -> _Waiting:
        SEEN["jobs"].append(waiting.number)
        return waiting


def _load(blob: bytes) -> dict[str, Any]:
    """The saved values: tensors and plain containers only, nothing that could run."""
    return torch.load(io.BytesIO(zstandard.ZstdDecompressor().decompress(blob)), map_location="cpu", weights_only=True)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it does not say why"
