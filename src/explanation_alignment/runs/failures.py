"""How a run's list of failures names a classifier, asked for with some weights, on a dataset."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["asked_words", "failure_name", "failure_parts"]

#: The last part of a name in tables where the weights are random, and before the seed where they have one.
_RANDOM = "random"


def failure_name(model: str, dataset: str, datasets: Iterable[str]) -> str:
    """What stands for a classifier in a run's failures; with the dataset, where it is not the run's first.

    Args:
        model: the classifier with its weights, as it was asked for.
        dataset: the dataset's name.
        datasets: names of the run's datasets, in their order.

    Example:
        >>> failure_name("timm:vit (random)", "voc", ["coco", "voc"])
        'timm:vit (random) on voc'
    """
    return model if next(iter(datasets), dataset) == dataset else f"{model} on {dataset}"


def failure_parts(name: str, datasets: Iterable[str]) -> tuple[str, str]:
    """The other way round: the classifier and the dataset.

    Example:
        >>> failure_parts("timm:vit (random) on voc", ["coco", "voc"])
        ('timm:vit (random)', 'voc')
    """
    first, *others = [*datasets] or [""]
    for dataset in sorted(others, key=len, reverse=True):
        if name.endswith(f" on {dataset}"):
            return name.removesuffix(f" on {dataset}"), dataset
    return name, first


def asked_words(spec: str, model: str) -> str:
    """How a classifier that was evaluated had been asked for, as far as its spec and its name in tables tell.

    Example:
        >>> asked_words("timm:vit", "vit.random-3")
        'timm:vit (random:3)'
    """
    tag, dash, seed = model.rpartition(".")[2].partition("-")
    if tag != _RANDOM or (dash and not seed.removeprefix("-").isdecimal()):
        return spec
    return f"{spec} ({_RANDOM}{':' if dash else ''}{seed})"
