"""Directives and roles of the argument, made at every build: the answer so far, the ledger, results and functions in prose."""

from __future__ import annotations

import functools
import html
from collections.abc import Sequence
from typing import Any

from sphinx.application import Sphinx

from functional_self.errors import RunError
from functional_self.runs import answers, docs, generated, published
from functional_self.runs import chapter as chapters
from functional_self.runs.answers import MARKS, Line
from functional_self.runs.directives import verdict
from functional_self.tables import Html, html_table

MARKED = {name: f"{mark} {name}" for name, mark in MARKS.items()}


def answer(_: str) -> str:
    """``{fs-answer}``: the answer so far, as a sentence, one figure and one table over all claims of the discussion."""
    threads, lines = answers.threads(), _lines(("published",))
    evidence = {t.id: answers.evidence(t.id, lines) for t in threads}
    instrument = {t.id: answers.instrument(t.id, lines) for t in threads}
    rows = [
        [
            Html(f'<a href="09-ledger.html#ledger-{t.id}">{t.id}</a>'),
            t.claim,
            answers.words(evidence[t.id]),
            answers.words(instrument[t.id]),
            Html(", ".join(map(chapter_link, answers.speaks(t.id, lines))) or "none yet"),
        ]
        for t in threads
    ]
    head = ["claim", "in short", "verdicts about subjects", "verdicts about the instrument", "chapters"]
    said = [outcome for some in evidence.values() for outcome in some]
    return _sentence(lines, said) + _figure(evidence, instrument) + html_table(head, rows, "The answer so far, by claim")


def ledger(claim: str) -> str:
    """``{fs-ledger} CLAIM``: verdicts by statement, subject and tier; expectations; what has no run; links to the evidence."""
    thread = next((t for t in answers.threads() if t.id == claim), None)
    if thread is None:
        raise RunError(f"fs-ledger: book/discussion.yml has no claim '{claim}'")
    lines = [line for line in _lines(published.KINDS) if line.claim == thread.id]
    parts = [f"<p><strong>{html.escape(_summary(thread.id, lines))}</strong></p>"]
    if lines:
        head = ["statement", "verdict", "found", "subject", "tier", "evidence"]
        parts.append(html_table(head, [_row(line) for line in lines], f"Recorded verdicts on '{thread.id}'"))
    if rows := answers.expected(thread.id):
        head = ["expectation", *published.KINDS, "about"]
        shown = [
            [
                Html(f'<a href="../chapters/{row["chapter"]}.html#claim-{row["id"]}">{html.escape(row["statement"])}</a>'),
                *(verdict(row[kind]) for kind in published.KINDS),
                "the instrument" if row["control"] else "a subject",
            ]
            for row in rows
        ]
        parts.append(html_table(head, shown, f"Expectations registered for '{thread.id}'"))
    named = answers.speaks(thread.id, lines)
    parts.append(f"<p>{_figures(named)} {_tiers(named)}</p>")
    if thread.waiting:
        parts.append(f"<p><strong>Not measured yet.</strong> {html.escape(thread.waiting)}</p>")
    return "".join(parts)


def before(chapter: str) -> str:
    """``{fs-before} [CHAPTER]``: what the runs that were published before on this machine said, beside what is said now.

    Where no run was replaced, nothing on a chapter's page and a sentence elsewhere.
    """
    names = [chapter] if chapter else chapters.chapters()
    rows = []
    for name in names:
        old, new = published.find(name, published.BEFORE), published.find(name)
        if old is None or new is None:
            continue
        now = {(x.claim, answers.spelled(x.about)): x for x in answers.of_run(new)}
        for line in answers.of_run(old, published.BEFORE):
            after = now.get((line.claim, answers.spelled(line.about)))
            rows.append([f"{line.claim}: {line.about}", _said(line), _said(after) if after else "not recorded"])
    if not rows:
        return "" if chapter else "<p>No published run has been replaced in this checkout.</p>"
    head = ["statement", "before", "now"]
    return html_table(head, rows, "Verdicts before and now")


def result(text: str) -> str:
    """``{fs-result}`CHAPTER NAME:FORMAT```: a published result, linked to its run; NAME may end in .n, .interval or .full."""
    chapter, _, rest = text.strip().partition(" ")
    name, _, spec = rest.strip().partition(":")
    run, shown = published.result(chapter, name, spec, words=True)
    kind = "fs-number" if len(shown) < 32 else "fs-said"  # a number with its interval stays on one line, a sentence does not
    return f'<a class="{kind}" href="../book/status.html#run-{chapter}" title="run {run.name}">{html.escape(shown)}</a>'


def chapter_link(name: str, anchor: str = "", text: str = "") -> str:
    """A link to a chapter's page from any page of the book."""
    return f'<a href="../chapters/{name}.html{anchor}">{html.escape(text or name)}</a>'


def _row(line: Line) -> list[object]:
    against = " (speaks against the claim where it holds)" if line.against else ""
    where = "#run-" + line.chapter + ("" if line.which == "published" else "-local")
    links = f'{chapter_link(line.chapter, "#verdicts", "page")}, <a href="status.html{where}">run</a>'
    who = {"subject": line.subject, "organism": f"{line.subject.partition('+')[0]}: organisms"}.get(
        line.kind, f"{line.subject}: control"
    )
    why = html.escape(line.said.replace(line.outcome, "", 1).removeprefix(": "))
    said = Html(f'<strong class="fs-verdict">{MARKED[line.outcome]}</strong> <span class="fs-why">{why}</span>')
    return [line.about + against, said, line.found, who, f"{line.tier} ({line.which})", Html(links)]


