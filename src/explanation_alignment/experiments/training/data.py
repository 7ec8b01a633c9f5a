"""Training data: what a training reads an epoch from, and any annotated dataset as such."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import torch

from explanation_alignment.batches import NO_LABEL, Batch, iterate_batches
from explanation_alignment.classifiers.classifier import Preprocessing
from explanation_alignment.errors import DatasetError, UsageError
from explanation_alignment.sample import AnnotatedDataset

__all__ = ["DatasetTraining", "TrainingData"]

#: Bytes of decoded images that are kept in memory unless another limit is given.
MEMORY_LIMIT: Final = 4 << 30


class TrainingData(Protocol):
    """What a training needs of its data."""

    @property
    def images(self) -> int:
        """Images an epoch."""
        ...

    def batches(
        self, generator: torch.Generator, batch_size: int, device: torch.device
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One shuffled epoch.

        Args:
            generator: on the CPU; everything random is drawn from it, so that its state at the start of an epoch
                decides the epoch.
            batch_size: images a batch; the last one may be smaller.
            device: where the batches are to be.

        Yields:
            (B, C, H, W) float32 images as the network takes them, and (B,) int64 labels.
        """
        ...


class DatasetTraining:
    """An annotated dataset as training data.

    Images are decoded while the first epoch runs, and kept as bytes where all of them fit; else each epoch decodes them
    again. Either way, and whatever the number of workers, the same generator gives the same batches.

    Args:
        dataset: with a label for each sample. Its annotations are decoded along with the images and not used: take a
            dataset with few regions.
        preprocessing: what images go through, as before an evaluation.
        memory_limit: bytes of decoded images that may be kept in memory; 0 keeps none.
        workers: processes that decode ahead; 0 decodes in this one.
        flip: mirror half of the images, drawn anew each epoch.

    Raises:
        UsageError: for a negative limit or number of workers, or a dataset without samples.
    """

    def __init__(
        self,
        dataset: AnnotatedDataset,
        preprocessing: Preprocessing,
        *,
        memory_limit: int = MEMORY_LIMIT,
        workers: int = 0,
        flip: bool = False,
    ) -> None:
        for name, value in (("memory_limit", memory_limit), ("workers", workers)):
            if value < 0:
                raise UsageError(f"{name}: expected at least 0, got {value}")
        if not len(dataset):
            raise UsageError(f"{dataset.name} has no samples to train on")
        self._dataset = dataset
        self._ids = dataset.ids()
        self._preprocessing = preprocessing
        self._workers = workers
        self._flip = flip
        channels, height, width = preprocessing.input_size
        self._keeps = len(self._ids) * channels * height * width <= memory_limit
        self._kept: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def images(self) -> int:
        """Images an epoch."""
        return len(self._ids)

    def describe(self) -> dict[str, Any]:
        """What decides the batches, as plain values, for the question a checkpoint answers."""
        preprocessing = self._preprocessing
        return {
            "dataset": self._dataset.name,
            "fingerprint": self._dataset.fingerprint,
            "input_size": list(preprocessing.input_size),
            "geometry": preprocessing.geometry.describe(),
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "flip": self._flip,
        }

    def batches(
        self, generator: torch.Generator, batch_size: int, device: torch.device
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One shuffled epoch; see :meth:`TrainingData.batches`.

        Raises:
            DatasetError: naming the first sample that cannot be read or has no label the dataset knows.
        """
        order = torch.randperm(len(self._ids), generator=generator)
        mirrored = torch.rand(len(self._ids), generator=generator) < 0.5 if self._flip else None
        chosen = torch.split(order, batch_size)
        for places, (images, labels) in zip(chosen, self._read(chosen), strict=True):
            inputs = self._preprocessing.normalise(images.to(device))
            if mirrored is not None:
                inputs = torch.where(mirrored[places].to(device)[:, None, None, None], inputs.flip(3), inputs)
            yield inputs, labels.to(device)

    def _read(self, chosen: Sequence[torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if self._kept is not None:
            images, labels = self._kept
            yield from ((images[places], labels[places]) for places in chosen)
            return
        kept: tuple[torch.Tensor, torch.Tensor] | None = None
        if self._keeps:
            shape = (len(self._ids), *self._preprocessing.input_size)
            kept = torch.empty(shape, dtype=torch.uint8), torch.empty(len(self._ids), dtype=torch.int64)
        read = iterate_batches(
            self._dataset,
            self._ids,
            [places.tolist() for places in chosen],
            self._preprocessing,
            workers=self._workers,
        )
        for places, batch in zip(chosen, read, strict=True):
            self._check(batch)
            if kept is not None:
                kept[0][places], kept[1][places] = batch.images, batch.labels
            yield batch.images, batch.labels
        self._kept = kept  # only now: an epoch that was broken off has holes

    def _check(self, batch: Batch) -> None:
        name, classes = self._dataset.name, len(self._dataset.class_names)
        for place, message in batch.errors.items():
            raise DatasetError(
                f"{name}: training image {batch.ids[place]} cannot be read ({message}); mend or leave out the sample"
            )
        wrong = (batch.labels < 0) | (batch.labels >= classes)
        if wrong.any():
            place = int(wrong.nonzero()[0])
            label = int(batch.labels[place])
            told = "no label" if label == NO_LABEL else f"label {label}"
            raise DatasetError(
                f"{name}: training image {batch.ids[place]} has {told}, expected one from 0 to {classes - 1}"
            )
