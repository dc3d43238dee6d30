"""NDIF over HTTP: what may be asked again, and what a failure is called."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, TypeVar

import httpx
import tenacity

from functional_self.errors import RemoteError, UnknownOutcomeError

T = TypeVar("T")
LOGIN = "https://login.ndif.us"
TIMEOUT = httpx.Timeout(10.0, read=120.0)
PATIENCE = 300.0
"""Seconds for which a server that was there before is asked again, or sent what it did not take: long enough for a restart."""
NOT_TAKEN = (429, 503)
"""HTTP statuses with which the api refuses a request before it does anything with it."""
CAUSES = {
    "refused": "nothing listens there",
    "Name or service": "no such host",
    "nodename nor servname": "no such host",
    "timed out": "no answer in time",
    "reset": "the connection was reset",
    "disconnected": "the connection was cut",
    "peer closed": "the reply was cut short",
}


class NotTakenError(RemoteError):
    """The server is known not to have taken the request; it may be sent again."""


class Wire:
    """One NDIF host and the key it is asked with, which appears nowhere but in the header."""

    def __init__(self, host: str | None = None, key: str | None = None):
        from nnsight import CONFIG

        self.host = (host or os.environ.get("NDIF_HOST") or CONFIG.API.HOST).rstrip("/")
        self.key = key or os.environ.get("NDIF_API_KEY") or CONFIG.API.APIKEY or ""
        self.sent = self.received = 0
        if not self.host.startswith(("http://", "https://")):
            raise RemoteError(f"NDIF_HOST: {self.host!r} must start with http:// or https://")

    def get(self, path: str, patience: float | None = None, missing: bool = False) -> bytes | None:
        """The body at a path of the host, or at an address it gave (which does not get the key).

        Asking again changes nothing, so every passing failure is retried for ``patience`` seconds, by default ``PATIENCE``.
        ``missing``: 404 is None.
        """
        own = not path.startswith("http")

        def once() -> bytes | None:
            try:
                reply = httpx.get(self.host + path if own else path, headers=self._headers() if own else None, timeout=TIMEOUT)
            except httpx.HTTPError as error:
                raise NotTakenError(self.failure(error)) from error
            self.received += len(reply.content)
            if missing and reply.status_code == 404:
                return None
            if reply.status_code >= 500 or reply.status_code == 429:
                raise NotTakenError(self.refusal(reply))
            if reply.status_code >= 400:
                raise RemoteError(self.refusal(reply))
            return reply.content

        return self._again(once, tenacity.stop_after_delay(PATIENCE if patience is None else patience))

    def json(self, path: str, patience: float | None = None) -> dict[str, Any]:
        """The same, read as JSON."""
        try:
            return json.loads(self.get(path, patience) or b"{}")
        except ValueError as error:
            raise RemoteError(f"{self.host}{path}: the reply is not JSON; is this an NDIF server?") from error

    def submit(self, envelope: dict[str, Any], blob: bytes) -> str:
        """Send a request once for certain at most; return the id the server gave it.

        Raises NotTakenError after ``PATIENCE`` seconds of refusals, RemoteError where sending again cannot help, and
        UnknownOutcomeError where the request left and no whole reply came.
        """

        def once() -> str:
            headers = self._headers() | {"ndif-timestamp": repr(time.time()), "nnsight-version": version("nnsight")}
            headers["python-version"] = sys.version
            files = {"blob": ("request", blob, "application/octet-stream")}
            try:
                reply = httpx.post(
                    f"{self.host}/request", data={"data": json.dumps(envelope)}, files=files, headers=headers, timeout=TIMEOUT
                )
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.WriteError, httpx.WriteTimeout) as error:
                raise NotTakenError(self.failure(error)) from error  # the request never was there as a whole
            except httpx.HTTPError as error:
                raise UnknownOutcomeError(self.failure(error)) from error
            self.sent += len(blob)
            if reply.status_code in NOT_TAKEN:
                raise NotTakenError(self.refusal(reply))
            if reply.status_code >= 500:
                raise UnknownOutcomeError(self.refusal(reply))
            if reply.status_code >= 400:
                raise RemoteError(self.refusal(reply))
            try:
                return str(reply.json()["id"])
            except (ValueError, KeyError, TypeError) as error:
                raise UnknownOutcomeError(f"NDIF at {self.host}: the accepting reply cannot be read") from error

        return self._again(once, tenacity.stop_after_delay(PATIENCE))

    def failure(self, error: httpx.HTTPError) -> str:
        """A failure of the connection in words."""
        text = f"{type(error).__name__} {error}"
        cause = next((words for sign, words in CAUSES.items() if sign in text), self.redact(text))
        return f"NDIF at {self.host}: {cause} ({type(error).__name__}); check NDIF_HOST, the network, and that the server runs"

    def refusal(self, reply: httpx.Response) -> str:
        """A refusal in words: what the server says and what to do."""
        try:
            body = reply.json()
            said = body.get("detail", body) if isinstance(body, dict) else body
        except ValueError:
            said = reply.text[:200]
        said = self.redact(" ".join(str(said).split())[:300]).rstrip(".")
        match reply.status_code:
            case 401 | 403:
                fix = f"set NDIF_API_KEY to a valid key from {LOGIN}" + ("" if self.key else "; no key is set")
            case 400 if "API key" in said:
                fix = f"set NDIF_API_KEY to a valid key from {LOGIN}"
            case 429:
                fix = "too many requests; run again later, what is done is kept"
            case 503:
                fix = "the server is starting or reconnecting; run again in a few minutes, what is done is kept"
            case status if status >= 500:
                fix = "the server failed; run again later, or tell whoever runs it"
            case _:
                fix = "'functional-self doctor --remote' says more"
        return f"NDIF at {self.host} answers {reply.status_code}: {said}; {fix}"

    def traffic(self) -> str:
        """Bytes so far, for a progress line."""
        return f"{self.sent / 1e3:.0f} kB up, {self.received / 1e3:.0f} kB down"

    def redact(self, text: str) -> str:
        """The text without the key, should a server echo it."""
        return text.replace(self.key, "***") if self.key else text

    def _headers(self) -> dict[str, str]:
        return {"ndif-api-key": self.key} if self.key else {}

    @staticmethod
    def _again(once: Callable[[], T], stop: tenacity.stop.stop_base) -> T:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(NotTakenError),
            wait=tenacity.wait_random_exponential(multiplier=0.25, max=10.0),
            stop=stop,
            reraise=True,
        )
        return retrying(once)
