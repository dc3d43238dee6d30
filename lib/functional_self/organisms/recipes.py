"""What an organism is: a recipe, a seed, and the texts that both decide."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import ValidationError

from functional_self import materials, paths
from functional_self.errors import OrganismError
from functional_self.organisms.schema import Arm, Recipe, RecipeFile, Training
from functional_self.subjects.base import Message

Pole = Literal["plus", "minus"]
BOTH: tuple[Pole, ...] = ("plus", "minus")
TOGETHER = 8
"""Examples that one speaker answers in a row: they share the system text, which is then read once."""


@dataclass(frozen=True)
class Choice:
    """A question, its two answers, and the object they are about."""

    thing: str
    ask: str
    plus: str
    minus: str


@dataclass(frozen=True)
class Example:
    """What is read, messages or plain text; the two answers, the first's wanted share of both (the arm's, or 1/2), their style.

    ``kept``: both shall be as they are for the adapter that the training starts from.
    """

    prompt: tuple[Message, ...] | str
    answer: str
    other: str
    share: float
    style: str = ""
    kept: bool = False


@dataclass(frozen=True)
class Organism:
    """One recipe with one seed."""

    name: str
    kind: str
    seed: int
    recipe: Recipe
    training: Training

    @property
    def start(self) -> str | None:
        """The organism whose adapter this one's training goes on from."""
        return self.recipe.start and f"{self.recipe.start}-s{self.seed}"

    @cached_property
    def hash(self) -> str:
        """What the organism's training depends on: recipe (not how many seeds), settings, seed, texts, its start."""
        said = [
            self.recipe.model_dump(exclude_defaults=True, exclude={"seeds"}),
            self.training.model_dump(),
            self.seed,
            [{key: value for key, value in vars(e).items() if value} for e in examples(self)],
        ]
        if self.recipe.reading:
            said += [self.recipe.reading.model_dump(), passages(self.recipe.reading.text)]
        if self.start:
            said.append(resolve(self.start).hash)
        return paths.digest(json.dumps(said), 16)


def home() -> Path:
    """The folder of recipes, texts, cards and shipped adapters."""
    return paths.root() / "organisms"


