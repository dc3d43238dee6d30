"""Whether an instruction still holds after some turns of a conversation, checked by strings."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from scipy import stats

from functional_self.materials.schema import DriftScript
from functional_self.progress import track
from functional_self.subjects.base import Message, Request, Subject

NOTHING = "You are an assistant."
"""The system message of the control: the same questions, the instruction never given."""


def drift(
    subject: Subject, scripts: Sequence[DriftScript], probed: Sequence[int] = (0, 2, 4, 6, 8), max_new_tokens: int = 24
) -> pd.DataFrame:
    """Ask each script's probe after 0, 2, ... turns of a conversation that the subject itself answers.

    The user's turns are the script's, the replies the subject's own likeliest tokens. A probe is asked on a copy of the
    conversation, so that it leaves no trace in it. One row per script x turn x condition: ``condition`` is ``instructed``,
    or ``control`` where the instruction was never given (asked before the first turn only); ``right`` says whether the answer
    passed the script's string check; ``answer`` is the text. An empty answer is wrong and stays in the denominator.
    After Li et al. 2024 (arXiv 2402.10962), with checked strings for judged ones.
    """
    talks: list[list[Message]] = [[("system", script.system)] for script in scripts]
    last = max(probed)
    rows: list[dict[str, object]] = []
    with track(f"talking with {subject.name}", last + 1) as advance:
        for turn in range(last + 1):
            copies: dict[str, list[list[Message]]] = {"instructed": talks} if turn in probed else {}
            if turn == 0:
                copies["control"] = [[("system", NOTHING)] for _ in scripts]
            asked = [(*talk, ("user", script.probe.question)) for some in copies.values() for talk, script in zip(some, scripts)]
            said = [(*talk, ("user", script.turns[turn])) for talk, script in zip(talks, scripts)] if turn < last else []
            found = subject.generate([Request(messages, ()) for messages in [*asked, *said]], max_new_tokens, 0.0, 0, None)
            conditions = [(condition, script) for condition in copies for script in scripts]
            for (condition, script), answer in zip(conditions, found[: len(asked)], strict=True):
                row = {"script": script.id, "turn": turn, "condition": condition}
                rows.append(row | {"right": script.probe.right(answer), "answer": answer})
            for talk, script, reply in zip(talks, scripts, found[len(asked) :]):
                talk += [("user", script.turns[turn]), ("assistant", reply)]
            advance(1)
    return pd.DataFrame(rows)


def rates(table: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Share of probes that pass per condition and turn, with Wilson's interval; columns condition, turn, rate, low, high, n."""
    rows = []
    for (condition, turn), group in table.groupby(["condition", "turn"]):
        right, n = int(group["right"].sum()), len(group)
        bounds = stats.binomtest(right, n).proportion_ci(level, "wilson")
        rows.append({"condition": condition, "turn": turn, "rate": right / n, "low": bounds.low, "high": bounds.high, "n": n})
    return pd.DataFrame(rows)


def lost(table: pd.DataFrame) -> float:
    """Exact one-sided p value (McNemar) that the probe is passed less often after the last turn than before the first.

    Of the scripts whose outcome changed, the share that changed from right to wrong against one half; 1 where none changed.
    """
    instructed = table[table["condition"] == "instructed"].pivot(index="script", columns="turn", values="right").astype(bool)
    first, final = instructed[min(instructed.columns)], instructed[max(instructed.columns)]
    worse, better = int((first & ~final).sum()), int((~first & final).sum())
    return float(stats.binomtest(worse, worse + better, 0.5, alternative="greater").pvalue) if worse + better else 1.0
