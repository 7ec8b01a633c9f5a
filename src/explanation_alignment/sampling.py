"""Which samples of a dataset an evaluation takes."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from explanation_alignment.datasets.base import draw_order, labels_of
from explanation_alignment.errors import UsageError
from explanation_alignment.sample import AnnotatedDataset

__all__ = ["sample_order"]


def sample_order(dataset: AnnotatedDataset, ids: Sequence[str], sample: int | None, seed: int) -> list[int]:
    """Places in the dataset to evaluate, in its own order; a sample is class-balanced.

    Whether a sample is drawn depends on its id and the seed, not on the order of the dataset.

    Args:
        dataset: what to draw from.
        ids: all its sample ids.
        sample: how many; None for all.
        seed: decides which.

    Raises:
        UsageError: if the dataset is empty, has an id twice, or fewer samples than asked for.
    """
    if not len(dataset):
        raise UsageError(f"dataset {dataset.name} is empty")
    if len(set(ids)) != len(ids):
        twice = next(name for name, count in collections.Counter(ids).items() if count > 1)
        raise UsageError(f"dataset {dataset.name} has the id {twice!r} more than once; ids must be unique")
    if sample is None:
        return list(range(len(ids)))
    if not 1 <= sample <= len(ids):
        raise UsageError(f"sample: expected 1 to {len(ids)}, the size of {dataset.name}, got {sample}")
    labels = labels_of(dataset)
    by_class: dict[int | None, list[int]] = collections.defaultdict(list)
    for place in draw_order(ids, seed):
        by_class[labels[place]].append(place)
    turns = [(turn, at, place) for at, places in enumerate(by_class.values()) for turn, place in enumerate(places)]
    return sorted(place for _, _, place in sorted(turns)[:sample])
