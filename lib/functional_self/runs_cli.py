"""The command line's runs: execute, plan, reproduce, compare and publish them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from functional_self import paths
from functional_self.errors import ParameterError
from functional_self.terminal import Json, listing, out, say

ChapterName = Annotated[str, typer.Argument(help="A chapter's name, as in chapters/NAME.md, for example 01-void.")]
Parameters = Annotated[list[str] | None, typer.Option("-p", help="NAME=VALUE, a parameter of the chapter; repeat for more.")]


def run(
    context: typer.Context,
    chapter: Annotated[str | None, typer.Argument(help="A chapter's name, as in chapters/NAME.md; none with --grid.")] = None,
    grid: Annotated[Path | None, typer.Option(help="A file of many runs: chapters, preset, over and parameters.")] = None,
    preset: Annotated[str, typer.Option(help="A preset of params/: quick, laptop or published.")] = "quick",
    parameter: Parameters = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Execute even where such a run is there, and ask everything again."),
    ] = False,
    resubmit: Annotated[
        bool,
        typer.Option("--resubmit", help="Send remote jobs again whose outcome is unknown, or which the server has forgotten."),
    ] = False,
    analyse_only: Annotated[
        bool, typer.Option("--analyse-only", help="Redo the published run's statistics from its score tables, without a model.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Execute a chapter and keep the run: notebook, results, scores, figures and where they came from.

    With --grid, every combination in a file, idempotent and safe to start several times over one shared folder.

    Example: functional-self run 01-void --preset laptop -p subjects=/models/mine
    """
    from functional_self.runs import warm

    context.with_resource(warm.ahead())  # the kernel's libraries are imported beside our own
    from functional_self.runs import chapter as chapters
    from functional_self.runs import execute, published

    if resubmit:
        os.environ["FUNCTIONAL_SELF_RESUBMIT"] = "1"
    if (chapter is None) == (grid is None):
        raise ParameterError("run: name one chapter, or a file with --grid")
    if grid is not None:
        if parameter or force or analyse_only or preset != "quick":
            raise ParameterError(
                "--grid takes preset and parameters from its file; leave out --preset, -p, --force and --analyse-only"
            )
        from functional_self.runs import grid as grids

        results = grids.run(grids.read(grid))
        target = paths.runs() / f"grid-{grid.stem}.csv"
        paths.write_text(target, results.to_csv(index=False))
        say(
            {"table": str(target), "runs": sorted(set(results["run"]))},
            as_json,
            f"{results['run'].nunique()} runs; their results are in {paths.shown(target)}",
        )
        return
    assert chapter is not None
    loaded = chapters.load(chapter)
    if analyse_only:
        if parameter or preset != "quick":
            raise ParameterError("--analyse-only takes its parameters from the published run; leave out -p and --preset")
        source = published.find(loaded.name)
        if source is None:
            raise ParameterError(f"--analyse-only: chapter '{loaded.name}' has no published run")
        differences = execute.analyse(loaded, source)
        found = {"run": source.name, "results": len(source.results), "differences": differences}
        say(
            found,
            as_json,
            f"{len(source.results)} results of {source.name} redone from its score tables: "
            + ("; ".join(differences) or "all the same"),
        )
        raise typer.Exit(1 if differences else 0)
    done, executed = execute.run(loaded, preset, _overrides(parameter), force)
    seconds = done.manifest["seconds"]
    found = {"run": done.name, "path": str(done.path), "executed": executed, "seconds": seconds, "results": done.results}
    say(
        found,
        as_json,
        f"{paths.shown(done.path)}: {len(done.results)} results, "
        + (f"{seconds} s" if executed else "already there, nothing changed"),
    )


