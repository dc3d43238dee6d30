"""Ask a subject items and score the option texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from functional_self import materials
from functional_self.materials.schema import Context, Item, Paraphrase, Persona, Specification
from functional_self.progress import track
from functional_self.subjects.base import Message, Request, Subject

INSTRUCTION = "Answer with one of these sentences:"
FORMS = ("ask", "reverse", "base")
ORDERS = ("plus-first", "minus-first")
KEYS = ["item", "paraphrase", "order", "context", "persona"]


def prompt(question: str | None, options: tuple[str, str], system: str | None, context: Context) -> tuple[Message, ...]:
    """The messages of one prompt: the system text, the context's turns, the options, then the question.

    Without a question this is the content-free baseline: persona, context and both options in their
    order, and nothing asked.
    """
    turns: list[Message] = [("system", system)] if system is not None else []
    turns += [(turn.role, turn.content) for turn in context.turns]
    lines = [INSTRUCTION, *(f"- {option}" for option in options), *([question] if question else [])]
    return (*turns, ("user", "\n".join(lines)))


def score(
    subject: Subject,
    items: Sequence[Item],
    contexts: Sequence[Context] | None = None,
    personas: Sequence[Persona] | None = None,
    paraphrases: int | None = None,
    specification: Specification | None = None,
    reference: Subject | None = None,
    orders: Literal["both", "alternate"] = "both",
    role: bool = True,
    baseline: bool = True,
) -> pd.DataFrame:
    """Log-probabilities of full option texts, one row per item x paraphrase x order x context x persona.

    Columns, all in nats: ``{ask,reverse,base}_{plus,minus}`` = log P(text | prompt) under the question,
    under its reverse-keyed twin and under the content-free baseline (``scoring.prompt``); with a
    ``reference`` subject also ``reference_{plus,minus}``, its baseline. Known items have no baseline, because G4 needs
    none. ``content``, ``acquiescence`` and ``position_bias`` are derived by ``behaviour.responses``.

    Args:
        subject: who is asked.
        items: binary items; those of class ``known`` and ``shuffled`` serve the gates.
        contexts: what was said before; by default nothing.
        personas: system messages; one without text, the default, reads the specification.
        paraphrases: how many wordings of each item, from the first; by default all it has.
        specification: the text behind a persona without one; by default ``assistant``.
        reference: a frozen subject whose baseline is kept beside the subject's own.
        orders: ``both``, or ``alternate``: every other item in one order, the rest in the other, a balanced subset.
        role: whether a system message gives the subject its role; without one the prompt starts with the context.
        baseline: whether the subject's own baseline is asked; scores ``raw`` and ``reference`` need none.
    """
    specification = specification or materials.specification("assistant")
    contexts = contexts or (Context(id="bare", title="nothing before the question"),)
    personas = personas or (Persona(id="specified", title="the specification"),)
    rows, requests = _prompts(items, contexts, personas, paraphrases, specification, orders, role)
    formed = [(row, f, request) for row, per_row in enumerate(requests) for f, request in per_row]
    asked = [one for one in formed if baseline or one[1] != "base"]
    with track(f"scoring {subject.name}", len(asked)) as advance:
        logprobs = subject.option_logprobs([request for _, _, request in asked], advance)
    table = pd.DataFrame(rows)
    _add(table, asked, logprobs)
    if reference is not None:
        asked = [(row, "reference", request) for row, f, request in formed if f == "base"]
        with track(f"baseline of {reference.name}", len(asked)) as advance:
            _add(table, asked, reference.option_logprobs([request for _, _, request in asked], advance))
    return table


def sampled(
    subject: Subject,
    items: Sequence[Item],
    contexts: Sequence[Context] | None = None,
    paraphrases: int | None = 1,
    specification: Specification | None = None,
    orders: Literal["both", "alternate"] = "both",
    seed: int = 0,
    max_new_tokens: int = 24,
) -> pd.DataFrame:
    """What the subject writes instead of what it finds likely: a table like ``score``'s, for the ``raw`` score.

    One answer is sampled to every question and twin. ``chosen`` gives +1 to the option that stands in the answer and -1 to
    the other; an answer with neither or both, a refusal included, gives 0 to both and stays in every mean. ``parsed`` is
    the share of a row's two answers that named one option. There is no baseline: ``base_{plus,minus}`` = 0.
    """
    specification = specification or materials.specification("assistant")
    contexts = contexts or (Context(id="bare", title="nothing before the question"),)
    persona = Persona(id="specified", title="the specification")
    rows, requests = _prompts(items, contexts, (persona,), paraphrases, specification, orders, True)
    asked = [(row, f, request) for row, per_row in enumerate(requests) for f, request in per_row if f != "base"]
    with track(f"sampling {subject.name}", len(asked)) as advance:
        texts = subject.generate([request for *_, request in asked], max_new_tokens, 1.0, seed, advance)
    table = pd.DataFrame(rows)
    answers = [chosen(text, request.options) for text, (*_, request) in zip(texts, asked, strict=True)]
    _add(table, asked, answers)
    table["parsed"] = (table[["ask_plus", "reverse_plus"]].abs().sum(axis=1) / 2).to_numpy()
    return table.assign(base_plus=0.0, base_minus=0.0)


def chosen(answer: str, options: Sequence[str]) -> tuple[float, ...]:
    """+1 for the one option that stands in the answer and -1 for the others; 0 for all where it is none or several.

    Letters, digits and case decide, punctuation does not. An answer that only begins an option, cut by its
    length, counts from three words on.
    """
    said = " ".join(re.findall(r"[\w']+", answer.lower()))
    texts = [" ".join(re.findall(r"[\w']+", option.lower())) for option in options]
    found = [t in said or (len(said.split()) >= 3 and t.startswith(said)) for t in texts]
    if sum(found) != 1:
        return (0.0,) * len(options)
    return tuple(1.0 if f else -1.0 for f in found)


def _prompts(
    items: Sequence[Item],
    contexts: Sequence[Context],
    personas: Sequence[Persona],
    paraphrases: int | None,
    specification: Specification,
    orders: str,
    role: bool,
) -> tuple[list[dict[str, object]], list[list[tuple[str, Request]]]]:
    """One row of keys per item x paraphrase x order x context x persona, and its prompts by form."""
    rows: list[dict[str, object]] = []
    requests: list[list[tuple[str, Request]]] = []
    for persona in personas:
        system = (persona.system or specification.text) if role else None
        for context in contexts:
            for place, item in enumerate(items):
                shown = ORDERS if orders == "both" else (ORDERS[place % 2],)
                for p, paraphrase in enumerate(item.paraphrases[:paraphrases]):
                    for order in shown:
                        keys = (item.id, p, order, context.id, persona.id)
                        rows.append(dict(zip(KEYS, keys, strict=True)) | {"family": item.family, "class": item.item_class})
                        requests.append(list(_requests(item, p, paraphrase, order, system, context, persona, specification.id)))
    return rows, requests


def _requests(
    item: Item,
    p: int,
    paraphrase: Paraphrase,
    order: str,
    system: str | None,
    context: Context,
    persona: Persona,
    specification: str,
) -> Iterator[tuple[str, Request]]:
    """The prompts of a row by form: the question, its reverse-keyed twin, and nothing asked."""
    plus = ORDERS.index(order)
    options = (paraphrase.plus, paraphrase.minus) if plus == 0 else (paraphrase.minus, paraphrase.plus)
    name = f"{item.item_class}/{item.id}"
    known = item.item_class == "known"
    for form, question, towards in zip(FORMS, (paraphrase.ask, paraphrase.reverse, None), (plus, 1 - plus, None), strict=True):
        if known and question is None:
            return
        yield (
            form,
            Request(
                messages=prompt(question, options, system, context),
                options=options,
                item=name,
                wording=f"{name}/{p}/{context.id}/{persona.id}",
                plus=plus,
                affirms=None if known else towards,
                right=towards if known else None,
                persona=persona.id,
                specification=specification,
                stripped=system is None,
            ),
        )


def _add(table: pd.DataFrame, asked: Sequence[tuple[int, str, Request]], values: Sequence[tuple[float, ...]]) -> None:
    """Put option scores into the table's columns ``{form}_{plus,minus}``; NaN where a row has no such prompt."""
    for form in dict.fromkeys(form for _, form, _ in asked):
        for text in ("plus", "minus"):
            column = np.full(len(table), np.nan)
            for (row, f, request), found in zip(asked, values, strict=True):
                if f == form:
                    column[row] = found[request.plus if text == "plus" else 1 - request.plus]
            table[f"{form}_{text}"] = column


