"""``ealign experiment``: the published experiments, one command and one file each."""

import typer

from explanation_alignment.cli.experiment import mnist

__all__ = ["app"]

app = typer.Typer(help="Reproduce or extend a published experiment.", no_args_is_help=True)


@app.callback()
def _experiments() -> None:
    pass


app.command(
    name="mnist", epilog="Example: ealign experiment mnist --data-dir data/mnist --out runs/mnist --seeds 0,1,2"
)(mnist.mnist)
