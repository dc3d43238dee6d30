"""Every exercise: its stub fails the check, its solution prints what the page promises, and the student set holds no solution."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import re

import pytest
import yaml
from conftest import REPOSITORY, cli_here, refused
from functional_self.errors import FunctionalSelfError, MaterialError
from functional_self.runs import chapter as chapters
from functional_self.runs import execute, lint, published
from functional_self.teaching import exercises, redo

NAMES = exercises.files()
CODED = [(name, e.id) for name in NAMES for e in exercises.load(name).exercises if e.kind != "conceptual"]


@pytest.fixture(scope="module")
def setups():
    """The namespace that every check assumes, made once a chapter."""
    made = {}
    for name in NAMES:
        made[name] = {}
        exec(exercises.load(name).setup, made[name])
    return made


def of(chapter, wanted):
    return next(e for e in exercises.load(chapter).exercises if e.id == wanted)


def test_every_chapter_has_exercises_and_shows_them():
    assert set(NAMES) == set(chapters.chapters())
    for name in NAMES:
        text = (REPOSITORY / "chapters" / f"{name}.md").read_text()
        assert text.count(f"{{fs-exercises}} {name}") == 1, name


@pytest.mark.parametrize(("chapter", "name"), CODED)
def test_the_stub_fails_and_the_solution_passes(setups, chapter, name):
    exercise = of(chapter, name)
    filled = copy.copy(setups[chapter])
    exec(exercise.stub, filled)
    with pytest.raises(AssertionError) as failed:
        exec(exercise.check, filled)
    assert len(str(failed.value)) > 10, "a failing check says what is wrong"
    solved, said = copy.copy(setups[chapter]), io.StringIO()
    exec(exercise.solution, solved)
    with contextlib.redirect_stdout(said):
        exec(exercise.check, solved)
    assert said.getvalue().strip() == exercise.expected.strip()


@pytest.mark.parametrize("name", NAMES)
def test_no_number_stands_in_the_prose(name):
    for e in exercises.load(name).exercises:
        for text in (e.title, e.question, e.answer, *e.bugs):
            assert list(lint.numbers(text)) == [], (name, e.id, list(lint.numbers(text)))


def test_the_student_set_holds_every_exercise_and_no_solution(tmp_path):
    done = cli_here("student", "--to", str(tmp_path), "--json", FUNCTIONAL_SELF_ROOT=str(REPOSITORY))
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["files"]) == len(NAMES)
    for name in NAMES:
        held = (tmp_path / f"{name}.ipynb").read_text()
        cells = ["".join(cell["source"]) for cell in json.loads(held)["cells"]]
        everything = squeezed("\n".join(cells))
        for e in exercises.load(name).exercises:
            assert any(e.title in cell for cell in cells) and (e.kind == "conceptual" or e.check.strip() in cells)
            secret = [*new_lines(e.solution, e.stub + e.check), *sentences(e.answer)]
            assert secret, (name, e.id)
            for line in secret:
                assert squeezed(line) not in everything, (name, e.id, line)
        assert "Solution" not in held


def squeezed(text):
    return re.sub(r"\W+", " ", text)


def new_lines(solution, given):
    """Lines of a solution that the stub and the check do not have already, long enough to mean something."""
    return [
        line.strip() for line in solution.splitlines() if len(line.strip()) > 8 and squeezed(line.strip()) not in squeezed(given)
    ]


def sentences(answer):
    return [part for part in re.split(r"(?<=[.:;?])\s+", answer) if len(part) > 25]


def test_the_search_for_solutions_would_find_one():
    e = of("01-void", "content-by-hand")
    assert any(squeezed(line) in squeezed("# helpful hint\n" + e.solution) for line in new_lines(e.solution, e.stub + e.check))


@pytest.fixture
def broken(project):
    """A project with a copy of one chapter's exercises to spoil."""
    path = project / "book" / "teaching" / "exercises" / "tiny.yml"
    path.parent.mkdir(parents=True)
    raw = yaml.safe_load((REPOSITORY / "book" / "teaching" / "exercises" / "01-void.yml").read_text()) | {"chapter": "tiny"}
    return path, raw


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda raw: raw["exercises"][1].pop("solution"), ["tiny.yml", "content-by-hand", "solution"]),
        (lambda raw: raw["exercises"][0].update(stub="x = 1"), ["tiny.yml", "stable-and-about-nothing", "stub"]),
        (lambda raw: raw["exercises"][0].update(difficulty=6), ["tiny.yml", "difficulty"]),
        (lambda raw: raw["exercises"][1].update(kind="verdict"), ["tiny.yml", "coding"]),
        (lambda raw: raw["exercises"][1].update(id="how-many-items"), ["tiny.yml", "how-many-items"]),
        (lambda raw: raw.update(chapter="other"), ["tiny.yml", "other"]),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(broken, spoil, words):
    path, raw = broken
    spoil(raw)
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(MaterialError) as wrong:
        exercises.load("tiny")
    assert "\n" not in str(wrong.value) and all(word in str(wrong.value) for word in words), wrong.value


def test_a_broken_file_stops_the_command_with_one_line(broken):
    path, raw = broken
    path.write_text(yaml.safe_dump(raw | {"exercises": raw["exercises"][:3]}))
    refused(cli_here("student"), "tiny.yml", "exercises")


def test_a_launch_button_needs_a_repository_and_a_notebook_that_is_there(project):
    config = project / "_config.yml"
    assert exercises.launch("tiny") is None
    config.write_text(config.read_text() + "\nrepository: {url: 'https://github.com/someone/book', branch: trunk}\n")
    assert exercises.launch("tiny") is None, "the notebook is not there"
    (project / "student").mkdir()
    (project / "student" / "tiny.ipynb").write_text("{}")
    assert exercises.launch("tiny") == "https://mybinder.org/v2/gh/someone/book/trunk?labpath=student%2Ftiny.ipynb"


def test_the_book_names_no_repository_and_launches_nothing():
    config = yaml.safe_load((REPOSITORY / "_config.yml").read_text())
    if "repository" not in config:
        assert [exercises.launch(name) for name in NAMES] == [None] * len(NAMES)


def test_a_chapter_is_judged_again_with_another_parameter(project):
    source = project / "chapters" / "tiny.md"
    source.write_text(source.read_text().replace('record("hostile"', 'record("twice", 2 * pause)\nrecord("hostile"'))
    published.publish(execute.run(chapters.load("tiny"))[0])
    again = redo("tiny", pause=0.0)
    assert again["twice"] == 0.0
    assert again["mean"] == published.find("tiny").results["mean"]["value"]
    for changed in ({}, {"subjects": ["mock:planted"]}, {"pauses": 1.0}, {"pause": "long"}):
        with pytest.raises(FunctionalSelfError, match="redo"):
            redo("tiny", **changed)
