"""The command line's materials: check, import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from functional_self import paths
from functional_self.terminal import Json, listing, say

app = typer.Typer(help="Check the materials, or import other people's items.", no_args_is_help=True, rich_markup_mode="rich")


@app.command("check")
def check(
    file: Annotated[
        str | None, typer.Argument(help="A material file, or the name of a shipped item file; by default everything that ships.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="A second labelling of the items, to compute the agreement.")] = None,
    as_json: Json = False,
) -> None:
    """Validate materials and show what they hold: counts per class, agreement of two labellings, a lexical baseline.

    Example: functional-self materials check mine.yml --labels second.yml
    """
    from functional_self.materials import check as checking

    named = checking.shipped() if file is None else [(checking.kind_of(file), file)]
    rows: list[dict[str, Any]] = [{"kind": k, "name": n, "holds": checking.report(k, n, labels)} for k, n in named]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(f"{row['kind']} {row['name']}: valid")
        for key, value in row["holds"].items():
            print(f"  {key}: {json.dumps(value) if isinstance(value, dict | list) else value}")


@app.command("import")
def import_items(
    file: Annotated[Path, typer.Argument(help="A .jsonl or .csv file with question and the two answer columns.")],
    subject: Annotated[str, typer.Option(help="Who is asked; 'none' only converts.")] = "smollm2",
    limit: Annotated[int, typer.Option(min=6, help="At most this many items, spread evenly over the file.")] = 60,
    to: Annotated[Path | None, typer.Option(help="Folder of the results; by default imported/NAME.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the shuffled items and permutations.")] = 0,
    as_json: Json = False,
) -> None:
    """Import items in the format of model-written-evals, score them, pass them through the gates and draw the result.

    The file has 'question', 'answer_matching_behavior' and 'answer_not_matching_behavior', one record per line (JSONL) or
    row (CSV). Written are items.yml, scores.csv, gates.json, gates.svg and contents.svg. Exit code 0 whether or not the gates
    let the answers through: that is a result.

    Example: functional-self materials import sycophancy.jsonl --subject smollm2 --limit 40
    """
    import pandas as pd

    from functional_self import behaviour, figures, materials
    from functional_self import subjects as asked
    from functional_self.materials import importing

    items = importing.read(file, limit)
    folder = to or Path("imported") / file.stem
    importing.write(items, folder / "items.yml")
    found: dict[str, Any] = {"items": len(items), "folder": str(folder)}
    if subject == "none":
        say(found, as_json, f"{len(items)} items in {folder / 'items.yml'}")
        return
    who = asked.load(subject)
    table = behaviour.score(who, [*items, *behaviour.shuffled(items, seed, 2), *materials.items("known")])
    gates = behaviour.gates(table, seed=seed)
    frame = behaviour.responses(table)
    failed = [f"{gate.name} {gate.title}" for gate in gates if not gate.passed]
    contents = frame[frame["class"] == "imported"].groupby("item")["content"].mean()
    found |= {"subject": subject, "revision": who.revision, "passed": not failed, "failed": failed}
    found |= {"gates": [vars(gate) for gate in gates], "content in nats": contents.to_dict()}
    drawn = pd.DataFrame([{"subject": subject, "gate": gate.name, **vars(gate)} for gate in gates])
    for name, figure in (("gates", figures.gate_plot(drawn)), ("contents", figures.content_plot(frame))):
        paths.write_text(folder / f"{name}.svg", figures.to_svg(figure, name, f"{name} of {len(items)} imported items"))
    paths.write_text(folder / "gates.json", json.dumps(found, indent=1) + "\n")
    paths.write_text(folder / "scores.csv", table.to_csv(index=False))
    if as_json:
        print(json.dumps(found, indent=1))
        return
    shown = ("statistic", "lower", "bound", "p_holm")
    rows = [
        {"gate": f"{g.name} {g.title}", **{k: f"{getattr(g, k):.3g}" for k in shown}, "n": g.n, "passed": g.passed} for g in gates
    ]
    listing(rows, False, f"Gates of {subject} on {len(items)} imported items")
    verdict = f"not measurable: {', '.join(failed)} failed" if failed else "the gates let the answers through"
    print(f"{verdict}; items.yml, scores.csv, gates.json, gates.svg and contents.svg are in {folder}")
