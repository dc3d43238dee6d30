"""Every plot: one style, readable in light and dark because lines and text take the page's own colour."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

INK = "#123456"
"""Stands for the page's text colour; ``to_svg`` turns it into ``currentColor``."""
COLOURS = ("#1f7fc4", "#c8641b", "#2b9348", "#a457b8", "#b8860b")
"""Contrast of at least 3 to 1 on the white and on the dark page."""

STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def to_svg(figure: Figure, name: str, alt: str) -> str:
    """The figure as one accessible, transparent SVG element; ids start with ``name`` so that figures can share a page."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = re.sub(r"^.*?(?=<svg)", "", buffer.getvalue(), flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    opening = f'<svg role="img" aria-label="{html.escape(alt)}" style="max-width:100%;height:auto" '
    return opening + svg.removeprefix("<svg ").strip()


def gate_plot(gates: pd.DataFrame) -> Figure:
    """Each gate's statistic with its one-sided lower bound, against the bound it must exceed, per subject.

    ``gates`` has columns subject, gate, title, statistic, lower, bound, passed, n. Statistics of different
    gates have different units; each gate has its own panel.
    """
    names = list(dict.fromkeys(gates["gate"]))
    subjects = list(dict.fromkeys(gates["subject"]))
    units = {"G2": "nats", "G4": "share right", "G5": "reliability"}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, len(names) * (0.62 + 0.2 * len(subjects))))
        for axes, name in zip(np.atleast_1d(figure.subplots(len(names), 1)), names, strict=True):
            rows = gates[gates["gate"] == name].set_index("subject").reindex(subjects)
            bound = rows["bound"].iloc[0]
            for y, (_, row) in enumerate(rows.iterrows()):
                if not np.isfinite(row["statistic"]):
                    axes.text(bound, y, " undefined", va="center", fontsize=8)
                    continue
                colour = COLOURS[2] if row["passed"] else COLOURS[1]
                axes.plot([max(row["lower"], -1.0), row["statistic"]], [y, y], color=colour, lw=2)
                axes.plot(max(row["statistic"], -1.0), y, "o" if row["passed"] else "X", color=colour, ms=7)
            axes.axvline(bound, color=INK, lw=1, ls="--")
            title = f"{name} {rows['title'].iloc[0]}: {units.get(name, 'coefficient')} (n = {int(rows['n'].iloc[0])})"
            axes.set_title(title, loc="left", fontsize=9)
            axes.set_yticks(range(len(subjects)), subjects)
            axes.set_ylim(len(subjects) - 0.5, -0.5)
            if name != "G2":
                axes.set_xlim(-1.05, 1.05)
    return figure


def share_plot(shares: pd.DataFrame, sources: Sequence[str]) -> Figure:
    """Variance shares per class with 95% intervals; columns class, source, estimate, low, high, and truth where known."""
    classes = list(dict.fromkeys(shares["class"]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.4))
        axes = figure.subplots()
        for s, source in enumerate(sources):
            rows = shares[shares["source"] == source].set_index("class").reindex(classes)
            x = np.arange(len(classes)) + (s - (len(sources) - 1) / 2) * 0.16
            colour = COLOURS[s % len(COLOURS)]
            axes.vlines(x, rows["low"], rows["high"], color=colour, lw=2)
            axes.plot(x, rows["estimate"], "o", color=colour, label=source)
            if "truth" in rows and rows["truth"].notna().any():
                axes.plot(x, rows["truth"], "_", color=INK, ms=14, mew=2, label="planted" if s == 0 else None)
        axes.axhline(0, color=INK, lw=0.8)
        axes.set_xticks(
            range(len(classes)), [f"{c}\n(n = {int(shares[shares['class'] == c]['n'].iloc[0])} items)" for c in classes]
        )
        axes.set_ylabel("share of variance (95% interval)")
        figure.legend(loc="outside upper left", ncols=3, fontsize=9)
    return figure


def effect_plot(effects: pd.DataFrame) -> Figure:
    """Ratios with 95% intervals on a logarithmic axis, one panel per class; columns who, class, estimate, low, high, n."""
    classes = list(dict.fromkeys(effects["class"]))
    names = list(dict.fromkeys(effects["who"]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, len(classes) * (0.55 + 0.2 * len(names))))
        for axes, item_class in zip(np.atleast_1d(figure.subplots(len(classes), 1, sharex=True)), classes, strict=True):
            rows = effects[effects["class"] == item_class].set_index("who").reindex(names)
            for y, (_, row) in enumerate(rows.iterrows()):
                if not np.isfinite(row["estimate"]):
                    axes.text(1, y, " undefined", va="center", fontsize=8)
                    continue
                axes.plot([row["low"], row["high"]], [y, y], color=COLOURS[y % len(COLOURS)], lw=2)
                axes.plot(row["estimate"], y, "os^Dv"[y % 5], color=COLOURS[y % len(COLOURS)], ms=6)
            axes.axvline(1, color=INK, lw=1, ls="--")
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_title(f"{item_class} items (n = {int(rows['n'].max())})", loc="left", fontsize=9)
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel("specifications over wordings (log scale, 95% interval)", loc="right")
    return figure


def stability_plot(stability: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Stability per facet with 95% intervals, above; reliability against the number of wordings in one context, below.

    ``stability`` has columns who, over, estimate, low, high, n; ``curves`` who, paraphrases, contexts, rho.
    """
    names, facets = (list(dict.fromkeys(stability[column])) for column in ("who", "over"))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 5.2))
        above, below = figure.subplots(2, 1, height_ratios=(1, 1.2))
        for s, name in enumerate(names):
            rows = stability[stability["who"] == name].set_index("over").reindex(facets)
            y = np.arange(len(facets)) + (s - (len(names) - 1) / 2) * 0.22
            colour, marker = COLOURS[s % len(COLOURS)], "os^Dv"[s % 5]
            above.hlines(y, rows["low"], rows["high"], color=colour, lw=2)
            above.plot(rows["estimate"], y, marker, color=colour, label=f"{name} (n = {int(rows['n'].iloc[0])} items)")
            curve = curves[(curves["who"] == name) & (curves["contexts"] == 1)]
            below.plot(curve["paraphrases"], curve["rho"], f"-{marker}", color=colour)
        above.axvline(0, color=INK, lw=0.8)
        above.set_yticks(range(len(facets)), [f"over {facet}" for facet in facets])
        above.set_ylim(len(facets) - 0.5, -0.5)
        above.set_xlabel("correlation about zero (95% interval)", loc="right")
        below.axhline(0.8, color=INK, lw=0.8, ls="--")
        below.set_xscale("log", base=2)
        below.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
        below.set_ylim(-0.03, 1.03)
        below.set_xlabel("wordings of each item, in one context")
        below.set_ylabel("reliability rho")
        figure.legend(loc="outside upper left", fontsize=9)
    return figure


