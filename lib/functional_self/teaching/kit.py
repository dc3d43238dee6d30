"""Sessions for a reading group, and what is made of them: plan, slides, handouts, student notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import jinja2
import nbformat
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field, model_validator

from functional_self import paths
from functional_self.errors import ParameterError
from functional_self.materials import _read as read
from functional_self.runs import chapter as chapters
from functional_self.tables import html_table
from functional_self.teaching import exercises, values
from functional_self.teaching.exercises import Exercise
from functional_self.teaching.values import prose

__all__ = [
    "Session",
    "handout",
    "prose",
    "sessions",
    "slides",
    "write_handouts",
    "write_session",
    "write_slides",
    "write_students",
]
Text = Annotated[str, Field(min_length=3)]
Minutes = Annotated[int, Field(ge=0, le=60)]
TEMPLATES = Path(__file__).parent


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Step(_Strict):
    """A part of a session and its minutes in the short and in the long form."""

    what: Text
    short: Minutes
    long: Minutes


class Guess(_Strict):
    """A question to answer before the result is shown, and the result."""

    ask: Text
    reveal: Text


class Slide(_Strict):
    """A title, a few points, and a figure of a published run: CHAPTER/FIGURE."""

    title: Text
    points: tuple[Text, ...] = Field(min_length=1, max_length=6)
    figure: str = ""


class Talk(_Strict):
    """A question for discussion, and what a good answer touches."""

    question: Text
    touches: tuple[Text, ...] = Field(min_length=2)


class Session(_Strict):
    """One meeting. Numbers stand as ``{{CHAPTER RESULT}}``; ``exercises`` are CHAPTER/ID, ``words`` entries of the glossary."""

    number: int = Field(ge=1)
    title: Text
    question: Text
    needs: Text
    chapters: tuple[str, ...] = Field(min_length=1)
    read: Text
    plan: tuple[Step, ...] = Field(min_length=3)
    predict: tuple[Guess, ...] = Field(min_length=1)
    slides: tuple[Slide, ...] = Field(min_length=2)
    ideas: tuple[Text, ...] = Field(min_length=2, max_length=4)
    words: tuple[str, ...] = Field(min_length=2)
    discuss: tuple[Talk, ...] = Field(min_length=2)
    exercises: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fills_its_time(self) -> Session:
        for wanted, form in ((60, "short"), (90, "long")):
            if (total := sum(getattr(step, form) for step in self.plan)) != wanted:
                raise ValueError(f"plan: the minutes of the {form} form add up to {total}, not {wanted}")
        return self


class SessionFile(_Strict):
    """All the sessions, in order."""

    sessions: tuple[Session, ...] = Field(min_length=1)


def sessions() -> tuple[Session, ...]:
    """The sessions of ``book/teaching/sessions.yml``; raises MaterialError naming session and key, or ParameterError."""
    found = read(paths.root() / "book" / "teaching" / "sessions.yml", SessionFile).sessions
    for session in found:
        if unknown := set(session.chapters) - set(chapters.chapters()):
            raise ParameterError(f"book/teaching/sessions.yml: session {session.number}: there is no chapter '{min(unknown)}'")
    return found


def session(number: int) -> Session:
    """One session by its number."""
    every = {one.number: one for one in sessions()}
    if number not in every:
        raise ParameterError(f"session {number}: there are {', '.join(map(str, every))}")
    return every[number]


def plan_table(session: Session) -> str:
    """The plan as a table: what is done, and its minutes in both forms."""
    rows = [[step.what, step.short or "–", step.long or "–"] for step in session.plan]
    return html_table(["what", "of 60 minutes", "of 90 minutes"], rows, f"Plan of session {session.number}")


def slides(session: Session) -> str:
    """The slides of a session as one self-contained page: every number and figure from the published runs, every text escaped."""
    runs = [values.origin(values.run_of(chapter)) for chapter in session.chapters]
    pages = [
        {"title": slide.title, "points": [_html(point) for point in slide.points], "figure": _figure(slide)}
        for slide in session.slides
    ]
    before = next(
        (place for place, slide in enumerate(session.slides) if slide.figure), 0
    )  # predictions come before the first figure
    guesses = [{"ask": _html(guess.ask), "reveal": _html(guess.reveal)} for guess in session.predict]
    return _template("slides.html").render(
        session=session, before=pages[:before], after=pages[before:], guesses=guesses, runs=runs
    )


def handout(session: Session) -> str:
    """One page to print: the ideas, the words, the predictions to make and the questions to discuss."""
    words = [(word, values.definition(word)) for word in session.words]
    tasks = [(name.partition("/")[0], _exercise(name)) for name in session.exercises]
    ideas, asks = ([_html(text) for text in some] for some in (session.ideas, [guess.ask for guess in session.predict]))
    return _template("handout.html").render(session=session, ideas=ideas, asks=asks, words=words, tasks=tasks)


def write_slides(folder: Path) -> list[Path]:
    """``session-N.html`` for every session."""
    return [_write(folder / f"session-{one.number}.html", slides(one)) for one in sessions()]


def write_handouts(folder: Path) -> list[Path]:
    """``handout-N.html`` for every session."""
    return [_write(folder / f"handout-{one.number}.html", handout(one)) for one in sessions()]


def write_students(folder: Path, names: tuple[str, ...] = ()) -> list[Path]:
    """``CHAPTER.ipynb`` without solutions for every chapter that has exercises, or those named."""
    texts = {name: nbformat.writes(exercises.notebook(name)) for name in exercises.files() if not names or name in names}
    return [_write(folder / f"{name}.ipynb", text + "\n") for name, text in texts.items()]


def write_session(number: int, folder: Path) -> list[Path]:
    """Everything one meeting needs: slides, handout and the student notebooks of its chapters."""
    one = session(number)
    made = [_write(folder / "slides.html", slides(one)), _write(folder / "handout.html", handout(one))]
    return made + write_students(folder, one.chapters)


def _exercise(name: str) -> Exercise:
    chapter, _, wanted = name.partition("/")
    found = {exercise.id: exercise for exercise in exercises.load(chapter).exercises}
    if wanted not in found:
        raise ParameterError(
            f"book/teaching/sessions.yml: chapter '{chapter}' has no exercise '{wanted}'; it has {', '.join(found)}"
        )
    return found[wanted]


def _figure(slide: Slide) -> Markup:
    return Markup(values.figure(slide.figure) if slide.figure else "")  # noqa: S704 - a run's own SVG, its text escaped there


def _html(text: str) -> Markup:
    return Markup(prose(text))  # noqa: S704 - markdown without HTML, and values escaped


def _write(path: Path, text: str) -> Path:
    paths.write_text(path, text)
    return path


def _template(name: str) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined).get_template(name)
