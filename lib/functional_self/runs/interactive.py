"""Parts of a page to touch: an item explorer, and sliders over curves computed beforehand, from published runs.

Everything is HTML and SVG that says the same without JavaScript and in print; ``book/_static/book.js`` adds choosing,
sliding and sorting. A page's numbers come from the score tables that its published run ships.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from functional_self import behaviour, materials
from functional_self.errors import RunError
from functional_self.figures import COLOURS
from functional_self.materials.schema import Item
from functional_self.runs import published
from functional_self.runs.execute import Run
from functional_self.tables import Html, html_table

RESPONDERS = {"subject": "subject", "random-twin": "random twin"}
"""Score tables that the parts show, and what they are called."""
CONTROLS = ("shuffled", "known")
"""Classes of items that were asked for the gates' sake."""
ORDERS = {"content_plus-first": "plus first", "content_minus-first": "minus first"}
CELL = ["paraphrase", "context", "persona"]
Cells = dict[tuple[int, str, str], tuple[float, float]]
"""Content with the plus text first and with the minus text first, by wording, context and persona; NaN where not asked."""


@dataclass(frozen=True)
class Curve:
    """One curve of a slider's figure: ``y`` at every step of the slider, and the second slider's ``level`` it belongs to."""

    name: str
    y: np.ndarray
    level: str = ""


def explorer(chapter: str) -> str:
    """Every item of the chapter's published run with its wordings and its content by wording, order, context and persona.

    Raises RunError where the run ships no score table ``subject`` or an item's wording is not to be found.
    """
    run = published.find(chapter)
    if run is None:
        return _not_run(chapter)
    answers = {name: frame[~frame["class"].isin(CONTROLS)] for name, frame in _responses(run).items()}
    asked = {item.id: item for item in materials.items(run.manifest["parameters"]["items"])}
    subject = answers["subject"]
    limit = float(max(frame[list(ORDERS)].abs().max().max() for frame in answers.values()))
    cells = {who: _cells(frame) for who, frame in answers.items()}
    means = {who: frame.groupby("item")["content"].mean().to_dict() for who, frame in answers.items()}
    overview, parts = [], []
    for item, rows in subject.groupby("item", sort=False):
        name = str(item)
        if name not in asked:
            raise RunError(f"{chapter}: run {run.name} asked the item '{name}', which its item file does not have")
        here = {who: every.get(name, {}) for who, every in cells.items()}
        mean = {who: every.get(name, np.nan) for who, every in means.items()}
        anchor, kind = f"item-{chapter}-{name}", str(rows["class"].iloc[0])
        overview.append(
            [
                Html(f'<a href="#{_said(anchor)}">{_said(name)}</a>'),
                kind,
                f"{mean['subject']:.2f}",
                f"{rows['content'].std():.2f}",
                f"{rows['position_bias'].mean():.2f}" if rows["position_bias"].notna().any() else "one order",
                *(f"{value:.2f}" for who, value in mean.items() if who != "subject"),
            ]
        )
        parts.append(
            f'<details class="fs-item" data-name="{_said(name)}" data-class="{_said(kind)}">'
            f"<summary>{_said(name)} ({_said(kind)}): mean content {mean['subject']:.2f} nats</summary>"
            f'<div id="{_said(anchor)}">{_wordings(asked[name], rows)}'
            f"{_marks(here, limit, name)}{_values(here, name)}</div></details>"
        )
    who = ", ".join(run.manifest["subjects"])
    head = [
        "item",
        "class",
        "mean content",
        "sd over answers",
        "position bias",
        *(f"{w}: mean" for w in answers if w != "subject"),
    ]
    return (
        f'<section class="fs-explorer" aria-label="Item explorer of {_said(chapter)}">'
        f"<p><strong>Item explorer.</strong> The {len(overview)} items that {_said(who)} was asked (n = {len(overview)}), from the "
        f'score tables of <a href="../book/status.html#run-{_said(chapter)}">run {_said(run.name)}</a>. Content is in nats; above '
        "zero it is towards the sentence called plus. Single answers, so without intervals.</p>"
        f'<div class="fs-scroll">{html_table(head, overview, f"Items of {chapter}: what {who} answered")}</div>'
        f'<div class="fs-items">{"".join(parts)}</div></section>'
    )


