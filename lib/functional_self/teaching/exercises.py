"""Exercises of a chapter: one checked file each, shown on the page, written as a notebook without solutions, and tested."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import nbformat
import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from functional_self import paths
from functional_self.errors import MaterialError
from functional_self.materials import _read as read

KINDS = {"conceptual": "Conceptual", "coding": "Coding", "verdict": "Changes the verdict"}
Text = Annotated[str, Field(min_length=3)]
Level = Annotated[int, Field(ge=1, le=5)]


class Exercise(BaseModel):
    """One exercise. ``check`` runs after ``stub`` in one namespace: it fails under it and prints ``expected`` under ``solution``.

    A conceptual one has no code: ``answer`` says what a good answer touches.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str = Field(pattern=r"^[a-z0-9-]+$")
    title: Text
    kind: Literal["conceptual", "coding", "verdict"]
    minutes: int = Field(ge=1, le=120)
    difficulty: Level
    importance: Level
    question: Text
    stub: str = ""
    check: str = ""
    expected: str = ""
    bugs: tuple[Text, ...] = ()
    solution: str = ""
    answer: Text

    @model_validator(mode="after")
    def _whole(self) -> Exercise:
        code = {name: getattr(self, name) for name in ("stub", "check", "expected", "bugs", "solution")}
        if self.kind == "conceptual":
            wrong = [name for name, value in code.items() if value]
        else:
            wrong = [name for name, value in code.items() if not value]
        if wrong:
            raise ValueError(f"{wrong[0]}: a {self.kind} exercise {'has none' if self.kind == 'conceptual' else 'needs it'}")
        return self

    @property
    def line(self) -> str:
        """What it asks of the reader: kind, minutes, difficulty and importance."""
        levels = f"difficulty {self.difficulty} of 5 · importance {self.importance} of 5"
        return f"{KINDS[self.kind]} · about {self.minutes} minutes · {levels}"


class ExerciseFile(BaseModel):
    """A chapter's exercises, and the cell that every check assumes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    chapter: str
    setup: Text
    exercises: tuple[Exercise, ...] = Field(min_length=4)

    @model_validator(mode="after")
    def _every_kind(self) -> ExerciseFile:
        kinds: list[str] = [exercise.kind for exercise in self.exercises]
        for kind, least in (("conceptual", 1), ("coding", 2), ("verdict", 1)):
            if kinds.count(kind) < least:
                raise ValueError(f"{kinds.count(kind)} exercises of kind {kind}; at least {least}")
        ids = [exercise.id for exercise in self.exercises]
        if again := next((name for name in ids if ids.count(name) > 1), None):
            raise ValueError(f"the id '{again}' appears twice")
        return self


def files() -> list[str]:
    """Names of the chapters that have exercises."""
    return sorted(path.stem for path in (paths.root() / "book" / "teaching" / "exercises").glob("*.yml"))


def load(chapter: str) -> ExerciseFile:
    """The exercises of a chapter; raises MaterialError naming file, exercise and key."""
    path = paths.root() / "book" / "teaching" / "exercises" / f"{chapter}.yml"
    if not path.is_file():
        raise MaterialError(f"{paths.shown(path)}: does not exist; there are exercises of {', '.join(files()) or 'no chapter'}")
    found = read(path, ExerciseFile)
    if found.chapter != chapter:
        raise MaterialError(f"{paths.shown(path)}: chapter: '{found.chapter}'; the file's name says '{chapter}'")
    return found


def notebook(chapter: str) -> nbformat.NotebookNode:
    """The exercises of a chapter as a notebook to fill in: questions, stubs, checks and expected output, no solution."""
    found = load(chapter)
    say, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    about = (
        "These exercises need the environment of the book: in a checkout, `make environment`, then choose `.venv` as the kernel."
    )
    cells = [say(f"# Exercises of {chapter}\n\n{about} Every check assumes the next cell."), code(found.setup.strip())]
    for place, exercise in enumerate(found.exercises, 1):
        cells.append(say(f"## {place}. {exercise.title}\n\n*{exercise.line}*\n\n{exercise.question.strip()}"))
        if exercise.kind == "conceptual":
            cells.append(say("*Your answer:*"))
            continue
        cells += [code(exercise.stub.strip()), code(exercise.check.strip())]
        cells.append(say(f"**Expected output**\n\n```text\n{exercise.expected.strip()}\n```"))
        cells.append(say("**Common bugs**\n\n" + "\n".join(f"- {' '.join(bug.split())}" for bug in exercise.bugs)))
    for place, cell in enumerate(cells):
        cell["id"] = f"cell-{place}"
    made = nbformat.v4.new_notebook(cells=cells)
    made.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.validate(made)
    return made


def launch(chapter: str) -> str | None:
    """Where a chapter's exercises open in a browser: only where ``_config.yml`` names a repository that holds the notebook.

    The repository is ``repository: {url: https://github.com/OWNER/NAME, branch: main}``, the notebook ``student/CHAPTER.ipynb``
    in this checkout, written there by ``functional-self student --to student``.
    """
    config = yaml.safe_load((paths.root() / "_config.yml").read_text(encoding="utf-8")) or {}
    where = config.get("repository") or {}
    match = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", str(where.get("url", "")))
    if match is None or not (paths.root() / "student" / f"{chapter}.ipynb").is_file():
        return None
    return f"https://mybinder.org/v2/gh/{match[1]}/{where.get('branch', 'main')}?labpath=student%2F{chapter}.ipynb"
