"""Plots of latents and of curves over checkpoints, in the style of ``figures``."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from functional_self.figures import COLOURS, INK, STYLE


def norm_plot(latents: pd.DataFrame, a: str, b: str) -> Figure:
    """Share of live latents by relative decoder norm D, a panel per ``pair``; columns pair, D. 0: only in a, 1: only in b."""
    pairs = list(dict.fromkeys(latents["pair"]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 0.5 + 1.1 * len(pairs)))
        for s, (axes, pair) in enumerate(zip(np.atleast_1d(figure.subplots(len(pairs), 1, sharex=True)), pairs, strict=True)):
            D = latents.loc[latents["pair"] == pair, "D"].dropna()
            axes.hist(D, bins=np.linspace(0, 1, 41), weights=np.full(len(D), 1 / max(len(D), 1)), color=COLOURS[s % len(COLOURS)])
            axes.set_yscale("log")
            axes.set_ylim(0.5 / max(len(D), 2), 2)
            axes.set_title(f"{pair} (n = {len(D)} live latents)", loc="left", fontsize=9)
            for x in (0.1, 0.4, 0.6, 0.9):
                axes.axvline(x, color=INK, lw=0.6, ls="--")
        axes.set_xlabel(f"relative decoder norm D\n0: only in {a}, 1/2: in both alike, 1: only in {b}")
        figure.supylabel("share of latents (log scale)", fontsize=9)
    return figure


def curve_plot(curves: pd.DataFrame, order: Sequence[str]) -> Figure:
    """Curves over checkpoints, a panel per ``curve``, with intervals; columns curve, unit, source, value, low, high (or NaN)."""
    names = list(dict.fromkeys(curves["curve"]))
    x = np.arange(len(order))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 0.6 + 1.2 * len(names)))
        for s, (axes, name) in enumerate(zip(np.atleast_1d(figure.subplots(len(names), 1, sharex=True)), names, strict=True)):
            rows = curves[curves["curve"] == name].set_index("source").reindex(order)
            axes.vlines(x, rows["low"], rows["high"], color=COLOURS[s % len(COLOURS)], lw=2)
            axes.plot(x, rows["value"], "-" + "os^Dv"[s % 5], color=COLOURS[s % len(COLOURS)])
            axes.set_title(f"{name}, {rows['unit'].iloc[0]}", loc="left", fontsize=9)
        axes.set_xticks(x, order, rotation=30, ha="right", fontsize=8)
        axes.set_xlabel("source, in the order of training")
    return figure
