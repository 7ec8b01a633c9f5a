"""Looking a dataset through before it is used: every sample read once, every annotation looked at.

A dataset may have ``problems() -> Sequence[Problem]``, what its index tells without decoding an image, and ``notes``,
lines on what is normal and worth saying; both go into the report.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from explanation_alignment.datasets.base import draw_order
from explanation_alignment.datasets.checking.problems import Problem
from explanation_alignment.errors import DatasetError, UsageError, first_line
from explanation_alignment.geometry import Geometry
from explanation_alignment.progress import progress_bars
from explanation_alignment.sample import AnnotatedDataset, Annotation, Sample
from explanation_alignment.sampling import sample_order

__all__ = ["DEFAULT_GEOMETRY", "CheckReport", "RegionReport", "check_dataset", "choose_places", "known_labels"]

#: What most classifiers on ImageNet do.
DEFAULT_GEOMETRY: Final = Geometry(resize=256, crop=(224, 224))
#: Shares of an image at which the distribution of a region's area is told.
_QUANTILES: Final = (0.05, 0.5, 0.95)
#: Samples a worker process reads at a time.
_CHUNK: Final = 16


@dataclass(frozen=True, slots=True)
class RegionReport:
    """A region's annotations among the samples that could be read.

    Args:
        region: its name.
        evidence: whether a person would accept it as the reason for a class.
        annotated: samples that have an annotation for it.
        missing: samples that have none.
        empty: annotations that mark no pixel.
        full: annotations that mark every pixel.
        cropped: annotations that mark something, nothing of which is left after the geometry.
        area: 5 %, 50 % and 95 % quantile of the marked share of the image, in 0..1, over annotations that are not
            empty; none where there is none.
    """

    region: str
    evidence: bool
    annotated: int
    missing: int
    empty: int
    full: int
    cropped: int
    area: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found.

    Args:
        dataset: the dataset's name.
        fingerprint: its fingerprint.
        toy: whether its content was generated.
        samples: how many it has.
        checked: how many of them were read.
        unreadable: how many of those could not be.
        geometry: the geometry annotations were put through, as its settings.
        classes: class name -> samples, for classes that have any; from the index where it tells, else from what was
            read.
        empty_classes: how many classes have no sample.
        unlabelled: samples without a label.
        sizes: smallest and largest height and width, pixels: ``(h, w, h, w)``; None where nothing could be read.
        regions: a report each.
        problems: what is wrong, by kind and sample.
        notes: what is normal and worth saying.
    """

    dataset: str
    fingerprint: str
    toy: bool
    samples: int
    checked: int
    unreadable: int
    geometry: Mapping[str, Any]
    classes: Mapping[str, int]
    empty_classes: int
    unlabelled: int
    sizes: tuple[int, int, int, int] | None
    regions: tuple[RegionReport, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing serious is wrong."""
        return not any(problem.serious for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {"ok": self.ok, **asdict(self)}


def check_dataset(
    dataset: AnnotatedDataset,
    geometry: Geometry = DEFAULT_GEOMETRY,
    *,
    sample: int | None = None,
    seed: int = 0,
    workers: int = 0,
    progress: bool = True,
) -> CheckReport:
    """Read a dataset's samples and look at what they hold.

    Args:
        dataset: anything with the :class:`~explanation_alignment.sample.AnnotatedDataset` protocol.
        geometry: what a classifier will do to its images; tells which annotations it crops away.
        sample: read only so many samples, class-balanced where the labels are known; None for all. What the index
            tells is told of all of them anyway.
        seed: decides which.
        workers: processes that read; the report does not depend on it.
        progress: show a progress bar, if stderr is a terminal.

    Raises:
        UsageError: ``sample`` is less than 1.
        DatasetError: a worker process died.

    Example:
        >>> from explanation_alignment import load_dataset
        >>> report = check_dataset(load_dataset("colored_mnist"), sample=100)
        >>> report.ok, report.checked, report.regions[1].region, report.regions[1].annotated
        (True, 100, 'block', 100)
    """
    ids = list(dataset.ids())
    labels = known_labels(dataset)
    places = choose_places(dataset, ids, labels, sample, seed)
    problems = [*getattr(dataset, "problems", tuple)(), *_index_problems(dataset, ids, labels)]
    seen = _read_all(dataset, ids, labels, places, geometry, workers, progress)
    known = {problem.sample_id for problem in problems if problem.serious}
    told = {(problem.kind, problem.sample_id) for problem in problems}
    for facts in seen:
        for problem in facts.problems:
            repeated = problem.kind == "unreadable_sample" and problem.sample_id in known
            if not repeated and (problem.kind, problem.sample_id) not in told:
                problems.append(problem)
    readable = [facts for facts in seen if facts.size is not None]
    regions = tuple(_region(place, name, dataset, readable) for place, name in enumerate(dataset.regions))
    if readable and dataset.evidence and not any(region.annotated for region in regions if region.evidence):
        text = f"none of the {len(readable)} samples read has an annotation of the evidence"
        problems.append(Problem("no_annotation", None, f"{text} ({', '.join(dataset.evidence)})"))
    found = labels if labels is not None else [facts.label for facts in readable]
    counts = collections.Counter(label for label in found if label is not None)
    heights, widths = zip(*(facts.size or (0, 0) for facts in readable), strict=True) if readable else ((), ())
    notes = getattr(dataset, "notes", ())
    return CheckReport(
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        toy=bool(getattr(dataset, "toy", False)),
        samples=len(ids),
        checked=len(seen),
        unreadable=len(seen) - len(readable),
        geometry=geometry.describe(),
        classes={name: counts[place] for place, name in enumerate(dataset.class_names) if counts[place]},
        empty_classes=sum(not counts[place] for place in range(len(dataset.class_names))),
        unlabelled=sum(label is None for label in found),
        sizes=(min(heights), min(widths), max(heights), max(widths)) if readable else None,
        regions=regions,
        problems=tuple(problems),
        notes=tuple(notes() if callable(notes) else notes),
    )


def known_labels(dataset: AnnotatedDataset) -> Sequence[int | None] | None:
    """Class index of every sample where the dataset tells without decoding an image; None where it does not."""
    known = getattr(dataset, "labels", None)
    return list(known()) if callable(known) else None


def choose_places(
    dataset: AnnotatedDataset, ids: Sequence[str], labels: Sequence[int | None] | None, sample: int | None, seed: int
) -> list[int]:
    """Which samples are looked at: all, or so many, class-balanced where the labels are known; in the dataset's order.

    Raises:
        UsageError: ``sample`` is less than 1.
    """
    if sample is not None and sample < 1:
        raise UsageError(f"sample: expected at least 1, got {sample}")
    if sample is None or sample >= len(ids):
        return list(range(len(ids)))
    if labels is None or len(labels) != len(ids) or len(set(ids)) != len(ids):
        return sorted(draw_order(ids, seed)[:sample])
    return sample_order(dataset, ids, sample, seed)


def _index_problems(
    dataset: AnnotatedDataset, ids: Sequence[str], labels: Sequence[int | None] | None
) -> list[Problem]:
    """What the protocol asks for and the columns do not keep."""
    problems = []
    if not ids:
        problems.append(Problem("no_samples", None, "the dataset has no samples"))
    if len(ids) != len(dataset):
        problems.append(Problem("bad_column", None, f"{len(ids)} ids for {len(dataset)} samples"))
    columns: dict[str, Sequence[Any]] = {f"attribute {name}": column for name, column in dataset.attributes().items()}
    if labels is not None:
        columns["labels"] = labels
    problems += [
        Problem("bad_column", None, f"{name}: {len(column)} values for {len(ids)} samples")
        for name, column in columns.items()
        if len(column) != len(ids)
    ]
    problems += [
        Problem("repeated_id", name, f"this id stands for {count} samples")
        for name, count in collections.Counter(ids).items()
        if count > 1
    ]
    problems += [
        Problem("bad_id", name, "expected a stable name: no absolute path, no backslash")
        for name in ids
        if not name or name.startswith(("/", "~")) or "\\" in name or name[1:2] == ":"
    ]
    return problems


@dataclass(frozen=True, slots=True)
class _Facts:
    """What reading one sample told.

    Args:
        problems: what is wrong with it.
        size: (height, width) of its image, None where it could not be read.
        label: its class.
        marked: for every region the marked share of the image, None for no annotation.
        kept: for every region whether something of it is left after the geometry.
    """

    problems: list[Problem]
    size: tuple[int, int] | None = None
    label: int | None = None
    marked: list[float | None] = field(default_factory=list)
    kept: list[bool] = field(default_factory=list)


class _Reader(Dataset[_Facts]):
    """Reads one sample and looks at it; whatever goes wrong is a problem, not an exception."""

    def __init__(
        self, dataset: AnnotatedDataset, ids: Sequence[str], labels: Sequence[int | None] | None, geometry: Geometry
    ) -> None:
        self._dataset, self._ids, self._labels, self._geometry = dataset, ids, labels, geometry
        self._attributes = dataset.attributes()

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, place: int) -> _Facts:
        name = self._ids[place]
        try:
            sample = self._dataset[place]
            sample.image.load()
        except Exception as error:  # whatever a damaged file raises
            words = first_line(error) if isinstance(error, DatasetError) else f"{type(error).__name__}: {error}"
            return _Facts([Problem("unreadable_sample", name, words)])
        problems: list[Problem] = []

        def wrong(kind: str, message: str) -> None:
            problems.append(Problem(kind, name, message))

        self._compare(sample, place, wrong)
        size = (sample.image.height, sample.image.width)
        marked: list[float | None] = []
        kept: list[bool] = []
        for region in self._dataset.regions:
            share, left = None, False
            annotation = sample.annotations.get(region)
            if annotation is not None:
                try:
                    share, left = self._measure(annotation, size)
                except Exception as error:  # an annotation that cannot be drawn, of any making
                    wrong("unreadable_annotation", f"{region}: {first_line(error)}")
                else:
                    if not share:
                        wrong("empty_annotation", f"{region}: the annotation marks no pixel")
            marked.append(share)
            kept.append(left)
        return _Facts(problems, size, sample.label, marked, kept)

    def _compare(self, sample: Sample, place: int, wrong: Callable[[str, str], None]) -> None:
        """The sample with what the columns told of it."""
        if sample.id != self._ids[place]:
            wrong("inconsistent", f"the sample calls itself {sample.id!r}")
        if self._labels is not None and place < len(self._labels) and sample.label != self._labels[place]:
            wrong("inconsistent", f"the sample's label is {sample.label}, the index has {self._labels[place]}")
        if sample.label is not None and not 0 <= sample.label < len(self._dataset.class_names):
            wrong("bad_label", f"label {sample.label}, there are {len(self._dataset.class_names)} classes")
        for key, column in self._attributes.items():
            own = sample.attributes.get(key)
            if place < len(column) and own != column[place] and (own == own or column[place] == column[place]):  # NaN
                wrong("inconsistent", f"the sample's {key} is {own!r}, the index has {column[place]!r}")
        for region in sample.annotations:
            if region not in self._dataset.regions:
                wrong("inconsistent", f"an annotation of the region {region!r}, which is none of the dataset's")

    def _measure(self, annotation: Annotation, size: tuple[int, int]) -> tuple[float, bool]:
        """The marked share of the image, and whether something is left after the geometry."""
        if annotation.size != size:
            raise DatasetError(
                f"the annotation is {annotation.size[0]} x {annotation.size[1]}, the image {size[0]} x {size[1]}"
            )
        share = float(annotation.to_mask().mean())
        return share, bool(self._geometry.annotation(annotation).any())


def _read_all(
    dataset: AnnotatedDataset,
    ids: Sequence[str],
    labels: Sequence[int | None] | None,
    places: Sequence[int],
    geometry: Geometry,
    workers: int,
    progress: bool,
) -> list[_Facts]:
    chunks = [list(places[start : start + _CHUNK]) for start in range(0, len(places), _CHUNK)]
    loader: DataLoader[_Facts] = DataLoader(
        _Reader(dataset, ids, labels, geometry),
        batch_sampler=chunks,
        num_workers=workers,
        collate_fn=_listed,
        generator=torch.Generator(),  # its workers' seeds are not taken from the global one
    )
    seen: list[_Facts] = []
    with progress_bars(enabled=progress and bool(places)) as bars:
        bar = bars.add_task(f"reading {dataset.name}", total=len(places), note="")
        try:
            for facts in loader:
                seen += facts
                bars.advance(bar, len(facts))
        except RuntimeError as error:
            if workers == 0:
                raise
            raise DatasetError(
                f"a process reading {dataset.name} ended; try workers 0 ({first_line(error)})"
            ) from error
    return seen


def _listed(facts: list[_Facts]) -> list[_Facts]:
    return facts


def _region(place: int, name: str, dataset: AnnotatedDataset, readable: Sequence[_Facts]) -> RegionReport:
    shares = [(facts.marked[place], facts.kept[place]) for facts in readable]
    marked = np.array([share for share, _ in shares if share], dtype=np.float64)
    return RegionReport(
        region=name,
        evidence=name in dataset.evidence,
        annotated=sum(share is not None for share, _ in shares),
        missing=sum(share is None for share, _ in shares),
        empty=sum(share == 0 for share, _ in shares),
        full=sum(share == 1 for share, _ in shares),
        cropped=sum(bool(share) and not left for share, left in shares),
        area=tuple(float(value) for value in np.quantile(marked, _QUANTILES)) if len(marked) else (),
    )
