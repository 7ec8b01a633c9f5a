"""``ealign methods``, ``metrics`` and ``datasets``: what there is."""

from __future__ import annotations

import typer

__all__ = ["datasets", "methods", "metrics"]


def methods() -> None:
    """List the saliency methods, their arguments and default binarizations.

    Example: ealign methods
    """
    from explanation_alignment.saliency.base import METHODS

    for name, entry in METHODS.items():
        sign = "signed" if entry.signed else "not negative"
        _entry(name, entry.summary, f"{sign}; binarized at {entry.default_binarization}; {entry.passes}", entry.source)
        for key, (_, meaning) in entry.arguments.items():
            typer.echo(f"    {key} = {meaning}")


def metrics() -> None:
    """List the alignment metrics.

    Example: ealign metrics
    """
    from explanation_alignment.metrics.registry import METRICS

    for name, metric in METRICS.items():
        _entry(name, metric.summary, f"heading {metric.label}; takes a {metric.needs}", metric.source)


def datasets() -> None:
    """List the datasets that can be loaded by name, with their arguments.

    Example: ealign datasets
    """
    from explanation_alignment.datasets import DATASETS

    for name, entry in DATASETS.items():
        _entry(name, entry.summary)
        for key, meaning in entry.arguments.items():
            typer.echo(f"    {key} = {meaning}")


def _entry(name: str, *lines: str) -> None:
    typer.secho(name, bold=True)
    for line in lines:
        typer.echo(f"    {line}")
