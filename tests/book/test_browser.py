"""The rendered book in a real browser, from disk, with the network off: what a reader sees, touches and prints."""

from __future__ import annotations

import json
import os
import re

import pytest
from conftest import REPOSITORY, cli_here
from reader import ALIKE, AXE, AXE_COLOURS, AXE_SHAPES, CONTRAST, STILL, THIN, UNFOLD, pages, printed, reader

__all__ = ["reader"]
HASH = re.compile(r"[0-9a-f]{16,}")
LOOKS = [("light", 1440), ("dark", 1440), ("light", 380)]
RULES = [("light", 1440, AXE), ("dark", 1440, AXE_COLOURS), ("light", 380, AXE_SHAPES)]
"""Everything once, then what a theme can change and what a width can change."""


def test_every_page_is_quiet_offline_accessible_readable_and_fits(book, reader):
    every, problems = pages(book), []
    assert len(every) >= 9
    for page in every:
        tab = reader.open(page)
        tab.add_style_tag(content=STILL)
        if page.name == "01-void.html":
            tab.wait_for_selector("mjx-container svg")
        tab.evaluate(UNFOLD)
        names = tab.eval_on_selector_all("img", "e => e.map(x => x.alt)")
        names += tab.eval_on_selector_all("figure svg, .fs-explorer svg", "e => e.map(x => x.getAttribute('aria-label'))")
        found = {"no words for a figure": [n for n in names if not n or len(n) < 4 or HASH.search(n)]}
        for scheme, width in LOOKS:
            reader.look(scheme, width)
            where = f"{scheme} {width}"
            if page.parent != book:  # the index in the root only leads on, and the theme's search page is all of the theme's
                theme = tab.evaluate("document.documentElement.dataset.theme")
                found[f"theme {where}"] = [] if theme == scheme else [theme]
                found[f"contrast {where}"] = tab.evaluate(CONTRAST)
            wide = tab.evaluate("document.documentElement.scrollWidth")
            found[f"scrolls sideways {where}"] = [] if wide <= width else [wide]
        tab.evaluate(THIN)
        found["axe light 380"] = reader.axe(AXE_SHAPES)
        tab.evaluate(ALIKE)
        for scheme in ("light", "dark"):
            reader.look(scheme, 1440)
            found[f"axe {scheme} 1440"] = reader.axe(AXE_COLOURS)
        found |= {"outside": list(reader.outside), "said": list(reader.said)}
        problems += [(page.name, what, those) for what, those in found.items() if those]
    assert problems == []


@pytest.mark.acceptance
@pytest.mark.skipif("FUNCTIONAL_SELF_ACCEPTANCE" not in os.environ, reason="every page whole, in every look: make acceptance")
def test_every_whole_page_is_accessible_in_every_look(book, reader):
    problems = []
    for page in pages(book):
        tab = reader.open(page)
        tab.add_style_tag(content=STILL)
        tab.evaluate(UNFOLD)
        tab.evaluate(THIN)
        for scheme, width, rules in RULES:
            reader.look(scheme, width)
            problems += [(page.name, scheme, width, found) for found in reader.axe(rules)]
    assert problems == []


