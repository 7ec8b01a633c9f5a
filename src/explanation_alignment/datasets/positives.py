"""Every class an image shows as a decision of its own, for classes that do not exclude each other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from explanation_alignment.datasets.base import IndexedDataset, positives_of, read_for
from explanation_alignment.errors import UsageError
from explanation_alignment.sample import AnnotatedDataset, Sample

__all__ = ["PositiveLabels"]


class PositiveLabels(IndexedDataset):
    """A dataset with a sample for each class an image shows: its label is that class, its annotations those of it.

    The samples of an image follow each other; their ids are the image's with ``#`` and the class index. The attribute
    ``image`` has the image's id: intervals that draw images anew, not pairs of image and class, are
    ``summary(cluster="image")``. Images that show no class are left out.

    Args:
        dataset: whose images; classes and annotations by class come from its ``positives`` and ``read_for`` where it
            has them (VOC and COCO do), else every image shows its label alone.

    Raises:
        UsageError: no image shows a class, or the dataset has an attribute ``image`` already.
    """

    def __init__(self, dataset: AnnotatedDataset) -> None:
        shown = positives_of(dataset)
        self._dataset = dataset
        self._pairs = tuple((place, label) for place, labels in enumerate(shown) for label in labels)
        if not self._pairs:
            raise UsageError(f"target positives: no image of {dataset.name} has a label")
        attributes = dataset.attributes()
        if "image" in attributes:
            raise UsageError(f"target positives: {dataset.name} has an attribute 'image' already; rename it")
        ids = dataset.ids()
        self._shown = tuple(tuple(labels) for labels in shown)
        super().__init__(
            name=f"{dataset.name}~positives",
            class_names=dataset.class_names,
            regions=dataset.regions,
            evidence=dataset.evidence,
            ids=[f"{ids[place]}#{label}" for place, label in self._pairs],
            labels=[label for _, label in self._pairs],
            attributes={
                **{name: [values[place] for place, _ in self._pairs] for name, values in attributes.items()},
                "image": [ids[place] for place, _ in self._pairs],
            },
            fingerprint=hashlib.sha256(f"positives {self._pairs} {dataset.fingerprint}".encode()).hexdigest(),
            toy=bool(getattr(dataset, "toy", False)),
        )

    def accepted(self) -> Sequence[Sequence[int]]:
        """For every sample the classes its image shows: a prediction of any of them is correct."""
        return [self._shown[place] for place, _ in self._pairs]

    def _read(self, index: int) -> Sample:
        place, label = self._pairs[index]
        sample = read_for(self._dataset, place, label)
        attributes = {name: values[index] for name, values in self.attributes().items()}
        return Sample(self.ids()[index], sample.image, label, sample.annotations, attributes)
