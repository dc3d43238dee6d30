"""The rendered book in a real browser, from disk, with the network watched: light, dark and narrow."""

from __future__ import annotations

import re
import shutil

import pytest
from conftest import REPOSITORY, cli

playwright = pytest.importorskip("playwright.sync_api")

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
HASH = re.compile(r"[0-9a-f]{16,}")
AXE = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa"]}, "resultTypes": ["violations"]}
LOOKS = [("light", 1440), ("dark", 1440), ("light", 380)]


@pytest.fixture(scope="module")
def book():
    """The real book, built from the published runs."""
    done = cli("build", FUNCTIONAL_SELF_ROOT=str(REPOSITORY))
    assert done.returncode == 0, done.stderr
    return REPOSITORY / "_build" / "html"


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium, "no chromium; run: apt-get install chromium"
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        opened.close()


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_every_page_is_quiet_offline_accessible_and_fits(book, browser, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    pages = sorted(p for p in book.rglob("*.html") if p.name not in ("genindex.html", "search.html") and "_static" not in p.parts)
    assert len(pages) >= 7
    axe = Axe()
    for page in pages:
        outside, said = [], []
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        tab = context.new_page()
        tab.on("request", lambda r, o=outside: o.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None)
        tab.on("console", lambda m, s=said: s.append(m.text) if m.type in ("error", "warning") else None)
        tab.on("pageerror", lambda e, s=said: s.append(str(e)))
        tab.goto(page.as_uri())
        tab.wait_for_load_state("load")
        if "index" not in page.name or "book" in page.parts:
            assert tab.evaluate("document.documentElement.dataset.theme") == scheme
        if page.name == "01-void.html":
            tab.wait_for_selector("mjx-container svg")
        tab.wait_for_timeout(300)
        assert outside == [], (page.name, outside)
        assert said == [], (page.name, said)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, page.name
        names = tab.eval_on_selector_all("img", "e => e.map(x => x.alt)")
        names += tab.eval_on_selector_all("figure svg", "e => e.map(x => x.getAttribute('aria-label'))")
        assert all(name and len(name) > 3 and not HASH.search(name) for name in names), (page.name, names)
        found = axe.run(tab, options=AXE).response["violations"]
        assert found == [], (page.name, [(v["id"], v["nodes"][0]["html"][:200]) for v in found])
        assert outside == [], (page.name, outside)
        context.close()


def test_the_chapter_shows_what_it_promises(book):
    page = (book / "chapters" / "01-void.html").read_text()
    for part in (
        "Parameters of 01-void",
        "figcaption",
        "commit",
        "this machine",
        "Claims of 01-void",
        "figure-gates",
        "figure-planted-shares",
    ):
        assert part in page, part
    assert "Not measurable at this scale" in page or "figure-subject-shares" in page
