"""What ``doctor --remote`` and ``plan`` say of an NDIF host."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from functional_self.errors import RemoteError
from functional_self.subjects import fetch, registry, remote
from functional_self.subjects.journal import Journal
from functional_self.subjects.wire import LOGIN, Wire


def checks(subject: str | None = None) -> list[tuple[str, bool, str, str]]:
    """Rows of check, good, found and fix: host, key (whether there is one, nothing of it), versions, subjects, journal."""
    wire = Wire()
    key = (
        "NDIF key",
        bool(wire.key),
        "set" if wire.key else "not set",
        f"set NDIF_API_KEY in the environment, to a key from {LOGIN}",
    )
    try:
        wire.get("/ping", patience=2)
        found = remote.server(wire.host)
    except RemoteError as error:
        said, _, fix = str(error).rpartition("; ")
        return [("NDIF host", False, said, fix), key]
    here = {name: version(name) for name in found["versions"]}
    pairs = ", ".join(f"{name} {here[name]} here, {there} there" for name, there in found["versions"].items())
    wrong = remote.differing(found["versions"])
    rows = [
        ("NDIF host", True, wire.host, ""),
        key,
        ("NDIF versions", not wrong, pairs, "pip install " + " ".join(f"{n}=={found['versions'][n]}" for n in remote.EXACT)),
    ]
    known = [subject] if subject else [n for n, e in registry.entries().items() if isinstance(e, registry.Hub)]
    serving = {name: state(name) for name in known}
    running = [name for name, said in serving.items() if said == "running"]
    if subject:
        rows.append(
            (
                "NDIF subject",
                bool(running),
                f"{subject}: {serving[subject]}",
                "choose one that runs, or ask for it to be deployed",
            )
        )
    else:
        rows.append(("NDIF subjects", bool(running), ", ".join(running) or "none of the registry's", "functional-self subjects"))
    left = [entry for entry in Journal().entries() if entry.state not in ("done", "failed")]
    rows.append(("job journal", not left, f"{len(left)} jobs not collected", "run again what sent them"))
    return rows


def state(name: str) -> str:
    """``running``, or why a subject cannot be asked, in words."""
    entry = registry.resolve(name)
    if isinstance(entry, registry.Mock) or name.startswith(registry.RANDOM):
        return "asked on this machine"
    where = entry.repo if isinstance(entry, registry.Hub) else str(Path(fetch.directory(name, entry)).resolve())
    pinned = entry.revision if isinstance(entry, registry.Hub) and entry.revision != "main" else None
    try:
        remote.check(name, where, pinned)
    except RemoteError as error:
        return str(error)
    return "running"


def planned(found: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    """A plan's rows: counts, expected seconds where this machine has asked that host before, and the subject's state."""
    host = Wire().host
    rate = Journal().rate(host)
    return [
        {
            "subject": name,
            "items": counts["items"],
            "tokens": counts["tokens"],
            "requests": counts["jobs"],
            "bytes up": counts["up"],
            "bytes down": counts["down"],
            "seconds": round(counts["tokens"] / rate) if rate else "unknown before a first job",
            "state": state(name),
        }
        for name, counts in found.items()
    ]
