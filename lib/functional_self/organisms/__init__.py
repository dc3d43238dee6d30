"""Organisms: subjects trained by this project so that what they prefer is known."""

from __future__ import annotations

import json
from typing import Any

from functional_self import paths
from functional_self.organisms.recipes import Organism, home, names, recipes, resolve

__all__ = ["Organism", "described", "home", "names", "recipes", "resolve"]


def described(name: str) -> dict[str, Any]:
    """An organism as the command line lists it: where its adapter is, and whether its card is its recipe's."""
    organism = resolve(name)
    shipped = (home() / "adapters" / name / "adapter_config.json").is_file()
    try:
        trained = json.loads((paths.cache() / "organisms" / name / "training.json").read_text(encoding="utf-8"))["hash"]
    except FileNotFoundError:
        trained = None
    try:
        card = json.loads((home() / "cards" / f"{name}.json").read_text(encoding="utf-8"))
        said = "stale: the recipe has changed" if card["hash"] != organism.hash else str(card["verdict"])
    except FileNotFoundError:
        said = "none"
    adapter = (
        "shipped"
        if shipped
        else "to be trained"
        if trained is None
        else "trained"
        if trained == organism.hash
        else "trained by another recipe"
    )
    return {"name": name, "title": organism.recipe.title, "adapter": adapter, "card": said}
