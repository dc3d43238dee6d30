"""The command line's teaching material: student notebooks, slides, and everything for one session."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from functional_self import paths
from functional_self.terminal import Json, say

To = Annotated[Path | None, typer.Option(help="Folder to write into; by default one in _build/.")]


def student(to: To = None, as_json: Json = False) -> None:
    """Write the exercises of every chapter as notebooks without solutions.

    Example: functional-self student --to student
    """
    from functional_self.teaching import kit

    _said(kit.write_students(to or paths.root() / "_build" / "student"), as_json)


def slides(to: To = None, as_json: Json = False) -> None:
    """Write the slides and the handout of every session, filled from the published runs; each file stands alone.

    Example: functional-self slides
    """
    from functional_self.teaching import kit

    folder = to or paths.root() / "_build" / "slides"
    _said([*kit.write_slides(folder), *kit.write_handouts(folder)], as_json)


def session(number: Annotated[int, typer.Argument(help="Which session, from 1.")], to: To = None, as_json: Json = False) -> None:
    """Write what one session needs: slides, handout and the student notebooks of its chapters.

    Example: functional-self session 1
    """
    from functional_self.teaching import kit

    _said(kit.write_session(number, to or paths.root() / "_build" / f"session-{number}"), as_json)


def _said(made: list[Path], as_json: bool) -> None:
    files = [paths.shown(path) for path in made]
    say({"files": files}, as_json, "\n".join(files))
