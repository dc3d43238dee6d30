"""Sphinx directives of the teaching pages, and the kit that a built book carries with it."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from functional_self import paths
from functional_self.errors import FunctionalSelfError, one_line
from functional_self.teaching import exercises, kit
from functional_self.teaching.exercises import Exercise


class _Teaching(SphinxDirective):
    """A directive whose content is made from files under ``book/teaching``; its page is read again where one of them changed."""

    optional_arguments = 1
    files: tuple[str, ...] = ()

    def made(self, argument: str) -> list[nodes.Node]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        argument = self.arguments[0] if self.arguments else ""
        for file in self.files:
            self.env.note_dependency(str(paths.root() / file.format(argument)))
        try:
            return self.made(argument)
        except FunctionalSelfError as error:
            raise self.error(one_line(error)) from error

    def markdown(self, text: str) -> list[nodes.Node]:
        """MyST text, parsed in its place."""
        holder = nodes.container()
        self.state.nested_parse(StringList(text.splitlines(), source=self.env.docname), self.content_offset, holder)
        return holder.children

    def details(self, summary: str, text: str, kind: str) -> list[nodes.Node]:
        """A part that opens by mouse or keyboard, without JavaScript."""
        opening = f'<details class="{kind}"><summary>{html.escape(summary)}</summary>'
        return [nodes.raw("", opening, format="html"), *self.markdown(text), nodes.raw("", "</details>", format="html")]

    def section(self, title: str, name: str) -> nodes.section:
        """A section that the page's contents and other pages can point at."""
        return nodes.section("", nodes.title(title, title), ids=[name], names=[name])


class Exercises(_Teaching):
    """``{fs-exercises} CHAPTER``: the chapter's exercises, with checks, expected output, common bugs and closed solutions."""

    required_arguments = 1
    optional_arguments = 0
    files = ("book/teaching/exercises/{}.yml",)

    def made(self, argument: str) -> list[nodes.Node]:
        """A section per exercise."""
        found = exercises.load(argument)
        about = (
            "Each check fails under the stub and prints the expected output once the stub is filled in. "
            "Nothing here loads a model. The student notebook has the same cells without the solutions."
        )
        out = self.markdown(about)
        out.append(nodes.raw("", f"<p>{links(argument, self.env.docname)}</p>", format="html"))
        out += self.details("The cell that every check assumes", _block(found.setup), "fs-setup")
        for place, exercise in enumerate(found.exercises, 1):
            section = self.section(f"{place}. {exercise.title}", f"exercise-{exercise.id}")
            section += self.body(exercise)
            out.append(section)
        return out

    def body(self, exercise: Exercise) -> list[nodes.Node]:
        """One exercise below its title."""
        out = self.markdown(f"*{exercise.line}*\n\n{exercise.question}")
        if exercise.kind == "conceptual":
            return [*out, *self.details("What a good answer touches", exercise.answer, "fs-solution")]
        out += self.markdown(
            f"{_block(exercise.stub)}\n\nThe check, to run under it:\n\n{_block(exercise.check)}\n\n"
            f"Expected output:\n\n{_block(exercise.expected, 'text')}"
        )
        out += self.details("Common bugs", "\n".join(f"- {' '.join(bug.split())}" for bug in exercise.bugs), "fs-bugs")
        return [*out, *self.details("Solution", f"{_block(exercise.solution)}\n\n{exercise.answer}", "fs-solution")]


class Sessions(_Teaching):
    """``{fs-sessions}``: the plan of every session from ``sessions.yml``, its predictions and its discussion."""

    optional_arguments = 0
    files = ("book/teaching/sessions.yml", "runs/published.yml")

    def made(self, argument: str) -> list[nodes.Node]:
        """A section per session."""
        out: list[nodes.Node] = []
        for session in kit.sessions():
            section = self.section(f"Session {session.number}: {session.title}", f"session-{session.number}")
            section += self.markdown(f"**{session.question}** {session.needs}")
            section.append(nodes.raw("", kit.plan_table(session), format="html"))
            for place, guess in enumerate(session.predict, 1):
                asked = (
                    f'<div class="fs-predict"><p><strong>Predict, then reveal ({place})</strong></p>{kit.prose(guess.ask)}</div>'
                )
                section.append(nodes.raw("", asked, format="html"))
                revealed = f'<details class="fs-reveal"><summary>Reveal</summary>{kit.prose(guess.reveal)}</details>'
                section.append(nodes.raw("", revealed, format="html"))
            section += self.markdown("**For discussion**")
            for talk in session.discuss:
                section += self.details(talk.question, "A good answer touches:\n\n" + _bullets(talk.touches), "fs-discuss")
            section.append(nodes.raw("", f"<p>{kit_links(session.number, self.env.docname)}</p>", format="html"))
            out.append(section)
        return out


def links(chapter: str, page: str) -> str:
    """The student notebook in this built book, and where it can be launched."""
    up = "../" * page.count("/")
    found = f'<a href="{up}student/{chapter}.ipynb" download>Student notebook of this chapter</a>'
    if address := exercises.launch(chapter):
        found += f' · <a href="{html.escape(address)}">Launch it on Binder</a>'
    return found


def kit_links(number: int, page: str) -> str:
    """Slides and handout of a session in this built book."""
    up = "../" * page.count("/")
    parts = ((f"session-{number}.html", "Slides"), (f"handout-{number}.html", "Handout, one page"))
    return " · ".join(f'<a href="{up}kit/{file}">{title} of session {number}</a>' for file, title in parts)


def _block(code: str, language: str = "python") -> str:
    return f"````{language}\n{code.strip()}\n````"


def _bullets(rows: tuple[str, ...]) -> str:
    return "\n".join(f"- {' '.join(row.split())}" for row in rows)


def _carry(app: Sphinx, error: Exception | None) -> None:
    """Put student notebooks, slides and handouts beside the pages that point at them."""
    if error is None and app.builder.format == "html" and (paths.root() / "book" / "teaching" / "sessions.yml").is_file():
        kit.write_students(Path(app.outdir) / "student")
        kit.write_slides(Path(app.outdir) / "kit")
        kit.write_handouts(Path(app.outdir) / "kit")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives and the style of what they write."""
    app.add_directive("fs-exercises", Exercises)
    app.add_directive("fs-sessions", Sessions)
    app.add_css_file("teaching.css")
    app.connect("build-finished", _carry)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
