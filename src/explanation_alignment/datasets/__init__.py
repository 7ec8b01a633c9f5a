"""Datasets with human annotations: one file a source, found by name through :func:`load_dataset`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from explanation_alignment.errors import UnknownNameError
from explanation_alignment.specs import check_arguments, parse_call

if TYPE_CHECKING:
    from explanation_alignment.sample import AnnotatedDataset

__all__ = ["DATASETS", "DatasetEntry", "load_dataset"]


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """One registered dataset.

    Args:
        build: makes it from a folder (or None) and its arguments as text.
        summary: one line on what it holds.
        arguments: argument name -> what it may be.
    """

    build: Callable[..., AnnotatedDataset]
    summary: str
    arguments: Mapping[str, str]


def _colored_mnist(data_dir: str | Path | None, **arguments: Any) -> AnnotatedDataset:
    from explanation_alignment.datasets.colored_mnist import ColoredMNIST

    return ColoredMNIST(data_dir, **arguments)


#: Every dataset that can be asked for by name.
DATASETS: Final[Mapping[str, DatasetEntry]] = {
    "colored_mnist": DatasetEntry(
        _colored_mnist,
        "MNIST, Fashion-MNIST or (without a folder) scikit-learn's digits, with a coloured block in a corner",
        {"split": "test | train", "coloring": "correlated | uncorrelated-K (K = 1, 2, ...)"},
    ),
}


def load_dataset(name: str, data_dir: str | Path | None = None, **arguments: Any) -> AnnotatedDataset:
    """A registered dataset.

    Args:
        name: its name, also with arguments in it: ``"colored_mnist(coloring=uncorrelated-1)"``.
        data_dir: the folder its files are in.
        **arguments: its arguments (``ealign datasets`` lists them); they win over those in the name.

    Raises:
        UnknownNameError: for a name or an argument there is not.
        DatasetError: for missing or damaged files.
    """
    bare, written = parse_call(name, "dataset")
    if bare not in DATASETS:
        raise UnknownNameError("dataset", bare, DATASETS)
    entry = DATASETS[bare]
    given = {**written, **arguments}
    check_arguments(f"dataset {bare}", given, entry.arguments)
    return entry.build(data_dir, **given)
