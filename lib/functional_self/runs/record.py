"""What a chapter leaves behind: values, tables and figures, displayed where it runs and collected after it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.display import display

from functional_self.errors import RunError
from functional_self.tables import html_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

RESULT = "application/vnd.functional-self.result+json"
FIGURE = "application/vnd.functional-self.figure+json"
FOLDER = "FUNCTIONAL_SELF_RUN_FOLDER"
"""Environment variable: where a run's kernel leaves its score tables and figures."""
REDO_FROM = "FUNCTIONAL_SELF_REDO_FROM"
"""Environment variable: a run whose score tables are read instead of asking a subject."""

GLUE = "application/papermill.record/"
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_./~-]*$")


def record(
    name: str,
    value: float | int | str | bool,
    unit: str = "",
    interval: tuple[float, float] | None = None,
    n: int | None = None,
) -> None:
    """Record one result under ``name``: the only way a number reaches the prose, the claims and the status page.

    Prose refers to it as ``{glue:text}`name``` or with a format (``name:.2f``); ``name.interval`` and ``name.n``
    are there where they were given, and ``name.full`` is value, interval and unit in one. A value that is not
    finite is kept as ``undefined``. Raises RunError for a name that is not letters, digits and ``_./~-``.
    """
    if not _NAME.match(name):
        raise RunError(f"record: name {name!r} may hold letters, digits and _./~- only")
    plain = value.item() if hasattr(value, "item") else value
    finite = not isinstance(plain, float) or math.isfinite(plain)
    bounds = [float(x) for x in interval] if interval is not None and all(map(math.isfinite, interval)) else None
    result = {"name": name, "value": plain if finite else None, "unit": unit, "interval": bounds, "n": n}
    exact = repr(plain) if isinstance(plain, float) and finite else shown(result["value"])
    for part, text in {"": exact, **parts(result)}.items():
        data: dict[str, Any] = {GLUE + "text/plain": text}
        if not part:
            data[RESULT] = result
        display(data, raw=True, metadata={"scrapbook": {"name": name + part, "mime_prefix": GLUE}})


def shown(value: Any) -> str:
    """A recorded value where no format is asked for: three digits, or its words."""
    return "undefined" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def parts(result: dict[str, Any]) -> dict[str, str]:
    """What prose can show of a result beside its value, by what follows its name: ``.interval``, ``.n`` and ``.full``."""
    value, bounds, n = shown(result["value"]), result["interval"], result["n"]
    between = f"[{bounds[0]:.2f}, {bounds[1]:.2f}]" if bounds else "no interval"
    full = " ".join(x for x in (value, between if bounds else "", result["unit"]) if x)
    return {".interval": between, ".n": str(n) if n is not None else "not stated", ".full": full}


def slug(name: str) -> str:
    """A name as part of a result's or a file's name: what is neither letter, digit, ``-`` nor ``_`` becomes ``-``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)


def scores(name: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The score table ``name``: computed and kept with the run, or read back where a run's statistics are redone.

    Kept as CSV with every digit and in double precision, so that statistics redone from it are the same numbers; an empty cell is
    read back as missing, and no word such as ``null`` is.
    """
    import pandas as pd

    if redo := os.environ.get(REDO_FROM):
        path = Path(redo) / "scores" / f"{name}.csv.gz"
        if not path.is_file():
            raise RunError(f"{path}: the run ships no score table '{name}'; run the chapter with a model instead")
        return pd.read_csv(path, float_precision="round_trip", keep_default_na=False, na_values=[""])
    table = compute()
    table = table.astype({column: float for column in table.select_dtypes("float32")})
    if folder := os.environ.get(FOLDER):
        path = Path(folder) / "scores" / f"{name}.csv.gz"
        path.parent.mkdir(exist_ok=True)
        table.to_csv(path, index=False, compression={"method": "gzip", "mtime": 0})
    return table


def show_table(table: pd.DataFrame, caption: str, formats: dict[str, str] | None = None) -> None:
    """Display a table: escaped, captioned, scrollable by keyboard where it is wider than the page."""
    import pandas as pd

    shown = table.copy()
    for column, spec in (formats or {}).items():
        shown[column] = [("undefined" if pd.isna(x) else format(x, spec)) for x in shown[column]]
    display(
        {
            "text/html": html_table(list(map(str, shown.columns)), shown.itertuples(index=False), caption),
            "text/plain": f"{caption}\n{shown.to_string(index=False)}",
        },
        raw=True,
    )


def show_figure(figure: Figure, name: str, alt: str) -> None:
    """Display a figure as SVG that follows the page's colours, described by ``alt``, and keep it with the run."""
    if not _NAME.match(name) or len(alt) < 20:
        raise RunError(f"figure {name!r}: needs a plain name and a description of at least 20 characters")
    from functional_self.figures import to_svg

    svg = to_svg(figure, name, alt)
    caption = "<figcaption>Executed while this page was built, with the parameters of its cell above.</figcaption>"
    if folder := os.environ.get(FOLDER):
        caption = ""  # the build says which run it came from
        path = Path(folder) / "figures" / f"{name}.svg"
        path.parent.mkdir(exist_ok=True)
        path.write_text(svg, encoding="utf-8")
    display(
        {
            "text/html": f'<figure class="fs-figure" id="figure-{name}">{svg}{caption}</figure>',
            FIGURE: {"name": name, "alt": alt},
            "text/plain": f"[figure {name}: {alt}]",
        },
        raw=True,
    )
