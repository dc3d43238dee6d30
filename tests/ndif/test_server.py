"""The stack itself: whatever ends the tests, nothing of it stays."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from server import missing


def processes(word: str) -> list[str]:
    """Command lines on this machine that have the word."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if word in text:
            found.append(text)
    return found


def test_a_killed_session_leaves_no_process_and_no_folder():
    if reason := missing():
        pytest.skip(reason)
    code = "import server, time; s = server.Server('/nowhere'); print(s.folder, flush=True); time.sleep(60)"
    session = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True)
    folder = Path(session.stdout.readline().strip())
    end = time.monotonic() + 30
    while not (folder / "api.log").exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert processes(str(folder))
    session.kill()
    session.wait()
    while (processes(str(folder)) or folder.exists()) and time.monotonic() < end + 30:
        time.sleep(0.1)
    assert processes(str(folder)) == [] and not folder.exists()


def test_nothing_listens_outside_its_namespace(server):
    """Redis, Ray, moto and the api can be reached through the two proxies only."""
    listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ports = {int(line.split()[1].split(":")[1], 16) for line in listening if line.split()[3] == "0A"}
    assert not ports & {6399, 8001, 8265, 10001, 6385}
    assert server.api.port in ports