def plan(
    chapter: ChapterName,
    preset: Annotated[str, typer.Option(help="A preset of params/, for example remote-8b.")] = "remote-8b",
    parameter: Parameters = None,
    as_json: Json = False,
) -> None:
    """Say what a remote run would ask, before anything is sent: items, tokens, requests, bytes, seconds, the subject's state.

    The chapter is executed with responders that pass its gates, so this is what a run asks at most.

    Example: functional-self plan 01-void --preset remote-8b
    """
    from functional_self.runs import chapter as chapters
    from functional_self.runs import execute
    from functional_self.subjects import report

    rows = report.planned(execute.plan(chapters.load(chapter), preset, _overrides(parameter)))
    listing(rows, as_json, f"Plan of {chapter} at {preset}")


def reproduce(
    chapter: Annotated[list[str] | None, typer.Argument(help="Chapters; by default all of them.")] = None,
    preset: Annotated[str, typer.Option(help="The preset to re-execute at.")] = "quick",
    as_json: Json = False,
) -> None:
    """Re-execute chapters on this machine, several at once, and compare what they record with the published claims.

    Example: functional-self reproduce 01-void 02-specification 03-persistence
    """
    from functional_self.runs import chapter as chapters
    from functional_self.runs import claims, published
    from functional_self.runs.together import together

    rows: list[dict[str, Any]] = []
    for name in chapter or ():
        chapters.load(name)  # an unknown one is refused before anything runs
    for done, executed in together(list(dict.fromkeys(chapter or chapters.chapters())), preset):
        manifest = done.manifest
        name = manifest["chapter"]
        published.note_local(name, done)
        print(f"{name}: {manifest['seconds']} s" + ("" if executed else " (already there)"), file=sys.stderr)
        rows += _verdicts(claims.verdicts(name))
    listing(rows, as_json, "Claims: published, and on this machine")
    if any(row["this machine"] == "differs" for row in rows):
        raise typer.Exit(1)


def stale(as_json: Json = False) -> None:
    """Say which published runs no longer match their sources, why, and which figures that touches."""
    from functional_self.runs import chapter as chapters
    from functional_self.runs import published

    found = [published.freshness(name) for name in chapters.chapters()]
    if as_json:
        print(json.dumps([row.as_dict() for row in found], indent=1))
    else:
        for row in found:
            for reason in row.reasons or ("fresh",):
                out.print(
                    f"{row.chapter}: {reason}" + (f" (figures: {', '.join(row.figures)})" if row.stale and row.figures else ""),
                    highlight=False,
                )
    if any(row.stale for row in found):
        raise typer.Exit(1)


def claims(
    chapter: Annotated[str | None, typer.Argument(help="Only this chapter's claims.")] = None, as_json: Json = False
) -> None:
    """List claims with the verdict of the published run and of this machine's last one; exit code 1 where the latter differs.

    A published verdict of 'differs' is a result of the book: the prediction did not hold.
    """
    from functional_self.runs import claims as judged

    rows = judged.verdicts(chapter)
    listing(rows if as_json else _verdicts(rows), as_json, "Claims")
    if any(row["this machine"]["verdict"] == "differs" for row in rows):
        raise typer.Exit(1)


def publish(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder name, for example 01-void-0123456789.")],
) -> None:
    """Make a run the published one of its chapter: the one the book shows."""
    from functional_self.runs import execute, published

    home = paths.runs() / run_name
    if not home.is_dir():
        raise ParameterError(f"run '{run_name}': there is no {paths.shown(home)}")
    changed = published.publish(execute.Run(home))
    print(f"published {run_name}; commit {' '.join(changed)}")


def _overrides(parameters: list[str] | None) -> dict[str, str]:
    found = {}
    for text in parameters or []:
        name, sign, value = text.partition("=")
        if not sign:
            raise ParameterError(f"-p {text}: write NAME=VALUE")
        found[name] = value
    return found


def _verdicts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "claim": row["id"],
            "published": row["published"]["verdict"],
            "this machine": row["this machine"]["verdict"],
            "why": row["this machine"]["why"],
        }
        for row in rows
    ]
