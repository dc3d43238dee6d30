"""One HTML table for pages and notebooks: escaped, captioned, scrollable by keyboard."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


class Html(str):
    """Text that is already HTML and is not escaped again."""


def html_table(head: Sequence[str], rows: Iterable[Sequence[object]], caption: str) -> str:
    """A captioned table in a region that takes focus, so that a wide one can be scrolled with the keyboard."""

    def cell(value: object) -> str:
        return str(value) if isinstance(value, Html) else html.escape(str(value))

    title = html.escape(caption)
    top = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    return (
        f'<div class="fs-table" role="region" tabindex="0" aria-label="{title}"><table class="table">'
        f"<caption>{title}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )
