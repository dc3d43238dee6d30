"""The shipped corpus: texts that a subject wrote once, from seeds, with the project's own prompts; and how to write it again.

``python -m functional_self.activations.corpus`` writes it: batches of ``SIZE`` texts, each kept in the cache as soon as it is
there, so that a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.metadata
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from functional_self import materials, paths, subjects
from functional_self.progress import track
from functional_self.subjects import Request
from functional_self.subjects.base import Message

HOME = Path(__file__).parent.parent / "materials" / "data" / "corpus"
SIZE = 32
SEED = 20261
TEMPERATURE = 0.9
TURNS = ("dialogue", "instruction", "prose")
"""What batches hold, in turn; prose is half stories, half plain."""
USER, ANSWER, AGAIN, PROSE = 32, 112, 80, 176
"""Tokens at most: a user's message, the first answer, a later one, and prose."""
BANKS, PROMPTS = ("void", "plants", "tastes", "known"), 512
"""Where the project's own prompts are from, and how many there are."""
WORDS: dict[str, list[str]] = yaml.safe_load((HOME / "recipe.yml").read_text(encoding="utf-8"))
"""First words of texts and messages, and personas beside the roster's: trades, manners, starts, follows, openings, proses."""


def make(batches: int, to: Path = HOME, subject: str = "smollm2") -> dict[str, Any]:
    """Write ``NAME.jsonl.gz`` and its card ``NAME.json`` from so many batches, and return the card.

    Each batch has seeds of its own, ``SEED`` + 10 x its number onwards, so a longer corpus holds a shorter one's texts. The
    project's own prompts stand among them, all in one order by ``SEED``: any beginning of the corpus is a sample of it.
    """
    model = subjects.load(subject, store=False)
    raw = subjects.load(subject, store=False, template="raw")
    kept = paths.cache() / "corpus" / f"{subject}-{paths.digest(model.revision + recipe(), 12)}"
    rows, places = list(_prompts()), set[str]()
    with track(f"writing the corpus with {subject}", batches) as advance:
        for number in range(batches):
            path = kept / f"{number:03d}.json"
            if not path.is_file():
                written = {"on": _place(model), "texts": batch(model, raw, number)}
                paths.write_text(path, json.dumps(written, ensure_ascii=False))
            found = json.loads(path.read_text(encoding="utf-8"))
            rows += found["texts"]
            places.add(found["on"])
            advance(1)
    rows = [rows[i] for i in np.random.default_rng(SEED).permutation(len(rows))]
    tokenizer = model.model.tokenizer  # type: ignore[attr-defined]
    for row in rows:
        whole = row["text"] if "text" in row else model.render(row["messages"], opened=False)  # type: ignore[attr-defined]
        row["tokens"] = len(tokenizer(whole, add_special_tokens=False)["input_ids"])
    card = _card(model, rows, batches) | {"written on": sorted(places)}
    body = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    with paths.staging(to) as scratch:
        (scratch / "whole").write_bytes(gzip.compress(body.encode(), 9, mtime=0))
        card["sha256"] = paths.sha256(scratch / "whole")
        (scratch / "whole").rename(to / f"{subject}.jsonl.gz")
    paths.write_text(to / f"{subject}.json", json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    return card


def batch(model: Any, raw: Any, number: int) -> list[dict[str, Any]]:
    """The texts of one batch: dialogues, instructions, or stories and plain prose, in turn."""
    rng = np.random.default_rng([SEED, number])
    seed = SEED + 10 * number
    kind = TURNS[number % len(TURNS)]
    if kind == "prose":
        begun = [str(one) for name in ("openings", "proses") for one in rng.permutation(np.array(WORDS[name]))[: SIZE // 2]]
        more = _continued(raw, begun, PROSE, seed)
        kinds = [*["story"] * (SIZE // 2), *["plain"] * (SIZE // 2)]
        texts: list[dict[str, Any]] = [{"kind": kind, "text": text} for kind, text in zip(kinds, more, strict=True)]
    else:
        systems = list(map(str, rng.permutation(np.array(_systems()))[:SIZE])) if kind == "dialogue" else [""] * SIZE
        talks: list[list[Message]] = [[("system", system)] if system else [] for system in systems]
        exchanges = [(WORDS["starts"], ANSWER), (WORDS["follows"], AGAIN)][: 2 if kind == "dialogue" else 1]
        for turn, (starts, room) in enumerate(exchanges):
            begun = [str(start) for start in rng.choice(np.array(starts), SIZE)]
            heads = [_open(model, talk) for talk in talks]
            asked = _continued(raw, begun, USER, seed + 2 * turn, heads)
            for talk, text in zip(talks, asked, strict=True):
                talk.append(("user", _sentence(text)))
            answers = model.generate([Request(tuple(talk), ()) for talk in talks], room, TEMPERATURE, seed + 2 * turn + 1)
            for talk, text in zip(talks, answers, strict=True):
                talk.append(("assistant", text or "..."))
        texts = [{"kind": kind, "messages": talk} for talk in talks]
    return [{"id": f"{text['kind']}-{number:03d}-{i:02d}"} | text for i, text in enumerate(texts)]


def recipe() -> str:
    """What decides the texts beside the subject, as one string."""
    first = [WORDS[name] for name in ("starts", "follows", "openings", "proses")]
    return json.dumps([SIZE, SEED, TEMPERATURE, USER, ANSWER, AGAIN, PROSE, _systems(), *first])


def _systems() -> list[str]:
    composed = [f"You are {trade}. {manner}" for trade, manner in zip(WORDS["trades"], itertools.cycle(WORDS["manners"]))]
    return [*(str(p.system) for p in materials.personas("roster") if p.system), *composed]


def _open(model: Any, talk: Sequence[Message]) -> str:
    """A rendered talk up to the place where the user speaks next."""
    mark = "\x01"
    return str(model.render([*talk, ("user", mark)], opened=False).split(mark)[0])


def _continued(raw: Any, begun: Sequence[str], room: int, seed: int, heads: Sequence[str] | None = None) -> list[str]:
    """Beginnings with what the model writes after them, each after its head."""
    heads = heads or [""] * len(begun)
    asked = [Request((("user", head + text),), ()) for head, text in zip(heads, begun, strict=True)]
    more = raw.generate(asked, room, TEMPERATURE, seed)
    return [text + ("" if tail[:1] in ("", ",", ".", "'", "?", "!", ";", ":") else " ") + tail for text, tail in zip(begun, more)]


def _sentence(text: str) -> str:
    """A user's message: its first line, up to the last whole sentence where there is one."""
    line = text.split("\n")[0].strip()
    end = max(line.rfind(mark) for mark in ".?!")
    return line[: end + 1] if end > 8 else line


def _prompts() -> Iterator[dict[str, Any]]:
    """The project's own prompts: items of every bank asked under the roster's personas, or no one's, answered either way."""
    rng = np.random.default_rng([SEED, 1])
    banks = [materials.items(name) for name in BANKS]
    systems = [str(p.system) for p in materials.personas("roster") if p.system]
    for i in range(PROMPTS):
        bank = banks[i % len(banks)]
        item = bank[int(rng.integers(len(bank)))]
        wording = item.paraphrases[int(rng.integers(len(item.paraphrases)))]
        answer = (wording.plus, wording.minus)[int(rng.integers(2))]
        system = [("system", systems[int(rng.integers(len(systems)))])] if rng.random() < 0.75 else []
        yield {"id": f"prompt-{i:03d}", "kind": "prompt", "messages": [*system, ("user", wording.ask), ("assistant", answer)]}


def _place(model: Any) -> str:
    packages = (f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers"))
    return ", ".join([model.device, *packages])


def _card(model: Any, rows: Sequence[dict[str, Any]], batches: int) -> dict[str, Any]:
    tokens = Counter[str]()
    for row in rows:
        tokens[row["kind"]] += row["tokens"]
    return {
        "subject": model.title,
        "revision": model.revision,
        "batches": batches,
        "command": f"python -m functional_self.activations.corpus --batches {batches} --device {model.device}",
        "seeds": f"{SEED} + 10 x batch + stage; choices by numpy default_rng([{SEED}, batch])",
        "sampling": f"temperature {TEMPERATURE}, whole distribution, cut at {USER}, {ANSWER}, {AGAIN} and {PROSE} tokens",
        "texts": len(rows),
        "tokens": sum(tokens.values()),
        "tokens by kind": dict(sorted(tokens.items())),
        "kinds": "dialogue: persona, two exchanges; instruction: one exchange; user turns are the model's too after first words; "
        "story and plain: continuations; prompt: the project's own items, not generated",
        "licence": "generated by a model under Apache-2.0; the prompts and this selection under CC-BY-4.0",
        "limits": "sampled text of a small model: often wrong, sometimes rude or senseless; no statement of the authors'",
    }


def main() -> None:
    """Write the corpus from the command line."""
    reader = argparse.ArgumentParser(prog="python -m functional_self.activations.corpus", description=__doc__)
    reader.add_argument("--batches", type=int, default=33, help="33 are about 200,000 tokens and two CPU hours")
    reader.add_argument("--to", type=Path, default=HOME)
    reader.add_argument("--device", default="cpu", help="cpu, cuda or mps; other numbers, so other texts, on each")
    asked = reader.parse_args()
    os.environ[subjects.DEVICE] = asked.device
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(json.dumps(make(asked.batches, asked.to), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
