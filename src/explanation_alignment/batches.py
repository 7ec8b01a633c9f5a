"""From a dataset's samples to batches a classifier can take, image and annotations under one geometry."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from explanation_alignment.classifiers.classifier import Preprocessing
from explanation_alignment.errors import DatasetError
from explanation_alignment.runs.schema import STATUSES
from explanation_alignment.sample import AnnotatedDataset, Heatmap, Sample, SampleBatch

if TYPE_CHECKING:
    from explanation_alignment.decoded import DecodedImages

__all__ = ["Batch", "BatchReadable", "iterate_batches", "lost_worker", "reads_whole_batches"]

_OK, _NO_ANNOTATION, _CROPPED, _ERROR = (
    STATUSES.index(status) for status in ("ok", "no_annotation", "annotation_cropped", "error")
)
#: Label of a sample that has none; class indices are never negative.
NO_LABEL = -1


@runtime_checkable
class BatchReadable(Protocol):
    """A dataset that can hand over several samples at once."""

    def read_batch(self, indices: Sequence[int]) -> SampleBatch:
        """Several samples of one size, as tensors."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Samples as a classifier takes them.

    Args:
        ids: B sample ids.
        images: (B, C, H, W) uint8 after the geometry; zeros where a sample could not be read.
        labels: (B,) int64; -1 for none.
        annotations: (R, B, H, W) bool, in the order of the dataset's regions; False where there is none.
        annotation_status: (R, B) int64, places in ``STATUSES``: ok, no_annotation, annotation_cropped, error.
        errors: place in the batch -> why that sample could not be read.
        strengths: (R, B, H, W) float32, the annotations as real-valued attention; None unless asked for.
        passing: places in ``errors`` whose reason may be gone another time: a missing file, a full memory.
    """

    ids: Sequence[str]
    images: torch.Tensor
    labels: torch.Tensor
    annotations: torch.Tensor
    annotation_status: torch.Tensor
    errors: Mapping[int, str]
    strengths: torch.Tensor | None = None
    passing: Collection[int] = ()


def wrong_size(sample_id: str, given: tuple[int, int], taken: tuple[int, int]) -> str:
    """Words for an image that comes out of the geometry in another size than the classifier takes, (height, width)."""
    return (
        f"{sample_id}: the geometry gives {given[0]} x {given[1]}, the classifier takes {taken[0]} x {taken[1]}; give "
        f"Preprocessing(geometry=Geometry(resize={taken}))"
    )


def iterate_batches(
    dataset: AnnotatedDataset,
    ids: Sequence[str],
    batches: Sequence[Sequence[int]],
    preprocessing: Preprocessing,
    *,
    workers: int = 0,
    strengths: bool = False,
    decoded: DecodedImages | None = None,
) -> Iterator[Batch]:
    """Read batches in the order given.

    Args:
        dataset: where the samples come from.
        ids: all its sample ids, for the rows of samples that cannot be read.
        batches: for each batch its places in the dataset.
        preprocessing: its geometry is applied to images and annotations alike.
        workers: processes that decode ahead; 0 reads in this one. A dataset that can read whole
            batches from memory never needs them.
        strengths: whether the annotations are wanted as real-valued attention too; a mask's is 0 or 1.
        decoded: the same dataset under the same preprocessing as far as it has been decoded before: read from where it
            can, added to where it cannot. It holds no strengths, and is left alone where they are wanted.

    Yields:
        One :class:`Batch` each; the result depends neither on ``workers`` nor on ``decoded``.
    """
    if batches and reads_whole_batches(dataset, preprocessing, batches[0][:1]):
        assert isinstance(dataset, BatchReadable)
        for indices in batches:
            yield _whole_batch(dataset.read_batch(indices), dataset.regions, strengths)
        return
    decoded = None if strengths else decoded
    reader = _SampleReader(dataset, ids, preprocessing, strengths, decoded)
    ready = [decoded is not None and bool(decoded.held(places).all()) for places in batches]
    loaded = iter(
        DataLoader(
            reader,
            batch_sampler=[list(places) for places, known in zip(batches, ready, strict=True) if not known],
            num_workers=0 if all(ready) else workers,
            collate_fn=_collate,
            generator=torch.Generator(),  # its workers' seeds are not taken from the global one
            persistent_workers=False,
        )
    )
    for places, known in zip(batches, ready, strict=True):
        batch = decoded.read(places, ids) if decoded is not None and known else next(loaded)
        if batch is None:  # what is kept is damaged
            batch, known = _collate([reader[place] for place in places]), False
        if decoded is not None and not known:
            decoded.write(places, batch)
        yield batch


def lost_worker(error: BaseException) -> bool:
    """Whether an error is that a process that decodes ahead died: torch has no class for it, and raises it anywhere."""
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")


def reads_whole_batches(dataset: AnnotatedDataset, preprocessing: Preprocessing, places: Sequence[int]) -> bool:
    """Whether a dataset hands over whole batches just as a classifier takes them.

    Args:
        dataset: any.
        preprocessing: of the classifier.
        places: of the samples that are looked at to tell.
    """
    if not isinstance(dataset, BatchReadable):
        return False
    first = dataset.read_batch(places).images
    return first.shape[1:] == preprocessing.input_size and preprocessing.geometry.leaves_alone(*first.shape[2:])


def _whole_batch(batch: SampleBatch, regions: Sequence[str], strengths: bool) -> Batch:
    count, _, height, width = batch.images.shape
    masks = [batch.annotations[region] for region in regions]
    annotations = torch.stack(masks) if masks else torch.zeros((0, count, height, width), dtype=torch.bool)
    status = torch.where(annotations.flatten(2).any(dim=2), _OK, _CROPPED)
    values = annotations.to(torch.float32) if strengths else None
    return Batch(batch.ids, batch.images, batch.labels, annotations, status, {}, values)


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    id: str
    image: torch.Tensor
    label: int
    annotations: torch.Tensor
    status: torch.Tensor
    error: str | None
    strengths: torch.Tensor | None
    passing: bool = False


class _SampleReader(Dataset[_Read]):
    """Reads one sample under the geometry; a sample that fails becomes an error, not an exception."""

    def __init__(
        self,
        dataset: AnnotatedDataset,
        ids: Sequence[str],
        preprocessing: Preprocessing,
        strengths: bool,
        decoded: DecodedImages | None,
    ) -> None:
        self._dataset = dataset
        self._ids = ids
        self._preprocessing = preprocessing
        self._strengths = strengths
        self._decoded = decoded

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> _Read:
        channels, height, width = self._preprocessing.input_size
        regions = self._dataset.regions
        kept = None if self._decoded is None else self._decoded.read([index], self._ids)
        if kept is not None:
            return _Read(
                id=kept.ids[0],
                image=kept.images[0],
                label=int(kept.labels[0]),
                annotations=kept.annotations[:, 0],
                status=kept.annotation_status[:, 0],
                error=kept.errors.get(0),
                strengths=None,
            )
        try:
            return self._read(self._dataset[index])
        except Exception as error:  # whatever a damaged image raises belongs in its row
            return _Read(
                id=self._ids[index],
                image=torch.zeros((channels, height, width), dtype=torch.uint8),
                label=NO_LABEL,
                annotations=torch.zeros((len(regions), height, width), dtype=torch.bool),
                status=torch.full((len(regions),), _ERROR),
                error=f"{type(error).__name__}: {error}",
                strengths=torch.zeros((len(regions), height, width)) if self._strengths else None,
                passing=_may_pass(error),
            )

    def _read(self, sample: Sample) -> _Read:
        channels, height, width = self._preprocessing.input_size
        geometry = self._preprocessing.geometry
        mode = "L" if channels == 1 else "RGB"
        picture = geometry.image(sample.image if sample.image.mode == mode else sample.image.convert(mode))
        if (picture.height, picture.width) != (height, width):
            raise DatasetError(wrong_size(sample.id, (picture.height, picture.width), (height, width)))
        pixels = torch.from_numpy(np.array(picture)).reshape(height, width, channels).permute(2, 0, 1)
        regions = self._dataset.regions
        masks = torch.zeros((len(regions), height, width), dtype=torch.bool)
        status = torch.full((len(regions),), _NO_ANNOTATION)
        strengths = torch.zeros((len(regions), height, width)) if self._strengths else None
        for place, region in enumerate(regions):
            annotation = sample.annotations.get(region)
            if annotation is None:
                continue
            if annotation.size != (sample.image.height, sample.image.width):
                raise DatasetError(
                    f"{sample.id}: annotation {region!r} is {annotation.size[0]} x {annotation.size[1]}, "
                    f"the image {sample.image.height} x {sample.image.width}"
                )
            mask = geometry.annotation(annotation)
            masks[place] = torch.from_numpy(mask.copy())
            status[place] = _OK if mask.any() else _CROPPED
            if strengths is not None:
                strengths[place] = (
                    torch.from_numpy(geometry.heatmap(annotation.strength))
                    if isinstance(annotation, Heatmap)
                    else masks[place].to(torch.float32)
                )
        label = NO_LABEL if sample.label is None else sample.label
        return _Read(sample.id, pixels, label, masks, status, None, strengths)


def _may_pass(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, says something of the machine and not of the file's content."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
            return True
        error = error.__cause__ or error.__context__
    return False


def _collate(samples: Sequence[_Read]) -> Batch:
    wanted = [sample.strengths for sample in samples if sample.strengths is not None]
    return Batch(
        ids=[sample.id for sample in samples],
        images=torch.stack([sample.image for sample in samples]),
        labels=torch.tensor([sample.label for sample in samples]),
        annotations=torch.stack([sample.annotations for sample in samples], dim=1),
        annotation_status=torch.stack([sample.status for sample in samples], dim=1),
        errors={place: sample.error for place, sample in enumerate(samples) if sample.error is not None},
        strengths=torch.stack(wanted, dim=1) if wanted else None,
        passing=[place for place, sample in enumerate(samples) if sample.passing],
    )
