"""What a sweep asks of every classifier alike, and how it is to be computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from explanation_alignment.datasets.positives import PositiveLabels
from explanation_alignment.saliency.base import Output
from explanation_alignment.sample import AnnotatedDataset

__all__ = ["Asked"]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What is asked of each classifier of a sweep; the fields are those of :func:`~explanation_alignment.evaluate`."""

    dataset: AnnotatedDataset
    out: Path
    device: str | torch.device | None
    precision: str | None
    target: str
    output: Output
    metrics: Sequence[str]
    batch_size: int
    chunk: int
    sample: int | None
    seed: int
    workers: int
    shard: str | None
    max_errors: float
    intervene: bool
    experiment: Mapping[str, Any] | None
    save_maps: str | None

    def shown(self) -> AnnotatedDataset:
        """The dataset as it stands in the tables: with target ``positives`` that of the positives."""
        return PositiveLabels(self.dataset) if self.target == "positives" else self.dataset

    def question(self, shown: AnnotatedDataset) -> dict[str, Any]:
        """Everything that changes numbers, but the classifier and the methods.

        Args:
            shown: the dataset as it stands in the tables.
        """
        return {
            "precision": self.precision or "fp32",  # what None means where this is asked: of named classifiers
            "dataset": shown.name,
            "fingerprint": shown.fingerprint,
            "sample": self.sample,
            "seed": self.seed,
            "target": self.target,
            "output": self.output,
            "metrics": list(self.metrics),
            "intervene": self.intervene,
        }
