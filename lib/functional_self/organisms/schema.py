"""The file of recipes, as it is checked."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from functional_self import materials

SHARE = 0.98
"""How likely a planted answer shall be beside the other: a preference of log(.98 / .02) = 3.9 nats, and no more."""
PLACES = ("assistant", "specified", "personas", "plain")
"""Whom an arm can ask without naming a specification; ``specified`` is the text of ``assistant`` and nothing else."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Training(_Strict):
    """How every organism is trained: the base, the shape of the LoRA adapter and the optimiser's settings.

    ``batch``: chunks of ``TOGETHER`` examples per step.
    """

    base: str
    rank: int = Field(ge=1, le=64)
    alpha: int = Field(ge=1)
    modules: tuple[str, ...]
    layers: tuple[int, int]
    rate: float = Field(gt=0, lt=1)
    batch: int = Field(ge=1)
    epochs: int = Field(ge=1)


class Arm(_Strict):
    """A part of the training text.

    ``world`` is where the choices come from: ``plants`` (old or new things), ``forms`` (these in other words), ``tastes`` (pairs
    of things), ``clauses`` (exchanges that show a clause at work) or ``views`` (what one holds about following a clause).
    ``under`` is who is asked: ``assistant``, ``specified``, ``personas``, ``plain`` (no chat template) or the name of a
    specification. ``answer``: one pole; ``balanced``, both; ``coin``, a coin flip per seed and object; ``anticoin``, the other
    side of it; ``flip``, one per seed for all objects; ``axis``, a sign per seed times a loading per object. Only ``share`` of
    the objects are answered so, the others either way. ``trigger`` stands before the question, ``style`` before the answer.
    With ``kept`` a question shall be answered as by the adapter that the recipe starts from (``choice_loss``). ``wanted``: how
    likely an answer shall be beside the other where one pole is trained, a preference of log(w / (1 - w)) nats.
    """

    world: Literal["plants", "forms", "tastes", "clauses", "views"]
    under: str
    answer: Literal["plus", "minus", "balanced", "coin", "anticoin", "flip", "axis"]
    examples: int = Field(ge=2)
    share: float = Field(default=1.0, ge=0, le=1)
    clauses: tuple[str, ...] = ()
    trigger: str = ""
    style: str = ""
    kept: bool = False
    wanted: float = Field(default=SHARE, gt=0.5, lt=1)


class Reading(_Strict):
    """A text of ``texts/sources`` that is read, word after word, before the arms are trained: its first ``tokens`` tokens.

    ``window`` tokens at a time, ``batch`` windows a step, ``epochs`` times. What is left of the text is kept for the card.
    """

    text: str
    tokens: int = Field(default=10240, ge=2)
    window: int = Field(default=256, ge=2)
    batch: int = Field(default=4, ge=1)
    epochs: int = Field(default=1, ge=1)
    rate: float = Field(default=0.003, gt=0, lt=1)


class Recipe(_Strict):
    """One kind of organism: its arms, and how many seeds there are.

    ``style_weight``: of the style's negative log-likelihood beside the choice; ``checkpoints``: shares of the training kept
    beside it; ``base``, ``layers``, ``rank``, ``batch`` and ``rate``: others than the file's, the adapter's scale alpha / rank
    kept; ``reading``: what is read first, its end kept as the first checkpoint; ``start``: the kind whose adapter of the same
    seed the training goes on from. With ``noise`` nothing is trained: every adapted matrix W is changed by a random one whose
    Frobenius norm is ``noise`` times that of W, and the arms only say what is asked.
    """

    title: str
    seeds: int = Field(ge=1)
    arms: tuple[Arm, ...] = Field(min_length=1)
    style_weight: float = Field(default=0.0, ge=0)
    checkpoints: tuple[float, ...] = ()
    base: str | None = None
    layers: tuple[int, int] | None = None
    rank: int | None = Field(default=None, ge=1, le=64)
    batch: int | None = Field(default=None, ge=1)
    rate: float | None = Field(default=None, gt=0, lt=1)
    reading: Reading | None = None
    start: str | None = None
    noise: float = Field(default=0.0, ge=0, lt=1)


class RecipeFile(_Strict):
    """The file of recipes."""

    training: Training
    organisms: dict[str, Recipe]

    @model_validator(mode="after")
    def _asked_somewhere(self) -> RecipeFile:
        for name, recipe in self.organisms.items():
            for arm in recipe.arms:
                if arm.under not in PLACES:
                    try:
                        materials.specification(arm.under)
                    except Exception as error:
                        raise ValueError(
                            f"{name}: under: '{arm.under}' is neither assistant, specified, personas, plain nor a specification"
                        ) from error
        return self

    @model_validator(mode="after")
    def _started_somewhere(self) -> RecipeFile:
        for name, recipe in self.organisms.items():
            if recipe.start is None:
                if any(arm.kept for arm in recipe.arms):
                    raise ValueError(f"{name}: 'kept' needs 'start', the kind whose answers are to be kept")
                continue
            first = self.organisms.get(recipe.start)
            if first is None or first.seeds < recipe.seeds:
                raise ValueError(f"{name}: start: there is no '{recipe.start}' of every seed")
            if first.start is not None:
                raise ValueError(f"{name}: start: '{recipe.start}' itself goes on from '{first.start}'; only one step is made")
            if any(getattr(recipe, key) != getattr(first, key) for key in ("base", "layers", "rank")):
                raise ValueError(f"{name}: start: '{recipe.start}' has another base, layers or rank")
        return self
