"""What commands print: a table that fits the terminal, or JSON for scripts."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

out = Console(soft_wrap=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of a table.")]


def listing(rows: list[dict[str, Any]], as_json: bool, title: str) -> None:
    """Print rows as JSON, or as a table that fits the terminal."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(title=title, title_justify="left", header_style="bold", show_lines=False)
    for name in rows[0] if rows else ():
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(("yes" if v else "no") if isinstance(v, bool) else str(v) for v in row.values()))
    Console().print(table, markup=False) if rows else print("none")


def say(found: dict[str, Any], as_json: bool, text: str) -> None:
    """Print what was found as JSON, or one line of text."""
    print(json.dumps(found, indent=1) if as_json else text)
