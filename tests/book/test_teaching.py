"""Slides, handouts and the kit of a session: complete, offline, escaped, usable by keyboard, a handout on one page."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import yaml
from conftest import REPOSITORY, cli_here, refused
from functional_self import paths
from functional_self.errors import FunctionalSelfError
from functional_self.runs import chapter as chapters
from functional_self.runs import execute, published
from functional_self.teaching import exercises, kit, values

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</details><script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "&lt;b&gt;",
    '" onmouseover="alert(1)',
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All slides and handouts of the book, written by the command."""
    to = tmp_path_factory.mktemp("slides")
    done = cli_here("slides", "--to", str(to), "--json", FUNCTIONAL_SELF_ROOT=str(REPOSITORY))
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["files"]) == 2 * len(kit.sessions())
    return to


@pytest.fixture(scope="module")
def tab():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = paths.browser()
    assert chromium, "no chromium; run: apt-get install chromium"
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = opened.new_context(viewport={"width": 380, "height": 800}, offline=True).new_page()
        yield page
        opened.close()


def test_there_are_six_sessions_and_the_first_needs_nothing_installed():
    sessions = kit.sessions()
    assert [one.number for one in sessions] == [1, 2, 3, 4, 5, 6]
    assert "Nothing is installed" in sessions[0].needs
    for one in sessions:
        assert all(sum(getattr(step, form) for step in one.plan) == total for form, total in (("short", 60), ("long", 90)))
        assert all(kit._exercise(name) for name in one.exercises)
        assert all(values.definition(word) for word in one.words)
    assert {chapter for one in sessions for chapter in one.chapters} >= set(exercises.files())