def reliability(chapter: str) -> str:
    """Reliability against the number of wordings, with a slider, at each number of contexts: the D-study of the published run."""
    run = published.find(chapter)
    if run is None:
        return _not_run(chapter)
    steps, levels, curves, n = range(1, 17), (1, 2, 4, 8), [], 0
    for who, frame in _responses(run).items():
        told = frame[(frame["persona"] == "specified") & ~frame["class"].isin(CONTROLS)]
        found = behaviour.variance_components(told)
        table = behaviour.d_study(found, steps, levels).pivot(index="paraphrases", columns="contexts", values="rho")
        n = found.n
        curves += [Curve(who, table[level].to_numpy(), str(level)) for level in levels]
    return _slider(
        f"reliability-{chapter}",
        "How many wordings and contexts would be enough?",
        curves,
        [str(step) for step in steps],
        ("wordings of each item", "contexts"),
        "reliability rho",
        f"Reliability by generalizability theory, from the variance components of n = {n} items; point estimates, no interval.",
        run,
        (0.0, 0.5, 0.8, 1.0),
    )


def thresholds(chapter: str) -> str:
    """The share of items whose mean content is at least a threshold away from zero, with a slider over the threshold."""
    run = published.find(chapter)
    if run is None:
        return _not_run(chapter)
    curves, n, found = [], 0, {}
    for who, frame in _responses(run).items():
        found[who] = frame[~frame["class"].isin(CONTROLS)].groupby("item")["content"].mean().abs()
        shuffled = frame[frame["class"] == "shuffled"]
        if who == "subject" and len(shuffled):
            found["subject, options of another item"] = shuffled.groupby("item")["content"].mean().abs()
        n = len(found["subject"])
    top = max(float(sizes.quantile(0.9)) for sizes in found.values())
    steps = np.linspace(0, max(np.ceil(top * 2) / 2, 0.5), 21)
    curves = [Curve(who, np.array([(sizes >= step).mean() for step in steps])) for who, sizes in found.items()]
    return _slider(
        f"thresholds-{chapter}",
        "How large must a content be to count as an answer?",
        curves,
        [f"{step:.2f}" for step in steps],
        ("threshold in nats", ""),
        "share of items",
        f"Share of n = {n} items whose mean content is at least the threshold away from zero; counts of these items, no interval.",
        run,
    )


def _responses(run: Run) -> dict[str, pd.DataFrame]:
    """Responses by responder, the subject first, from the run's own score tables and under the run's own score."""
    found = {}
    for name, shown in RESPONDERS.items():
        path = run.path / "scores" / f"{name}.csv.gz"
        if path.is_file():
            table = pd.read_csv(path, float_precision="round_trip", dtype={"item": str, "context": str, "persona": str})
            found[shown] = behaviour.responses(table, run.manifest["parameters"].get("score", "self"))
    if "subject" not in found:
        raise RunError(f"run {run.name} ships no score table 'subject', which an explorer or a slider shows")
    return found


def _cells(frame: pd.DataFrame) -> dict[str, Cells]:
    """Content in both orders by wording, context and persona, for every item."""
    found: dict[str, Cells] = {}
    for item, p, c, persona, *both in frame.sort_values(CELL, kind="stable")[["item", *CELL, *ORDERS]].itertuples(index=False):
        found.setdefault(str(item), {})[p, c, persona] = (float(both[0]), float(both[1]))
    return found


def _said(value: object) -> str:
    return html.escape(str(value))


def _not_run(chapter: str) -> str:
    return f'<p class="fs-not-run">There is no published run of {_said(chapter)} to look into.</p>'


def _wordings(item: Item, rows: pd.DataFrame) -> str:
    """The item's wordings that were asked, as a list."""
    asked = sorted(int(p) for p in rows["paraphrase"].unique())
    lines = "".join(
        f"<li><strong>{_said(w.ask)}</strong><br>Plus: {_said(w.plus)}<br>Minus: {_said(w.minus)}<br>Reverse-keyed: {_said(w.reverse)}</li>"
        for w in (item.paraphrases[p] for p in asked if p < len(item.paraphrases))
    )
    return f"<ol>{lines}</ol>"