def test_evidence_of_every_claim_is_at_most_two_clicks_from_the_ledger(book, reader):
    """The ledger is one click from the index: test_journey.py."""
    claims = json.loads(cli_here("claims", "--json", FUNCTIONAL_SELF_ROOT=str(REPOSITORY)).stdout)
    ledger = book / "book" / "09-ledger.html"
    tab = reader.open(ledger)
    links = tab.eval_on_selector_all("td a", "links => links.map(link => link.getAttribute('href'))")
    for claim in claims:
        assert f"../chapters/{claim['chapter']}.html#claim-{claim['id']}" in links, claim["id"]
    for name in sorted({claim["chapter"] for claim in claims}):
        tab = reader.open(ledger)
        tab.click(f"td a[href$='status.html#run-{name}'] >> nth=0")
        tab.wait_for_url("**/status.html#*")
        assert tab.locator(f"[id='run-{name}'] pre").is_visible(), "the address unfolds the manifest"
        assert json.loads(tab.locator(f"[id='run-{name}'] pre").text_content())["chapter"] == name
        assert (book / "book" / tab.locator(f"[id='run-{name}'] a").first.get_attribute("href")).resolve().is_file()
        tab = reader.open(ledger)
        tab.click(f"td a[href*='chapters/{name}.html#claim-'] >> nth=0")
        tab.wait_for_url("**/chapters/*")
        under = tab.locator("figcaption.fs-provenance").first
        assert f"run {name}-" in under.text_content() and re.search(rf"chapters/{name}\.md, lines \d+–\d+", under.text_content())
        for link in under.locator("a[href^='#']").all():
            assert tab.locator(f"[id='{link.get_attribute('href')[1:]}']").count() == 1, link.get_attribute("href")
    assert reader.outside == []


def test_source_lines_under_a_figure_are_the_lines_that_draw_it(book, reader):
    tab = reader.open(book / "chapters" / "01-void.html")
    text = tab.locator("#figure-gates figcaption").text_content()
    first, last = map(int, re.search(r"lines (\d+)–(\d+)", text).groups())
    source = (REPOSITORY / "chapters" / "01-void.md").read_text().splitlines()
    assert source[first - 2].startswith("```{code-cell}") and source[last] == "```"
    assert "figures.gate_plot" in "\n".join(source[first - 1 : last])
    cell = tab.locator(tab.locator("#figure-gates a[href^='#cell-']").get_attribute("href")).first
    assert "gate_plot" in cell.locator(".cell_input").text_content()


