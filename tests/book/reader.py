"""A reader of built books: one browser, one tab, the network off, and everything the page asks for or complains of kept."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api")
from axe_playwright_python.base import AXE_FILE_PATH  # noqa: E402
from functional_self import paths  # noqa: E402
from functional_self.runs.pdf import FLAGS  # noqa: E402

COLOURS = ["color-contrast", "link-in-text-block"]
AXE = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa"]}, "resultTypes": ["violations"], "preload": False}
AXE_COLOURS = AXE | {"runOnly": {"type": "rule", "values": COLOURS}}
AXE_SHAPES = AXE | {"rules": {name: {"enabled": False} for name in COLOURS}}
INSIDE = {"exclude": [["svg[role='img'] > *"]]}
"""The parts of a drawing with role img are presentational, so nothing but their contrast can be wrong: ``CONTRAST`` reads it."""
UNFOLD = "document.querySelectorAll('details').forEach((folded) => { folded.open = true; })"
THIN = """() => {
  document.querySelectorAll(".highlight pre").forEach((code) => { code.textContent = code.textContent; });
  document.querySelectorAll("svg[role='img'][aria-label]").forEach((drawing) => { drawing.replaceChildren(); });
  document.querySelectorAll(".fs-explorer").forEach((one) => {
    [...one.querySelectorAll(".fs-item")].slice(3).forEach((item) => item.remove());
  });
}"""
ALIKE = """() => {
  const seen = new Map();
  const path = (e) => e === document.body ? "" : `${path(e.parentElement)} ${e.tagName}.${e.getAttribute("class")}`;
  for (const one of [...document.querySelectorAll("body *:not(svg *)")].filter((e) => !e.firstElementChild)) {
    const style = getComputedStyle(one), like = path(one) + style.color + style.backgroundColor;
    const times = (seen.get(like) || 0) + 1;
    seen.set(like, times);
    if (times > 2) one.remove();
  }
}"""
"""What axe would read thousands of times for nothing: colours of code and of drawings, which ``CONTRAST`` reads; the items of an
explorer after three, which one template makes; and, before colours, what stands in the same places in the same colours twice."""
RUN_AXE = """async ([context, options]) => (await axe.run(context, options)).violations.map(
    (found) => [found.id, found.nodes.length, found.nodes[0].html.slice(0, 300)])"""
STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"
CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = (x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
  const luminance = (rgb) => rgb.slice(0, 3).map((x) => linear(x / 255))
    .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
  const page = parse(getComputedStyle(document.querySelector("main") || document.body).backgroundColor);
  const back = page.length && page[3] !== 0 ? page : parse(getComputedStyle(document.body).backgroundColor);
  const ratio = (colour, behind = back) => {
    const [a, b] = [luminance(parse(colour)), luminance(behind)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const found = new Map(), code = document.querySelector(".highlight pre");
  if (code) {
    const behind = parse(getComputedStyle(code).backgroundColor), known = new Set();
    for (const part of document.querySelectorAll(".highlight pre span")) {
      if (known.has(part.className) || !part.textContent.trim()) continue;
      known.add(part.className);
      const colour = getComputedStyle(part).color;
      if (ratio(colour, behind) < 4.5) found.set(colour + " code " + part.className, ratio(colour, behind).toFixed(2));
    }
  }
  for (const mark of document.querySelectorAll(
    "figure svg :is(text, path, line, polyline, circle, rect, use), .fs-explorer svg :is(text, path, line, circle, rect)")) {
    if (mark.closest("defs, clipPath, .fs-grid, .fs-faint")) continue;
    const style = getComputedStyle(mark), text = mark.tagName === "text";
    for (const colour of [mark.tagName === "line" ? "none" : style.fill, text ? "none" : style.stroke]) {
      if (!colour || colour === "none" || colour.startsWith("url") || parse(colour)[3] === 0) continue;
      if (ratio(colour) < (text ? 4.5 : 3)) found.set(colour + " " + mark.tagName, ratio(colour).toFixed(2));
    }
  }
  return [...found];
}"""


@dataclass
class Reader:
    """The tab and what its pages did: addresses outside the folder, complaints, dialogs."""

    tab: Any
    outside: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def open(self, page: Path, after: str = "") -> Any:
        """Open a built page afresh, wide and light."""
        self.outside.clear()
        self.said.clear()
        self.tab.set_viewport_size({"width": 1440, "height": 900})
        self.tab.emulate_media(color_scheme="light")
        self.tab.goto("about:blank")
        self.tab.goto(page.as_uri() + after)
        self.tab.wait_for_load_state("load")
        return self.tab

    def look(self, scheme: str, width: int) -> None:
        """Change theme and width as a reader does, without loading the page again."""
        self.tab.emulate_media(color_scheme=scheme)
        if self.tab.viewport_size["width"] != width:
            self.tab.set_viewport_size({"width": width, "height": 900})
            self.tab.wait_for_timeout(500)  # the theme makes what scrolls reachable a moment after a change of width
        self.tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def axe(self, options: dict[str, Any] = AXE) -> list[Any]:
        """What axe-core finds against wcag2a and wcag2aa."""
        if not self.tab.evaluate("'axe' in window"):
            self.tab.evaluate(AXE_FILE_PATH.read_text())
        return self.tab.evaluate(RUN_AXE, [INSIDE, options])


@pytest.fixture(scope="module")
def reader():
    chromium = paths.browser()
    assert chromium, "no chromium; run: apt-get install chromium"
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=chromium, args=list(FLAGS))
        tab = opened.new_context(offline=True, reduced_motion="reduce").new_page()
        tab.set_default_timeout(60_000)
        made = Reader(tab)
        quiet = re.compile(r"^(file|data|blob|about):")
        tab.on("request", lambda r: None if quiet.match(r.url) else made.outside.append(r.url))
        tab.on("console", lambda m: made.said.append(m.text) if m.type in ("error", "warning") else None)
        tab.on("pageerror", lambda e: made.said.append(str(e)))
        tab.on("dialog", lambda d: (made.said.append(f"dialog: {d.message}"), d.dismiss()))
        yield made
        opened.close()


def pages(book: Path) -> list[Path]:
    """Every page of a built book that a reader can come to; the root's only leads to the first one."""
    leads = {book / "index.html", book / "genindex.html"}
    return sorted(p for p in book.rglob("*.html") if p not in leads and "_static" not in p.parts)


def printed(pdf: Path, *options: str) -> str:
    """What poppler reads in a PDF: its text, or with options what pdfinfo says."""
    import subprocess

    command = ["pdfinfo", *options, str(pdf)] if options else ["pdftotext", "-layout", str(pdf), "-"]
    assert shutil.which(command[0]), f"no {command[0]}; run: apt-get install poppler-utils"
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
