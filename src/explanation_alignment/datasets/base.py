"""What the datasets that read files share: columns known without decoding an image, subsets and balanced draws."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, Final

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.sample import AnnotatedDataset, AttributeValue, Sample, SampleBatch

__all__ = [
    "IndexedDataset",
    "Subset",
    "draw_balanced",
    "draw_order",
    "labelled",
    "labels_of",
    "positives_of",
    "read_for",
]

#: Groups too small for a draw that a message names.
_TOLD: Final = 5


class IndexedDataset(ABC):
    """A dataset whose ids, labels and attributes are known before an image is decoded.

    Keeps the :class:`~explanation_alignment.sample.AnnotatedDataset` protocol; a subclass writes ``_read``. Objects
    hold plain columns and paths only, so that they can be pickled for worker processes.

    Args:
        name: name of the dataset in tables.
        class_names: name of each class, in the order of the labels.
        regions: names of the annotated regions.
        evidence: the regions a person would accept as the reason for a class.
        ids: sample ids, unique and the same on every machine and operating system.
        labels: class index of every sample, None where it has none.
        attributes: attribute name -> a value for every sample.
        fingerprint: hex digest of everything that decides the samples' content.
        toy: whether the files are generated stand-ins.
    """

    def __init__(
        self,
        *,
        name: str,
        class_names: Sequence[str],
        regions: Sequence[str],
        evidence: Sequence[str],
        ids: Sequence[str],
        labels: Sequence[int | None],
        attributes: Mapping[str, Sequence[AttributeValue]],
        fingerprint: str,
        toy: bool = False,
    ) -> None:
        self.name = name
        self.class_names = tuple(class_names)
        self.regions = tuple(regions)
        self.evidence = tuple(evidence)
        self.fingerprint = fingerprint
        self.toy = toy
        self._ids = tuple(ids)
        self._labels = tuple(labels)
        self._attributes = {key: tuple(values) for key, values in attributes.items()}

    def ids(self) -> Sequence[str]:
        """Sample ids, in order."""
        return self._ids

    def labels(self) -> Sequence[int | None]:
        """Class index of every sample, None where it has none."""
        return self._labels

    def positives(self) -> Sequence[Sequence[int]]:
        """Every class each sample shows, ascending; its label alone unless the dataset knows more."""
        return [() if label is None else (label,) for label in self._labels]

    def attributes(self) -> Mapping[str, Sequence[AttributeValue]]:
        """Attribute name -> a value for every sample, read without decoding an image."""
        return self._attributes

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int, /) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} samples, no place {index}")
        return self._read(index % len(self))

    def read_for(self, index: int, label: int) -> Sample:
        """A sample as it is annotated for one of the classes it shows, with that class as its label."""
        return replace(self[index], label=label)

    @abstractmethod
    def _read(self, index: int) -> Sample:
        """Decode one sample; ``index`` is not negative."""

    def subset(self, ids: Sequence[str]) -> Subset:
        """Only these samples, in this order; see :class:`Subset`."""
        return Subset(self, ids)

    def balanced(self, *, by: Sequence[str] | str = "label", n: int | Mapping[object, int], seed: int = 0) -> Subset:
        """As many samples of each group; see :func:`draw_balanced`."""
        return Subset(self, draw_balanced(self, by=by, n=n, seed=seed))


class Subset(IndexedDataset):
    """Some samples of a dataset, itself a dataset; it has ``read_batch`` where the dataset has it.

    Args:
        dataset: any object with the :class:`~explanation_alignment.sample.AnnotatedDataset` protocol.
        ids: which samples, in the order wanted.

    Raises:
        UsageError: an id is given twice, or there is none.
        UnknownNameError: the dataset has no such id.
    """

    def __init__(self, dataset: AnnotatedDataset, ids: Sequence[str]) -> None:
        place_of = {name: place for place, name in enumerate(dataset.ids())}
        for name in ids:
            if name not in place_of:
                raise UnknownNameError(f"sample of {dataset.name}", name, list(place_of))
        if not ids or len(set(ids)) != len(ids):
            raise UsageError(f"subset of {dataset.name}: expected different ids, at least one; got {len(ids)}")
        self._dataset = dataset
        self._places = tuple(place_of[name] for name in ids)
        digest = hashlib.sha256(json.dumps([dataset.fingerprint, *ids]).encode())
        labels = labels_of(dataset)
        super().__init__(
            name=dataset.name,
            class_names=dataset.class_names,
            regions=dataset.regions,
            evidence=dataset.evidence,
            ids=ids,
            labels=[labels[place] for place in self._places],
            attributes={key: [values[place] for place in self._places] for key, values in dataset.attributes().items()},
            fingerprint=digest.hexdigest(),
            toy=bool(getattr(dataset, "toy", False)),
        )
        if callable(getattr(dataset, "read_batch", None)):
            self.read_batch = self._read_batch

    def _read(self, index: int) -> Sample:
        return self._dataset[self._places[index]]

    def positives(self) -> Sequence[Sequence[int]]:
        """Every class each sample shows, as the whole dataset knows it."""
        shown = positives_of(self._dataset)
        return [shown[place] for place in self._places]

    def read_for(self, index: int, label: int) -> Sample:
        """A sample as the whole dataset has it annotated for one of its classes."""
        return read_for(self._dataset, self._places[index], label)

    def _read_batch(self, indices: Sequence[int]) -> SampleBatch:
        batch: SampleBatch = self._dataset.read_batch([self._places[index] for index in indices])  # type: ignore[attr-defined]
        return batch


def labels_of(dataset: AnnotatedDataset) -> Sequence[int | None]:
    """Class index of every sample; reads every sample of a dataset that does not tell by itself.

    A sample that cannot be read has no label here; whoever evaluates it learns why.
    """
    known = getattr(dataset, "labels", None)
    return known() if callable(known) else [_label_of(dataset, place) for place in range(len(dataset))]


def _label_of(dataset: AnnotatedDataset, place: int) -> int | None:
    try:
        return dataset[place].label
    except Exception:  # whatever a damaged image raises
        return None


def positives_of(dataset: AnnotatedDataset) -> Sequence[Sequence[int]]:
    """Every class each sample shows: what the dataset's ``positives()`` says, else the label alone."""
    known = getattr(dataset, "positives", None)
    return known() if callable(known) else [() if label is None else (label,) for label in labels_of(dataset)]


