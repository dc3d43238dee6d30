"""The command line: ``functional-self``."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from functional_self import __version__, materials_cli, organisms_cli, paths, runs_cli, subjects_cli, teaching_cli
from functional_self.errors import FunctionalSelfError, ParameterError, one_line
from functional_self.terminal import Json, listing, say

app = typer.Typer(
    name="functional-self",
    help="Ask language models whether they have a functional self, and re-execute the book that asks.",
    epilog="Exit codes: 0 good; 1 a claim differs, a run is stale or statistics changed; 2 wrong usage or input.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(materials_cli.app, name="materials")
app.add_typer(organisms_cli.app, name="organisms")


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks instead of one line.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


for command in (
    runs_cli.run,
    runs_cli.plan,
    runs_cli.reproduce,
    runs_cli.stale,
    runs_cli.claims,
    runs_cli.publish,
    subjects_cli.doctor,
    subjects_cli.subjects,
    subjects_cli.push,
    teaching_cli.student,
    teaching_cli.slides,
    teaching_cli.session,
):
    app.command()(command)


@app.command()
def build(as_json: Json = False) -> None:
    """Build the book from the published runs, strictly; the last good book stays if anything is wrong."""
    from functional_self.runs import stage

    index = stage.build()
    say({"index": str(index)}, as_json, f"the book is in {paths.shown(index)}")


@app.command()
def pdf(as_json: Json = False) -> None:
    """Build the book and print it whole, with contents, figures and working links, to _build/book.pdf; needs Chromium."""
    from functional_self.runs import pdf as printed

    target = printed.build()
    say({"pdf": str(target), "bytes": target.stat().st_size}, as_json, f"the printed book is {paths.shown(target)}")


@app.command()
def bench(
    family: Annotated[str | None, typer.Argument(help="One family of benchmarks/, for example scoring; by default all.")] = None,
    to: Annotated[Path | None, typer.Option(help="Write the lines to this file as well.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per comparison and line.")] = False,
) -> None:
    """Measure this library beside others in one run; exit code 1 where a goal is missed. It takes long: see 'make bench'.

    Example: functional-self bench scoring --to lines.jsonl
    """
    sys.path.insert(0, str(paths.root()))
    try:
        harness = importlib.import_module("benchmarks.harness")
    except ModuleNotFoundError as error:
        if error.name != "benchmarks":
            raise
        raise ParameterError(f"bench: there is no benchmarks/ in {paths.root()}; run it in a checkout") from error
    lines = []
    for found in harness.run(family):
        lines.append(found)
        if as_json:
            print(json.dumps(found), flush=True)
        if to is not None:
            harness.write(lines, to)
    if not as_json:
        listing([harness.summary(found) for found in lines], False, "Benchmarks: this library beside its peer")
    if not all(found["passed"] for found in lines):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; a problem is one line on stderr and exit code 2."""
    debug = "--debug" in sys.argv
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except typer.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # click's own usage errors
            error.show()
            sys.exit(2)
        known = isinstance(error, FunctionalSelfError | OSError)
        print(f"functional-self: {one_line(error)}" + ("" if known else " (--debug shows the traceback)"), file=sys.stderr)
        sys.exit(2)
