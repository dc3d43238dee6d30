"""Dashboards: the strongest contexts are found, and no text in them acts, in the source and in a real browser."""

from __future__ import annotations

import html.parser
import json

import pandas as pd
import pytest
import torch
from functional_self import paths
from functional_self.crosscoder import Config, Crosscoder
from functional_self.crosscoder.dashboards import LONGEST, dashboard, top_contexts, visible

HOSTILE = [
    "<script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 1'>",
    '"><svg onload="window.hit = 1">',
    "</bdi></li></ol></details><b onclick='window.hit = 1'>",
    "javascript:window.hit=1",
    "&lt;script&gt;",
    "\u202egnp.exe",
    "\u2066\u2067\u200f\u061c\u2028\u0000\ud800",
    "x" * 10_000,
    "a" + "\u0301" * 5000,
    "]]><!--<style>*{display:none}</style>",
    "\n\t\r",
    "{{7*7}}${7*7}",
]


def card(tokens: list[str], latent: int = 3) -> pd.DataFrame:
    context = {"tokens": tokens, "values": [1.0] * len(tokens), "at": 0}
    row = {"latent": latent, "D": 0.99, "nu_r": 0.1, "nu_e": float("nan"), "share": 0.01}
    return pd.DataFrame([row | {"profile": json.dumps([0.02, 1.0]), "contexts": json.dumps([context])}])


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.names, self.attributes, self.words = [], set(), ""

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.words += data


@pytest.mark.parametrize("token", HOSTILE)
def test_hostile_text_adds_no_element_and_no_attribute(token):
    plain, found = Tags(), Tags()
    plain.feed(dashboard(card(["plain" * 10]), ["base", "tuned"], "Latents"))
    page = dashboard(card([token, "plain" * 10]), ["base", token], f"Latents {token[:50]}".replace("\ud800", ""))
    found.feed(page.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
    assert set(found.names) <= set(plain.names) and found.attributes <= plain.attributes
    assert not any(name.startswith("on") for name in found.attributes)
    assert len(page) < len(dashboard(card(["plain" * 10]), ["base", "tuned"], "Latents")) + 4 * len(token[:300]) + 20_000


def test_what_is_not_seen_is_written_out_and_what_is_long_is_cut():
    assert visible("\u202ea") == '<span class="fs-code">U+202E</span>a'
    assert visible("\ud800").isascii() and "U+D800" in visible("\ud800")
    cut = visible("y" * 10_000)
    assert cut.count("y") == LONGEST and "10000 characters" in cut
    assert visible(" old") == " old" and visible("a\nb") == "a↵\nb"


def test_every_context_stands_in_an_isolated_piece_and_says_its_largest():
    page = dashboard(card([" the", " old", " pot"]), ["base", "tuned"], "Latents of the tuned end")
    assert page.count("<bdi>") == 3 and '<bdi dir="ltr">' in page and "<script" not in page and "http" not in page
    assert "D 0.99" in page and "undefined" in page and "base 0.02, tuned 1.00" in page
    assert page.count("<details>") == page.count("<summary>") == 1


def test_the_strongest_contexts_are_those_where_the_latent_fires():
    crosscoder = Crosscoder(Config(1, 3, 3, "relu", k=1)).double()
    with torch.no_grad():
        crosscoder.D_FK.copy_(torch.eye(3))
        crosscoder.W_FK.copy_(torch.eye(3))
    x_BK = torch.zeros(12, 3, dtype=torch.float64)
    x_BK[4, 1], x_BK[5, 1], x_BK[9, 1] = 2.0, 1.0, 3.0
    tokens = pd.DataFrame({"text": [0] * 6 + [1] * 6, "position": [*range(6), *range(6)], "token": range(12)})
    found = top_contexts(crosscoder, x_BK, tokens, lambda i: f"t{i}", [1, 2], count=5, window=2)
    first, second = json.loads(found["contexts"][0])
    assert first == {"tokens": [f"t{i}" for i in range(7, 12)], "values": [0.0, 0.0, 3.0, 0.0, 0.0], "at": 2}
    assert second == {"tokens": ["t2", "t3", "t4", "t5"], "values": [0.0, 0.0, 2.0, 1.0], "at": 2}
    assert found["share"].tolist() == [3 / 12, 0.0] and json.loads(found["contexts"][1]) == []
    blank = found.assign(D=0.5, nu_r=1.0, nu_e=1.0, profile="[1.0]")
    assert "Never active" in dashboard(blank, ["only"], "Latents")


def test_hostile_text_is_inert_in_a_browser_without_and_with_scripts(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = paths.browser()
    assert chromium, "no chromium; run: apt-get install chromium"
    page = dashboard(card([*HOSTILE, "last words"]), ["base", "tuned"], "Latents")
    file = tmp_path / "page.html"
    file.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Latents</title><body>{page}<p id="after">after</p>'
    )
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        for scripts in (True, False):
            asked = []
            context = opened.new_context(viewport={"width": 380, "height": 800}, java_script_enabled=scripts, offline=True)
            tab = context.new_page()
            tab.on("request", lambda r, a=asked: a.append(r.url))
            tab.on("dialog", lambda d: pytest.fail(d.message))
            tab.goto(file.as_uri())
            assert tab.locator("text=last words").is_hidden()
            tab.keyboard.press("Tab")
            tab.keyboard.press("Enter")
            assert tab.locator("text=last words").is_visible() and tab.locator("#after").inner_text() == "after"
            assert (
                tab.locator("section *").count()
                == tab.locator("section :is(p,strong,details,summary,svg,rect,ol,li,bdi,span,small,sub)").count()
            )
            if scripts:
                tab.wait_for_timeout(200)
                assert tab.evaluate("window.hit") is None
                assert tab.evaluate("document.documentElement.scrollWidth") <= 380
            assert asked == [file.as_uri()]
            context.close()
        opened.close()
