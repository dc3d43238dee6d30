"""The command line's organisms: list, train, verify."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from functional_self import paths, subjects
from functional_self.terminal import Json, listing

app = typer.Typer(
    help="Subjects whose answers are known: list them, train one, see whether it does what its card says.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
Name = Annotated[str, typer.Argument(help="An organism, KIND-sSEED, for example planted-self-a-s0.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the organisms: what is planted, whether the adapter is here (shipped or trained), and what its card says of it."""
    from functional_self import organisms  # half a second that the other commands need not wait

    listing([organisms.described(name) for name in organisms.names()], as_json, "Organisms")


@app.command()
def train(
    name: Name,
    card: Annotated[bool, typer.Option("--card", help="Write the card in place of comparing with it.")] = False,
    ship: Annotated[
        bool, typer.Option("--ship", help="Write the card, and copy the adapter into organisms/adapters, where it ships.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Train anew even if the adapter is there.")] = False,
    device: Annotated[str, typer.Option("--device", help="Where to train and to score: cpu, cuda or mps.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Train one organism (2 to 10 CPU minutes) into the cache and compare its held-out behaviour with its card.

    A training that was killed goes on from its last checkpoint and ends the same. Exit code 1 where the behaviour differs.

    Example: functional-self organisms train planted-self-a-s0
    """
    from functional_self import organisms
    from functional_self.organisms import cards, training

    organism = organisms.resolve(name)
    os.environ[subjects.DEVICE] = device  # the base that the adapter is compared with is asked there too
    where = training.train(organism, force, device)
    print(f"{where}: {'drawn' if organism.recipe.noise else 'trained, its loss beside it in loss.svg'}", file=sys.stderr)
    if ship:
        training.ship(organism, where)
    if card or ship:
        print(paths.shown(cards.write(organism, where, cards.measure(organism, where))))
        return
    _compare(name, as_json, where)


@app.command()
def verify(name: Name, as_json: Json = False) -> None:
    """Score an organism on held-out items and compare with its card; exit code 1 where they differ by more than the tolerance.

    Example: functional-self organisms verify planted-self-a-s0
    """
    _compare(name, as_json)


def _compare(name: str, as_json: bool, where: Path | None = None) -> None:
    from functional_self import organisms
    from functional_self.organisms import cards

    organism = organisms.resolve(name)
    cards.read(name)  # one without a card is refused before any long work
    rows = cards.compare(organism, cards.measure(organism, where))
    listing(rows, as_json, f"{name}: effect on held-out items, nats")
    if not all(row["good"] for row in rows):
        raise typer.Exit(1)
