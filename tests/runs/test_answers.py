"""The answer so far and the ledger: what a run recorded is what is shown, of whom it is said, and nothing is typed."""

from __future__ import annotations

import re

import pytest
from conftest import REPOSITORY
from functional_self.errors import FunctionalSelfError, RunError
from functional_self.runs import answers, claims, docs, execute, published
from functional_self.runs import chapter as chapters

VERDICTS = """
```{code-cell} ipython3
import pandas as pd

page = behaviour.Verdicts("NAME", [])
page.judge("void", "more than half: self, total", 0.7, 0.6, 0.8, null=0.5)
page.judge("void", "more than half: self, residual", 0.5, 0.3, 0.7, null=0.5)
page.skip("void", "what was left, <b>out</b>", "not run: no time")
for name, said in page.named.items():
    record(name, said)
show_table(page.table, "Verdicts of this page")
```
"""


def recorded(project, name: str):
    """The tiny chapter with verdicts of a named subject, run and published."""
    source = project / "chapters" / "tiny.md"
    source.write_text(source.read_text().split("\nThe mean is")[0] + VERDICTS.replace("NAME", name))
    (project / "book" / "discussion.yml").write_text("- {id: void, claim: 'There is a void.', against: [what was left]}\n")
    run, _ = execute.run(chapters.load("tiny"))
    published.publish(run)
    return run


def test_every_recorded_verdict_is_a_line_with_its_words_and_its_run(project):
    run = recorded(project, "smollm2")
    found = answers.lines(("published",))
    said = {(x.about, x.outcome, x.found) for x in found if x.claim == "void"}
    assert said == {
        ("more than half: self, total", "supported", "0.70 [0.60, 0.80]"),
        ("more than half: self, residual", "not supported", "0.50 [0.30, 0.70]"),
        ("what was left, <b>out</b>", "not run", ""),
    }
    assert {x.run for x in found} == {run.name} and {x.tier for x in found} == {"quick"}
    assert [x.about for x in found if x.against] == ["what was left, <b>out</b>"]
    (fork,) = [x for x in found if x.claim == "fork"]
    assert (fork.outcome, fork.found) == ("supported", "total: supported; residual: not supported"), "the readings differ"


def test_a_simulated_subject_is_no_evidence(project):
    recorded(project, "mock:planted")
    found = answers.lines(("published",))
    assert {x.kind for x in found} == {"control"} and answers.evidence("void", found) == []
    assert {x.outcome for x in found if x.claim == "void"} == {"supported", "not supported", "not run"}


def test_the_replaced_run_is_kept_beside_and_only_the_last_one(project):
    from functional_self.runs import pages

    tiny = chapters.load("tiny")
    (project / "book" / "discussion.yml").write_text("- {id: void, claim: 'There is a void.'}\n")
    runs = [execute.run(tiny, overrides={"n_paraphrases": str(n)})[0] for n in (1, 2, 3)]
    assert pages.before("tiny") == ""
    names = [run.name for run in runs]
    for run in runs:
        published.publish(run)
    kept = published.find("tiny", published.BEFORE)
    assert kept is not None and kept.name == names[1] and kept.results
    assert [p.name for p in (project / "runs" / "before").iterdir()] == [names[1]]
    published.publish(kept)  # the way back
    now, old = published.find("tiny"), published.find("tiny", published.BEFORE)
    assert now is not None and old is not None and (now.name, old.name) == (names[1], names[2])


@pytest.mark.parametrize(
    ("text", "word"),
    [("- {id: void}", "claim"), ("- {id: void, claim: x, more: y}", "more"), ("3", "list"), ("- [", "list")],
)
def test_a_broken_discussion_is_one_sentence(project, text, word):
    (project / "book" / "discussion.yml").write_text(text)
    with pytest.raises(FunctionalSelfError, match=word):
        answers.threads()


def test_the_ledger_has_a_place_for_every_claim_and_types_no_verdict():
    ledger = (REPOSITORY / "book" / "09-ledger.md").read_text()
    known = [thread.id for thread in answers.threads()]
    assert re.findall(r"^\(ledger-([a-z]+)\)=$", ledger, flags=re.MULTILINE) == known
    assert re.findall(r"^```\{fs-ledger\} ([a-z]+)$", ledger, flags=re.MULTILINE) == known
    assert {claim.thread for claim in claims.load()} <= set(known)
    recorded = {line.claim for line in answers.lines()}
    assert recorded <= set(known), "a chapter records verdicts under an id that the ledger lacks"
    for claim in ledger.split("\n(ledger-")[1:]:
        body = claim.split("## Before and now")[0]
        for part in ("**Taken to mean.**", "Measured by**", "**What would change our mind.**"):
            assert part in body, (claim[:30], part)


def test_the_reference_reads_docstrings_and_escapes_them(tmp_path):
    page = docs.page("behaviour.estimate")
    assert 'id="api-behaviour.estimate.clustered"' in page and "level: float=0.95" in page and "_" not in docs.text("plain")
    assert docs.text("A ``<b>`` & more.\n\nRaises:\n    ValueError: no.") == (
        "<p>A <code>&lt;b&gt;</code> &amp; more.</p><p><strong>Raises.</strong> ValueError: no.</p>"
    )
    assert "api-behaviour.scoring.score" in docs.link("behaviour.scoring.score")
    for name in ("behaviour.scoring.nothing", "nowhere.score", "behaviour.scoring._prompts"):
        with pytest.raises(RunError):
            docs.link(name)
