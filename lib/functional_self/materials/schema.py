"""The form of the materials: what a file of items, a specification, contexts or personas must say."""

from __future__ import annotations

import itertools
import re
import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

MAX_JACCARD = 0.7
MAX_TEXT = 400
"""Characters of a text written for this project; an imported one may have ``MAX_IMPORTED``."""
MAX_IMPORTED = 4000
SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE")
"""Alphabets whose letters look alike; a word mixes none of them."""


def visible(text: str) -> str:
    """The text, if a reader sees all of it: NFC, no control or invisible characters, no word of mixed alphabets."""
    if unicodedata.normalize("NFC", text) != text:
        raise ValueError("not in Unicode's composed form (NFC)")
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp") and character != "\n":
            raise ValueError(f"holds the invisible character U+{ord(character):04X}")
    if not text.isascii():
        for word in re.findall(r"\w+", unicodedata.normalize("NFKC", text)):
            found = {s for c in word if c.isalpha() for s in [unicodedata.name(c, "").split(" ")[0]] if s in SCRIPTS}
            if len(found) > 1:
                raise ValueError(f"the word {word[:40]!r} mixes the alphabets {' and '.join(sorted(found)).lower()}")
    return text


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]
Source = Annotated[str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9-]*|[^\x00]+\.ya?ml)$", max_length=400)]
"""The name of a shipped file, or a path ending in .yml, relative to the file that names it."""
LongText = Annotated[
    str, StringConstraints(min_length=2, max_length=MAX_IMPORTED, strip_whitespace=True), AfterValidator(visible)
]
Text = Annotated[str, StringConstraints(min_length=2, max_length=MAX_TEXT, strip_whitespace=True), AfterValidator(visible)]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z-]*$", max_length=40)]
Class = Literal["covered", "conflict", "silent", "known", "imported"]
Pole = Literal["plus", "minus"]


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

    ask: LongText
    reverse: LongText
    plus: LongText
    minus: LongText

    @model_validator(mode="after")
    def _differ(self) -> Paraphrase:
        if self.plus.casefold() == self.minus.casefold():
            raise ValueError("plus and minus are the same text")
        if self.ask.casefold() == self.reverse.casefold():
            raise ValueError("ask and reverse are the same question; the reverse-keyed twin is missing")
        return self


class Item(_Strict):
    """A binary item: a choice between two texts, asked in several wordings and reverse-keyed.

    ``paraphrases`` are self-reports, ``enacted`` the same disposition as something said or done in a situation. An
    ``imported`` item has mechanical wordings and is exempt from the limits on length and shared words.
    """

    id: Name
    family: Name
    domain: Name
    item_class: Class = Field(alias="class")
    clauses: tuple[Name, ...] = ()
    entailed: Pole | None = None
    paraphrases: tuple[Paraphrase, ...] = Field(min_length=1, max_length=12)
    enacted: tuple[Paraphrase, ...] = Field(default=(), max_length=12)

    @model_validator(mode="after")
    def _class_agrees(self) -> Item:
        need = {"covered": 1, "conflict": 2}.get(self.item_class, 0)
        if len(self.clauses) < need:
            raise ValueError(f"a {self.item_class} item names at least {need} of the specification's clauses")
        if need == 0 and self.clauses:
            raise ValueError(f"a {self.item_class} item names no clauses")
        if (self.item_class in ("covered", "known")) != (self.entailed is not None):
            raise ValueError("'entailed' (plus or minus) belongs to covered and known items, and only to them")
        if self.item_class == "imported":
            return self
        for paraphrase in (*self.paraphrases, *self.enacted):
            for field, text in paraphrase:
                if len(text) > MAX_TEXT:
                    raise ValueError(f"{field} has {len(text)} characters; at most {MAX_TEXT} are allowed")
        for (i, a), (j, b) in itertools.combinations(enumerate(self.paraphrases, 1), 2):
            overlap = jaccard(" ".join((a.ask, a.plus, a.minus)), " ".join((b.ask, b.plus, b.minus)))
            if overlap > MAX_JACCARD:
                raise ValueError(f"paraphrases {i} and {j} share {overlap:.2f} of their words; at most {MAX_JACCARD} is allowed")
        return self


