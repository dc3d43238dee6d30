"""Sphinx directives of the book: parameters, claims, status and parts to touch, generated while the pages are built."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from functional_self import paths
from functional_self.runs import answers, captions, claims, generated, published
from functional_self.runs import chapter as chapters
from functional_self.tables import Html, html_table


def parameters(chapter: str) -> str:
    """``{fs-parameters} CHAPTER``: name, meaning, what is accepted, the value in the published run and under each preset."""
    loaded = chapters.load(chapter)
    presets = {name: loaded.resolve(name) for name in sorted(chapters.presets(), key=_preset_order)}
    run = published.find(chapter)
    columns = ({"published run": run.manifest["parameters"]} if run else {}) | presets
    rows = [
        [
            Html(f"<code>{html.escape(p.name)}</code>"),
            p.help,
            p.rule,
            *(captions.few(v) if isinstance(v := values.get(p.name, ""), list) else v for values in columns.values()),
        ]
        for p in loaded.parameters.values()
    ]
    table = html_table(["parameter", "meaning", "accepted", *columns], rows, f"Parameters of {chapter}")
    return f'<div id="parameters-{html.escape(chapter)}">{table}</div>'


def _expected(row: dict[str, Any]) -> str:
    """What a claim expects, in words and three digits."""
    match row["kind"], row["expected"]:
        case "value", expected:
            return f"{expected:.3g} ± {row['tolerance']:.3g}"
        case "range", (low, high):
            return f"{low:.3g} to {high:.3g}"
        case "sign", expected:
            return "above zero" if expected > 0 else "below zero"
    return " > ".join(row["keys"])


def claims_table(chapter: str) -> str:
    """``{fs-claims} [CHAPTER]``: statement, expectation with its reason, the published run's verdict and this machine's."""
    rows = []
    for row in answers.judged(paths.root(), chapter):
        about = html.escape(row["chapter"])
        evidence = (
            f'<a href="../chapters/{about}.html#claim-{row["id"]}">chapter</a>, <a href="{captions.STATUS}#run-{about}">run</a>'
        )
        keys = html.escape(", ".join(row["keys"]) or row["key"])
        where = "" if chapter else f" ({about})"
        rows.append(
            [
                Html(f'<span id="claim-{row["id"]}">{html.escape(row["statement"])}{where}</span>'),
                *(verdict(row[kind]) for kind in published.KINDS),
                _expected(row),
                row["reason"],
                Html(f"{evidence}: <code>{keys}</code>"),
            ]
        )
    head = ["claim", *published.KINDS, "expected", "why this tolerance", "evidence"]
    return html_table(head, rows, f"Claims of {chapter}" if chapter else "All claims")


def status(chapter: str) -> str:
    """``{fs-status}``: every chapter's published run and this machine's, one row each, then each manifest in full."""
    rows: list[list[Any]] = []
    manifests = []
    for name in chapters.chapters():
        for kind in published.KINDS:
            run = published.find(name, kind)
            if run is None:
                rows.append([name, kind, "", "not run", *[""] * 4])
                continue
            m = run.manifest
            reasons = answers.reasons(paths.root(), name) if kind == "published" else ()
            anchor = f"run-{name}" if kind == "published" else f"run-{name}-local"
            rows.append(
                [
                    Html(f'<a href="../chapters/{html.escape(name)}.html">{html.escape(name)}</a>'),
                    kind,
                    Html(f'<a href="#{html.escape(anchor)}">{html.escape(run.name)}</a>'),
                    "stale: " + "; ".join(reasons) if reasons else "fresh",
                    m["preset"],
                    m["commit"][:10] + ("*" if m["dirty"] else ""),
                    m["started"][:16].replace("T", " "),
                    round(m["seconds"]),
                ]
            )
            files = " and ".join(f'<a href="../_static/runs/{html.escape(run.name)}/{file}">{file}</a>' for file in FILES)
            manifests.append(
                f"<details><summary>Manifest of {html.escape(run.name)} ({kind})</summary>"
                f'<div id="{html.escape(anchor)}"><p>As files: {files}.</p>'
                f'<pre tabindex="0">{html.escape(json.dumps(m, indent=1))}</pre></div></details>'
            )
    head = ["chapter", "which", "run", "state", "preset", "commit", "started (UTC)", "seconds"]
    note = "<p>A star after a commit means that there were uncommitted changes.</p>"
    return html_table(head, rows, "Runs") + note + "".join(manifests)


def explorer(chapter: str) -> str:
    """``{fs-explorer} CHAPTER``: every item's wordings and scores, from the published run."""
    from functional_self.runs import interactive

    return interactive.explorer(chapter)


def reliability(chapter: str) -> str:
    """``{fs-reliability} CHAPTER``: reliability against wordings and contexts, with sliders."""
    from functional_self.runs import interactive

    return interactive.reliability(chapter)


def thresholds(chapter: str) -> str:
    """``{fs-thresholds} CHAPTER``: the share of items that count as answered, with a slider over the threshold."""
    from functional_self.runs import interactive

    return interactive.thresholds(chapter)


def _badges(argument: str) -> str:
    """Badges of a chapter, CHAPTER or CHAPTER|executing, for a page whose cells run while it is built."""
    name, _, executing = argument.partition("|")
    return captions.badges(name, answers.reasons(paths.root(), name), bool(executing))


def _cite(argument: str) -> str:
    """How to cite a chapter, CHAPTER|TITLE."""
    name, _, title = argument.partition("|")
    return captions.cite(name, title)


DIRECTIVES = {
    "fs-parameters": parameters,
    "fs-claims": claims_table,
    "fs-status": status,
    "fs-explorer": explorer,
    "fs-reliability": reliability,
    "fs-thresholds": thresholds,
}
EVIDENCE = {"fs-badges": _badges, "fs-cite": _cite}
"""What a chapter's page says of its evidence without being asked."""
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


def _preset_order(name: str) -> tuple[int, str]:
    known = ("quick", "laptop", "published")
    return (known.index(name) if name in known else len(known), name)


def _chapter_page(app: Sphinx, document: nodes.document) -> None:
    """Put a chapter's badges under its title and how to cite it at its end, and give every code cell an address."""
    folder, _, name = app.env.docname.partition("/")
    title = next(document.findall(nodes.title), None)
    if folder != "chapters" or name not in chapters.chapters() or title is None or title.parent is None:
        return
    for cell in document.findall(nodes.container):
        if cell.get("nb_element") == "cell_code":
            cell["ids"].append(f"cell-{cell['cell_index']}")
    executing = "|executing" if app.config.nb_execution_mode != "off" else ""
    badges = generated.part(app.env, "fs-badges", name + executing)
    title.parent.insert(title.parent.index(title) + 1, badges)
    title.parent.append(generated.part(app.env, "fs-cite", f"{name}|{title.astext()}"))


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
    generated.add(app, DIRECTIVES, EVIDENCE, caches=(answers.reasons, answers.judged))
    app.connect("config-inited", _mathjax)
    app.connect("doctree-read", _chapter_page)
    app.connect("html-page-context", _page, priority=900)
    app.connect("build-finished", _carry_runs)
    return {"env_version": 3, "parallel_read_safe": True, "parallel_write_safe": True}