def shuffled(items: Sequence[Item], seed: int = 0, paraphrases: int = 1) -> tuple[Item, ...]:
    """Content-shuffled items for gate G2: each item's first questions over the options of an item of another family.

    The options keep their wording and order, so whatever a subject prefers about the texts themselves is
    unchanged; only the question no longer bears on them.
    """
    rng = np.random.default_rng(seed)
    places = rng.permutation(len(items))
    swapped: list[Item] = []
    for place, here in enumerate(places):
        item = items[here]
        donor = next(
            (
                items[places[(place + step) % len(places)]]
                for step in range(1, len(places))
                if items[places[(place + step) % len(places)]].family != item.family
            ),
            items[places[(place + 1) % len(places)]],
        )
        pairs = zip(item.paraphrases[:paraphrases], donor.paraphrases[:paraphrases], strict=True)
        wordings = tuple(own.model_copy(update={"plus": other.plus, "minus": other.minus}) for own, other in pairs)
        swapped.append(item.model_copy(update={"item_class": "shuffled", "paraphrases": wordings}))
    return tuple(swapped)


def responses(table: pd.DataFrame, kind: str = "self") -> pd.DataFrame:
    """Content, acquiescence and position bias of every row, in nats.

    With D_f = log P(plus) - log P(minus) under form f, content y = (D_ask + D_reverse) / 2 - D_0, where
    D_0 is 0 for ``raw``, the subject's own baseline for ``self`` and the reference's for ``reference``;
    acquiescence a = (D_ask - D_reverse) / 2, which for a known item is the answer the question steers to.
    Returns one row per item x paraphrase x context x persona: ``content`` and ``acquiescence`` are means
    over the two orders, ``content_plus-first`` and ``content_minus-first`` the contents in each, and
    ``position_bias`` half their difference. Calling minus plus flips content's sign and nothing else.
    """
    if kind not in ("raw", "self", "reference") or (kind == "reference" and "reference_plus" not in table):
        raise KeyError(f"score '{kind}' is not in the table; use raw or self, or score with a reference subject")
    zero = {"raw": 0.0, "self": "base", "reference": "reference"}[kind]
    baseline = 0.0 if isinstance(zero, float) else table[f"{zero}_plus"] - table[f"{zero}_minus"]
    ask = table["ask_plus"] - table["ask_minus"]
    reverse = table["reverse_plus"] - table["reverse_minus"]
    long = table[[*KEYS, "family", "class"]].assign(
        content=(ask + reverse) / 2 - baseline, acquiescence=(ask - reverse) / 2, ask=ask - baseline, reverse=reverse - baseline
    )
    cell = ["class", "family", "item", "paraphrase", "context", "persona"]
    wide = long.pivot(index=cell, columns="order", values=["content", "acquiescence", "ask", "reverse"])
    first, second = ORDERS
    out = pd.DataFrame(index=wide.index)
    for name in ("content", "acquiescence"):
        out[name] = wide[[(name, order) for order in ORDERS]].mean(axis=1)  # over the orders that were asked
    out["position_bias"] = (wide["content", first] - wide["content", second]) / 2
    for name in ("content", "ask", "reverse"):
        for order in ORDERS:
            out[f"{name}_{order}"] = wide[name, order]
    return out.reset_index()
