"""What can be touched says what the run's own score tables and results say; badges say where results come from."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from functional_self.runs import captions, interactive, published
from functional_self.runs import chapter as chapters
from functional_self.runs.execute import Run


def cells(table) -> list[list[str]]:
    return [[cell.get_text() for cell in row.select("td, th")] for row in table.select("tbody tr")]


@pytest.fixture(scope="module")
def explored():
    return BeautifulSoup(interactive.explorer("01-void"), "html.parser")


def test_the_explorer_has_every_item_asked_and_its_contents_are_those_of_the_scores(explored):
    run = published.find("01-void")
    raw = pd.read_csv(run.path / "scores" / "subject.csv.gz")
    raw = raw[~raw["class"].isin(["shuffled", "known"])]
    items = {item["data-name"]: item for item in explored.select("details.fs-item")}
    assert set(items) == set(raw["item"]) and len(items) == run.results["items/silent"]["value"] * 3
    for name in list(items)[::7]:
        rows = raw[raw["item"] == name].sort_values(["paraphrase", "context", "persona", "order"])
        wanted = {}
        for row in rows.itertuples():
            content = (row.ask_plus - row.ask_minus + row.reverse_plus - row.reverse_minus) / 2 - (row.base_plus - row.base_minus)
            wanted.setdefault((str(row.paraphrase + 1), row.context, row.persona), {})[row.order] = f"{content:.2f}"
        shown = {tuple(row[:3]): row[3:5] for row in cells(items[name].select_one("table"))}
        assert shown == {key: [both["plus-first"], both["minus-first"]] for key, both in wanted.items()}
        assert len(items[name].select("ol li")) == rows["paraphrase"].nunique()
        assert len(items[name].select("svg circle")) == len(rows) + 1, "a mark for every answer, and one in the legend"


def test_every_address_in_the_explorer_is_there_once(explored):
    wanted = [link["href"][1:] for link in explored.select("td a")]
    ids = [element["id"] for element in explored.select("[id]")]
    assert len(set(ids)) == len(ids) and set(wanted) <= set(ids) and len(set(wanted)) == len(explored.select("details.fs-item"))


def test_the_reliability_curve_is_the_one_the_chapter_records():
    run = published.find("03-persistence")
    page = BeautifulSoup(interactive.reliability("03-persistence"), "html.parser")
    heads = [head.get("data-series") and (head["data-series"], head["data-level"]) for head in page.select("thead th")]
    rows = cells(page.select_one("table"))
    for who, key in (("subject", "subject"), ("random twin", "random-twin")):
        assert rows[0][heads.index((who, "1"))] == f"{run.results[f'rho/{key}/1-1']['value']:.2f}"
        for level in ("1", "2", "4", "8"):
            column = [float(row[heads.index((who, level))]) for row in rows]
            assert column == sorted(column), "more wordings never cost reliability"


def test_the_threshold_curve_starts_with_every_item_and_falls():
    page = BeautifulSoup(interactive.thresholds("01-void"), "html.parser")
    columns = list(zip(*cells(page.select_one("table")), strict=True))
    assert len(columns) == 4 and columns[0][0] == "0.00"
    for column in columns[1:]:
        assert column[0] == "1.00" and list(column) == sorted(column, reverse=True)


def test_a_chapter_without_a_published_run_says_so(monkeypatch):
    monkeypatch.setattr(published, "find", lambda *_: None)
    for part in (interactive.explorer, interactive.reliability, interactive.thresholds):
        assert "no published run" in part("<b>") and "<b>" not in part("<b>")


def test_source_lines_of_every_cell_hold_the_cell():
    loaded = chapters.load("03-persistence")
    text = loaded.path.read_text().splitlines()
    found = captions.lines(loaded)
    assert len(found) == len(loaded.code)
    for (first, last), source in zip(found, loaded.code, strict=True):
        assert text[first - 1 : last] == source.splitlines()


@pytest.mark.parametrize(
    ("runs", "reasons", "executing", "wanted"),
    [
        ((None, None), (), False, ["not run"]),
        ((None, None), (), True, ["re-executed here", "not run"]),
        (("laptop local", None), (), False, ["published", "not run"]),
        (("laptop local", "quick local"), (), False, ["published", "re-executed here"]),
        (("remote-8b remote", None), ("<i>file</i> changed",), False, ["published", "remote", "stale", "not run"]),
    ],
)
def test_badges_say_where_the_results_of_a_page_come_from(tmp_path, monkeypatch, runs, reasons, executing, wanted):
    found = dict.fromkeys(published.KINDS)
    for kind, said in zip(published.KINDS, runs, strict=True):
        if said:
            preset, device = said.split()
            folder = tmp_path / preset
            folder.mkdir()
            (folder / "manifest.json").write_text(json.dumps({"preset": preset, "device": device}))
            found[kind] = Run(folder)
    monkeypatch.setattr(published, "find", lambda name, kind="published": found[kind])
    page = BeautifulSoup(captions.badges("tiny", reasons, executing), "html.parser")
    assert [badge.get_text().split(maxsplit=1)[1] for badge in page.select("strong")] == wanted
    assert page.select("i") == [] and all(reason in page.get_text() for reason in reasons)
