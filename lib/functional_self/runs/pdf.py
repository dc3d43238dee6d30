"""The whole book as one PDF: the built pages put together, their links turned inwards, printed by Chromium from disk."""

from __future__ import annotations

import html
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

from functional_self import paths
from functional_self.errors import RunError
from functional_self.runs import stage

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
REFERS = ("for", "aria-labelledby", "aria-describedby", "aria-controls", "headers")
"""Attributes that hold ids of other elements."""
LEFT_OUT = "a.headerlink, .copybtn, button, .fs-controls, script, .toctree-wrapper"
OUTWARD = ("http", "https", "mailto")
FOOTER = (
    '<div style="width:100%;font:8px sans-serif;text-align:center">'
    '<span class="pageNumber"></span> / <span class="totalPages"></span></div>'
)
PRINTED = ".print.html"


def build() -> Path:
    """Build the book and print it to ``_build/book.pdf``; raises RunError where there is no Chromium or printing fails."""
    chromium = browser()
    home = stage.build().parent
    return write(home, home.parent / "book.pdf", chromium)


def browser() -> str:
    """The path of an installed Chromium or Chrome; raises RunError with the package to install."""
    if found := paths.browser():
        return found
    raise RunError("pdf: no chromium to print with; on Debian run: apt-get install chromium")


def write(home: Path, target: Path, chromium: str) -> Path:
    """Print the built book in ``home`` to ``target`` in one piece, without the network; a failure leaves the last PDF."""
    from playwright.sync_api import Error, sync_playwright

    page, aside = home / PRINTED, target.with_name(f".{target.name}")
    page.write_text(whole(home), encoding="utf-8")
    try:
        with sync_playwright() as p:
            opened = p.chromium.launch(executable_path=chromium, args=list(FLAGS))
            tab = opened.new_context(offline=True).new_page()
            tab.set_default_timeout(300_000)
            tab.goto(page.as_uri())
            tab.wait_for_function("!window.MathJax || (MathJax.startup && MathJax.startup.promise)")
            tab.evaluate("window.MathJax && MathJax.startup.promise")
            tab.pdf(
                path=str(aside),
                format="A4",
                outline=True,
                tagged=True,
                display_header_footer=True,
                header_template="<span></span>",
                footer_template=FOOTER,
                margin={"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"},
            )
            opened.close()
        aside.replace(target)
    except Error as error:
        raise RunError(f"pdf: the book was not printed: {str(error).splitlines()[0]}") from error
    finally:
        page.unlink(missing_ok=True)
        aside.unlink(missing_ok=True)
    return target


def whole(home: Path) -> str:
    """Every page of the table of contents as one page: a title, contents, then the pages, every link between them inside it."""
    names = [path.relative_to(paths.root()).with_suffix("").as_posix() for path in stage.pages()]
    title = yaml.safe_load((paths.root() / "_config.yml").read_text(encoding="utf-8"))["title"]
    pages = {name: BeautifulSoup((home / f"{name}.html").read_text(encoding="utf-8"), "html.parser") for name in names}
    parts, contents = [], []
    for name, page in pages.items():
        article = page.select_one("article.bd-article")
        if article is None:
            raise RunError(f"{paths.shown(home / name)}.html: has no article; build the book again")
        _open(article)
        contents.append(_contents(article, name))
        _inside(article, name, names)
        parts.append(f'<section class="fs-page bd-article" id="{_anchor(name)}">{article.decode_contents()}</section>')
    return (
        '<!DOCTYPE html><html lang="en" data-theme="light" data-mode="light"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title>{_head(pages)}</head>"
        f'<body class="fs-print"><h1 class="fs-title">{html.escape(title)}</h1>'
        f'<nav class="fs-contents" aria-label="Contents"><h2>Contents</h2><ol>{"".join(contents)}</ol></nav>{"".join(parts)}</body></html>'
    )


def _open(article: Tag) -> None:
    """On paper everything folded is open, but for an explorer's items, of which the first one of a page stands for all."""
    for left_out in article.select(LEFT_OUT):
        left_out.decompose()
    items = article.select("details.fs-item")
    for item in items[1:]:
        item.decompose()
    for folded in article.select("details"):
        folded["open"] = ""
    for hidden in article.select(".toggle-hidden"):
        hidden["class"] = " ".join(name for name in hidden.get_attribute_list("class") if name != "toggle-hidden")


def _contents(article: Tag, name: str) -> str:
    """The page's line in the contents, with its sections beneath."""
    heads = [(head.name, head.get_text().strip(), head.find_parent("section")) for head in article.select("h1, h2")]
    title = next((text for level, text, _ in heads if level == "h1"), name)
    inner = "".join(
        f'<li><a href="#{_anchor(name, str(section["id"]))}">{html.escape(text)}</a></li>'
        for level, text, section in heads
        if level == "h2" and section is not None and section.get("id")
    )
    below = f"<ol>{inner}</ol>" if inner else ""
    return f'<li><a href="#{_anchor(name)}">{html.escape(title)}</a>{below}</li>'


def _inside(article: Tag, name: str, names: Sequence[str]) -> None:
    """Give every id of a page the page's prefix and turn what refers to it, links to other pages and files along."""
    folder = posixpath.dirname(name)
    for element in article.find_all(True):
        if "id" in element.attrs:
            element["id"] = _anchor(name, str(element["id"]))
        for key in REFERS:
            if key in element.attrs:
                value = element[key]
                tokens = value if isinstance(value, list) else str(value).split()
                element[key] = " ".join(_anchor(name, token) for token in tokens)
        for key, value in list(element.attrs.items()):
            if isinstance(value, str) and "url(#" in value:
                element[key] = re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{_anchor(name, found[1])})", value)
        for key in ("href", "xlink:href", "src"):
            if key in element.attrs:
                turned = _turned(str(element[key]), name, folder, names, key)
                if turned is None:
                    del element[key]
                else:
                    element[key] = turned


def _turned(address: str, name: str, folder: str, names: Sequence[str], key: str) -> str | None:
    """An address as the one page needs it; None where it leads nowhere on paper."""
    parts = urlsplit(address)
    if parts.scheme or address.startswith("//"):
        return address if parts.scheme in OUTWARD or (key != "href" and parts.scheme == "data") else None
    if not parts.path:
        return f"#{_anchor(name, unquote(parts.fragment))}" if parts.fragment else f"#{_anchor(name)}"
    path = posixpath.normpath(posixpath.join(folder, unquote(parts.path)))
    if path.endswith(".html"):
        page = path.removesuffix(".html")
        if page == "index":
            page = names[0]
        return f"#{_anchor(page, unquote(parts.fragment))}" if page in names else None
    return path if key != "href" else None


def _head(pages: dict[str, BeautifulSoup]) -> str:
    """The first page's style sheets, and MathJax as the first page with equations has it, addresses turned."""
    first = next(iter(pages))
    found = [(first, element) for element in pages[first].select("head link[rel~=stylesheet]")]
    for name, page in pages.items():
        scripts = [x for x in page.select("script") if "mathjax" in str(x.get("src", "")).lower() or "window.MathJax" in x.text]
        if len(scripts) > 1:
            found += [(name, script) for script in scripts]
            break
    for name, element in found:
        for key in ("href", "src"):
            if key in element.attrs:
                element[key] = posixpath.normpath(posixpath.join(posixpath.dirname(name), str(element[key])))
    return "".join(str(element) for _, element in found)


def _anchor(page: str, inside: str = "") -> str:
    """The one page's id for a page, or for an id on it."""
    start = re.sub(r"[^A-Za-z0-9]+", "-", page)
    return f"{start}--{inside}" if inside else start
