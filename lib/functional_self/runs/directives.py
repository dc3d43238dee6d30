"""Sphinx directives of the book: parameters, claims, status and parts to touch, generated while the pages are built."""

from __future__ import annotations

import functools
import html
import json
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from functional_self import paths
from functional_self.errors import FunctionalSelfError, one_line
from functional_self.runs import captions, claims, published
from functional_self.runs import chapter as chapters
from functional_self.tables import Html, html_table

GENERATED = "functional_self_generated"
"""Key of a page's metadata: the digest of what its directives said, by directive and argument."""


def parameters(chapter: str | None) -> str:
    """``{fs-parameters} CHAPTER``: name, meaning, what is accepted, the value in the published run and under each preset."""
    loaded = chapters.load(str(chapter))
    presets = {name: loaded.resolve(name) for name in sorted(chapters.presets(), key=_preset_order)}
    run = published.find(str(chapter))
    columns = ({"published run": run.manifest["parameters"]} if run else {}) | presets
    rows = [
        [Html(f"<code>{html.escape(p.name)}</code>"), p.help, p.rule, *(values.get(p.name, "") for values in columns.values())]
        for p in loaded.parameters.values()
    ]
    table = html_table(["parameter", "meaning", "accepted", *columns], rows, f"Parameters of {chapter}")
    return f'<div id="parameters-{html.escape(str(chapter))}">{table}</div>'


def claims_table(chapter: str | None) -> str:
    """``{fs-claims} [CHAPTER]``: statement, expectation with its reason, the published run's verdict and this machine's."""
    rows = []
    for row in _verdicts():
        if chapter not in (None, row["chapter"]):
            continue
        expected = (
            f"{row['expected']} ± {row['tolerance']}" if row["kind"] == "value" else row["expected"] or " > ".join(row["keys"])
        )
        about = html.escape(row["chapter"])
        evidence = (
            f'<a href="../chapters/{about}.html#claim-{row["id"]}">chapter</a>, <a href="{captions.STATUS}#run-{about}">run</a>'
        )
        keys = html.escape(", ".join(row["keys"]) or row["key"])
        rows.append(
            [
                Html(f'<span id="claim-{row["id"]}">{html.escape(row["statement"])}</span>'),
                f"{row['kind']}: {expected}",
                row["reason"],
                *(verdict(row[kind]) for kind in published.KINDS),
                Html(f"{evidence}: <code>{keys}</code>"),
            ]
        )
    head = ["claim", "expected", "why this tolerance", *published.KINDS, "evidence"]
    return html_table(head, rows, f"Claims of {chapter}" if chapter else "All claims")


def status(chapter: str | None) -> str:
    """``{fs-status}``: every chapter's published run and this machine's, one row each, then each manifest in full."""
    rows: list[list[Any]] = []
    manifests = []
    for name in chapters.chapters():
        for kind in published.KINDS:
            run = published.find(name, kind)
            if run is None:
                rows.append([name, kind, "not run", *[""] * 5])
                continue
            m = run.manifest
            reasons = _reasons(name) if kind == "published" else ()
            anchor = f"run-{name}" if kind == "published" else f"run-{name}-local"
            rows.append(
                [
                    Html(f'<a href="../chapters/{html.escape(name)}.html">{html.escape(name)}</a>'),
                    kind,
                    Html(f'<a href="#{html.escape(anchor)}">{html.escape(run.name)}</a>'),
                    m["preset"],
                    m["commit"][:10] + ("*" if m["dirty"] else ""),
                    m["started"],
                    m["seconds"],
                    "stale: " + "; ".join(reasons) if reasons else "fresh",
                ]
            )
            files = " and ".join(f'<a href="../_static/runs/{html.escape(run.name)}/{file}">{file}</a>' for file in FILES)
            manifests.append(
                f"<details><summary>Manifest of {html.escape(run.name)} ({kind})</summary>"
                f'<div id="{html.escape(anchor)}"><p>As files: {files}.</p>'
                f'<pre tabindex="0">{html.escape(json.dumps(m, indent=1))}</pre></div></details>'
            )
    head = ["chapter", "which", "run", "preset", "commit", "started (UTC)", "seconds", "state"]
    note = "<p>A star after a commit means that there were uncommitted changes.</p>"
    return html_table(head, rows, "Runs") + note + "".join(manifests)


def explorer(chapter: str | None) -> str:
    """``{fs-explorer} CHAPTER``: every item's wordings and scores, from the published run."""
    from functional_self.runs import interactive

    return interactive.explorer(str(chapter))


def reliability(chapter: str | None) -> str:
    """``{fs-reliability} CHAPTER``: reliability against wordings and contexts, with sliders."""
    from functional_self.runs import interactive

    return interactive.reliability(str(chapter))


def thresholds(chapter: str | None) -> str:
    """``{fs-thresholds} CHAPTER``: the share of items that count as answered, with a slider over the threshold."""
    from functional_self.runs import interactive

    return interactive.thresholds(str(chapter))


