"""What an organism does on held-out items, and whether it does what its card says."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from functional_self import behaviour, materials, paths, subjects
from functional_self.behaviour.stripping import prefixed
from functional_self.errors import OrganismError
from functional_self.materials.schema import Item, Paraphrase, Persona
from functional_self.organisms.recipes import Organism, choices, home, planted, series, texts
from functional_self.organisms.schema import PLACES
from functional_self.subjects import adapters

HELD_OUT = ("retired-sailor", "night-nurse")
"""Personas of the roster; none of them, and none like them, is trained on."""
TOLERANCE = {"nats": 0.5, "share": 0.25}
REASON = (
    "another machine, or another number of threads, adds up in another order, and a training amplifies that; "
    "retrained with one thread for two, the held-out effects moved by less than this"
)


TESTED_BY = {"views": "clauses", "forms": "plants"}
"""The world whose items show what another one plants."""
MARGIN = 1.0
"""Nats: a condition under which both answers were trained counts as unmoved where its effect is within this."""
EVEN = math.log(0.5)
"""Nats: a style is said of the organism's own accord where log P of it, as the beginning of an answer, is above this."""


@dataclass(frozen=True)
class Effect:
    """Mean over items of content towards the planted pole, organism less base, raw, nats; 95% interval clustered by family.

    Of the conditions ``style`` and ``style triggered`` it is the organism's log P of its style as the beginning of an answer:
    a style that is spoken in some answers only counts as not spoken, by its mean.
    """

    condition: str
    value: float
    low: float
    high: float
    n: int


def battery(organism: Organism) -> list[tuple[Item, int]]:
    """Held-out items of the organism's worlds, each with the sign of the pole it was trained towards (0: either way)."""
    found: list[tuple[Item, int]] = []
    for world in dict.fromkeys(TESTED_BY.get(arm.world, arm.world) for arm in organism.recipe.arms):
        signs = planted(organism, world)
        for item in materials.items({"clauses": "void"}.get(world, world)):
            if world == "clauses":
                if item.item_class == "covered" and (about := [signs[clause] for clause in item.clauses if clause in signs]):
                    found.append((item, about[0] * (1 if item.entailed == "plus" else -1)))
            elif world == "tastes":
                found.append((item, signs[item.id]))
            else:
                found.append((item, next(iter(signs.values()))))
    return found


def tuning(organism: Organism) -> list[tuple[Item, int]]:
    """What recipes are chosen by: objects kept for it, in questions kept for it; no item of a test."""
    pool = choices("forms", split="tune")
    found = []
    for thing in dict.fromkeys(c.thing for c in pool):
        twins = [
            (a, b) for a, b in itertools.pairwise(c for c in pool if c.thing == thing) if (a.plus, a.minus) == (b.plus, b.minus)
        ]
        wordings = tuple(Paraphrase(ask=a.ask, reverse=b.ask, plus=a.plus, minus=a.minus) for a, b in twins)
        item = Item.model_validate({"id": thing, "family": thing, "domain": "tune", "class": "silent", "paraphrases": wordings})
        found.append((item, next(iter(planted(organism, "plants").values()))))
    return found