def read_for(dataset: AnnotatedDataset, index: int, label: int) -> Sample:
    """A sample as the dataset's ``read_for`` has it annotated for one of its classes, else as it is."""
    known = getattr(dataset, "read_for", None)
    sample: Sample = known(index, label) if callable(known) else replace(dataset[index], label=label)
    return sample


def draw_balanced(
    dataset: AnnotatedDataset, *, by: Sequence[str] | str = "label", n: int | Mapping[object, int], seed: int = 0
) -> list[str]:
    """Ids of as many samples of each group, in the dataset's own order.

    Whether a sample is drawn depends on its id and the seed only, and draws are nested: a larger ``n`` keeps what a
    smaller one drew.

    Args:
        dataset: what to draw from.
        by: ``"label"`` or attribute names; a group is a combination of their values.
        n: how many of each group there is, samples without a value (None) left out; or group -> how many (other groups
            are left out), where a group is a value, or a tuple of values for several names.
        seed: decides which.

    Raises:
        UnknownNameError: the dataset has no such attribute.
        UsageError: a group is smaller than asked for; the message has the counts.

    Example:
        >>> from explanation_alignment import load_dataset
        >>> digits = load_dataset("colored_mnist")
        >>> len(draw_balanced(digits, by="label", n=2))
        20
    """
    names = [by] if isinstance(by, str) else list(by)
    attributes = dataset.attributes()
    columns = []
    for name in names:
        if name != "label" and name not in attributes:
            raise UnknownNameError(f"attribute of {dataset.name}", name, ["label", *attributes])
        columns.append(labels_of(dataset) if name == "label" else attributes[name])
    ids = dataset.ids()
    groups: dict[object, list[int]] = defaultdict(list)
    for place, values in enumerate(zip(*columns, strict=True)):
        groups[values[0] if isinstance(by, str) else values].append(place)
    if isinstance(n, (int, Integral)):
        named = [group for group in groups if None not in (group if isinstance(group, tuple) else (group,))]
        wanted = dict.fromkeys(named, int(n))
    else:
        wanted = dict(n)
    short = {group: count for group, count in wanted.items() if not 1 <= count <= len(groups.get(group, ()))}
    if short or not wanted:
        told = [f"{group}: {len(groups.get(group, ()))} there, {count} wanted" for group, count in short.items()]
        told = [*told[:_TOLD], f"and {len(told) - _TOLD} groups more"] if len(told) > _TOLD else told
        what = ", ".join(names) or "nothing"
        raise UsageError(f"{dataset.name}, balanced by {what}: {'; '.join(told) or 'there are no groups'}")
    drawn: set[int] = set()
    for group, count in wanted.items():
        places = groups[group]
        drawn.update(places[turn] for turn in draw_order([ids[place] for place in places], seed)[:count])
    return [ids[place] for place in sorted(drawn)]


def draw_order(ids: Sequence[str], seed: int) -> list[int]:
    """Places in the order they are drawn in, which depends on each id and the seed alone."""
    return sorted(range(len(ids)), key=lambda place: hashlib.sha256(f"{seed} {ids[place]}".encode()).digest())


def labelled(dataset: AnnotatedDataset, *, needed: bool) -> AnnotatedDataset:
    """A dataset whose labels are at hand, read once and not for every classifier; itself where none are needed."""
    return dataset if not needed or callable(getattr(dataset, "labels", None)) else _Labelled(dataset)


class _Labelled:
    """A dataset whose labels have been read."""

    def __init__(self, dataset: AnnotatedDataset) -> None:
        self._dataset, self._labels = dataset, labels_of(dataset)

    def labels(self) -> Sequence[int | None]:
        return self._labels

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while it is unpickled
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int, /) -> Sample:
        return self._dataset[index]