def drift_plot(rates: pd.DataFrame) -> Figure:
    """Share of probes passed after each number of turns, Wilson intervals; columns condition, turn, rate, low, high, n."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.0))
        axes = figure.subplots()
        for s, (condition, rows) in enumerate(rates.groupby("condition", sort=False)):
            x, colour = rows["turn"] + 0.08 * s, COLOURS[s]
            axes.vlines(x, rows["low"], rows["high"], color=colour, lw=2)
            label = f"{condition} (n = {int(rows['n'].iloc[0])})"
            axes.plot(x, rows["rate"], "os"[s % 2] + ("-" if len(rows) > 1 else ""), color=colour, label=label)
        axes.set_ylim(-0.04, 1.04)
        axes.set_xlabel("turns of the conversation before the probe")
        axes.set_ylabel("probes passed (95% interval)")
        figure.legend(loc="outside upper left", ncols=2, fontsize=9)
    return figure


def forest_plot(found: pd.DataFrame, label: str, lines: Sequence[float] = (0.0,), unit: str = "items") -> Figure:
    """Estimates with 95% intervals, a panel per ``panel`` and a line per ``row``; dashed lines at all ``lines`` but zero.

    Columns panel, row, estimate, low, high, n, counted in ``unit``; ``label`` names the axis and its units.
    """
    panels, names = (list(dict.fromkeys(found[column])) for column in ("panel", "row"))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, len(panels) * (0.6 + 0.24 * len(names)) + 0.4))
        for axes, panel in zip(np.atleast_1d(figure.subplots(len(panels), 1, sharex=True)), panels, strict=True):
            rows = found[found["panel"] == panel].set_index("row").reindex(names)
            for y, (_, row) in enumerate(rows.iterrows()):
                if not np.isfinite(row["estimate"]):
                    axes.text(0, y, " undefined", va="center", fontsize=8)
                    continue
                colour = COLOURS[y % len(COLOURS)]
                axes.plot([row["low"], row["high"]], [y, y], color=colour, lw=2)
                axes.plot(row["estimate"], y, "os^Dv"[y % 5], color=colour)
            for x in lines:
                axes.axvline(x, color=INK, lw=0.8, ls="--" if x else "-")
            axes.set_title(f"{panel} (n = {int(rows['n'].max())} {unit})", loc="left", fontsize=9)
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel(label, loc="right")
    return figure


def content_plot(frame: pd.DataFrame) -> Figure:
    """Every item's mean content in nats, in order, with the spread over its wordings, and the same where options are shuffled.

    ``frame`` comes from ``behaviour.responses`` and may hold items of class ``shuffled``.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.2))
        axes = figure.subplots()
        kinds = {
            "asked": frame[~frame["class"].isin(["shuffled", "known"])],
            "options of another item": frame[frame["class"] == "shuffled"],
        }
        for (label, rows), colour, marker in zip(kinds.items(), COLOURS, "ox", strict=False):
            if rows.empty:
                continue
            found = rows.groupby("item")["content"].agg(["mean", "std"]).sort_values("mean")
            x = np.arange(len(found)) / max(len(found) - 1, 1)
            axes.vlines(x, found["mean"] - found["std"], found["mean"] + found["std"], color=colour, lw=0.8)
            axes.plot(x, found["mean"], marker, color=colour, ms=4, label=f"{label} (n = {len(found)})")
        axes.axhline(0, color=INK, lw=0.8)
        axes.set_xticks([0, 1], ["lowest item", "highest item"])
        axes.set_ylabel("content y, nats (± sd over wordings)")
        figure.legend(loc="outside upper left", ncols=2, fontsize=9)
    return figure