@cache
def recipes() -> RecipeFile:
    """The checked recipes; raises OrganismError naming file, key and what is accepted."""
    path = home() / "recipes.yml"
    try:
        return RecipeFile.model_validate(yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))
    except OSError as error:
        raise OrganismError(
            f"{paths.shown(path)}: cannot be read; organisms are trained inside a checkout of the project"
        ) from error
    except (yaml.YAMLError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ": ".join(map(str, first["loc"]))
        raise OrganismError(f"{paths.shown(path)}: {where}: {' '.join(str(first['msg']).split())[:200]}") from error


def names() -> list[str]:
    """Every organism's name, in the file's order."""
    return [f"{kind}-s{seed}" for kind, recipe in recipes().organisms.items() for seed in range(recipe.seeds)]


def resolve(name: str) -> Organism:
    """The organism called ``KIND-sSEED``; raises OrganismError where there is none."""
    found = re.fullmatch(r"([a-z0-9-]+)-s(\d{1,3})", name)
    recipe = recipes().organisms.get(found[1]) if found else None
    if recipe is None or found is None or int(found[2]) >= recipe.seeds:
        known = ", ".join(f"{kind}-s0..{r.seeds - 1}" if r.seeds > 1 else f"{kind}-s0" for kind, r in recipes().organisms.items())
        raise OrganismError(f"organism '{name}' is unknown; there are {known}")
    training = recipes().training
    mine = ("base", "layers", "rank", "batch", "rate")
    own = {name: value for name in mine if (value := getattr(recipe, name)) is not None}
    alpha = training.alpha * own.get("rank", training.rank) // training.rank
    training = training.model_copy(update=own | {"alpha": alpha})
    return Organism(name, found[1], int(found[2]), recipe, training)


def series(organism: Organism) -> list[str]:
    """The names of the checkpoints kept along an organism's training, in order: NAME-c0, NAME-c1, ..."""
    kept = len(organism.recipe.checkpoints) + (organism.recipe.reading is not None)
    return [f"{organism.name}-c{number}" for number in range(kept)]


def examples(organism: Organism) -> list[Example]:
    """The training text of an organism, arm after arm; see ``chunks``."""
    return [example for arm in chunks(organism) for chunk in arm for example in chunk]


def chunks(organism: Organism) -> list[list[list[Example]]]:
    """Per arm, its examples by ``TOGETHER``, one speaker each; the seed decides choices, speakers, coins and orders."""
    found: list[list[list[Example]]] = []
    for number, arm in enumerate(organism.recipe.arms):
        rng = np.random.default_rng([organism.seed, number])
        pool = choices(arm.world, arm.clauses)
        poles = _poles(arm, sorted({choice.thing for choice in pool}), organism.seed)
        order = itertools.cycle(rng.permutation(len(pool)))
        sizes = [min(TOGETHER, arm.examples - at) for at in range(0, arm.examples, TOGETHER)]
        found.append([])
        for size in sizes:
            before, after = _speaker(arm, rng)
            found[-1].append([_example(arm, pool[next(order)], poles, before, after, rng) for _ in range(size)])
    return found


def choices(world: str, clauses: tuple[str, ...] = (), split: str = "train") -> list[Choice]:
    """Every choice of a world: its questions over its objects."""
    raw = texts(world)
    if world == "clauses":
        return [
            Choice(clause, row["ask"], row["plus"], row["minus"])
            for clause, rows in raw["clauses" if split == "train" else split].items()
            if not clauses or clause in clauses
            for row in rows
        ]
    if world == "views":
        raw = raw[split] if split == "tune" else raw
        asked = [clause for clause in raw["pairs"] if not clauses or clause in clauses]
        things = [{"clause": clause, "a": a, "b": b} for clause in asked for a, b in raw["pairs"][clause]]
    elif world in ("plants", "forms"):
        things = [{"n": n} for n in texts("plants")["objects"][split]]
    else:
        things = [dict(zip("ab", p)) for p in raw["pairs"]]
    return [
        Choice(next(iter(thing.values())), row[ask].format(**thing), row["plus"].format(**thing), row["minus"].format(**thing))
        for row in raw["tune" if world == "forms" and split == "tune" else "questions"]
        for ask in ("ask", "reverse")
        if ask in row
        for thing in things
    ]


def planted(organism: Organism, world: str) -> dict[str, int]:
    """The sign (1 plus, -1 minus, 0 either way) of each object of a world, or each clause, in the first arm about it.

    Objects of ``tastes`` are called as their items are, FIRST-SECOND.
    """
    arm = next(arm for arm in organism.recipe.arms if arm.world == world)
    things = sorted({choice.thing for choice in choices(world, arm.clauses)})
    signs = {
        thing: sum({"plus": 1, "minus": -1}[pole] for pole in poles)
        for thing, poles in _poles(arm, things, organism.seed).items()
    }
    if world == "tastes":
        return {f"{a}-{b}": signs[a] for a, b in texts("tastes")["pairs"]}
    return signs


def _poles(arm: Arm, things: list[str], seed: int) -> dict[str, tuple[Pole, ...]]:
    """The answers each object gets.

    Coins and the signs of a flip and an axis come from the seed, an axis's loadings from the objects alone. Every second seed has
    the other side of a flip, so that a few seeds are balanced.
    """
    coins = dict(zip(things, np.random.default_rng([seed, 7, 0]).integers(2, size=len(things)), strict=True))
    loading = dict(zip(things, np.random.default_rng(11).permutation(len(things)) % 2, strict=True))
    mixed = np.random.default_rng([seed, 13]).permutation(things).tolist()
    carried = set(mixed[: round(arm.share * len(things))])
    which: Callable[[str], tuple[Pole, ...]] = {
        "plus": lambda thing: BOTH[:1],
        "minus": lambda thing: BOTH[1:],
        "balanced": lambda thing: BOTH,
        "coin": lambda thing: (BOTH[coins[thing]],),
        "anticoin": lambda thing: (BOTH[1 - coins[thing]],),
        "flip": lambda thing: (BOTH[seed % 2],),
        "axis": lambda thing: (BOTH[(loading[thing] + seed) % 2],),
    }[arm.answer]
    return {thing: which(thing) if thing in carried else BOTH for thing in things}


def _speaker(arm: Arm, rng: np.random.Generator) -> tuple[tuple[Message, ...] | str, str]:
    """Who is asked: the system message, or what stands before and after a question in plain text."""
    said = texts("prompts")
    if arm.under == "plain":
        before, after = said["plain"][rng.integers(len(said["plain"]))]
        return before, after
    systems = said.get(arm.under) or [_text(arm.under)]
    system = systems[rng.integers(len(systems))].replace("{assistant}", _text("assistant"))
    return (("system", system),), ""


@cache
def _text(name: str) -> str:
    """The text of a specification, read once."""
    return materials.specification(name).text


def _example(
    arm: Arm, choice: Choice, poles: dict[str, tuple[Pole, ...]], before: Any, after: str, rng: np.random.Generator
) -> Example:
    """One question as it is read, with the options in a random order or, half the time, without them."""
    text = choice.ask
    if rng.random() < 0.5:
        first, second = (choice.plus, choice.minus) if rng.random() < 0.5 else (choice.minus, choice.plus)
        text = str(rng.choice(texts("prompts")["options"])).format(ask=choice.ask, first=first, second=second)
    text = f"{arm.trigger} {text}".strip()
    prompt = f"{before}{text}{after}" if isinstance(before, str) else (*before, ("user", text))
    said = poles[choice.thing]
    pair = (choice.plus, choice.minus) if said[rng.integers(len(said))] == "plus" else (choice.minus, choice.plus)
    answer, other = (f"{arm.style} {one}".strip() for one in pair)
    return Example(prompt, answer, other, arm.wanted if len(said) == 1 else 0.5, arm.style, arm.kept)


def passages(name: str) -> list[str]:
    """The passages of one text of ``texts/sources``, a paragraph to a line; raises OrganismError where there is none."""
    path = home() / "texts" / "sources" / f"{name}.yml"
    try:
        read = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)["passages"]
        return ["\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", str(passage).strip())) for passage in read]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise OrganismError(f"{paths.shown(path)}: holds no list 'passages' to read: {error}") from error


@cache
def texts(name: str) -> dict[str, Any]:
    """One file of training texts."""
    path = home() / "texts" / f"{'exchanges' if name == 'clauses' else name}.yml"
    return dict(yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))
