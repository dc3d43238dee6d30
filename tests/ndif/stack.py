"""The live NDIF server as process 1 of its own namespaces: redis, moto, Ray, the api, and two doors to the outside.

Started by ``server.py`` as ``unshare --net --pid --mount-proc --fork --kill-child python stack.py FOLDER``. Nothing inside can
reach, or be reached from, anything but this: the unix sockets ``FOLDER/api.sock`` and ``FOLDER/store.sock`` lead to the api and
to the object store. A line on standard input ends a service (``kill api``, ``kill model``) or starts it again; its end, which the
kernel brings about however the tests end, ends this process, and with it every process of the namespace, and removes the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

REDIS, STORE_PORT, API = 6399, int(os.environ["NDIF_TEST_STORE_PORT"]), 8001
BIN = Path(sys.executable).parent
HERE = Path(__file__).resolve().parent


def environment(folder: Path) -> dict[str, str]:
    """The services' settings; nothing of the caller's environment but the path."""
    key = {"repo_id": os.environ["NDIF_TEST_SUBJECT"], "revision": None, "task": "text-generation"}
    return {
        "PATH": f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(HERE),
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NDIF_HOME": str(folder / "home"),
        "NDIF_RAY_TEMP_DIR": str(folder / "ray"),
        "NDIF_REDIS_URL": f"redis://127.0.0.1:{REDIS}",
        "NDIF_OBJECT_STORE_URL": f"http://127.0.0.1:{STORE_PORT}",
        "NDIF_API_URL": f"http://127.0.0.1:{API}",
        "NDIF_API_PORT": str(API),
        "NDIF_RAY_ADDRESS": "ray://127.0.0.1:10001",
        "NDIF_DEFAULT_MODEL_ACTOR_CLASS": "ndif_cpu.CPUModelActor",
        "NDIF_CONTROLLER_IMPORT_PATH": "ndif_cpu.CPUController",
        "NDIF_DEFAULT_DTYPE": "float32",
        "NDIF_MINIMUM_DEPLOYMENT_TIME_SECONDS": "0",
        "NDIF_AUTOSCALING_MAX_REPLICAS": "1",
        "NDIF_DEPLOYMENTS": "nnsight.modeling.transformers.TransformersModel:" + json.dumps(key),
        "NDIF_STATUS_TTL_S": "1",
        "NDIF_TEST_EXECUTED": str(folder / "executed"),
        "NDIF_CPU_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
        "RAY_OVERRIDE_RESOURCES": '{"CPU": 8, "GPU": 1, "cuda_memory_bytes": 8000000000}',
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # the default of 15 starves the model beside other work
        "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{API}",
    }


def services() -> dict[str, list[str]]:
    """Command lines, in the order in which they start."""
    scripts = next(BIN.parent.glob("lib/python*/site-packages/ndif/services"))
    return {
        "redis": ["redis-server", "--bind", "127.0.0.1", "--port", str(REDIS), "--save", "", "--appendonly", "no"],
        "store": [str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(STORE_PORT)],
        "ray": ["bash", str(scripts / "ray" / "start.sh")],
        "api": ["bash", str(scripts / "api" / "start.sh")],
    }


def start(name: str, folder: Path) -> subprocess.Popen[bytes]:
    """One service in a session of its own, its output in ``FOLDER/NAME.log``."""
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            services()[name],
            env=environment(folder),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def kill(name: str, running: dict[str, subprocess.Popen[bytes]]) -> None:
    """End a service, or the processes whose title says ``name`` (Ray calls the model's by its class), with SIGKILL."""
    if name in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running[name].pid, signal.SIGKILL)
        return
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if name.encode() in (entry / "cmdline").read_bytes() and entry.name != "1":
                os.kill(int(entry.name), signal.SIGKILL)


def loopback_up() -> None:
    """``ip link set lo up``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS, IFF_UP | IFF_RUNNING


def private_shared_memory() -> None:
    """A /dev/shm of the namespace's own, so that what Ray leaves in it goes with it."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"size=4g")


async def door(path: Path, port: int) -> None:
    """Pass every connection to the unix socket on to a port."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))

    await asyncio.start_unix_server(serve, str(path))


async def main(folder: Path) -> None:
    """Start everything, obey, and reap until standard input ends."""
    loopback_up()
    private_shared_memory()
    await door(folder / "api.sock", API)
    await door(folder / "store.sock", STORE_PORT)
    running = {name: start(name, folder) for name in services()}
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        verb, _, name = line.decode().strip().partition(" ")
        if verb == "kill":
            kill(name, running)
        elif verb == "start":
            running[name] = start(name, folder)
        print("done", line.decode().strip(), flush=True)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    try:
        asyncio.run(main(where))
    finally:
        with contextlib.suppress(OSError):
            os.kill(-1, signal.SIGKILL)  # everything else in this namespace
        shutil.rmtree(where, ignore_errors=True)
        os._exit(0)
