"""How an evaluation reads its samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from explanation_alignment.batches import Batch, iterate_batches
from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.decoded import DecodedImages
from explanation_alignment.sample import AnnotatedDataset

__all__ = ["Reading"]


@dataclass(frozen=True, slots=True)
class Reading:
    """How samples are read.

    Args:
        dataset: where they come from.
        ids: all its sample ids.
        attributes: attribute name -> a value for every sample.
        batch_size: samples at once.
        workers: processes that decode ahead.
        strengths: whether annotations are wanted as real-valued attention too.
        decoded: what is kept of them from before, and is added to; None to decode them all.
    """

    dataset: AnnotatedDataset
    ids: Sequence[str]
    attributes: Mapping[str, pa.Array]
    batch_size: int
    workers: int
    strengths: bool
    decoded: DecodedImages | None = None

    def batches(self, places: Sequence[int], classifier: Classifier) -> Iterator[Batch]:
        """One batch after another of the samples at these places, as the classifier takes them."""
        cut = [places[start : start + self.batch_size] for start in range(0, len(places), self.batch_size)]
        return iterate_batches(
            self.dataset,
            self.ids,
            cut,
            classifier.preprocessing,
            workers=self.workers,
            strengths=self.strengths,
            decoded=self.decoded,
        )
