"""A sample, the kinds of annotation it can carry, and what a dataset must offer to be evaluated.

Any object with the :class:`AnnotatedDataset` attributes works everywhere a registered dataset does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.errors import UsageError

__all__ = ["AnnotatedDataset", "Annotation", "AttributeValue", "Boxes", "Heatmap", "Mask", "Sample", "SampleBatch"]

AttributeValue: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """An annotation drawn pixel by pixel.

    Args:
        pixels: (H, W) bool array at the image's own size; True where the evidence is.

    Raises:
        UsageError: if ``pixels`` is not a two-dimensional bool array.
    """

    pixels: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype != np.bool_:
            raise UsageError(
                f"Mask.pixels: expected a (H, W) bool array, got shape {self.pixels.shape} {self.pixels.dtype}"
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def to_mask(self) -> NDArray[np.bool_]:
        """The annotation as a (H, W) bool array."""
        return self.pixels


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """An annotation given as boxes; its mask is their union.

    Args:
        xyxy: (N, 4) integer array, half-open pixel ranges x0, y0, x1, y1 on the image's own size.
            What lies outside the image is clipped; an empty box marks nothing.
        height: the image's height in pixels.
        width: the image's width in pixels.

    Raises:
        UsageError: if ``xyxy`` is not an (N, 4) integer array.
    """

    xyxy: NDArray[np.integer]
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.xyxy.ndim != 2 or self.xyxy.shape[1] != 4 or not np.issubdtype(self.xyxy.dtype, np.integer):
            raise UsageError(
                f"Boxes.xyxy: expected an (N, 4) integer array, got shape {self.xyxy.shape} {self.xyxy.dtype}"
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels, the image's."""
        return self.height, self.width

    def to_mask(self) -> NDArray[np.bool_]:
        """The union of the boxes as a (H, W) bool array."""
        mask = np.zeros((self.height, self.width), dtype=np.bool_)
        for x0, y0, x1, y1 in np.maximum(self.xyxy, 0):
            mask[y0:y1, x0:x1] = True
        return mask


@dataclass(frozen=True, slots=True, eq=False)
class Heatmap:
    """An annotation with a strength at every pixel: measured human attention, or marks of several people added up.

    Metrics that compare with real-valued attention take the strengths; those that need a mask take the pixels of at
    least half the largest strength (full width at half maximum).

    Args:
        strength: (H, W) float32 array at the image's own size, not negative and finite.

    Raises:
        UsageError: if it is no such array.
    """

    strength: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.strength.ndim != 2 or self.strength.dtype != np.float32:
            raise UsageError(
                f"Heatmap.strength: expected a (H, W) float32 array, got shape {self.strength.shape} "
                f"{self.strength.dtype}"
            )
        if self.strength.size and not (np.isfinite(self.strength).all() and self.strength.min() >= 0):
            raise UsageError("Heatmap.strength: expected finite values of at least 0")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.strength.shape[0], self.strength.shape[1]

    def to_mask(self) -> NDArray[np.bool_]:
        """The pixels of at least half the largest strength as a (H, W) bool array; none where all are 0."""
        top = self.strength.max(initial=0)
        mask: NDArray[np.bool_] = (self.strength >= top / 2) & (top > 0)
        return mask


Annotation: TypeAlias = Mask | Boxes | Heatmap


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One annotated image.

    Args:
        id: stable name of the image, the same on every machine; never used as a path.
        image: a PIL image.
        label: class index, or None where the dataset has no labels.
        annotations: region name -> annotation, or None where this image has none for that region.
        attributes: named values that can serve as groups, such as ``{"Smiling": True}``.
    """

    id: str
    image: Image.Image
    label: int | None
    annotations: Mapping[str, Annotation | None]
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class SampleBatch:
    """Several samples of one size, as tensors: what a dataset that lives in memory can hand over at once.

    Args:
        ids: B sample ids.
        images: (B, C, H, W) uint8.
        labels: (B,) int64.
        annotations: region name -> (B, H, W) bool; every sample has an annotation for each of them.
    """

    ids: Sequence[str]
    images: torch.Tensor
    labels: torch.Tensor
    annotations: Mapping[str, torch.Tensor]


@runtime_checkable
class AnnotatedDataset(Protocol):
    """What a dataset must offer.

    A dataset whose images share one size and live in memory may also have
    ``read_batch(indices: Sequence[int]) -> SampleBatch``, which saves the work per image; it must
    hold the very same content as ``__getitem__``.
    """

    @property
    def name(self) -> str:
        """Name of the dataset in tables; part of a row's key."""
        ...

    @property
    def class_names(self) -> Sequence[str]:
        """Name of each class, in the order of the labels."""
        ...

    @property
    def regions(self) -> Sequence[str]:
        """Names of the annotated regions."""
        ...

    @property
    def evidence(self) -> Sequence[str]:
        """The regions a person would accept as the reason for a class."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hex digest of everything that decides the samples' content."""
        ...

    def ids(self) -> Sequence[str]:
        """Sample ids, in order."""
        ...

    def attributes(self) -> Mapping[str, Sequence[AttributeValue]]:
        """Attribute name -> a value for every sample, read without decoding an image."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...
