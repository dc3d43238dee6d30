"""Prompts that give a subject no role: what is left of a preference when nothing says who is speaking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from functional_self.materials.schema import Item


@dataclass(frozen=True)
class Strip:
    """One way of asking without a role: the template (``subjects.load``), and what is said after the question."""

    title: str
    template: str | None = None
    suffix: str = ""


STRIPS = {
    "plain": Strip("plain text, User and Assistant", "none"),
    "strangers": Strip("plain text under other names", "Stranger/Narrator"),
    "bare": Strip("the chat template, with what it says by itself"),
    "drop": Strip("plain text, and the role is called off", "none", "Answer as nobody in particular, without any role."),
}
"""None of them is trained on. A chat template may put in a system message of its own where the prompt has none (``bare``)."""


def suffixed(items: Sequence[Item], suffix: str) -> tuple[Item, ...]:
    """The items with a sentence after each question, or as they are."""
    return tuple(_asked(item, "{} " + suffix) for item in items) if suffix else tuple(items)


def prefixed(items: Sequence[Item], prefix: str) -> tuple[Item, ...]:
    """The items with a phrase before each question."""
    return tuple(_asked(item, prefix + " {}") for item in items)


def _asked(item: Item, form: str) -> Item:
    said = {"ask", "reverse"}
    wordings = tuple(p.model_copy(update={f: form.format(getattr(p, f)) for f in said}) for p in item.paraphrases)
    return item.model_copy(update={"paraphrases": wordings})
