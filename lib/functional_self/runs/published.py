"""Which run stands for each chapter: the published one, the one it replaced here, and this machine's last reproduction."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from functional_self import paths
from functional_self.errors import RunError
from functional_self.runs import chapter as chapters
from functional_self.runs import provenance
from functional_self.runs.execute import Run
from functional_self.runs.record import parts, shown

PUBLISHED = "published.yml"
LOCAL = "local.yml"
KINDS = ("published", "this machine")
BEFORE = "before"
"""The run that the published one replaced in this checkout: kept in ``runs/before/`` for comparison, outside git."""
_HEAD = {
    PUBLISHED: "# The published run of each chapter; written by 'functional-self publish'.\n",
    LOCAL: "# This machine's last run of each chapter; written by 'functional-self reproduce'.\n",
}


@dataclass(frozen=True)
class Freshness:
    """Whether a chapter's published run still says what its sources would say now."""

    chapter: str
    run: str | None
    reasons: tuple[str, ...]
    figures: tuple[str, ...]

    @property
    def stale(self) -> bool:
        """True where there is a reason to run again."""
        return bool(self.reasons)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self) | {"stale": self.stale}


def pointers(file: str = PUBLISHED) -> dict[str, str]:
    """Run names by chapter, from ``runs/published.yml`` or ``runs/local.yml``; empty where there is none."""
    folder = paths.root() / "runs" if file == PUBLISHED else paths.runs()
    path = folder / file
    raw = (yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) or {}) if path.is_file() else {}
    if not isinstance(raw, dict) or not all(isinstance(v, str) and "/" not in v for v in raw.values()):
        raise RunError(f"{paths.shown(path)}: must map chapters to run folders")
    return {str(name): value for name, value in raw.items()}


def find(chapter: str, kind: str = "published") -> Run | None:
    """The chapter's published run, this machine's, or the one ``before`` the published; None where there is none.

    Raises RunError where the published run's folder is missing.
    """
    if kind == BEFORE:
        kept = _before(chapter)
        return Run(kept[0]) if kept else None
    file = PUBLISHED if kind == "published" else LOCAL
    name = pointers(file).get(chapter)
    if name is None:
        return None
    home = (paths.root() / "runs" if kind == "published" else paths.runs()) / name
    if not home.is_dir():
        if kind != "published":
            return None
        raise RunError(f"runs/{file}: {chapter}: the run folder runs/{name} is missing; check it out or publish again")
    return Run(home)


def note_local(chapter: str, run: Run) -> None:
    """Remember this machine's last run of a chapter."""
    _write(paths.runs() / LOCAL, pointers(LOCAL) | {chapter: run.name})


def publish(run: Run) -> list[str]:
    """Make a run the published one of its chapter; returns what it replaces and the paths to commit.

    The run is copied into ``runs/`` aside and renamed where it was executed elsewhere. ``runs/.gitignore`` is
    rewritten so that git sees the published runs and no others. The replaced run's folder is moved to ``runs/before/``, which
    git does not see, and stays there until the next one of its chapter is replaced.
    """
    home = paths.root() / "runs"
    chapter = run.manifest["chapter"]
    target = home / run.name
    if run.path.resolve() != target.resolve() and not target.is_dir():
        with paths.staging(home) as scratch:
            shutil.copytree(run.path, scratch / run.name)
            (scratch / run.name).rename(target)
    before = pointers().get(chapter)
    now = pointers() | {chapter: run.name}
    _write(home / PUBLISHED, now)
    ignore = [
        "*",
        "!.gitignore",
        f"!{PUBLISHED}",
        *(line for name in sorted(now.values()) for line in (f"!{name}/", f"!{name}/**")),
    ]
    paths.write_text(home / ".gitignore", "\n".join(ignore) + "\n")
    if before and before != run.name and (home / before).is_dir():
        with paths.staging(home) as scratch:
            for older in _before(chapter):
                older.rename(scratch / older.name)
            (home / BEFORE).mkdir(exist_ok=True)
            (home / before).rename(home / BEFORE / before)
    return [
        f"runs/{PUBLISHED}",
        "runs/.gitignore",
        f"runs/{run.name}",
        *([f"runs/{before}"] if before and before != run.name else []),
    ]


def result(chapter: str, name: str, spec: str = "", words: bool = False) -> tuple[Run, str]:
    """A chapter's published run and one of its results as text; the name may end in .n, .interval or .full, as in the chapters.

    With ``words`` a result that says in words why there is no number is shown as it is where a format is asked for. Raises
    RunError where there is no run or no such result, or the format does not fit.
    """
    run = find(chapter)
    stem, part = next(((name.removesuffix(end), end) for end in (".n", ".interval", ".full") if name.endswith(end)), (name, ""))
    if run is None:
        raise RunError(f"chapter '{chapter}' has no published run")
    if stem not in run.results:
        raise RunError(f"the published run of '{chapter}' records no '{stem}'")
    found = run.results[stem]
    if part:
        return run, parts(found)[part]
    if not spec or found["value"] is None or (words and isinstance(found["value"], str)):
        return run, shown(found["value"])
    try:
        return run, format(found["value"], spec)
    except ValueError as error:
        raise RunError(f"'{chapter} {name}': the format '{spec}' does not fit {found['value']!r}") from error


def freshness(name: str) -> Freshness:
    """Compare a chapter's published run with what its sources, materials, parameters and subjects are now."""
    found = find(name)
    if found is None:
        return Freshness(name, None, (f"chapters/{name}.md: no published run; run it and publish it",), ())
    chapter = chapters.load(name)
    manifest = found.manifest
    parameters = chapter.resolve(manifest["preset"], {k: str(v) for k, v in manifest["overrides"].items()})
    now = provenance.determinants(chapter, parameters, trained=False)
    reasons = provenance.changes(manifest, now, chapter)
    return Freshness(name, found.name, tuple(reasons), tuple(figure["name"] for figure in manifest["figures"]))


def _before(chapter: str) -> list[Path]:
    """The folder of the run of a chapter that was replaced here last, if there is one."""
    folder = paths.root() / "runs" / BEFORE
    return sorted(path for path in folder.glob(f"{chapter}-*") if path.name.rpartition("-")[0] == chapter)


def _write(path: Path, values: dict[str, str]) -> None:
    paths.write_text(path, _HEAD[path.name] + yaml.safe_dump(values, sort_keys=True))
