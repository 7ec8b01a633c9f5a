"""``ealign explore``: a run in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explanation_alignment.cli.options import OptionalDataDir, RunPath

__all__ = ["explore"]


def explore(
    run: RunPath,
    other: Annotated[
        Path | None, typer.Argument(metavar="[RUN2]", help="A second run, to compare models of both.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; the first free one from 8360.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this one lets others look at the run.")
    ] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    data_dir: OptionalDataDir = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Dataset with its arguments, to compute pictures the run does not hold; repeatable."),
    ] = None,
) -> None:
    """Look at a run: leaderboard, scatter, decisions with their maps, two models side by side; Ctrl-C ends it.

    Example: ealign explore runs/mnist
    """
    from explanation_alignment.explorer.serving import explore as open_explorer

    def announce(address: str) -> None:
        typer.echo(address)
        if host not in ("127.0.0.1", "::1", "localhost"):
            typer.secho("everyone who reaches this machine can look at the run", err=True, fg="yellow")
        typer.secho("Ctrl-C ends it", err=True, dim=True)

    open_explorer(
        run,
        other,
        port=port,
        host=host,
        open_browser=not no_browser,
        data_dir=data_dir,
        datasets=dataset or (),
        announce=announce,
    )