def test_every_interactive_part_works_by_keyboard(book, reader):
    tab = reader.open(book / "chapters" / "03-persistence.html")
    unreached = tab.evaluate(
        """() => [...document.querySelectorAll(".bd-article :is(a[href], button, input, select, summary, [tabindex='0'])")]
            .filter((e) => e.checkVisibility() && !e.closest(".headerlink")).filter((e) => {
              e.focus();
              return document.activeElement !== e || e.tabIndex < 0;
            }).map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert unreached == []
    slider = tab.locator(".fs-slider").first
    before, cursor = slider.locator(".fs-reading").text_content(), slider.locator(".fs-cursor").get_attribute("x1")
    slider.locator(".fs-step").focus()
    tab.keyboard.press("ArrowRight")
    after = slider.locator(".fs-reading").text_content()
    assert after != before and slider.locator(".fs-cursor").get_attribute("x1") != cursor
    tab.keyboard.press("Tab")
    tab.keyboard.press("End")
    assert slider.locator(".fs-reading").text_content() != after, "the second slider chooses the curves"
    chosen = tab.locator(".fs-item:not([hidden])")
    assert chosen.count() == 1 and chosen.locator("svg").is_visible()
    name = chosen.get_attribute("data-name")
    tab.locator(".fs-explorer select").focus()
    tab.keyboard.press("ArrowDown")
    second = chosen.get_attribute("data-name")
    assert second != name
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    assert chosen.get_attribute("data-name") == name, "'Previous item' goes back"
    link = tab.locator(".fs-explorer td a").nth(4)
    link.focus()
    tab.keyboard.press("Enter")
    tab.wait_for_function(
        "name => document.querySelector('.fs-item:not([hidden])').dataset.name === name", arg=link.text_content()
    )
    tab.locator(".fs-item:not([hidden]) summary").focus()
    tab.keyboard.press("Enter")
    assert not chosen.locator("svg").is_visible()
    assert reader.said == []


def test_tables_sort_by_keyboard_numbers_as_numbers(book, reader):
    tab = reader.open(book / "chapters" / "01-void.html")
    table = tab.locator(".fs-explorer table").first
    head = table.locator("th", has_text="mean content")

    def column() -> list[float]:
        return [float(x) for x in table.locator("tbody tr td:nth-child(3)").all_text_contents()]

    head.locator("button").focus()
    tab.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending" and column() == sorted(column())
    tab.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending" and column() == sorted(column(), reverse=True)
    assert table.locator("th[aria-sort]").count() == 1
    unsorted = tab.eval_on_selector_all(
        ".bd-article table",
        """all => all.filter(t => t.tBodies[0].rows.length > 2 && !("unsorted" in t.dataset) && !t.querySelector(".fs-sort"))
                  .map(t => t.textContent.slice(0, 80))""",
    )
    assert unsorted == []


def test_without_javascript_the_parts_say_the_same(book, reader):
    context = reader.tab.context.browser.new_context(offline=True, java_script_enabled=False)
    tab = context.new_page()
    tab.set_default_timeout(60_000)
    tab.goto((book / "chapters" / "03-persistence.html").as_uri())
    assert tab.locator(".fs-controls:visible").count() == 0
    items = tab.locator(".fs-explorer details.fs-item")
    assert items.count() == tab.locator(".fs-explorer tbody").first.locator("tr").count() >= 30
    items.nth(5).locator("summary").click()
    assert items.nth(5).locator("svg").is_visible() and items.nth(5).locator("table").is_visible()
    slider = tab.locator(".fs-slider").first
    assert re.search(
        r"wordings of each item \d+, contexts 1: reliability rho subject \d\.\d\d; random twin", slider.text_content()
    )
    slider.locator("summary").click()
    assert slider.locator("table").is_visible()
    context.close()


def test_search_finds_offline_and_runs_nothing(book, reader):
    tab = reader.open(book / "search.html", "?q=acquiescence")
    tab.wait_for_selector("#search-results li a")
    tab = reader.open(book / "search.html", "?q=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
    tab.wait_for_timeout(300)
    assert reader.said == [] and reader.outside == []


def test_the_chapter_shows_what_it_promises(book):
    page = (book / "chapters" / "01-void.html").read_text()
    parts = ("Parameters of 01-void", "fs-provenance", "commit", "this machine", "Claims of 01-void", "figure-gates")
    for part in (*parts, "figure-planted-shares", "fs-badge-published", "How to cite this chapter"):
        assert part in page, part
    assert "Not measurable at this scale" in page or "figure-subject-shares" in page


def test_the_pdf_holds_the_whole_book_and_every_link_leads_somewhere(book):
    pdf = book.parent / "book.pdf"
    info = printed(pdf, "-isodates")
    assert "Encrypted:       no" in info and int(re.search(r"Pages:\s+(\d+)", info)[1]) > 40
    text = " ".join(printed(pdf).split())
    assert "Contents" in text
    titles = re.findall(
        r"^# (.+)$", "\n".join(p.read_text() for p in sorted((REPOSITORY / "chapters").glob("*.md"))), re.MULTILINE
    )
    toc = (REPOSITORY / "_toc.yml").read_text()
    assert len(titles) >= toc.count("chapters/") > 0
    for path in re.findall(r"file: (chapters/\S+)", toc):
        title = re.search(r"^# (.+)$", (REPOSITORY / f"{path}.md").read_text(), re.MULTILINE)[1]
        assert " ".join(title.split()) in text, title
    assert "smallest that passes" in text
    destinations, links = named(pdf)
    assert len(links) > 100 and links <= destinations, sorted(links - destinations)[:5]
    outward = [line.split()[-1] for line in printed(pdf, "-url").splitlines()[1:]]
    assert outward and all(re.match(r"https?://|mailto:", url) for url in outward), outward[:5]
    assert printed(pdf, "-js").strip() == ""
    assert not (book / ".print.html").exists()


def named(pdf) -> tuple[set[str], set[str]]:
    """Named destinations of a PDF, and those its links name."""
    destinations = set(re.findall(r'"([^"]+)"', printed(pdf, "-dests")))
    raw = pdf.read_bytes().decode("latin-1")
    links = set(re.findall(r"/Dest\s*/([^\s/>\]]+)", raw)) | set(re.findall(r"/Dest\s*\(([^)]+)\)", raw))
    return destinations, links
