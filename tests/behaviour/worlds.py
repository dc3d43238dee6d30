"""Responses of interpreters with planted energies, in worlds that differ in what the interpretive fill is.

Letters: I items, M interpreters, P paraphrases; D shared fill, F interpretive fill, U unfilled. Worlds: ``a`` independent fills;
``b`` fills on one latent axis, the same for both classes; ``c`` is ``a`` plus a lean common to all items, which adds .1 to F, and
with a mean preference of .5 on covered items, inside D; ``l`` fill that is one lean and nothing else, same mean; ``half`` fills
half independent, half on the axis; ``t3`` is ``b`` with heavy-tailed places on the axis. Items of a family may be alike.
"""

from __future__ import annotations

import numpy as np

SILENT = (0.25, 0.30, 0.45)
COVERED = (0.60, 0.10, 0.30)
LEAN = 0.1
MEAN = 0.5
ALIKE = 0.6  # correlation of two items of one family, in shared and in interpretive fill
WORLDS = ("a", "b", "c", "l", "half", "t3")


def pair(
    world: str,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
    silent: tuple[float, float, float] = SILENT,
    covered: tuple[float, float, float] = COVERED,
    per_family: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Silent and covered responses (I, M, P) of the same interpreters, from energies D, F, U before a lean is added."""
    places = rng.standard_t(3, shape[1]) / 3**0.5 if world == "t3" else rng.standard_normal(shape[1])
    lean = rng.standard_normal(shape[1])
    return (
        _class(world, shape, rng, silent, places, lean, 0.0, per_family),
        _class(world, shape, rng, covered, places, lean, MEAN if world in "cl" else 0.0, per_family),
    )


def planted(world: str, energies: tuple[float, float, float]) -> np.ndarray:
    """D, F, U and V as parts of the total."""
    D, F, U = energies
    F += LEAN if world == "c" else 0.0
    return np.array([D, F, U, F + U]) / (D + F + U)


def placebo(silent: np.ndarray, covered: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same items under labels dealt at random."""
    items = rng.permutation(np.concatenate([silent, covered]))
    return items[: len(silent)], items[len(silent) :]


def _class(
    world: str,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
    energies: tuple[float, float, float],
    places_M: np.ndarray,
    lean_M: np.ndarray,
    mean: float,
    per_family: int,
) -> np.ndarray:
    """Responses of one class; a third of U is paraphrases, the rest is error."""

    def items(*size: int) -> np.ndarray:
        own = rng.standard_normal((n, *size))
        if per_family == 1:
            return own
        return (1 - ALIKE) ** 0.5 * own + ALIKE**0.5 * rng.standard_normal((n, *size))[np.arange(n) // per_family]

    (n, M, P), (D, F, U) = shape, energies
    on_lean = {"c": LEAN, "l": F}.get(world, 0.0)
    on_axis = {"b": F, "t3": F, "half": F / 2}.get(world, 0.0)
    mu = mean + items(1, 1) * (D - mean**2) ** 0.5
    fill = lean_M * on_lean**0.5 + items(1) * places_M * on_axis**0.5 + items(M) * (0.0 if world == "l" else F - on_axis) ** 0.5
    wording = rng.standard_normal((n, 1, P)) * (U / 3) ** 0.5
    return mu + fill[:, :, None] + wording + rng.standard_normal(shape) * (2 * U / 3) ** 0.5