def test_slides_and_handouts_hold_all_and_refer_to_nothing_outside(folder):
    for one in kit.sessions():
        for path in (folder / f"session-{one.number}.html", folder / f"handout-{one.number}.html"):
            text = path.read_text()
            assert "{{" not in text and "{%" not in text and "\ue000" not in text
            assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)|url\((?!["']?#)|@import""", text), path.name
        slides = (folder / f"session-{one.number}.html").read_text()
        assert slides.count('class="slide"') == 2 + len(one.slides) + len(one.predict)
        assert slides.count("<summary>Reveal</summary>") == len(one.predict)
        ids = re.findall(r'\bid="([^"]+)"', slides)
        assert len(ids) == len(set(ids)), "ids of figures do not collide"
        for page in one.slides:
            assert not page.figure or values.run_of(page.figure.partition("/")[0]).name in slides


def test_a_number_on_a_slide_is_the_published_runs():
    run = published.find("01-void")
    found = run.results["unfilled/planted/silent"]
    assert published.result("01-void", "unfilled/planted/silent", ".3f")[1] == f"{found['value']:.3f}"
    assert published.result("01-void", "unfilled/planted/silent.n")[1] == str(found["n"])
    assert f"[{found['interval'][0]:.2f}, {found['interval'][1]:.2f}]" in values.prose(
        "so: {{01-void unfilled/planted/silent.full}}"
    )
    for wrong in ("{{01-void no/such}}", "{{99-none x}}", "{{01-void subject|.2f}}"):
        with pytest.raises(FunctionalSelfError):
            values.prose(wrong)


@pytest.mark.parametrize("number", range(1, 7))
def test_a_handout_fits_on_one_page(folder, tab, number):
    tab.goto((folder / f"handout-{number}.html").as_uri())
    paper = tab.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) == 1
    assert tab.evaluate("document.documentElement.scrollWidth") <= 380


def test_a_tall_figure_keeps_its_width_and_is_scrolled_by_keyboard(folder, tab):
    tab = tab.context.new_page()
    tab.set_viewport_size({"width": 1440, "height": 900})
    tab.goto((folder / "session-4.html").as_uri())
    while not tab.locator(".slide.now .fs-tall").count():
        tab.keyboard.press("ArrowRight")
    figure = tab.locator(".slide.now .fs-tall")
    assert figure.locator("svg").bounding_box()["width"] > 450 and figure.bounding_box()["height"] < 600
    figure.focus()
    tab.keyboard.press("ArrowDown")
    tab.wait_for_timeout(500)
    assert figure.evaluate("figure => figure.scrollTop") > 0
    tab.close()


def test_slides_go_by_keyboard_and_fit_a_narrow_screen(folder, tab):
    said = []
    tab.on("console", lambda message: said.append(message.text))
    tab.goto((folder / "session-1.html").as_uri())
    total = tab.evaluate("document.querySelectorAll('.slide').length")
    for place in range(1, total + 1):
        assert tab.inner_text("#place") == f"{place} of {total}"
        assert tab.evaluate("[...document.querySelectorAll('.slide')].filter(s => s.offsetParent !== null).length") == 1
        assert tab.evaluate("document.documentElement.scrollWidth") <= 380
        tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#place") == f"{total} of {total}"
    tab.keyboard.press("Home")
    assert tab.inner_text("#place") == f"1 of {total}"
    while not tab.evaluate("document.querySelector('.slide.now details') !== null"):
        tab.keyboard.press("PageDown")
    tab.focus(".slide.now summary")
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.querySelector('.slide.now details').open")
    assert said == []


def test_the_kit_of_session_one_is_one_command(tmp_path):
    done = cli_here("session", "1", "--to", str(tmp_path), FUNCTIONAL_SELF_ROOT=str(REPOSITORY))
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["01-void.ipynb", "handout.html", "slides.html"]
    refused(cli_here("session", "9", FUNCTIONAL_SELF_ROOT=str(REPOSITORY)), "session 9", "1, 2, 3, 4, 5, 6")


@pytest.fixture
def small(project):
    """The small project with one session on its one chapter, whose run records a hostile text."""
    published.publish(execute.run(chapters.load("tiny"))[0])
    raw = yaml.safe_load((REPOSITORY / "book" / "teaching" / "sessions.yml").read_text())["sessions"][0]
    raw |= {"chapters": ["tiny"], "exercises": [], "words": ["gate", "item"]}
    raw["slides"] = [
        {"title": "One", "points": ["{{tiny hostile}}"]},
        {"title": "Two", "points": ["{{tiny mean.full}}"], "figure": "tiny/contents"},
    ]
    raw["predict"] = [{"ask": "What?", "reveal": "{{tiny hostile}} **bold**"}]
    (project / "book" / "teaching").mkdir()
    shutil.copy(REPOSITORY / "book" / "glossary.md", project / "book")
    return project / "book" / "teaching" / "sessions.yml", raw


def test_hostile_text_is_inert_wherever_it_stands(small, tmp_path):
    path, raw = small
    for place, text in enumerate(HOSTILE):
        said = f"{text} {place}"
        changed = raw | {"title": said, "question": said, "ideas": [said, said], "needs": said}
        changed["slides"] = [{"title": said, "points": [said, "{{tiny hostile}}"]}, *raw["slides"][1:]]
        changed["discuss"] = [{"question": said, "touches": ["one", "two"]}] * 2
        path.write_text(json.dumps({"sessions": [changed]}))
        one = kit.session(1)
        for page in (kit.slides(one), kit.handout(one)):
            scripts = re.findall(r"<script>", page)
            assert len(scripts) == 1, (text, "the page has its own script and no other")
            assert "<img" not in page and "alert(1)</script>" not in page and 'href="javascript' not in page
            assert ' onmouseover="' not in page
            assert "{{ 7 * 7 }}" in page or "7 * 7" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in kit.slides(one), "the recorded text is shown, escaped"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda raw: raw["plan"][0].update(short=1), ["sessions.yml", "60"]),
        (lambda raw: raw.update(chapters=["none"]), ["sessions.yml", "none"]),
        (lambda raw: raw["slides"][1].update(figure="tiny/none"), ["none", "contents"]),
        (lambda raw: raw.update(words=["gate", "nonsense"]), ["glossary.md", "nonsense"]),
        (lambda raw: raw.update(colour="red"), ["sessions.yml", "colour"]),
    ],
)
def test_what_is_wrong_with_the_sessions_is_one_line(small, spoil, words):
    path, raw = small
    spoil(raw)
    path.write_text(json.dumps({"sessions": [raw]}))
    with pytest.raises(FunctionalSelfError) as wrong:
        for one in kit.sessions():
            assert kit.slides(one) and kit.handout(one)
    assert "\n" not in str(wrong.value) and all(word in str(wrong.value) for word in words), wrong.value
