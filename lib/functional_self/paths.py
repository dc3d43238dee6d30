"""Where things are: the project's root, the user's cache, and files written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

LIBRARY = Path(__file__).resolve().parent


def root() -> Path:
    """The project's root: ``FUNCTIONAL_SELF_ROOT``, else the nearest folder above with ``_toc.yml``, else the checkout."""
    if chosen := os.environ.get("FUNCTIONAL_SELF_ROOT"):
        return Path(chosen).resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "_toc.yml").is_file() and (folder / "chapters").is_dir():
            return folder
    return LIBRARY.parent.parent


def cache() -> Path:
    """The user's cache: ``FUNCTIONAL_SELF_CACHE``, else the platform's own place."""
    chosen = os.environ.get("FUNCTIONAL_SELF_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("functional-self")


def runs() -> Path:
    """Where runs are written: ``FUNCTIONAL_SELF_RUNS``, else ``runs/`` in the project's root."""
    chosen = os.environ.get("FUNCTIONAL_SELF_RUNS")
    return Path(chosen).resolve() if chosen else root() / "runs"


def browser() -> str | None:
    """The path of an installed Chromium or Chrome, which prints the book and in which it is tested."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def shown(path: Path) -> str:
    """The path relative to the project's root where it lies inside, for messages."""
    try:
        return str(path.resolve().relative_to(root()))
    except ValueError:
        return str(path)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(text: str, length: int = 64) -> str:
    """The first ``length`` hexadecimal digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@contextmanager
def staging(parent: Path, prefix: str = ".tmp-") -> Iterator[Path]:
    """A scratch folder beside its destination, named after this process and removed at the end.

    Folders that killed processes left behind are swept first. Rename what is whole out of it:
    a kill at any moment leaves either nothing or a whole result.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{prefix}*"):
        owner = left.name.removeprefix(prefix).split("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=parent))
    try:
        yield folder
    except OSError as error:
        error.filename = error.filename or str(parent)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a small file whole: beside its destination first, then renamed onto it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
