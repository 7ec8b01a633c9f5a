"""How a command over many models ends where some of them failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["print_models_experiment"]


def print_models_experiment(run: Run, places: tuple[str, ...] = ("failures",)) -> None:
    """Show what there is, then name the models that failed on standard error and end with exit code 1.

    Args:
        run: of the experiment. Where every model failed there is nothing to show.
        places: keys of run.json that map models to the reasons they failed for.

    Raises:
        typer.Exit: with code 1, if a model failed.
    """
    from explanation_alignment.cli.display.results import print_experiment, print_samples
    from explanation_alignment.runs.parts import has_scores

    if has_scores(run.path):
        print_samples(run)
        print_experiment(run)
    failures = [(name, reason) for place in places for name, reason in run.info.get(place, {}).items()]
    for name, reason in failures:
        typer.secho(f"failed: {name}: {reason}", err=True, fg="red")
    if failures:
        typer.secho("the same command again tries these models anew, and does only what is missing", err=True)
        raise typer.Exit(1)
