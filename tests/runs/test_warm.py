"""Kernels forked from one process: the same run, apart from where it was started; anything else is started anew."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import cli_here
from functional_self.runs import chapter, execute, warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forked kernels are for Linux")


@pytest.fixture
def served():
    """The environment of a process that forks kernels."""
    with warm.ahead():
        yield


def children() -> set[str]:
    """Processes that this thread has started."""
    return set(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())


def where(said: str) -> str:
    """A cell that puts the kernel's command line, folder and a variable where the test finds them."""
    found = "json.dumps([Path('/proc/self/cmdline').read_text().split(chr(0)), os.getcwd(), os.environ['TMPDIR']])"
    return f"import json, os; from pathlib import Path; Path({said!r}).write_text({found})"


def test_a_forked_kernel_gives_the_run_of_a_plain_one(project, served, monkeypatch, tmp_path):
    source = project / "chapters" / "tiny.md"
    source.write_text(source.read_text().replace("import time\n", f"import time\n\n{where(str(tmp_path / 'said'))}\n", 1))
    forked, _ = execute.run(chapter.load("tiny"))
    command, folder, scratch = json.loads((tmp_path / "said").read_text())
    assert "serve" in command and Path(folder) == project and str(project / "runs") in scratch
    monkeypatch.delenv(warm.ADDRESS)
    kept = forked.results, forked.manifest
    plain, executed = execute.run(chapter.load("tiny"), force=True)
    assert executed and "serve" not in json.loads((tmp_path / "said").read_text())[0]
    assert [r for r in plain.results.values() if r["name"] != "hollow"] == [r for r in kept[0].values() if r["name"] != "hollow"]
    for name in ("modules", "versions", "figures"):
        assert plain.manifest[name] == kept[1][name]


def test_what_a_copy_would_not_honour_is_started_anew(tmp_path, served, monkeypatch):
    assert warm.spec(tmp_path / "same", {"TMPDIR": "/elsewhere", "FUNCTIONAL_SELF_RUNS": "/there"})
    for name, value in {"OMP_NUM_THREADS": "7", "PYTHONPATH": "/lib", "HF_HUB_OFFLINE": "1", "HOME": "/nobody"}.items():
        assert not warm.spec(tmp_path / name, {name: value}), name
    monkeypatch.delenv(warm.ADDRESS)
    assert not warm.spec(tmp_path / "none", {})


def test_kernels_of_this_session_are_forked(tmp_path):
    """Whatever the tests before this one imported or set."""
    import torch._inductor.config  # noqa: F401 - sets a variable

    assert warm.spec(tmp_path, {})


def test_a_run_does_without_a_server_that_has_ended(project, tmp_path, monkeypatch):
    """Killed before it forked a kernel, and gone without a trace."""
    monkeypatch.delenv(warm.ADDRESS)
    before = children()
    with warm.serving(os.environ) as more:
        assert not warm.spec(tmp_path, {})
        monkeypatch.setenv(warm.ADDRESS, more[warm.ADDRESS])
        assert warm.spec(tmp_path, {})
        [process] = children() - before
        os.kill(int(process), signal.SIGSTOP)
        threading.Timer(5, os.kill, (int(process), signal.SIGKILL)).start()
        assert cli_here("run", "tiny").returncode == 0
    assert cli_here("run", "tiny", "--preset", "laptop", "--force").returncode == 0


def test_a_forked_kernel_ends_with_who_asked_for_it(project, served):
    source = project / "chapters" / "tiny.md"
    said = f"import os; from pathlib import Path; Path({str(project / 'pid')!r}).write_text(str(os.getpid())); time.sleep(600)"
    source.write_text(source.read_text().replace("time.sleep(pause)", said))
    asking = subprocess.Popen([str(Path(sys.executable).with_name("functional-self")), "run", "tiny"])
    end = time.monotonic() + 120
    while not (project / "pid").exists() or not (project / "pid").read_text():
        assert time.monotonic() < end and asking.poll() is None
        time.sleep(0.1)
    kernel = Path("/proc", (project / "pid").read_text())
    assert kernel.exists()
    asking.kill()
    asking.wait()
    while kernel.exists():
        assert time.monotonic() < end
        time.sleep(0.1)
