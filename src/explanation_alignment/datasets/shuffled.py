"""The shuffled-annotation null: every image with another image's annotations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.datasets.base import IndexedDataset, labels_of, positives_of, read_for
from explanation_alignment.errors import UsageError
from explanation_alignment.sample import AnnotatedDataset, Annotation, Boxes, Heatmap, Mask, Sample

__all__ = ["ShuffledAnnotations"]

_ROUNDING: Final = 1e-6


class ShuffledAnnotations(IndexedDataset):
    """A dataset whose annotations belong to other images: what is left of a score is due to where people annotate.

    The images form one ring in the order of a hash of their ids; each takes the annotations of the next, so that every
    annotation is used once. Where the two images' sizes differ, the annotation is squashed to the image's size, which
    keeps its place relative to the edges; boxes grow to whole pixels. Images show the classes they showed: the first of
    them takes what is annotated for the first class of the next image, and so on, starting over where that has fewer.

    Args:
        dataset: whose annotations are passed on; at least two samples.
        seed: another seed, another ring.

    Raises:
        UsageError: fewer than two samples, so that there is no other image.
    """

    def __init__(self, dataset: AnnotatedDataset, *, seed: int = 0) -> None:
        ids = dataset.ids()
        if len(ids) < 2:
            raise UsageError(
                f"{dataset.name}: shuffling annotations takes at least two samples, there is {len(ids)}; take more"
            )
        ring = sorted(
            range(len(ids)), key=lambda place: hashlib.sha256(f"{seed} shuffled {ids[place]}".encode()).digest()
        )
        self._next = dict(zip(ring, [*ring[1:], *ring[:1]], strict=True))
        self._dataset = dataset
        super().__init__(
            name=f"{dataset.name}~shuffled",
            class_names=dataset.class_names,
            regions=dataset.regions,
            evidence=dataset.evidence,
            ids=ids,
            labels=labels_of(dataset),
            attributes=dataset.attributes(),
            fingerprint=hashlib.sha256(f"shuffled {seed} {dataset.fingerprint}".encode()).hexdigest(),
            toy=bool(getattr(dataset, "toy", False)),
        )

    def positives(self) -> Sequence[Sequence[int]]:
        """Every class each sample shows, as the dataset knows it."""
        return self._shown

    def read_for(self, index: int, label: int) -> Sample:
        """A sample with what another image has annotated for one of its own classes.

        Raises:
            UsageError: the image does not show the class.
        """
        other = self._next[index]
        shown, others = self._shown[index], self._shown[other]
        if label not in shown:
            raise UsageError(f"{self.name}: {self.ids()[index]} shows {[*shown]}, not class {label}; give one it shows")
        turn = shown.index(label)
        lender = read_for(self._dataset, other, others[turn % len(others)]) if others else self._dataset[other]
        return replace(_lent(self._dataset[index], lender), label=label)

    @cached_property
    def _shown(self) -> Sequence[Sequence[int]]:
        # a dataset that does not say would be decoded for its labels, which are known here
        knows = callable(getattr(self._dataset, "positives", None))
        return positives_of(self._dataset) if knows else super().positives()

    def _read(self, index: int) -> Sample:
        return _lent(self._dataset[index], self._dataset[self._next[index]])


def _lent(own: Sample, other: Sample) -> Sample:
    """A sample with another's annotations, in its own size."""
    size = (own.image.height, own.image.width)
    annotations = {
        region: None if annotation is None else _squashed(annotation, size)
        for region, annotation in other.annotations.items()
    }
    return Sample(own.id, own.image, own.label, annotations, own.attributes)


def _squashed(annotation: Annotation, size: tuple[int, int]) -> Annotation:
    if annotation.size == size:
        return annotation
    if isinstance(annotation, Heatmap):
        return Heatmap(np.array(_resized(annotation.strength, size, Image.Resampling.BILINEAR), dtype=np.float32))
    if isinstance(annotation, Boxes):
        scale = np.array([size[1] / annotation.width, size[0] / annotation.height] * 2)
        scaled = annotation.xyxy * scale
        # Outwards, so that a thin box keeps a pixel; the margin is for products that ought to be whole.
        corners = [np.floor(scaled[:, :2] + _ROUNDING), np.ceil(scaled[:, 2:] - _ROUNDING)]
        return Boxes(np.concatenate(corners, axis=1).astype(np.int64), *size)
    pixels = _resized(annotation.pixels.astype(np.uint8), size, Image.Resampling.NEAREST)
    return Mask(np.asarray(pixels) > 0)


def _resized(
    values: NDArray[np.float32] | NDArray[np.uint8], size: tuple[int, int], how: Image.Resampling
) -> Image.Image:
    return Image.fromarray(values).resize((size[1], size[0]), how)
