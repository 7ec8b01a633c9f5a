"""``ealign report``: the run as a page."""

from __future__ import annotations

import typer

from explanation_alignment.cli.options import RunPath

__all__ = ["report"]


def report(run: RunPath) -> None:
    """Write RUN/report.html and RUN/figures from a run's tables; no model is needed.

    Example: ealign report runs/mnist
    """
    from explanation_alignment.reporting.build import report as write_report
    from explanation_alignment.runs.reader import open_run

    typer.echo(write_report(open_run(run)))