def _said(line: Line) -> Html:
    where = html.escape(f"{line.subject}, run {line.run}")
    return Html(f'{html.escape(line.said)} <span class="fs-why">{where}</span>')


def _summary(claim: str, lines: list[Line]) -> str:
    now = [line for line in lines if line.which == "published"]
    return (
        f"Published, about subjects: {answers.words(answers.evidence(claim, now))}. "
        f"About the instrument: {answers.words(answers.instrument(claim, now))}."
    )


def _figures(names: Sequence[str]) -> str:
    found = []
    for name in names:
        run = published.find(name)
        links = [chapter_link(name, f"#figure-{f['name']}", f["name"]) for f in run.manifest["figures"]] if run else []
        found.append(f"{html.escape(name)}: {', '.join(links) or 'no figure'}")
    return f"Figures: {'; '.join(found) or 'none'}."


def _tiers(names: Sequence[str]) -> str:
    """Which tiers stand behind the verdicts and which have no run here."""
    runs = [run for name in names for kind in published.KINDS if (run := published.find(name, kind)) is not None]
    seen = {run.manifest["preset"] for run in runs}
    missing = [name for name in chapters.presets() if name not in seen]
    return f"Tiers shown: {', '.join(sorted(seen)) or 'none'}. Not run, or not kept here: {', '.join(missing) or 'none'}."


def _sentence(lines: list[Line], said: list[str]) -> str:
    manifests = [run.manifest for name in chapters.chapters() if (run := published.find(name)) is not None]
    who = dict.fromkeys(line.subject for line in lines if line.kind == "subject")
    named = "; ".join(f"<code>{html.escape(name)}</code> ({html.escape(answers.revision(name, manifests))})" for name in who)
    tiers = ", ".join(sorted({m["preset"] for m in manifests}))
    return (
        f"<p>{len(manifests)} chapters have a published run, at the tier {tiers}. They record {len(said)} verdicts about "
        f"subjects: <strong>{answers.words(said)}</strong>. Subjects: {named}.</p>"
    )


def _figure(evidence: dict[str, list[str]], instrument: dict[str, list[str]]) -> str:
    from functional_self import figures  # with matplotlib: seconds that a change of prose need not wait

    alt = (
        "For every claim of the discussion, two bars of counted verdicts: about named subjects, and about the instrument. "
        + "; ".join(f"{name}: {answers.words(evidence[name])} / {answers.words(instrument[name])}" for name in evidence)
    )
    drawn = figures.to_svg(_bars(evidence, instrument), "answer", alt)
    caption = (
        f"Counts of recorded verdicts, n after each bar. {', '.join(MARKED.values())}. "
        "Each verdict about an estimate compares a 95% interval with its null; the ledger prints "
        'the estimates and says what was never run. From the <a href="status.html">published runs</a>.'
    )
    return f'<figure class="fs-figure" id="figure-answer">{drawn}<figcaption>{caption}</figcaption></figure>'


def _bars(evidence: dict[str, list[str]], instrument: dict[str, list[str]]) -> Any:
    """Stacked counts of outcomes per claim, written beside the bar as well so that colour is never alone."""
    import matplotlib
    from matplotlib.figure import Figure

    from functional_self import figures

    colours = dict.fromkeys(MARKS, "none") | dict(
        zip(("supported", "refuted", "not supported"), (figures.COLOURS[2], figures.COLOURS[1], figures.COLOURS[0]))
    )
    names = list(evidence)
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(4.4, 0.32 * len(names) + 0.9))
        for axes, (title, some) in zip(
            figure.subplots(1, 2, sharey=True), (("subjects", evidence), ("the instrument", instrument))
        ):
            widest = max(1, *(len(x) for x in some.values()))
            for y, name in enumerate(names):
                left, tally = 0, answers.tally(some[name])
                for outcome, n in tally.items():
                    axes.barh(y, n, left=left, height=0.72, facecolor=colours[outcome], edgecolor=figures.INK, linewidth=0.6)
                    left += n
                counted = " ".join(f"{n}{MARKS[outcome]}" for outcome, n in tally.items())
                axes.text(left + 0.02 * widest, y, f"n={left}  {counted}", va="center", fontsize=8)
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.4, -0.6)
            axes.set_xlim(0, widest * 2.4)
            axes.set_xticks(range(0, widest + 1, -(-widest // 4)))
            axes.set_title(f"about {title}", loc="left", fontsize=9)
            axes.set_xlabel("number of verdicts")
    return figure


DIRECTIVES = {"fs-answer": answer, "fs-ledger": ledger, "fs-before": before, "fs-api": docs.page}
ROLES = {"fs-result": result, "fs-function": docs.link}


@functools.cache
def _lines(kinds: tuple[str, ...]) -> list[Line]:
    return answers.lines(kinds)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives and roles; Sphinx calls this because ``_config.yml`` lists the module."""
    generated.add(app, DIRECTIVES, ROLES, caches=(_lines,))
    return {"env_version": 2, "parallel_read_safe": True, "parallel_write_safe": True}
