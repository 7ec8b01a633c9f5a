"""``ealign experiment``: the published experiments, one command and one file each."""

import typer

from explanation_alignment.cli.experiment import celeba_bias, celeba_regions, cifar100_transfer, imagenet, mnist

__all__ = ["app"]

app = typer.Typer(help="Reproduce or extend a published experiment.", no_args_is_help=True)


@app.callback()
def _experiments() -> None:
    pass


app.command(
    name="mnist", epilog="Example: ealign experiment mnist --data-dir data/mnist --out runs/mnist --seeds 0,1,2"
)(mnist.mnist)
app.command(
    name="imagenet",
    epilog="Example: ealign experiment imagenet --data-dir data/imagenet --out runs/imagenet --sample 5000",
)(imagenet.imagenet)
app.command(
    name="cifar100-transfer",
    epilog="Example: ealign experiment cifar100-transfer --imagenet-dir data/imagenet --cifar-dir data/cifar100 "
    "--out runs/transfer --models 'resnet*,vit*'",
)(cifar100_transfer.cifar100_transfer)
app.command(
    name="celeba-bias",
    epilog="Example: ealign experiment celeba-bias --data-dir data/celeba --hq-dir data/celebamask-hq "
    "--out runs/celeba-bias --seeds 0,1,2",
)(celeba_bias.celeba_bias)
app.command(
    name="celeba-regions",
    epilog="Example: ealign experiment celeba-regions --data-dir data/celeba --hq-dir data/celebamask-hq "
    "--models runs/celeba-bias --out runs/celeba-regions",
)(celeba_regions.celeba_regions)
