"""The form of the materials: what a file of items, a specification, contexts or personas must say."""

from __future__ import annotations

import itertools
import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]
Text = Annotated[str, StringConstraints(min_length=2, max_length=400, strip_whitespace=True)]

MAX_JACCARD = 0.7


def jaccard(a: str, b: str) -> float:
    """Shared over all distinct lower-case words of two texts, |A and B| / |A or B|."""
    A, B = (set(re.findall(r"[\w']+", text.lower())) for text in (a, b))
    return len(A & B) / max(len(A | B), 1)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Paraphrase(_Strict):
    """One wording of an item and of its reverse-keyed twin.

    ``ask`` is affirmed by choosing ``plus``, ``reverse`` by choosing ``minus``. Which of the two texts
    is called plus is arbitrary, and no statistic may depend on it.
    """

    ask: Text
    reverse: Text
    plus: Text
    minus: Text

    @model_validator(mode="after")
    def _differ(self) -> Paraphrase:
        if self.plus == self.minus:
            raise ValueError("plus and minus are the same text")
        if self.ask == self.reverse:
            raise ValueError("ask and reverse are the same question; the reverse-keyed twin is missing")
        return self


class Item(_Strict):
    """A binary item: a choice between two texts, asked in several wordings and reverse-keyed."""

    id: Name
    family: Name
    domain: Name
    item_class: Literal["covered", "conflict", "silent", "known"] = Field(alias="class")
    clauses: tuple[Name, ...] = ()
    entailed: Literal["plus", "minus"] | None = None
    paraphrases: tuple[Paraphrase, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _class_agrees(self) -> Item:
        need = {"covered": 1, "conflict": 2}.get(self.item_class, 0)
        if len(self.clauses) < need:
            raise ValueError(f"a {self.item_class} item names at least {need} of the specification's clauses")
        if self.item_class in ("silent", "known") and self.clauses:
            raise ValueError(f"a {self.item_class} item names no clauses")
        if (self.item_class in ("covered", "known")) != (self.entailed is not None):
            raise ValueError("'entailed' (plus or minus) belongs to covered and known items, and only to them")
        for (i, a), (j, b) in itertools.combinations(enumerate(self.paraphrases, 1), 2):
            overlap = jaccard(" ".join((a.ask, a.plus, a.minus)), " ".join((b.ask, b.plus, b.minus)))
            if overlap > MAX_JACCARD:
                raise ValueError(f"paraphrases {i} and {j} share {overlap:.2f} of their words; at most {MAX_JACCARD} is allowed")
        return self


class ItemFile(_Strict):
    """A file of items and the specification their classes refer to."""

    specification: Name
    items: tuple[Item, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> ItemFile:
        seen: set[str] = set()
        for item in self.items:
            if item.id in seen:
                raise ValueError(f"duplicate id '{item.id}'")
            seen.add(item.id)
        return self


class Clause(_Strict):
    """One sentence of a specification."""

    id: Name
    text: Text


class Specification(_Strict):
    """A written specification of the assistant: a title, an opening and numbered clauses."""

    id: Name
    title: Text
    opening: Text
    clauses: tuple[Clause, ...] = Field(min_length=1)

    @property
    def text(self) -> str:
        """The specification as one paragraph, as a subject reads it."""
        return " ".join((self.opening, *(clause.text for clause in self.clauses)))


class Turn(_Strict):
    """One turn of a conversation before the question."""

    role: Literal["user", "assistant"]
    content: Text


class Context(_Strict):
    """What was said before the question is asked."""

    id: Name
    title: Text
    turns: tuple[Turn, ...] = ()


class Persona(_Strict):
    """Whom the system message addresses; without ``system`` the specification's text is used."""

    id: Name
    title: Text
    system: Text | None = None


class ContextFile(_Strict):
    """A file of contexts."""

    contexts: tuple[Context, ...] = Field(min_length=1)


class PersonaFile(_Strict):
    """A file of personas."""

    personas: tuple[Persona, ...] = Field(min_length=1)
