"""Texts to read activations from: the shipped corpus, a file, or a dataset of a hub."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from functional_self import paths
from functional_self.activations.tokens import ROLES, Text
from functional_self.errors import MaterialError

HOME = paths.LIBRARY / "materials" / "data" / "corpus"
SHIPPED = "smollm2"
HELD_OUT = 10
"""Every tenth text is held out."""
CHARACTERS = 2000
"""A longer plain text is cut at white space."""
PER_TOKEN = 4
"""Characters counted as a token where nobody counted."""


def texts(source: str = SHIPPED, tokens: int | None = None, held_out: bool | None = None, column: str = "text") -> list[Text]:
    """Texts up to ``tokens`` in all: whole texts, from the source's beginning, the last one that fits.

    Args:
        source: ``smollm2``, the shipped corpus (its card is beside it); a ``.txt`` file (a blank line ends a text), a ``.jsonl``
            or ``.jsonl.gz`` file with ``text`` or ``messages`` in every line; or ``OWNER/NAME``, a dataset of a
            Hugging Face hub.
        tokens: the budget; SmolLM2's own count for the shipped corpus, else four characters count as a token.
        held_out: every tenth text alone, all others, or by default both; the budget is of what is taken.
        column: the name of the text in a line or a dataset.

    Raises MaterialError naming file and line where a text cannot be read, or what to install for a hub's dataset.
    """
    found: list[Text] = []
    used = 0
    for number, (text, count) in enumerate(_texts(source, column)):
        if held_out is not None and (number % HELD_OUT == HELD_OUT - 1) != held_out:
            continue
        if tokens is not None and used + count > tokens:
            break
        used += count
        found.append(text)
    if not found:
        raise MaterialError(f"texts '{source}': no text fits into {tokens} tokens" if tokens else f"texts '{source}': no text")
    return found


def card(name: str = SHIPPED) -> dict[str, Any]:
    """What is known of a shipped corpus: how it was written, by whom, its seeds, tokens, licence and checksum."""
    path = HOME / f"{name}.json"
    if not path.is_file():
        raise MaterialError(f"texts '{name}': no shipped corpus; there are {', '.join(shipped())}")
    return json.loads(path.read_text(encoding="utf-8"))


def shipped() -> list[str]:
    """The names of the shipped corpora."""
    return sorted(path.stem for path in HOME.glob("*.json"))


def _texts(source: str, column: str) -> Iterator[tuple[Text, int]]:
    path = Path(source).expanduser()
    if source in shipped():
        for row in _corpus(source):
            yield _text(row), row["tokens"]
    elif path.suffix == ".txt" and path.is_file():
        blocks = re.split(r"\n\s*\n", _read(path).decode("utf-8", "replace"))
        yield from _counted(piece for block in blocks for piece in pieces(block.strip()))
    elif path.name.endswith((".jsonl", ".jsonl.gz")) and path.is_file():
        yield from _counted(_lines(path, column))
    elif re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source) and not path.exists():
        yield from _counted(_dataset(source, column))
    else:
        raise MaterialError(
            f"texts '{source}': neither {', '.join(shipped())} nor a .txt, .jsonl or .jsonl.gz file that exists nor OWNER/NAME"
        )


def pieces(text: str) -> Iterator[str]:
    """A plain text in pieces of ``CHARACTERS`` at most, cut at white space where there is some."""
    while len(text) > CHARACTERS:
        end = max(text.rfind(mark, CHARACTERS // 2, CHARACTERS) for mark in " \n\t")
        end = end if end > 0 else CHARACTERS
        yield text[:end]
        text = text[end:].lstrip()
    if text:
        yield text


@cache
def _corpus(name: str) -> list[dict[str, Any]]:
    path = HOME / f"{name}.jsonl.gz"
    if not path.is_file() or paths.sha256(path) != card(name)["sha256"]:
        raise MaterialError(f"{paths.shown(path)}: is missing or not what its card says; check it out again")
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()]


def _text(row: dict[str, Any], column: str = "text") -> Text:
    if column in row and isinstance(row[column], str):
        return row[column]
    talk = row["messages"]
    turns = [(turn["role"], turn["content"]) if isinstance(turn, dict) else (turn[0], turn[1]) for turn in talk]
    if not turns or any(role not in ROLES[1:4] or not isinstance(content, str) for role, content in turns):
        raise ValueError
    return turns


def _lines(path: Path, column: str) -> Iterator[Text]:
    for number, line in enumerate(_read(path).decode("utf-8", "replace").split("\n"), 1):
        if not line.strip():
            continue
        try:
            text = _text(json.loads(line), column)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise MaterialError(
                f"{paths.shown(path)}, line {number}: needs '{column}', a string, or 'messages', a list of role and content "
                "(system, user, assistant)"
            ) from error
        yield from pieces(text) if isinstance(text, str) else [text]


def _read(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise MaterialError(f"{paths.shown(path)}: cannot be read: {error}") from error


def _dataset(name: str, column: str) -> Iterator[Text]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MaterialError(f"texts '{name}': datasets of a hub need the package datasets; run: pip install datasets") from error
    try:
        for row in load_dataset(name, split="train", streaming=True):
            text = _text(row, column)
            yield from pieces(text.strip()) if isinstance(text, str) else [text]
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())[:160]
        raise MaterialError(f"texts '{name}': the hub's dataset gives no column '{column}' to read: {said}") from error


def _counted(found: Iterable[Text]) -> Iterator[tuple[Text, int]]:
    for text in found:
        size = len(text) if isinstance(text, str) else sum(len(content) for _, content in text)
        yield text, max(1, size // PER_TOKEN)
