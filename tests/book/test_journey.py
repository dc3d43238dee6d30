"""A way through the built book: from the index to any claim's evidence in three clicks, and no link that leads nowhere."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

from bs4 import BeautifulSoup
from functional_self.runs import answers, claims, lint, published

CLICKS = 3


@cache
def page(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path: Path) -> frozenset[str]:
    return frozenset(tag["id"] for tag in page(path).find_all(id=True))


@cache
def links(path: Path) -> frozenset[tuple[Path, str]]:
    """Targets of a page's own content: file and fragment; what the theme puts around it is the same on all pages."""
    found = set()
    for tag in (page(path).find("article") or page(path)).find_all("a", href=True):
        address, fragment = urldefrag(tag["href"])
        if urlparse(address).scheme or address.startswith("//"):
            continue
        target = (path.parent / unquote(address)).resolve() if address else path
        if target.suffix == ".html":
            found.add((target, unquote(fragment)))
    return frozenset(found)


def within(start: Path, clicks: int) -> set[tuple[Path, str]]:
    """Places that a reader can be at after at most so many clicks."""
    seen: set[tuple[Path, str]] = {(start, "")}
    edge = {start}
    for _ in range(clicks):
        places = {place for path in edge if path.is_file() for place in links(path)}
        edge = {path for path, _ in places - seen}
        seen |= places
    return seen


def test_from_the_index_to_the_evidence_of_every_claim_in_three_clicks(book):
    start = book / "book" / "index.html"
    places = within(start, CLICKS)
    for thread in answers.threads():
        assert (book / "book" / "09-ledger.html", f"ledger-{thread.id}") in links(start), thread.id
    for line in answers.lines(("published",)):
        chapter, run = book / "chapters" / f"{line.chapter}.html", published.find(line.chapter)
        assert run is not None
        for figure in run.manifest["figures"]:
            assert (chapter, f"figure-{figure['name']}") in places, (line.claim, figure["name"])
        assert (book / "book" / "status.html", f"run-{line.chapter}") in places, line.chapter
    for claim in claims.load():
        assert (book / "chapters" / f"{claim.chapter}.html", f"claim-{claim.id}") in places, claim.id


def test_no_internal_link_leads_nowhere(book):
    pages = [path for path in book.rglob("*.html") if "_static" not in path.parts]
    assert len(pages) >= 15
    for path in pages:
        for target, fragment in links(path):
            assert target.is_file(), (path.name, target)
            assert not fragment or fragment in anchors(target), (path.name, target.name, fragment)


def test_every_figure_says_how_many_and_how_sure(book):
    """Those of runs are checked before a build; here also what is generated: the answer so far, and sliders."""
    found = [(path.name, tag) for path in book.rglob("*.html") for tag in page(path).find_all("figure", class_="fs-figure")]
    assert len(found) >= 20
    for name, tag in found:
        said = f"{tag.get_text(' ')} {' '.join(svg.get('aria-label', '') for svg in tag.find_all('svg'))}"
        assert lint.COUNT.search(said) and lint.SPREAD.search(said), (name, said[:300])


def test_every_number_of_the_summary_is_a_link_to_its_run(book):
    summary = book / "book" / "summary.html"
    numbers = page(summary).select("a.fs-number")
    assert len(numbers) >= 10 and all(tag["href"].startswith("../book/status.html#run-") for tag in numbers)
