"""What the recorded runs say of each claim of the discussion: one line per verdict, with its subject, tier and run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from bs4 import BeautifulSoup
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from functional_self import paths
from functional_self.errors import RunError
from functional_self.runs import chapter as chapters
from functional_self.runs import claims, published
from functional_self.runs.execute import Run

Kind = Literal["subject", "organism", "control"]
MARKS: dict[str, str] = {
    "supported": "✓",
    "refuted": "✗",
    "not supported": "○",
    "undefined": "?",
    "not measurable": "∅",
    "not run": "□",
    "not measured": "–",
}
"""What a line can say, with its mark. *Not supported*: the interval includes the null; *refuted*: it lies on the other side."""
_CONTROL = "a control, not evidence: "
_AS_EXPECTED = {"match": "supported", "differs": "refuted", "not measurable": "not measurable"}


class Thread(BaseModel):
    """One claim of the discussion: its id, our words for it, statements that hold where it fails, what nothing measures yet."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str = Field(pattern=r"^[a-z]+$")
    claim: str
    against: tuple[str, ...] = ()
    waiting: str = ""


@dataclass(frozen=True)
class Line:
    """One verdict: what was ``said`` ``about`` a claim, of which ``subject``, from which run; ``outcome`` is one of ``MARKS``.

    ``kind`` says whose answers it is about: a ``subject``'s (evidence), an ``organism``'s (the instrument, calibrated on what was
    planted) or a ``control``'s (a simulated or random responder).
    """

    claim: str
    about: str
    said: str
    outcome: str
    found: str
    subject: str
    kind: Kind
    chapter: str
    run: str
    tier: str
    which: str
    against: bool = False


