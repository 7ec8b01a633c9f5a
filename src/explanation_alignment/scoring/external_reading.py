"""Reads samples with the maps of them that were computed elsewhere, both brought to one size by one geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from torch.utils.data import Dataset

from explanation_alignment.errors import DatasetError, UsageError, first_line
from explanation_alignment.geometry import Geometry
from explanation_alignment.runs.schema import STATUSES
from explanation_alignment.sample import AnnotatedDataset, Annotation, Heatmap, Sample
from explanation_alignment.scoring.map_sources import MapSource

__all__ = ["Covers", "ReadBatch", "ReadSample", "SampleReader", "collate"]

#: What a map lies over: the whole image, or what the geometry leaves of it, as a network's input does.
Covers: TypeAlias = Literal["image", "crop"]

_OK, _NO_ANNOTATION, _CROPPED, _ERROR = (
    STATUSES.index(status) for status in ("ok", "no_annotation", "annotation_cropped", "error")
)


@dataclass(frozen=True, slots=True, eq=False)
class ReadSample:
    """One sample with its map at the common size; R regions."""

    place: int
    label: int
    saliency: torch.Tensor
    annotations: torch.Tensor
    strengths: torch.Tensor
    status: torch.Tensor
    message: str | None
    unreadable: bool


@dataclass(frozen=True, slots=True, eq=False)
class ReadBatch:
    """B samples with their maps; R regions.

    Args:
        places: in the dataset.
        labels: negative for none.
        saliency: (B, H, W) float.
        annotations: (R, B, H, W) bool.
        strengths: (R, B, H, W) float; (R, B, 0, 0) where no metric takes them.
        status: (R, B) int, places in ``STATUSES``.
        messages: why a sample has no scores; None where it has.
        unreadable: the places in the batch of those that could not be read.
    """

    places: Sequence[int]
    labels: Sequence[int]
    saliency: torch.Tensor
    annotations: torch.Tensor
    strengths: torch.Tensor
    status: torch.Tensor
    messages: Sequence[str | None]
    unreadable: Sequence[int]


def collate(samples: Sequence[ReadSample]) -> ReadBatch:
    """Samples as a batch. Done where they are read: every tensor from another process holds a file open."""
    return ReadBatch(
        places=[one.place for one in samples],
        labels=[one.label for one in samples],
        saliency=torch.stack([one.saliency for one in samples]),
        annotations=torch.stack([one.annotations for one in samples], dim=1),
        strengths=torch.stack([one.strengths for one in samples], dim=1),
        status=torch.stack([one.status for one in samples], dim=1),
        messages=[one.message for one in samples],
        unreadable=[at for at, one in enumerate(samples) if one.unreadable],
    )


class SampleReader(Dataset[ReadSample]):
    """Reads samples and their maps; one that fails becomes a row with an error."""

    def __init__(
        self,
        dataset: AnnotatedDataset,
        ids: Sequence[str],
        source: MapSource,
        places: Mapping[str, str],
        geometry: Geometry,
        covers: Covers,
        strengths: bool,
    ) -> None:
        self.dataset, self.ids = dataset, ids
        self._source, self._places, self._geometry, self._covers = source, places, geometry, covers
        self._strengths = strengths
        self.size = self._size()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: int) -> ReadSample:
        name, label = self.ids[place], -1
        try:
            sample = self.dataset[place]
            label = -1 if sample.label is None else sample.label
            if name not in self._places:
                return self._failed(place, label, "no map of this name", unreadable=False)
            saliency = self._map(sample)
            return self._read(place, sample, label, saliency)
        except Exception as error:  # whatever a damaged file raises belongs in its row
            return self._failed(place, label, f"{type(error).__name__}: {first_line(error)}", unreadable=True)

    def example(self, place: int) -> tuple[Sample, ReadSample]:
        """A sample with what was read of it."""
        return self.dataset[place], self[place]

    def picture(self, sample: Sample) -> NDArray[np.uint8]:
        """The image at the common size, (H, W, 3)."""
        return np.asarray(self._geometry.image(sample.image.convert("RGB")))

    def _size(self) -> tuple[int, int]:
        if self._geometry.crop is not None:
            return self._geometry.crop
        if isinstance(self._geometry.resize, tuple) and self._geometry.fit == "squash":
            return self._geometry.resize
        raise UsageError("geometry: expected one that brings all images to one size: a crop, or (height, width)")

    def _map(self, sample: Sample) -> torch.Tensor:
        values = self._source.load(self._places[sample.id])
        height, width = sample.image.height, sample.image.width
        squashed = self._geometry == Geometry(resize=self.size)
        if self._covers == "crop" or squashed:
            return _resized(values, self.size)
        whole = _resized(values, (height, width)).numpy()
        return torch.from_numpy(self._geometry.heatmap(whole))

    def _read(self, place: int, sample: Sample, label: int, saliency: torch.Tensor) -> ReadSample:
        regions = self.dataset.regions
        masks = torch.zeros((len(regions), *self.size), dtype=torch.bool)
        strengths = torch.zeros((len(regions), *self.size) if self._strengths else (len(regions), 0, 0))
        status = torch.full((len(regions),), _NO_ANNOTATION)
        for at, region in enumerate(regions):
            annotation: Annotation | None = sample.annotations.get(region)
            if annotation is None:
                continue
            if annotation.size != (sample.image.height, sample.image.width):
                raise DatasetError(f"annotation {region!r} is of another size than the image")
            masks[at] = torch.from_numpy(self._geometry.annotation(annotation).copy())
            status[at] = _OK if masks[at].any() else _CROPPED
            if self._strengths:
                strengths[at] = (
                    torch.from_numpy(self._geometry.heatmap(annotation.strength))
                    if isinstance(annotation, Heatmap)
                    else masks[at].float()
                )
        return ReadSample(place, label, saliency, masks, strengths, status, None, False)

    def _failed(self, place: int, label: int, message: str, *, unreadable: bool) -> ReadSample:
        regions = len(self.dataset.regions)
        return ReadSample(
            place,
            label,
            torch.zeros(self.size),
            torch.zeros((regions, *self.size), dtype=torch.bool),
            torch.zeros((regions, *self.size) if self._strengths else (regions, 0, 0)),
            torch.full((regions,), _ERROR),
            message,
            unreadable,
        )


def _resized(values: NDArray[np.float32], size: tuple[int, int]) -> torch.Tensor:
    """A map brought to a size bilinearly, with antialiasing where it shrinks."""
    tensor = torch.from_numpy(values)
    if tensor.shape == size:
        return tensor
    return F.interpolate(tensor[None, None], size=size, mode="bilinear", align_corners=False, antialias=True)[0, 0]