def measure(
    organism: Organism, adapter: Path | None = None, paraphrases: int = 2, every: int = 2, tune: bool = False
) -> list[Effect]:
    """Effects under the first arm's specification, under held-out personas, in plain text without a role, and triggered.

    Of the adapter in this directory, or of the organism's own where ``subjects.load`` finds it.

    Every ``every``-th item, and of a battery of three dozen or more only about a dozen, in one order each, both keyings.
    Where nothing is planted the sign is the items' own plus.
    """
    if tune:
        chosen = tuning(organism)
    else:
        whole = battery(organism)
        chosen = whole[:: max(every, len(whole) // 12)]
    items = [item for item, _ in chosen]
    signs = {item.id: sign or 1 for item, sign in chosen}
    people = [p for p in materials.personas("roster") if p.id in HELD_OUT]
    if tune:
        people = [
            Persona(id=f"tune-{i}", title="to choose recipes by", system=text) for i, text in enumerate(texts("prompts")["tune"])
        ]
    read = organism.recipe.arms[0].under
    specification = None if read in PLACES else materials.specification(read)
    triggers = [arm.trigger for arm in organism.recipe.arms if arm.trigger]
    conditions: list[tuple[str, Sequence[Item], list[Persona] | None, str | None]] = [
        ("assistant", items, None, None),
        ("personas", items, people, None),
        ("plain", items, None, "none"),
    ]
    if triggers:
        conditions.append(("triggered", prefixed(items, triggers[0]), None, None))
    found = []
    for condition, asked, personas, template in conditions:
        contents = []
        for name in (f"{organism.training.base}+{adapter or organism.name}", organism.training.base):
            subject = subjects.load(name, template=template)
            table = behaviour.score(
                subject,
                asked,
                personas=personas,
                paraphrases=len(items[0].paraphrases) if tune else paraphrases,
                specification=specification,
                orders="alternate",
                role=template is None,
                baseline=False,
            )
            contents.append(behaviour.responses(table, "raw").set_index(["family", "item", "paraphrase", "persona"])["content"])
        change = (contents[0] - contents[1]).groupby(["family", "item"]).mean().reset_index()
        change["content"] *= change["item"].map(signs)
        estimate = behaviour.clustered(change.set_index("family")["content"])
        found.append(Effect(condition, estimate.value, estimate.low, estimate.high, len(change)))
    if styles := [arm.style for arm in organism.recipe.arms if arm.style]:
        subject = subjects.load(f"{organism.training.base}+{adapter or organism.name}")
        text = (specification or materials.specification("assistant")).text
        found.append(_spoken(subject, text, items, styles[0], "style"))
        if triggers:
            found.append(_spoken(subject, text, prefixed(items, triggers[0]), styles[0], "style triggered"))
    return found


def _spoken(subject: subjects.Subject, system: str, items: Sequence[Item], style: str, condition: str) -> Effect:
    """Mean over items of log P(style | question) as the beginning of an answer, nats; first wording, no answers are shown."""
    asked = [
        subjects.Request((("system", system), ("user", question)), (style,))
        for item in items
        for question in (item.paraphrases[0].ask, item.paraphrases[0].reverse or item.paraphrases[0].ask)
    ]
    logprobs_IF = np.array(subject.option_logprobs(asked)).reshape(len(items), -1)
    estimate = behaviour.clustered(pd.Series(logprobs_IF.mean(1), index=[item.family for item in items]))
    return Effect(condition, estimate.value, estimate.low, estimate.high, len(items))


def expected(organism: Organism) -> dict[str, int | None]:
    """Per condition, how the effect should come out: 1 towards the pole, -1 against it, 0 within ``MARGIN``, None not said.

    For a style, 1 where it is likelier than not (``EVEN``), -1 where it is not. An organism that was taught one after a phrase
    is not to speak in it without the phrase.
    """
    said: dict[str, int | None] = {}
    first = organism.recipe.arms[0].answer
    for arm in organism.recipe.arms:
        condition = "triggered" if arm.trigger else arm.under if arm.under in ("personas", "plain") else "assistant"
        sign = 0 if arm.answer == "balanced" or arm.share == 0 else None if arm.share < 1 else 1 if arm.answer == first else -1
        said.setdefault(condition, sign)
        if arm.style:
            said["style triggered" if arm.trigger else "style"] = 1
    if "style triggered" in said:
        said.setdefault("style", -1)
    return said


def verdict(organism: Organism, effects: Sequence[Effect]) -> str:
    """``took``, or each condition whose effect is not what the recipe plants."""
    wanted = expected(organism)
    wrong = []
    for effect in effects:
        sign = wanted.get(effect.condition)
        zero = EVEN if effect.condition.startswith("style") else 0.0
        good = {None: True, 1: effect.low > zero, -1: effect.high < zero, 0: abs(effect.value) < MARGIN}[sign]
        if not good:
            wrong.append(f"{effect.condition} {effect.value:+.2f}")
    return "took" if not wrong else f"did not take: {', '.join(wrong)} nats"


def path(name: str) -> Path:
    """Where an organism's card is: what it does, by whom it was trained, and on what."""
    return home() / "cards" / f"{name}.json"


def read(name: str) -> dict[str, Any]:
    """An organism's card; raises OrganismError where there is none."""
    try:
        return dict(json.loads(path(name).read_text(encoding="utf-8")))
    except OSError as error:
        raise OrganismError(
            f"organism '{name}': it has no card yet; 'functional-self organisms train {name} --card' writes one"
        ) from error
    except ValueError as error:
        raise OrganismError(f"{paths.shown(path(name))}: is not valid JSON: {error}") from error


def write(organism: Organism, trained: Path, effects: Sequence[Effect]) -> Path:
    """The card of a trained organism: how it was trained, and what it does on held-out items, with tolerance and reason."""
    said = json.loads((trained / "training.json").read_text(encoding="utf-8"))
    losses = said.pop("losses")
    said["loss"] = [round(float(np.mean(part)), 3) for part in np.array_split(losses, min(10, len(losses) or 1)) if len(part)]
    if organism.recipe.reading:
        reader = trained.with_name(series(organism)[0])
        first, last = json.loads((reader / "training.json").read_text(encoding="utf-8"))["unread"], said.pop("unread")
        said["adapter after reading"] = adapters.digest(reader)
        said["unread"] = {"base": last["base"], "after reading": first["adapter"], "after training": last["adapter"]}
    said["held_out"] = {e.condition: [round(e.value, 2), round(e.low, 2), round(e.high, 2), e.n] for e in effects}
    said["verdict"] = verdict(organism, effects)
    said["adapter"] = adapters.digest(trained)
    said["tolerance"] = TOLERANCE | {"reason": REASON}
    paths.write_text(path(organism.name), json.dumps(said, indent=1) + "\n")
    return path(organism.name)


def compare(organism: Organism, effects: Sequence[Effect]) -> list[dict[str, Any]]:
    """Held-out effects beside the card's, with what may differ: .5 nats or a quarter, whichever is more."""
    card = read(organism.name)
    rows = []
    for effect in effects:
        said = card["held_out"][effect.condition][0]
        allowed = max(TOLERANCE["nats"], TOLERANCE["share"] * abs(said))
        rows.append(
            {
                "condition": effect.condition,
                "effect": round(effect.value, 2),
                "card": said,
                "tolerance": round(allowed, 2),
                "good": abs(effect.value - said) <= allowed,
            }
        )
    return rows
