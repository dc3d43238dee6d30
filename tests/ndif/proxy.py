"""A small TCP proxy that can fail on purpose, in front of a server behind a unix socket.

Every connection carries one HTTP request (the proxy asks both sides to close after it), which is counted with its bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes closing send a reset."""


@dataclass
class Exchange:
    """One request that came to the proxy: bytes towards the server and back, and the fault it met."""

    method: str
    path: str
    up: int = 0
    down: int = 0
    fault: str = ""


@dataclass
class Fault:
    """What happens to the next ``times`` requests whose method and path fit, once ``after`` of them have passed.

    ``kind``: ``reset`` while the body is being sent; ``lost``, taken whole and never passed on; ``dropped``, passed on and the
    reply thrown away; ``truncated``, half of the reply; ``slow``, held for ``seconds``; or an HTTP status such as ``503``.
    """

    kind: str
    method: str = "POST"
    path: str = "/request"
    times: int = 1
    after: int = 0
    seconds: float = 1.0


@dataclass
class Proxy:
    """Listens on 127.0.0.1 in a thread of its own; ``inject`` faults, read ``exchanges``."""

    upstream: Path
    port: int = 0
    exchanges: list[Exchange] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def start(self) -> Proxy:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self._listen()
        return self

    def stop(self) -> None:
        self._call(self._close())
        self._call(self._cancel())
        self.loop.call_soon_threadsafe(self.loop.stop)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def inject(self, kind: str, **where) -> None:
        """Add a fault; see ``Fault``."""
        self.faults.append(Fault(kind, **where))

    def reset(self) -> None:
        """Forget faults and counts."""
        self.faults.clear()
        self.exchanges.clear()

    def count(self, method: str, path: str) -> int:
        """How many requests came whose path starts so."""
        return sum(e.method == method and e.path.startswith(path) for e in self.exchanges)

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Connections are refused meanwhile."""
        self._call(self._close())
        try:
            yield
        finally:
            self._listen()

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def _listen(self) -> None:
        self.server = self._call(asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 16))
        self.port = self.server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self.server.close()

    async def _cancel(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and fault.method == method and path.startswith(fault.path):
                if fault.after:
                    fault.after -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._exchange(reader, writer)
        with contextlib.suppress(OSError):
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, _ = head.split(b"\r\n")[0].decode().split(" ", 2)
        found = re.search(rb"(?i)content-length: *(\d+)", head)
        length = int(found[1]) if found else 0
        exchange = Exchange(method, path, up=len(head))
        self.exchanges.append(exchange)
        fault = self._fault(method, path)
        kind = fault.kind if fault else ""
        exchange.fault = kind
        if kind == "reset":
            await reader.readexactly(min(length // 2, 1 << 15))
            return self._abort(writer)
        body = await reader.readexactly(length)
        exchange.up += len(body)
        if kind == "slow":
            await asyncio.sleep(fault.seconds)
        if kind == "lost":
            return self._abort(writer)
        if kind.isdigit():
            said = json.dumps({"detail": f"injected {kind}"}).encode()
            reply = f"HTTP/1.1 {kind} Injected\r\nContent-Type: application/json\r\nRetry-After: 1\r\n".encode()
            reply += f"Connection: close\r\nContent-Length: {len(said)}\r\n\r\n".encode() + said
        else:
            head = re.sub(rb"(?i)\r\nconnection: [^\r]*", b"", head).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
            there = await asyncio.open_unix_connection(str(self.upstream))
            there[1].write(head + body)
            await there[1].drain()
            reply = await there[0].read()
            there[1].close()
        if kind == "dropped":
            return self._abort(writer)
        if kind == "truncated":
            start = reply.index(b"\r\n\r\n") + 4
            reply = reply[: start + (len(reply) - start) // 2]
        exchange.down = len(reply)
        writer.write(reply)
        await writer.drain()

    @staticmethod
    def _abort(writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
