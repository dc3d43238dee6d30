"""Kernels forked from a process that has imported the libraries: ten seconds of a chapter's start are spent once.

``serving()`` keeps such a process while several chapters run, and ``spec`` is the kernel that asks it for a copy of itself.
Where a copy would differ from a kernel started anew (another Python, other threads, a variable that a library may read while it
is imported), the kernel is started anew. The file is also a script that imports nothing of this library, so that a run's
manifest lists the chapter's own modules only: ``serve`` is that process, ``ask`` the kernel's stand-in, which lives as long.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import importlib
import json
import os
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

ADDRESS = "FUNCTIONAL_SELF_KERNELS"
SHELL = {"_", "COLUMNS", "LINES", "OLDPWD", "PATH", "PS1", "PWD", "SHLVL", "VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT"}
FREE = (
    "FUNCTIONAL_SELF_",
    "IPYTHONDIR",
    "JPY_",
    "JUPYTER_",
    "NDIF_",
    "PIP_",
    "PYDEVD_",
    "PYTEST_",
    "TMPDIR",
    "TOKENIZERS_PARALLELISM",
    "TORCHINDUCTOR_CACHE_DIR",
)
"""Variables, by how their names begin, that no library reads while it is imported; nnsight does NDIF's, for jobs not ours."""
LIBRARIES = (
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "nnsight",
    "pandas",
    "peft",
    "safetensors.torch",
    "scipy.optimize",
    "scipy.stats",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
    "ipykernel.kernelapp",  # after tqdm, which asks for widgets where it finds IPython
    "ipykernel.zmqshell",
)


@contextlib.contextmanager
def serving(environment: Mapping[str, str], at_once: bool = False) -> Iterator[dict[str, str]]:
    """Keep a process that forks kernels; gives what is to be added to the environment of runs that use it.

    Only on Linux, where forking a process that has imported torch is safe as long as it has computed nothing. It imports when
    first asked or ``at_once``, and ends with this block or with the process that entered it. One that is there already is used.
    """
    fingerprint = _fingerprint(environment)
    if sys.platform != "linux" or os.environ.get(ADDRESS, "").endswith(fingerprint):
        yield {}
        return
    name = f"functional-self-{secrets.token_hex(16)}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{name}")
        listening.listen(64)
        command = [sys.executable, "-P", str(Path(__file__).resolve()), "serve", str(listening.fileno()), *["now"] * at_once]
        started = {**environment, "HF_HUB_DISABLE_TELEMETRY": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listening.fileno()], env=started)
    try:
        yield {ADDRESS: f"{name} {fingerprint}"}
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def ahead(at_once: bool = True) -> Iterator[None]:
    """Keep such a process for this one's own runs; ``at_once`` it imports while the first of them gets ready."""
    with serving(os.environ, at_once) as more:
        os.environ.update(more)
        try:
            yield
        finally:
            for name in more:
                del os.environ[name]


def spec(folder: Path, changed: Mapping[str, str]) -> dict[str, str]:
    """Write the kernel named python3 that is a copy; gives the variable that makes Jupyter find it, or none where none is served.

    ``changed`` is what a run adds to this process's environment.
    """
    name, _, fingerprint = os.environ.get(ADDRESS, "").partition(" ")
    if not name or fingerprint != _fingerprint({**os.environ, **changed}):
        return {}
    home = folder / "kernels" / "python3"
    home.mkdir(parents=True)
    command = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), "ask", name, "-f", "{connection_file}"]
    (home / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}))
    return {"JUPYTER_PATH": str(folder)}


def _fingerprint(environment: Mapping[str, str]) -> str:
    """Of the Python and of all variables that a library may read while it is imported."""
    kept = {key: value for key, value in environment.items() if not key.startswith(FREE) and key not in SHELL}
    said = json.dumps([os.path.realpath(sys.prefix), sorted((kept | {"HF_HUB_DISABLE_TELEMETRY": "1"}).items())])
    return hashlib.sha256(said.encode()).hexdigest()


def ask(name: str, arguments: list[str]) -> None:
    """Have a kernel forked with this process's environment and streams, and live as long as it does; without one, become one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent, forked = os.getppid(), False
    said = json.dumps({"arguments": arguments, "cwd": str(Path.cwd()), "environment": dict(os.environ)}).encode()
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
        asking.connect(f"\0{name}")
        if _ours(asking):
            socket.send_fds(asking, [struct.pack("!i", len(said))], [0, 1, 2])
            asking.sendall(said)
            while os.getppid() == parent:
                if select.select([asking], [], [], 1.0)[0]:
                    if not asking.recv(1):
                        break
                    forked = True
    if not forked and os.getppid() == parent:
        os.execv(sys.executable, [sys.executable, "-m", "ipykernel_launcher", *arguments])  # noqa: S606


def serve(number: int, at_once: bool) -> None:
    """Import the libraries, at once or when first asked; fork a kernel for everyone of this user who asks, until input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended kernels leave nothing
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for who asked
    listening = socket.socket(fileno=number)
    if at_once:
        _import()
    while True:
        ready, _, _ = select.select([sys.stdin, listening], [], [])
        if sys.stdin in ready:
            return
        asked, _ = listening.accept()
        if not _ours(asked):
            asked.close()
            continue
        _import()
        if os.fork() == 0:
            listening.close()
            _become(asked)
        asked.close()


@functools.cache
def _import() -> None:
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()


def _ours(connection: socket.socket) -> bool:
    """Whether the other end is a process of this user: such an address has no permissions."""
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(user == os.getuid())


def _become(asked: socket.socket) -> None:
    """In the copy: be the kernel that was asked for, and end with it or with who asked."""
    import runpy
    import tempfile

    size, streams, _, _ = socket.recv_fds(asked, 4, 3)
    asked.sendall(b"!")
    with asked.makefile("rb") as stream:
        wanted = json.loads(stream.read(struct.unpack("!i", size)[0]))

    def watch() -> None:
        with contextlib.suppress(OSError):
            asked.recv(1)
        os._exit(1)

    for standard, given in enumerate(streams):
        os.dup2(given, standard)
        os.close(given)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    os.environ.pop("JPY_PARENT_PID", None)  # not this process's parent: ``watch`` sees it go
    tempfile.tempdir = None
    threading.Thread(target=watch, daemon=True).start()
    sys.argv = ["ipykernel_launcher", *wanted["arguments"]]
    try:
        runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[2]), "now" in sys.argv[3:]) if sys.argv[1] == "serve" else ask(sys.argv[2], sys.argv[3:])
