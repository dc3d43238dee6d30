"""A live NDIF server for the tests: namespaces, processes, two proxies. ``python tests/ndif/server.py`` runs one by hand."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from proxy import Proxy

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("FUNCTIONAL_SELF_NDIF_PYTHON", REPOSITORY / ".venv-ndif" / "bin" / "python"))
NAMESPACES = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--net", "--pid", "--mount-proc"]


def missing() -> str:
    """Why there can be no server here; empty where there can."""
    for program in ("unshare", "redis-server"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if not PYTHON.is_file():
        return f"{PYTHON.parent.parent.name} is not there; run 'make test-ndif' once"
    tried = subprocess.run([*NAMESPACES, "--fork", "true"], capture_output=True, text=True)
    return f"no network namespace: {tried.stderr.strip()}" if tried.returncode else ""


class Server:
    """One server with the proxy ``api`` before it; ``subject`` is the local directory it serves."""

    def __init__(self, subject: str):
        self.subject = subject
        self.folder = Path(tempfile.mkdtemp(prefix="fs-ndif-", dir="/tmp"))  # short: Ray's sockets live in it
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = os.environ | {"NDIF_TEST_STORE_PORT": str(port), "NDIF_TEST_SUBJECT": subject}
        environment.pop("NDIF_API_KEY", None)
        self.process = subprocess.Popen(
            [*NAMESPACES, "--fork", "--kill-child", str(PYTHON), str(Path(__file__).with_name("stack.py")), str(self.folder)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.api = Proxy(self.folder / "api.sock").start()
        self.store = Proxy(self.folder / "store.sock", port).start()  # presigned addresses name this port

    def wait(self, seconds: float = 300) -> Server:
        """Return once the subject runs; raise with the ends of the logs where it does not."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            if any(d.get("application_state") == "RUNNING" for d in self.status().values()):
                self.api.reset()
                return self
            time.sleep(0.5)
        logs = "\n".join(f"{p.name}: {p.read_text()[-2000:]}" for p in sorted(self.folder.glob("*.log")))
        self.stop()
        raise RuntimeError(f"the server did not start within {seconds:.0f} s\n{logs}")

    def status(self) -> dict[str, dict]:
        """The deployments the server reports; none while it cannot."""
        try:
            with urllib.request.urlopen(f"{self.api.url}/status", timeout=10) as reply:
                return json.load(reply)["deployments"]
        except (OSError, ValueError):
            return {}

    def order(self, text: str) -> None:
        """``kill NAME`` or ``start NAME`` of a service, or ``kill`` of the processes whose command line has the word."""
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == f"done {text}"

    def executed(self) -> list[str]:
        """Ids of the requests whose blocks were executed, in order, a second execution once more."""
        file = self.folder / "executed"
        return file.read_text().split() if file.is_file() else []

    def stop(self) -> None:
        """End everything; the namespace's first process removes the folder."""
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        for proxy in (self.api, self.store):
            proxy.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


if __name__ == "__main__":
    from functional_self import subjects

    if reason := missing():
        sys.exit(f"server.py: {reason}")
    server = Server(subjects.directory("smollm2", subjects.resolve("smollm2")))
    try:
        server.wait()
        print(f"export NDIF_HOST={server.api.url}  # {server.folder}", flush=True)
        server.process.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()
