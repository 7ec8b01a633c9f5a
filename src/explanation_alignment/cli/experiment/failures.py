"""How a command over many models ends where some of them failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from explanation_alignment.classifiers.expansion import ModelSpec
    from explanation_alignment.runs.reader import Run

__all__ = ["print_models_experiment"]


def print_models_experiment(run: Run, models: Sequence[ModelSpec] | None, places: tuple[str, ...] = ()) -> None:
    """Show what there is, then name the models that failed on standard error and end with exit code 1.

    Args:
        run: of the experiment. Where every model failed there is nothing to show.
        models: that were asked for; failures of others, of an earlier call, are the report's. None for all of the run.
        places: further keys of run.json that map models to the reasons they failed for.

    Raises:
        typer.Exit: with code 1, if a model failed.
    """
    from explanation_alignment.cli.display.results import print_experiment, print_samples
    from explanation_alignment.runs.parts import has_scores

    if has_scores(run.path):
        print_samples(run)
        print_experiment(run)
    failures = _failures(run, models, places)
    for name, reason in failures:
        typer.secho(f"failed: {name}: {reason}", err=True, fg="red")
    if failures:
        typer.secho("the same command again tries these models anew, and does only what is missing", err=True)
        raise typer.Exit(1)


def _failures(run: Run, models: Sequence[ModelSpec] | None, places: tuple[str, ...]) -> list[tuple[str, str]]:
    """Models and reasons: of the evaluation, then of each further place."""
    further = [item for place in places for item in run.info.get(place, {}).items()]
    if models is None:
        return [*run.failures.items(), *further]
    from explanation_alignment.sweeps.requests import failures_among

    evaluated = {
        name: reason
        for dataset in run.info["datasets"]
        for name, reason in failures_among(run, models, dataset, "predicted").items()
    }
    asked = {str(model) for model in models}
    return [*evaluated.items(), *((name, reason) for name, reason in further if name in asked)]