def threads() -> list[Thread]:
    """The claims of the discussion from ``book/discussion.yml``; raises RunError naming the entry and the key."""
    path = paths.root() / "book" / "discussion.yml"
    where = paths.shown(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return [Thread.model_validate(entry) for entry in raw]
    except (OSError, yaml.YAMLError, TypeError) as error:
        raise RunError(f"{where}: a list of claims is accepted: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise RunError(f"{where}: {'.'.join(map(str, first['loc'])) or 'entry'}: {first['msg']}") from error


def outcome(said: str) -> str:
    """The outcome at the head of a verdict's words: ``not measurable: G1 failed`` is ``not measurable``."""
    words = said.removeprefix(_CONTROL)
    return next((name for name in sorted(MARKS, key=len, reverse=True) if words.startswith(name)), "undefined")


def spelled(about: str) -> str:
    """A statement's words as results are named by them: ``behaviour.verdicts.words``, which brings scipy, so only when asked."""
    from functional_self.behaviour.verdicts import words

    return words(about)


def of_run(run: Run, which: str = "published") -> list[Line]:
    """The verdicts that a run recorded as ``verdict/CLAIM/the-words-of-it``, with what its page says was found."""
    manifest, results = run.manifest, run.results
    pages = {(row["claim"], spelled(row["about"])): row for row in _table(run)}
    tier = manifest["preset"] + (", changed" if manifest["overrides"] else "")
    lines = []
    for name, result in results.items():
        parts = name.split("/")
        if len(parts) != 3 or parts[0] != "verdict" or not isinstance(result["value"], str):
            continue
        row = pages.get((parts[1], parts[2]), {})
        about = row.get("about", parts[2].replace("-", " "))
        who = subject(manifest, about)
        kind: Kind = "control" if who.startswith(("mock:", "random:")) else "organism" if "+" in who else "subject"
        lines.append(
            Line(
                *(parts[1], about, result["value"], outcome(result["value"]), row.get("found", ""), who, kind),
                *(manifest["chapter"], run.name, tier, which),
            )
        )
    return lines


def subject(manifest: dict[str, Any], about: str) -> str:
    """Whose answers a statement is about: the subject it ends with, else the run's first; ``BASE+organisms`` for organisms."""
    parameters, named = manifest["parameters"], manifest["subjects"]
    last = about.rpartition(", ")[2]
    if last in named:
        return str(last)
    planted = "+" in str(parameters.get("interpreters", ""))  # adapters, as this project's are, and not models of their own
    if last == "organisms" or (last == "interpreters" and planted):
        return f"{next(iter(named), 'none')}+organisms"
    if asked := parameters.get("subjects") or parameters.get("subject"):
        return str(asked if isinstance(asked, str) else asked[0])
    base = str(parameters.get("base") or next(iter(named), "none"))
    return f"{base}+organisms" if any("+" in name for name in named) else base


def revision(name: str, manifests: Iterable[dict[str, Any]]) -> str:
    """A subject's revision as the runs recorded it, hashes cut to ten digits."""
    bare = name.removesuffix("+organisms")
    found = next((m["subjects"][bare] for m in manifests if bare in m["subjects"]), "no revision recorded")
    return re.sub(r"([0-9a-f]{10})[0-9a-f]{10,}", r"\1", found)


def lines(kinds: Iterable[str] = published.KINDS) -> list[Line]:
    """Every recorded verdict of the chapters' published runs and of this machine's, and what follows from them for the fork."""
    found: list[Line] = []
    for name in chapters.chapters():
        for which in kinds:
            if (run := published.find(name, which)) is not None:
                found += of_run(run, which)
    against = {thread.id: thread.against for thread in threads()}
    found = [replace(line, against=line.about.startswith(against.get(line.claim, ()))) for line in found]
    return found + list(forks(found))


def forks(found: Iterable[Line]) -> Iterator[Line]:
    """For every pair of verdicts under both readings of 'self': whether the reading changes what is said."""
    pairs: dict[tuple[str, str, str], dict[str, Line]] = {}
    for line in found:
        stem, _, reading = line.about.rpartition(": self, ")
        if reading in ("total", "residual"):
            pairs.setdefault((line.chapter, line.which, stem), {})[reading] = line
    for (_, _, stem), both in pairs.items():
        if len(both) < 2:
            continue
        total, residual = both["total"], both["residual"]
        unread = next((o for o in ("not measurable", "not run", "not measured") if o in (total.outcome, residual.outcome)), "")
        said = unread or ("not supported" if total.outcome == residual.outcome else "supported")
        words = f"total: {total.outcome}; residual: {residual.outcome}"
        yield replace(total, claim="fork", about=f"the reading changes the verdict: {stem}", said=said, outcome=said, found=words)


def expected(claim: str) -> list[dict[str, Any]]:
    """The expectations of ``claims/*.yml`` that belong to a claim, with both verdicts and the published one's ``outcome``."""
    rows = [row for row in judged(paths.root(), "") if row["thread"] == claim]
    return [row | {"outcome": _AS_EXPECTED.get(row["published"]["verdict"], "not run")} for row in rows]


def evidence(claim: str, lines: Iterable[Line]) -> list[str]:
    """Outcomes of the verdicts on a claim that are about subjects."""
    return [line.outcome for line in lines if line.claim == claim and line.kind == "subject"]


def instrument(claim: str, lines: Iterable[Line]) -> list[str]:
    """Outcomes about the instrument: verdicts about organisms, and expectations about controls."""
    planted = [line.outcome for line in lines if line.claim == claim and line.kind == "organism"]
    return planted + [row["outcome"] for row in expected(claim) if row["control"]]


def speaks(claim: str, lines: Iterable[Line]) -> list[str]:
    """The chapters that record a verdict on a claim or register an expectation about it, in the book's order."""
    named = {line.chapter for line in lines if line.claim == claim} | {row["chapter"] for row in expected(claim)}
    return [name for name in chapters.chapters() if name in named]


def tally(outcomes: Iterable[str]) -> dict[str, int]:
    """How often each outcome occurs, in the order of ``MARKS``; those that do not occur are left out."""
    count = Counter(outcomes)
    return {name: count[name] for name in MARKS if count[name]}


def words(outcomes: Iterable[str]) -> str:
    """A tally in words, ``not measured`` where there is nothing."""
    return ", ".join(f"{n} {name}" for name, n in tally(outcomes).items()) or "not measured"


@cache
def reasons(root: Path, chapter: str) -> tuple[str, ...]:
    """Why a chapter's published run is stale, once a build."""
    return published.freshness(chapter).reasons


@cache
def judged(root: Path, chapter: str) -> list[dict[str, Any]]:
    """Every expectation of a chapter, or with "" of a project, with its verdicts, once a build: judging reads runs and inputs."""
    return claims.verdicts(chapter or None, stale=lambda name: bool(reasons(root, name)))


def _table(run: Run) -> list[dict[str, str]]:
    """The rows of the tables of verdicts that the run's page shows."""
    rows = []
    for cell in run.notebook.cells:
        for output in cell.get("outputs", []):
            page = output.get("data", {}).get("text/html", "")
            if "<td>" not in page or ">about<" not in page or ">verdict<" not in page:
                continue
            table = BeautifulSoup(page, "html.parser")
            head = [cell.get_text() for cell in table.find_all("th")]
            rows += [dict(zip(head, [td.get_text() for td in tr.find_all("td")])) for tr in table.find_all("tr") if tr.find("td")]
    return rows
