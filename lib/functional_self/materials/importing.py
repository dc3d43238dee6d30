"""Other people's items: the JSONL of model-written-evals, or a CSV with the same columns, as binary items."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from functional_self.errors import MaterialError
from functional_self.materials.schema import Item, ItemFile, Paraphrase
from functional_self.paths import shown, write_text

COLUMNS = ("question", "answer_matching_behavior", "answer_not_matching_behavior")
_CHOICE = re.compile(r"^\s*\(?(?P<letter>[A-Z])\)[\s:.]*(?P<text>.+?)\s*$", flags=re.MULTILINE)
_LETTER = re.compile(r"^\s*\(?([A-Z])\)?[.:]?\s*$")
_QUOTED = re.compile(r"[\"\u201c](?P<text>[^\"\u201d]+)[\"\u201d]")
_MAX_LINES = 100_000


def read(path: Path, limit: int | None = None) -> tuple[Item, ...]:
    """Items of class ``imported`` from a ``.jsonl`` or ``.csv`` file, at most ``limit`` spread evenly over the file.

    Every record has the columns ``question``, ``answer_matching_behavior`` and ``answer_not_matching_behavior`` (Perez et al.
    2022, arXiv 2212.09251). The matching answer is called plus. Yes-or-no questions about a quoted statement become a
    choice between saying it and not saying it; lettered choices become a choice between the texts behind the letters. Where
    these are yes and no, agree and disagree or true and false, they name the question: options that were the same in every
    item would leave gate G2 undefined. Both get two mechanical wordings and reverse-keyed twins, since the format has none.
    Texts lose invisible characters.

    Raises:
        MaterialError: file, line and key of the first record that does not fit.
    """
    if path.suffix.lower() not in (".jsonl", ".csv"):
        raise MaterialError(f"{shown(path)}: a .jsonl or .csv file is accepted")
    try:
        records = list(_jsonl(path) if path.suffix.lower() == ".jsonl" else _csv(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MaterialError(f"{shown(path)}: cannot be read: {' '.join(str(error).split())[:200]}") from error
    if not records:
        raise MaterialError(f"{shown(path)}: holds no records; one per line with {', '.join(COLUMNS)} is accepted")
    found = [_item(path, line, record) for line, record in records]
    if limit is not None and limit < len(found):
        found = [found[i * len(found) // limit] for i in range(limit)]
    return tuple(found)


def write(items: tuple[Item, ...], path: Path, specification: str = "assistant") -> None:
    """Write items as a file that ``materials.items`` reads."""
    file = ItemFile(specification=specification, items=items)
    raw = file.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    write_text(path, yaml.dump(raw, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=120))


def _jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, 1):
            if line > _MAX_LINES:
                raise MaterialError(f"{shown(path)}: more than {_MAX_LINES:,} lines")
            if not text.strip():
                continue
            try:
                yield line, json.loads(text)
            except (ValueError, RecursionError) as error:
                raise MaterialError(f"{shown(path)}: line {line}: not valid JSON: {str(error)[:120]}") from error


def _csv(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise MaterialError(f"{shown(path)}: line 1: column '{missing[0]}' is missing; needed are {', '.join(COLUMNS)}")
        for record in reader:
            if reader.line_num > _MAX_LINES:
                raise MaterialError(f"{shown(path)}: more than {_MAX_LINES:,} lines")
            yield reader.line_num, {key: record[key] for key in COLUMNS}


def _item(path: Path, line: int, record: Any) -> Item:
    where = f"{shown(path)}: line {line}"
    if not isinstance(record, dict):
        raise MaterialError(f"{where}: an object with {', '.join(COLUMNS)} is accepted, not {type(record).__name__}")
    for key in COLUMNS:
        if not isinstance(record.get(key), str) or not _cleaned(record[key]):
            raise MaterialError(f"{where}: {key}: text is needed, found {str(record.get(key))[:40]!r}")
    question, match, other = (_cleaned(record[key]) for key in COLUMNS)
    try:
        wordings = tuple(_wordings(question, match, other))
        name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:40] or "imported"
        domain = {"domain": name, "family": f"{name}-{line}"}
        return Item.model_validate({"id": f"{name}-{line}", **domain, "class": "imported", "paraphrases": wordings})
    except ValidationError as error:
        first = error.errors()[0]
        place = {"ask": "question", "reverse": "question", "plus": COLUMNS[1], "minus": COLUMNS[2]}.get(
            str(first["loc"][-1]) if first["loc"] else "", "record"
        )
        raise MaterialError(f"{where}: {place}: {first['msg'].removeprefix('Value error, ')[:200]}") from error
    except KeyError as error:
        raise MaterialError(f"{where}: {error.args[0]}") from error


def _cleaned(text: str) -> str:
    """The text composed (NFC), without invisible characters, tabs as spaces."""
    kept = (c if unicodedata.category(c) not in ("Cc", "Cf") or c == "\n" else " " if c == "\t" else "" for c in text)
    return unicodedata.normalize("NFC", "".join(kept)).strip()


def _wordings(question: str, match: str, other: str) -> Iterator[Paraphrase]:
    """Two mechanical wordings with their reverse-keyed twins."""
    stem = question
    letters = [_LETTER.match(text) for text in (match, other)]
    if all(letters):
        choices = {found["letter"]: found["text"] for found in _CHOICE.finditer(question)}
        named = [found[1] for found in letters if found]
        missing = [letter for letter in named if letter not in choices]
        if missing:
            raise KeyError(f"question: no choice ({missing[0]}) stands in it, but an answer refers to it")
        match, other = (choices[letter] for letter in named)
        stem = re.sub(r"\s*Choices:\s*$", "", _CHOICE.sub("", question)).strip() or "Choose."
    yes = {"yes": 1, "agree": 1, "true": 1, "no": -1, "disagree": -1, "false": -1}
    sides = [yes.get(text.strip(" .").lower()) for text in (match, other)]
    if None not in sides and sides[0] != sides[1]:
        quoted = _QUOTED.search(stem)
        about = quoted["text"].strip() if quoted else stem
        if quoted:
            frames = (
                ('Would you say "{}"?', 'Would you refuse to say "{}"?', 'I would say "{}"', 'I would not say "{}"'),
                ('Is it your view that "{}"?', 'Is it not your view that "{}"?', 'My view is "{}"', 'My view is not "{}"'),
            )
        else:
            frames = (
                ('"{}" Is your answer yes?', '"{}" Is your answer no?', 'To "{}" I say yes.', 'To "{}" I say no.'),
                ('Would you answer "{}" with yes?', 'Would you answer "{}" with no?', '"{}" Yes, indeed.', '"{}" No, indeed.'),
            )
        for frame in frames:
            ask, reverse, says, denies = (text.format(about) for text in frame)
            if sides[0] == 1:
                yield Paraphrase(ask=ask, reverse=reverse, plus=says, minus=denies)
            else:
                yield Paraphrase(ask=reverse, reverse=ask, plus=denies, minus=says)
        return
    for wording in ('{} Would you answer "{}" rather than "{}"?', '{} Which do you choose: is it "{}", and not "{}"?'):
        yield Paraphrase(
            ask=wording.format(stem, match, other), reverse=wording.format(stem, other, match), plus=match, minus=other
        )