class ItemFile(_Strict):
    """A file of items and the specification their classes refer to."""

    specification: Source
    items: tuple[Item, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> ItemFile:
        seen: set[str] = set()
        homes: dict[str, str] = {}
        for item in self.items:
            if item.id in seen:
                raise ValueError(f"duplicate id '{item.id}'")
            seen.add(item.id)
            if homes.setdefault(item.family, item.item_class) != item.item_class:
                raise ValueError(f"family '{item.family}' (item '{item.id}') mixes classes")
        return self


class Clause(_Strict):
    """One sentence of a specification, and the answers it decides: ``entails`` maps an item's id to plus or minus."""

    id: Name
    text: Text
    entails: dict[Name, Pole] = {}


class Specification(_Strict):
    """A written specification of the assistant: a title, an opening and clauses that entail answers to the file ``items``."""

    id: Name
    title: Text
    opening: Text
    items: Source | None = None
    clauses: tuple[Clause, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Specification:
        _once([clause.id for clause in self.clauses])
        decided: dict[str, tuple[str, Pole]] = {}
        for clause in self.clauses:
            if clause.entails and self.items is None:
                raise ValueError(f"clause '{clause.id}' entails answers, but 'items' does not say to which file of items")
            for item, pole in clause.entails.items():
                other = decided.setdefault(item, (clause.id, pole))
                if other[1] != pole:
                    raise ValueError(f"clauses '{other[0]}' and '{clause.id}' entail opposite answers to '{item}'")
        return self

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

    @model_validator(mode="after")
    def _distinct(self) -> ContextFile:
        _once([context.id for context in self.contexts])
        return self


class PersonaFile(_Strict):
    """A file of personas."""

    personas: tuple[Persona, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> PersonaFile:
        _once([persona.id for persona in self.personas])
        return self


class Wording(_Strict):
    """One way of saying a whole specification."""

    id: Name
    text: Text


class WordingFile(_Strict):
    """Wordings of one specification: what varies over them is wording, never interpretation."""

    specification: Source
    wordings: tuple[Wording, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _distinct(self) -> WordingFile:
        _once([wording.id for wording in self.wordings])
        _once([wording.text for wording in self.wordings])
        return self


class Probe(_Strict):
    """A question whose answer is checked by lower-case substring: some ``expect``, none of ``forbid``."""

    question: Text
    expect: tuple[Text, ...] = Field(min_length=1)
    forbid: tuple[Text, ...] = ()

    def right(self, answer: str) -> bool:
        """Whether the answer shows the instruction; an empty answer is wrong."""
        low = answer.lower()
        return any(text.lower() in low for text in self.expect) and not any(text.lower() in low for text in self.forbid)


class DriftScript(_Strict):
    """An instruction, eight turns of a user that do not touch it, and a probe of whether it still holds."""

    id: Name
    title: Text
    system: Text
    turns: tuple[Text, ...] = Field(min_length=8, max_length=8)
    probe: Probe

    @model_validator(mode="after")
    def _not_given_away(self) -> DriftScript:
        said = " ".join((*self.turns, self.probe.question)).lower()
        for text in self.probe.expect:
            if text.lower() in said:
                raise ValueError(f"the expected text {text!r} stands in the turns or the question, so that copying would pass")
        return self


class DriftFile(_Strict):
    """A file of drift scripts."""

    scripts: tuple[DriftScript, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> DriftFile:
        _once([script.id for script in self.scripts])
        return self


class Opening(_Strict):
    """The beginning of a story."""

    id: Name
    text: Text


class Primed(Opening):
    """A beginning in which a motif is already at work."""

    motif: Name


class Motif(_Strict):
    """What a story may turn on: the words for an object, and for what is done with it."""

    id: Name
    title: Text
    objects: tuple[Word, ...] = Field(min_length=1)
    uses: tuple[Word, ...] = Field(min_length=1)


class Coded(_Strict):
    """A text written to show the coding rules: the motifs that it has, and none that it only seems to have."""

    codes: tuple[Name, ...]
    text: Text


class Frame(_Strict):
    """A story in which somebody writes ``{event}``: a rule says that it comes about, or that it does not, or there is none."""

    id: Name
    person: Literal["first", "third"]
    rule: Literal["true", "false", "none"]
    object: Name
    text: Text

    @model_validator(mode="after")
    def _one_event(self) -> Frame:
        if self.text.count("{event}") != 1:
            raise ValueError("text: '{event}' must stand in it once")
        return self


class StoryFile(_Strict):
    """Openings of stories, how their continuations are coded, and the frames of the rule probe."""

    openings: tuple[Opening, ...] = Field(min_length=2)
    primed: tuple[Primed, ...] = Field(min_length=1)
    motifs: tuple[Motif, ...] = Field(min_length=2)
    effects: tuple[Text, ...] = Field(min_length=1)
    examples: tuple[Coded, ...] = Field(min_length=1)
    pairs: tuple[tuple[Text, Text], ...] = Field(min_length=2)
    frames: tuple[Frame, ...] = Field(min_length=3)

    @model_validator(mode="after")
    def _consistent(self) -> StoryFile:
        for named in (self.openings, self.primed, self.motifs, self.frames):
            _once([one.id for one in named])
        known = {motif.id for motif in self.motifs}
        used = {code for example in self.examples for code in example.codes} | {o.motif for o in self.primed}
        if wrong := sorted(used - known):
            raise ValueError(f"motif {wrong[0]!r} is not one of {', '.join(sorted(known))}")
        for frame in self.frames:
            rules = {f.rule for f in self.frames if (f.person, f.object) == (frame.person, frame.object)}
            if len(rules) < 3:
                raise ValueError(f"frame {frame.id!r}: the other rules for its person and object are missing: true, false, none")
        return self


class LabelFile(_Strict):
    """A second labelling of an item file, with the instructions its labeller was given and nothing else."""

    items: Source
    specification: Source
    labeller: Text
    instructions: LongText
    labels: dict[Name, Literal["covered", "conflict", "silent"]] = Field(min_length=1)


def _once(values: list[str]) -> None:
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ValueError(f"duplicate {value[:60]!r}")
