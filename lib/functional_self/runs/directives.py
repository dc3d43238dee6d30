"""Sphinx directives of the book: parameters, claims and status, generated while the pages are built."""

from __future__ import annotations

import html
import json
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from functional_self.errors import FunctionalSelfError, one_line
from functional_self.runs import chapter as chapters
from functional_self.runs import claims, published
from functional_self.tables import Html, html_table


class _Generated(SphinxDirective):
    """A directive whose content is HTML made from the project's files; its page is read again at every build."""

    optional_arguments = 1

    def html(self, chapter: str | None) -> str:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        self.env.metadata[self.env.docname]["functional_self_generated"] = "yes"
        chapter = self.arguments[0] if self.arguments else None
        if chapter == "this-chapter":
            chapter = self.env.docname.rpartition("/")[2]
        try:
            return [nodes.raw("", self.html(chapter), format="html")]
        except FunctionalSelfError as error:
            raise self.error(one_line(error)) from error


class Parameters(_Generated):
    """``{fs-parameters} CHAPTER``: the parameters table, from the comments of the chapter's own cell."""

    def html(self, chapter: str | None) -> str:
        """Name, meaning, what is accepted, and the value under each preset."""
        loaded = chapters.load(str(chapter))
        presets = {name: loaded.resolve(name) for name in sorted(chapters.presets(), key=_preset_order)}
        rows = [
            [Html(f"<code>{html.escape(p.name)}</code>"), p.help, p.rule, *(values[p.name] for values in presets.values())]
            for p in loaded.parameters.values()
        ]
        return html_table(["parameter", "meaning", "accepted", *presets], rows, f"Parameters of {chapter}")


class Claims(_Generated):
    """``{fs-claims} [CHAPTER]``: claims with the verdict of the published run and of this machine's."""

    def html(self, chapter: str | None) -> str:
        """Statement, expectation with its reason, and both verdicts."""
        rows = []
        for row in claims.verdicts(chapter):
            expected = (
                f"{row['expected']} ± {row['tolerance']}"
                if row["kind"] == "value"
                else row["expected"] or " > ".join(row["keys"])
            )
            rows.append(
                [
                    Html(f'<span id="claim-{row["id"]}">{html.escape(row["statement"])}</span>'),
                    f"{row['kind']}: {expected}",
                    row["reason"],
                    *(verdict(row[kind]) for kind in published.KINDS),
                ]
            )
        head = ["claim", "expected", "why this tolerance", *published.KINDS]
        return html_table(head, rows, f"Claims of {chapter}" if chapter else "All claims")


class Status(_Generated):
    """``{fs-status}``: every chapter's published run and this machine's, with their provenance."""

    def html(self, chapter: str | None) -> str:
        """One row per run, then each manifest in full."""
        rows, manifests = [], []
        for name in chapters.chapters():
            fresh = published.freshness(name)
            for kind in published.KINDS:
                run = published.find(name, kind)
                if run is None:
                    rows.append([name, kind, "not run", *[""] * 5])
                    continue
                m = run.manifest
                state = "stale: " + "; ".join(fresh.reasons) if fresh.stale and kind == "published" else "fresh"
                rows.append(
                    [
                        name,
                        kind,
                        run.name,
                        m["preset"],
                        m["commit"][:10] + ("*" if m["dirty"] else ""),
                        m["started"],
                        m["seconds"],
                        state,
                    ]
                )
                anchor = f"run-{name}" if kind == "published" else f"run-{name}-local"
                text = html.escape(json.dumps(m, indent=1))
                manifests.append(
                    f'<details id="{anchor}"><summary>Manifest of {html.escape(run.name)} ({kind})</summary>'
                    f'<pre tabindex="0">{text}</pre></details>'
                )
        head = ["chapter", "which", "run", "preset", "commit", "started (UTC)", "seconds", "state"]
        note = "<p>A star after a commit means that there were uncommitted changes.</p>"
        return html_table(head, rows, "Runs") + note + "".join(manifests)


def verdict(row: dict[str, str]) -> Html:
    """A verdict as a word with its mark, never colour alone, and the reason beside it."""
    word = row["verdict"]
    mark = claims.MARKS[word]
    kind = word.replace(" ", "-")
    return Html(
        f'<strong class="fs-verdict fs-{kind}">{mark} {word}</strong> <span class="fs-why">{html.escape(row["why"])}</span>'
    )


def _preset_order(name: str) -> tuple[int, str]:
    known = ("quick", "laptop", "published")
    return (known.index(name) if name in known else len(known), name)


def _outdated(app: Sphinx, env: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    return [name for name, meta in env.metadata.items() if "functional_self_generated" in meta]


def _mathjax(app: Sphinx, config: Any) -> None:
    config.mathjax_path = "mathjax/tex-svg.js"


def _page(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Leave out the scripts of thebe, which the book does not use and which point outside, and two outdated ARIA roles."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in str(getattr(script, "filename", script)) and "THEBE" not in str(getattr(script, "attributes", ""))
    ]
    body = context.get("body")
    if body:
        context["body"] = body.replace(' role="doc-biblioentry"', "").replace('<div role="list" class="citation-list">', "<div>")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives; Sphinx calls this because ``_config.yml`` lists the module."""
    for name, directive in (("fs-parameters", Parameters), ("fs-claims", Claims), ("fs-status", Status)):
        app.add_directive(name, directive)
    app.connect("env-get-outdated", _outdated)
    app.connect("config-inited", _mathjax)
    app.connect("html-page-context", _page, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