def bias_plot(biases: pd.DataFrame) -> Figure:
    """What an answer follows besides content: mean position bias and acquiescence in nats with 95% intervals.

    Columns subject, measure, estimate, low, high, n.
    """
    measures = list(dict.fromkeys(biases["measure"]))
    subjects = list(dict.fromkeys(biases["subject"]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 1.1 + 0.55 * len(measures)))
        axes = figure.subplots()
        for s, subject in enumerate(subjects):
            rows = biases[biases["subject"] == subject].set_index("measure").reindex(measures)
            y = np.arange(len(measures)) + (s - (len(subjects) - 1) / 2) * 0.22
            axes.hlines(y, rows["low"], rows["high"], color=COLOURS[s], lw=2)
            axes.plot(rows["estimate"], y, "os^"[s % 3], color=COLOURS[s], label=f"{subject} (n = {int(rows['n'].iloc[0])})")
        axes.axvline(0, color=INK, lw=0.8)
        axes.set_yticks(range(len(measures)), measures)
        axes.set_ylim(len(measures) - 0.5, -0.5)
        axes.set_xlabel("nats (mean over items, 95% interval by item family)", loc="right")
        figure.legend(loc="outside upper left", ncols=3, fontsize=9)
    return figure


def loss_plot(losses: Sequence[float], title: str) -> Figure:
    """A training's loss, nats per answer token: every step, and the mean over a twentieth of them."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 2.6))
        axes = figure.subplots()
        steps, near = np.arange(1, len(losses) + 1), max(1, len(losses) // 20)
        axes.plot(steps, losses, color=COLOURS[0], lw=0.6, alpha=0.5)
        axes.plot(steps, pd.Series(losses).rolling(near, min_periods=1).mean(), color=COLOURS[0], lw=2)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("step")
        axes.set_ylabel("nats per answer token")
        axes.set_title(title, loc="left", fontsize=9)
    return figure
