"""The verdicts of a page: what an interval says of a claim, unless a gate failed or nothing was run."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import pandas as pd

from functional_self.behaviour.estimate import outcome


def words(about: str) -> str:
    """The words of a statement as the last part of the name that its verdict is recorded under."""
    return "-".join(re.findall("[a-z]+", about.lower()))


class Verdicts:
    """Collects one line per claim: what was found, the smallest effect that would have been seen, and what it says.

    Where the subject ``failed`` a gate, ``judge`` says ``not measurable`` and names the gates, else ``estimate.outcome``; of a
    simulated or random-weights subject every verdict is ``a control, not evidence``.
    """

    def __init__(self, subject: str, failed: Sequence[str]):
        self.failed = list(failed)
        self.control = subject.startswith(("mock:", "random:"))
        self.lines: list[dict[str, str]] = []

    def judge(
        self,
        claim: str,
        about: str,
        value: float,
        low: float,
        high: float,
        smallest: float = math.nan,
        null: float = 0.0,
        predicted: int = 1,
    ) -> None:
        """A line from an estimate and its interval; ``predicted`` is the supporting side of ``null``: 1 above, -1 below."""
        if self.failed:
            said, found = f"not measurable: {', '.join(self.failed)} failed", ""
        else:
            said, found = outcome(low, high, predicted, null), f"{value:.2f} [{low:.2f}, {high:.2f}]"
        self.say(claim, about, said, found, "" if math.isnan(smallest) else f"{smallest:.2f}")

    def say(self, claim: str, about: str, said: str, found: str = "", smallest: str = "") -> None:
        """A line in words, which no gate bears on."""
        said = f"a control, not evidence: {said}" if self.control else said
        self._add(claim, about, said, found, smallest)

    def skip(self, claim: str, about: str, why: str) -> None:
        """A line for what was not run, and why."""
        self._add(claim, about, why)

    def _add(self, claim: str, about: str, said: str, found: str = "", smallest: str = "") -> None:
        self.lines.append({"claim": claim, "about": about, "found": found, "smallest effect seen": smallest, "verdict": said})

    @property
    def table(self) -> pd.DataFrame:
        """The lines as a table."""
        return pd.DataFrame(self.lines)

    @property
    def named(self) -> dict[str, str]:
        """Every verdict by the name it is recorded under: ``verdict/CLAIM/the-words-of-about``."""
        return {f"verdict/{r['claim']}/{words(r['about'])}": r["verdict"] for r in self.lines}