def _label(wording: int, context: str, persona: str) -> str:
    return f"{wording + 1} · {context if persona == 'specified' else f'as {persona}'}"


def _marks(here: dict[str, Cells], limit: float, name: str) -> str:
    """A small plot: a line per wording, context and persona; filled marks where plus stood first, hollow where minus did."""
    left, right, top, step = 142, 352, 36, 15
    keys = list(here["subject"])
    height = top + step * len(keys) + 38

    def x(value: float) -> float:
        return (left + right) / 2 + value / limit * (right - left) / 2

    parts = [f'<line x1="{x(0):.0f}" x2="{x(0):.0f}" y1="{top}" y2="{height - 34}" stroke="currentColor" />']
    parts.append('<text x="4" y="28">filled: the plus text stood first; hollow: the minus text did</text>')
    for place, key in enumerate(keys):
        y = top + 10 + step * place
        parts.append(f'<text x="{left - 6}" y="{y + 3}" text-anchor="end">{_said(_label(*key))}</text>')
    for s, (who, found) in enumerate(here.items()):
        colour = COLOURS[s]
        parts.append(_mark(s, 8 + 130 * s, 10, colour, True) + f'<text x="{16 + 130 * s}" y="13">{_said(who)}</text>')
        for place, key in enumerate(keys):
            for value, filled in zip(found.get(key, ()), (True, False), strict=False):
                if np.isfinite(value):
                    parts.append(_mark(s, x(value), top + 8 + step * place + 4 * s, colour, filled))
    bottom = height - 20
    parts.append(f'<line x1="{left}" x2="{right}" y1="{height - 34}" y2="{height - 34}" stroke="currentColor" />')
    for value in (-limit, 0.0, limit):
        parts.append(f'<text x="{x(value):.0f}" y="{bottom}" text-anchor="middle">{value:.1f}</text>')
    parts.append(f'<text x="{right}" y="{height - 5}" text-anchor="end">content y in nats: minus left, plus right</text>')
    alt = f"Content of every answer to {name}, by wording, order, context and persona; the table below has the numbers."
    return (
        f'<svg class="fs-plot" role="img" aria-label="{_said(alt)}" viewBox="0 0 360 {height}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _mark(series: int, x: float, y: float, colour: str, filled: bool) -> str:
    """A circle for the first series, a square for the second."""
    paint = f'fill="{colour if filled else "none"}" stroke="{colour}"'
    if series == 0:
        return f'<circle cx="{x:.1f}" cy="{y}" r="3.4" {paint} />'
    return f'<rect x="{x - 3:.1f}" y="{y - 3}" width="6" height="6" {paint} />'


def _values(here: dict[str, Cells], name: str) -> str:
    """The numbers of ``_marks`` as a table."""
    rows = []
    for key in here["subject"]:
        values = [value for found in here.values() for value in found.get(key, (np.nan, np.nan))]
        rows.append([str(key[0] + 1), key[1], key[2], *("not asked" if np.isnan(y) else f"{y:.2f}" for y in values)])
    head = ["wording", "context", "persona", *(f"{who}, {order}" for who in here for order in ORDERS.values())]
    return html_table(head, rows, f"Content of the answers to {name}, in nats")


def _slider(
    name: str,
    title: str,
    curves: Sequence[Curve],
    steps: Sequence[str],
    axes: tuple[str, str],
    unit: str,
    note: str,
    run: Run,
    lines: Sequence[float] = (0.0, 0.5, 1.0),
) -> str:
    """Curves over the steps of a slider: a figure with a line at the chosen step, a sentence, and all values as a table.

    A second slider chooses the curves' ``level`` where ``axes[1]`` names one. Shares and reliabilities: y runs from 0 to 1,
    with a line at each of ``lines``.
    """
    levels = list(dict.fromkeys(curve.level for curve in curves))
    names = list(dict.fromkeys(curve.name for curve in curves))
    xs = np.linspace(44, 344, len(steps))
    start = min(3, len(steps) - 1)
    top, bottom = 24, 184
    parts = []
    for value in lines:
        y = bottom - value * (bottom - top)
        parts.append(f'<line class="fs-grid" x1="44" x2="344" y1="{y}" y2="{y}" stroke="currentColor" />')
        parts.append(f'<text x="38" y="{y + 3}" text-anchor="end">{value:g}</text>')
    for place in sorted({0, len(steps) // 2, len(steps) - 1}):
        parts.append(f'<text x="{xs[place]:.0f}" y="198" text-anchor="middle">{_said(steps[place])}</text>')
    for curve in curves:
        s = names.index(curve.name)
        points = " ".join(
            f"{x:.1f},{bottom - min(max(value, 0), 1) * (bottom - top):.1f}" for x, value in zip(xs, curve.y, strict=True)
        )
        faint = "" if curve.level == levels[0] else " fs-faint"
        dash = ("", "6 3", "2 3")[s % 3]
        parts.append(
            f'<polyline class="fs-curve{faint}" data-level="{_said(curve.level)}" points="{points}" fill="none" '
            f'stroke="{COLOURS[s]}" stroke-dasharray="{dash}" />'
        )
    for s, who in enumerate(names):
        y, dash = 232 + 14 * s, ("", "6 3", "2 3")[s % 3]
        parts.append(
            f'<line class="fs-curve" x1="44" x2="70" y1="{y}" y2="{y}" stroke="{COLOURS[s]}" stroke-dasharray="{dash}" />'
        )
        parts.append(f'<text x="76" y="{y + 3}">{_said(who)}</text>')
    parts.append(
        f'<line class="fs-cursor" x1="{xs[start]:.1f}" x2="{xs[start]:.1f}" y1="{top}" y2="{bottom}" stroke="currentColor" />'
    )
    parts.append(f'<text x="344" y="214" text-anchor="end">{_said(axes[0])}</text>')
    parts.append(f'<text x="0" y="9">{_said(unit)}</text>')
    height = 232 + 14 * len(names)
    at = f"{axes[0]} {steps[start]}" + (f", {axes[1]} {levels[0]}" if axes[1] else "")
    reading = "; ".join(f"{c.name} {c.y[start]:.2f}" for c in curves if c.level == levels[0])
    head = "".join(
        f'<th scope="col" data-level="{_said(c.level)}" data-series="{_said(c.name)}">{_said(c.name)}'
        f"{_said(f', {axes[1]} {c.level}') if axes[1] else ''}</th>"
        for c in curves
    )
    body = "".join(
        f'<tr data-x="{x:.1f}"><th scope="row">{_said(step)}</th>'
        + "".join(f"<td>{c.y[place]:.2f}</td>" for c in curves)
        + "</tr>"
        for place, (step, x) in enumerate(zip(steps, xs, strict=True))
    )
    second = ""
    if axes[1]:
        second = (
            f"<label>{_said(axes[1])} <input type='range' class='fs-level' min='0' max='{len(levels) - 1}' value='0' "
            f'data-levels="{_said("|".join(levels))}" /></label>'
        )
    caption = f"{title} All values"
    return (
        f'<figure class="fs-figure fs-slider" id="{_said(name)}" data-axes="{_said("|".join(axes))}" '
        f'data-unit="{_said(unit)}"><p><strong>{_said(title)}</strong></p>'
        f'<div class="fs-controls" hidden><label>{_said(axes[0])} <input type="range" class="fs-step" min="0" '
        f'max="{len(steps) - 1}" value="{start}" /></label>{second}</div>'
        f'<p class="fs-reading" role="status">{_said(at)}: {_said(unit)} {_said(reading)}.</p>'
        f'<svg class="fs-plot" role="img" aria-label="{_said(title)} {_said(unit)} against {_said(axes[0])}; the table has the numbers." '
        f'viewBox="0 0 360 {height}" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
        f'<details><summary>All values</summary><div class="fs-table" role="region" tabindex="0" aria-label="{_said(caption)}">'
        f'<table class="table" data-unsorted><caption>{_said(caption)}</caption><thead><tr><th scope="col">{_said(axes[0])}</th>{head}'
        f"</tr></thead><tbody>{body}</tbody></table></div></details>"
        f'<figcaption>{_said(note)} From <a href="../book/status.html#run-{_said(run.manifest["chapter"])}">run {_said(run.name)}</a>.'
        "</figcaption></figure>"
    )
