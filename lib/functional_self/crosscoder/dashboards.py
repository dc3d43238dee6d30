"""Pages of latents: where each is most active, token by token, in HTML that needs no script and lets no text act.

Letters: B rows, F latents, A active codes.
"""

from __future__ import annotations

import html
import json
import math
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from functional_self.crosscoder.model import Crosscoder

LONGEST = 40
"""Characters of one token that are shown."""
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode categories of characters that are not seen but act: controls, direction marks, lone surrogates, line separators."""
SEEN = {"\n": "↵", "\t": "⇥", "\r": "␍"}
STYLE = (
    "<style>.fs-latents{max-width:100%}.fs-latents details{border-top:1px solid;padding:.35rem 0}"
    ".fs-latents summary{cursor:pointer}.fs-latents summary:focus-visible{outline:2px solid}"
    ".fs-latents ol{margin:.4rem 0;padding-left:1.6rem}.fs-latents li{overflow-wrap:anywhere;line-height:1.7}"
    ".fs-latents bdi{white-space:pre-wrap}.fs-latents svg{vertical-align:middle}"
    ".fs-latents .fs-top{text-decoration:underline;text-underline-offset:.25em;font-weight:600}"
    ".fs-latents .fs-code{font-family:monospace;border:1px dotted}</style>"
)


def top_contexts(
    crosscoder: Crosscoder,
    x_BK: torch.Tensor,
    tokens: pd.DataFrame,
    decode: Callable[[int], str],
    latents: Sequence[int],
    count: int = 5,
    window: int = 10,
) -> pd.DataFrame:
    """Where latents are most active: columns latent, share (of rows at which it is active) and contexts (JSON, strongest first).

    A context is ``{"tokens": [...], "values": [f, ...], "at": index of its maximum}`` with ``window`` tokens to either side;
    each text gives one context at most, and no two are the same words.

    Args:
        crosscoder: trained on such rows.
        x_BK: rows of all sources side by side.
        tokens: the rows' table (``Store.tokens``), in the same order.
        decode: the text of a token's id.
        latents: which.
        count: contexts of each.
        window: tokens before and after.
    """
    with torch.no_grad():
        f_A, at = crosscoder.codes(x_BK)
    text_B, position_B, id_B = (tokens[column].to_numpy() for column in ("text", "position", "token"))
    found = []
    for latent in latents:
        mine_A = (at.col_A == latent).nonzero()[:, 0]
        f_B = np.zeros(len(x_BK))
        f_B[at.row_A[mine_A].numpy()] = f_A[mine_A].numpy()
        texts: set[int] = set()
        contexts: dict[tuple[str, ...], dict[str, Any]] = {}
        for b in np.argsort(-f_B, kind="stable")[: np.count_nonzero(f_B)]:
            if len(contexts) == count or int(text_B[b]) in texts:
                continue
            texts.add(int(text_B[b]))
            near = np.flatnonzero((text_B == text_B[b]) & (abs(position_B - position_B[b]) <= window))
            near = near[np.argsort(position_B[near], kind="stable")]
            said = [decode(int(id_B[i])) for i in near]
            values = [round(float(f_B[i]), 4) for i in near]
            contexts.setdefault(tuple(said), {"tokens": said, "values": values, "at": int(np.flatnonzero(near == b)[0])})
        found.append({"latent": int(latent), "share": len(mine_A) / len(x_BK), "contexts": json.dumps(list(contexts.values()))})
    return pd.DataFrame(found, columns=["latent", "share", "contexts"])


def dashboard(latents: pd.DataFrame, sources: Sequence[str], caption: str) -> str:
    """An HTML list of latents to open and close: norm profile, D, nu, and the contexts with every token's activation.

    No script, no request, no style from elsewhere; ``details`` open by keyboard. Every text is escaped and stands in a ``bdi``
    of its own; characters that act without being seen are written out, and long tokens are cut.

    Args:
        latents: columns latent, D, nu_r, nu_e, share, profile (JSON list, a number a source) and contexts (``top_contexts``).
        sources: their names, in the crosscoder's order.
        caption: what the list shows.
    """
    title = html.escape(caption)
    body = "".join(_latent(row, sources) for row in latents.to_dict("records"))
    return f'{STYLE}<section class="fs-latents" aria-label="{title}"><p><strong>{title}</strong></p>{body}</section>'


def visible(text: str) -> str:
    """A token as HTML: escaped, cut after ``LONGEST`` characters, with what is not seen written as its code."""
    shown = "".join(map(_character, text[:LONGEST]))
    return shown + (f'<span class="fs-code">… {len(text)} characters</span>' if len(text) > LONGEST else "")


def _character(one: str) -> str:
    if one in SEEN:
        return f"{SEEN[one]}\n" if one == "\n" else SEEN[one]
    if unicodedata.category(one) in HIDDEN:
        return f'<span class="fs-code">U+{ord(one):04X}</span>'
    return html.escape(one)


def _latent(row: dict[Any, Any], sources: Sequence[str]) -> str:
    profile = json.loads(row["profile"])
    numbers = "; ".join(
        f"{label} {row[key]:.2f}" if math.isfinite(row[key]) else f"{label} undefined"
        for key, label in (("D", "D"), ("nu_r", "ν<sub>r</sub>"), ("nu_e", "ν<sub>e</sub>"))
        if key in row
    )
    contexts = "".join(f"<li>{_context(context)}</li>" for context in json.loads(row["contexts"]))
    listed = f"<ol>{contexts}</ol>" if contexts else "<p>Never active on these texts.</p>"
    said = f"latent {int(row['latent'])}: {numbers}; active at {100 * row['share']:.2f}% of tokens"
    return f"<details><summary>{said} {_bars(profile, sources)}</summary>{_norms(profile, sources)}{listed}</details>"


def _context(context: dict[str, Any]) -> str:
    top = max([*context["values"], 1e-12])
    spans = []
    for number, (token, value) in enumerate(zip(context["tokens"], context["values"], strict=True)):
        shade = f' style="background-color:rgba(200,100,27,{0.4 * value / top:.2f})" title="{value:.3g}"' if value > 0 else ""
        name = ' class="fs-top"' if number == context["at"] else ""
        spans.append(f"<bdi><span{name}{shade}>{visible(token)}</span></bdi>")
    return f'<bdi dir="ltr">{"".join(spans)}</bdi> <small>(largest {top:.3g})</small>'


def _norms(profile: Sequence[float], sources: Sequence[str]) -> str:
    said = ", ".join(f"{html.escape(name)} {norm:.2f}" for name, norm in zip(sources, profile, strict=True))
    return f"<p><small>Decoder norm over the largest: {said}.</small></p>"


def _bars(profile: Sequence[float], sources: Sequence[str]) -> str:
    label = html.escape("norm profile: " + ", ".join(f"{name} {norm:.2f}" for name, norm in zip(sources, profile, strict=True)))
    bars = "".join(
        f'<rect x="{9 * i}" y="{16 - 15 * norm:.1f}" width="7" height="{15 * norm + 1:.1f}" fill="currentColor"/>'
        for i, norm in enumerate(profile)
        if math.isfinite(norm)
    )
    return f'<svg role="img" aria-label="{label}" width="{9 * len(profile)}" height="17">{bars}</svg>'
