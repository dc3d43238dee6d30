"""Claims: what was published or predicted, with a tolerance and its reason, against what a run recorded."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from functional_self import paths
from functional_self.errors import RunError
from functional_self.runs.execute import Run
from functional_self.runs.published import KINDS, find, freshness

Verdict = Literal["match", "differs", "not comparable", "not measurable", "not run", "stale"]
MARKS: dict[str, str] = {"match": "✓", "differs": "✗", "not comparable": "–", "not measurable": "∅", "not run": "□", "stale": "!"}


class Needs(BaseModel):
    """What a run must be for a claim to be comparable."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    presets: tuple[str, ...] = ()
    parameters: dict[str, Any] = {}
    gate: str | None = None


class Claim(BaseModel):
    """One claim. ``key`` names the recorded result, ``keys`` the results of an ordering, largest first.

    ``expected`` is a number with ``tolerance`` (value), [low, high] (range) or +1 or -1 (sign, the interval
    must exclude zero). ``control`` marks a claim about a random or simulated subject; any other claim never
    counts a run on such a subject as a match.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str = Field(pattern=r"^[a-z0-9-]+$")
    thread: str
    chapter: str
    statement: str
    source: str
    kind: Literal["value", "range", "sign", "ordering"]
    key: str | None = None
    keys: tuple[str, ...] = ()
    expected: float | tuple[float, float] | None = None
    tolerance: float | None = Field(default=None, ge=0)
    reason: str
    needs: Needs = Needs()
    control: bool = False

    @model_validator(mode="after")
    def _complete(self) -> Claim:
        wanted = {
            "value": self.key and isinstance(self.expected, float) and self.tolerance is not None,
            "range": self.key and isinstance(self.expected, tuple),
            "sign": self.key and self.expected in (1.0, -1.0),
            "ordering": len(self.keys) > 1,
        }[self.kind]
        if not wanted:
            raise ValueError(
                f"a {self.kind} claim needs "
                + {
                    "value": "key, expected (a number) and tolerance",
                    "range": "key and expected [low, high]",
                    "sign": "key and expected 1 or -1",
                    "ordering": "keys, largest first",
                }[self.kind]
            )
        return self


def load() -> list[Claim]:
    """Every claim of ``claims/*.yml``; raises RunError naming file, claim and key."""
    found: list[Claim] = []
    for path in sorted((paths.root() / "claims").glob("*.yml")):
        where = paths.shown(path)
        try:
            raw = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) or []
        except yaml.YAMLError as error:
            raise RunError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error
        for place, entry in enumerate(raw if isinstance(raw, list) else [raw], 1):
            try:
                claim = Claim.model_validate(entry)
            except ValidationError as error:
                first = error.errors()[0]
                at = ".".join(map(str, first["loc"])) or "claim"
                name = entry.get("id", place) if isinstance(entry, dict) else place
                raise RunError(f"{where}: claim {name}: {at}: {first['msg'].removeprefix('Value error, ')}") from error
            if any(claim.id == other.id for other in found):
                raise RunError(f"{where}: claim '{claim.id}' appears twice")
            found.append(claim)
    return found


def judge(claim: Claim, run: Run | None, stale: bool = False) -> tuple[Verdict, str]:
    """The verdict on a claim by one run, and a short explanation."""
    if run is None:
        return "not run", "no run of this chapter here"
    manifest, results = run.manifest, run.results
    if stale:
        return "stale", "something the run depends on changed since"
    if claim.needs.presets and (manifest["preset"] not in claim.needs.presets or manifest["overrides"]):
        return "not comparable", f"needs preset {' or '.join(claim.needs.presets)}, unchanged; this is {manifest['preset']}"
    for name, wanted in claim.needs.parameters.items():
        if manifest["parameters"].get(name) != wanted:
            return "not comparable", f"needs {name} = {wanted}"
    asked = manifest["parameters"].get("subjects") or [manifest["parameters"].get("subject", "")]
    if str(asked[0]).startswith(("random:", "mock:")) and not claim.control:
        return "not comparable", f"{asked[0]} is a control, not evidence"
    if claim.needs.gate:
        gate = results.get(f"{claim.needs.gate}/passed")
        if gate is None or not gate["value"]:
            failed = results.get(f"{claim.needs.gate}/failed", {}).get("value", "gates were not recorded")
            return "not measurable", f"failed: {failed}"
    wanted_keys = claim.keys or (claim.key or "",)
    missing = [key for key in wanted_keys if key not in results]
    if missing:
        return "not comparable", f"the run records no '{missing[0]}'"
    values = [results[key]["value"] for key in wanted_keys]
    if any(not isinstance(value, int | float) or not math.isfinite(value) for value in values):
        return "not measurable", f"'{wanted_keys[0]}' is undefined"
    return _compare(claim, [float(value) for value in values], results[wanted_keys[0]]["interval"])


def _compare(claim: Claim, values: list[float], interval: list[float] | None) -> tuple[Verdict, str]:
    value = values[0]
    match claim.kind:
        case "value":
            assert isinstance(claim.expected, float) and claim.tolerance is not None
            good = abs(value - claim.expected) <= claim.tolerance + 1e-12
            said = f"{value:.3g} against {claim.expected:.3g} ± {claim.tolerance:.3g}"
        case "range":
            assert isinstance(claim.expected, tuple)
            good = claim.expected[0] <= value <= claim.expected[1]
            said = f"{value:.3g} in [{claim.expected[0]:.3g}, {claim.expected[1]:.3g}]"
        case "sign":
            assert isinstance(claim.expected, float)
            good = interval is not None and min(claim.expected * x for x in interval) > 0
            said = f"{value:.3g}, interval " + (f"[{interval[0]:.3g}, {interval[1]:.3g}]" if interval else "missing")
        case "ordering":
            good = all(a > b for a, b in itertools.pairwise(values))
            said = " > ".join(f"{x:.3g}" for x in values) if good else ", ".join(f"{x:.3g}" for x in values)
    return ("match" if good else "differs"), said


def verdicts(
    chapter: str | None = None, stale: Callable[[str], bool] = lambda name: freshness(name).stale
) -> list[dict[str, Any]]:
    """One row per claim with the verdict of the published run and of this machine's, for tables and ``--json``."""
    rows, known = [], functools.cache(stale)
    found: dict[str, dict[str, Run | None]] = {}
    for claim in load():
        if chapter not in (None, claim.chapter):
            continue
        row: dict[str, Any] = claim.model_dump(mode="json")
        if claim.chapter not in found:
            found[claim.chapter] = {kind: find(claim.chapter, kind) for kind in KINDS}
        for kind, run in found[claim.chapter].items():
            verdict, why = judge(claim, run, kind == "published" and run is not None and known(claim.chapter))
            row[kind] = {"verdict": verdict, "why": why}
        rows.append(row)
    return rows