DIRECTIVES = {
    "fs-parameters": parameters,
    "fs-claims": claims_table,
    "fs-status": status,
    "fs-explorer": explorer,
    "fs-reliability": reliability,
    "fs-thresholds": thresholds,
}
FILES = ("manifest.json", "results.json")
"""What of every run the book carries as files, under ``_static/runs/``."""


def verdict(row: dict[str, str]) -> Html:
    """A verdict as a word with its mark, never colour alone, and the reason beside it."""
    word = row["verdict"]
    mark = claims.MARKS[word]
    kind = word.replace(" ", "-")
    return Html(
        f'<strong class="fs-verdict fs-{kind}">{mark} {word}</strong> <span class="fs-why">{html.escape(row["why"])}</span>'
    )


class _Generated(SphinxDirective):
    """A directive whose content is HTML made from the project's files; its page is read again where that changed."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        argument = self.arguments[0] if self.arguments else None
        if argument == "this-chapter":
            argument = self.env.docname.rpartition("/")[2]
        try:
            made = _made(self.name, argument)
        except FunctionalSelfError as error:
            raise self.error(one_line(error)) from error
        known = self.env.metadata[self.env.docname].setdefault(GENERATED, {})
        known[self.name, argument] = paths.digest(made)
        return [nodes.raw("", made, format="html")]


@functools.cache
def _made(directive: str, argument: str | None) -> str:
    return DIRECTIVES[directive](argument)


@functools.cache
def _reasons(chapter: str) -> tuple[str, ...]:
    return published.freshness(chapter).reasons


@functools.cache
def _verdicts() -> list[dict[str, Any]]:
    return claims.verdicts(stale=lambda chapter: bool(_reasons(chapter)))


def _forget(app: Sphinx) -> None:
    """What is generated is made once in a build, and afresh in the next."""
    for made in (_made, _reasons, _verdicts):
        made.cache_clear()


def _preset_order(name: str) -> tuple[int, str]:
    known = ("quick", "laptop", "published")
    return (known.index(name) if name in known else len(known), name)


def _evidence(app: Sphinx, name: str, title: str) -> tuple[str, str]:
    """What a chapter's page says of its evidence: badges under its title, and how to cite it at its end."""
    executing = app.config.nb_execution_mode != "off"
    return captions.badges(name, _reasons(name), executing), captions.cite(name, title)


def _chapter_page(app: Sphinx, document: nodes.document) -> None:
    """Put a chapter's badges under its title and how to cite it at its end, and give every code cell an address."""
    folder, _, name = app.env.docname.partition("/")
    title = next(document.findall(nodes.title), None)
    if folder != "chapters" or name not in chapters.chapters() or title is None or title.parent is None:
        return
    for cell in document.findall(nodes.container):
        if cell.get("nb_element") == "cell_code":
            cell["ids"].append(f"cell-{cell['cell_index']}")
    above, below = _evidence(app, name, title.astext())
    title.parent.insert(title.parent.index(title) + 1, nodes.raw("", above, format="html"))
    title.parent.append(nodes.raw("", below, format="html"))
    known = app.env.metadata[app.env.docname].setdefault(GENERATED, {})
    known["evidence", f"{name}|{title.astext()}"] = paths.digest(above + below)


def _outdated(app: Sphinx, env: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Pages whose generated parts would say something else now."""

    def said(directive: str, argument: str | None) -> str:
        try:
            if directive == "evidence":
                return "".join(_evidence(app, *str(argument).split("|", 1)))
            return _made(directive, argument)
        except FunctionalSelfError:
            return ""

    return [
        page
        for page, meta in env.metadata.items()
        if any(paths.digest(said(*key)) != old for key, old in meta.get(GENERATED, {}).items())
    ]


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


def _carry_runs(app: Sphinx, exception: Exception | None) -> None:
    """Put the manifest and the results of every run that the status page names beside the pages."""
    if exception is not None or app.builder.format != "html":
        return
    home = Path(app.outdir) / "_static" / "runs"
    shutil.rmtree(home, ignore_errors=True)
    for run in filter(None, (published.find(name, kind) for name in chapters.chapters() for kind in published.KINDS)):
        (home / run.name).mkdir(parents=True, exist_ok=True)
        for file in FILES:
            shutil.copyfile(run.path / file, home / run.name / file)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives; Sphinx calls this because ``_config.yml`` lists the module."""
    for name in DIRECTIVES:
        app.add_directive(name, _Generated)
    app.connect("builder-inited", _forget)
    app.connect("env-get-outdated", _outdated)
    app.connect("config-inited", _mathjax)
    app.connect("doctree-read", _chapter_page)
    app.connect("html-page-context", _page, priority=900)
    app.connect("build-finished", _carry_runs)
    return {"env_version": 2, "parallel_read_safe": True, "parallel_write_safe": True}
