"""The application: its commands, and how an error ends one.

Commands import what they need when they run, so that ``ealign --help`` stays quick.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated, TextIO

import typer

from explanation_alignment import __version__
from explanation_alignment.cli import (
    assertion,
    cache,
    cases,
    compare,
    datasets,
    demo,
    evaluate,
    experiment,
    explore,
    export,
    listing,
    merge,
    models,
    plan,
    relations,
    reliance,
    report,
    sanity,
    score,
    show,
    verify,
)
from explanation_alignment.errors import ExplanationAlignmentError, RunWarning
from explanation_alignment.stopping import signals_taken

__all__ = ["app", "main"]

app = typer.Typer(
    name="ealign",
    help="Is an image classifier right for the right reason? Measures explanation alignment: how well saliency maps "
    "agree with human annotations, over many decisions.",
    epilog="Start with: ealign demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

app.command(name="demo")(demo.demo)
app.add_typer(experiment.app, name="experiment")
app.command(name="evaluate")(evaluate.evaluate)
app.command(name="score")(score.score)
app.command(name="sanity")(sanity.sanity)
app.command(name="show")(show.show)
app.command(name="compare")(compare.compare)
app.command(name="assert")(assertion.assertion)
app.command(name="plan")(plan.plan)
app.command(name="cases")(cases.cases)
app.command(name="reliance")(reliance.reliance)
app.command(name="relate")(relations.relate)
app.command(name="report")(report.report)
app.command(name="explore")(explore.explore)
app.command(name="export")(export.export)
app.command(name="verify")(verify.verify)
app.command(name="merge")(merge.merge)
app.command(name="models")(models.models)
app.command(name="methods")(listing.methods)
app.command(name="metrics")(listing.metrics)
app.add_typer(datasets.app, name="datasets")
app.add_typer(cache.app, name="cache")


#: How a command ends after Ctrl-C, SIGTERM and SIGHUP: 128 and the signal's number, as shells have it.
_INTERRUPTED = (130, 143, 129)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ealign {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if debug:
        os.environ["EALIGN_DEBUG"] = "1"


def main() -> None:
    """Run the command; exit code 0 for done, 1 for failed, 2 for used wrongly, 130, 143 or 129 for interrupted."""
    try:
        with signals_taken(), warnings.catch_warnings():
            warnings.showwarning = _show_warning
            app()
    except ExplanationAlignmentError as error:
        if os.environ.get("EALIGN_DEBUG"):
            raise
        typer.secho(f"error: {error}", err=True, fg="red")
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code in _INTERRUPTED:
            typer.secho("interrupted; what is written is kept, the same command again goes on from there", err=True)
        raise


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Our own words as they are; a library's with the place they come from."""
    if issubclass(category, RunWarning):
        typer.secho(f"warning: {message}", err=True, fg="yellow")
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))
