"""From scored batches to the rows of a part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from explanation_alignment.evaluation.deciding import Decider, Scored
from explanation_alignment.metrics.scoring import MapScores
from explanation_alignment.runs.rows import Decisions, ScoredUnit, score_rows

__all__ = ["scored_unit", "tabulate"]


def tabulate(decider: Decider, places: Sequence[int], scored: Sequence[Scored]) -> pa.Table:
    """The rows of scored batches, brought to the CPU together."""
    dataset = decider.reading.dataset
    prediction, rank = torch.cat([part.decisions for part in scored], dim=1).cpu().numpy()
    flips = torch.cat([part.flips for part in scored], dim=2).cpu().numpy()
    label = torch.cat([part.labels for part in scored]).numpy()
    correct = prediction == label
    if decider.accepted is not None:
        accepted = [decider.accepted[place] for place in places]
        correct = np.array([one in classes for one, classes in zip(prediction.tolist(), accepted, strict=True)])
    decisions = Decisions(
        ids=[name for part in scored for name in part.ids],
        messages=[part.errors.get(at) for part in scored for at in range(len(part.ids))],
        label=label,
        correct=correct,
        prediction=prediction,
        label_rank=rank,
        confidence=torch.cat([part.confidence for part in scored]).cpu().numpy(),
        exchange_flip=flips[0],
        elsewhere_flip=flips[1],
    )
    given = torch.cat([part.given for part in scored], dim=1).numpy()
    unit = scored_unit(decisions, given, [part.scores for part in scored], decider.metrics, scored[0].size)
    where = pa.array(places)
    return score_rows(
        unit,
        key={"model": decider.classifier.name, "seed": decider.seed, "dataset": dataset.name, "target": decider.target},
        methods=[(request.canonical, request.binarization) for request in decider.requests],
        regions=list(dataset.regions),
        metrics=decider.metrics,
        attributes={name: values.take(where) for name, values in decider.reading.attributes.items()},
    )


def scored_unit(
    decisions: Decisions,
    annotation_status: NDArray[np.integer],
    scored: Sequence[Sequence[MapScores]],
    metrics: Sequence[str],
    map_size: tuple[int, int],
) -> ScoredUnit:
    """The arrays of a unit of N decisions, for R regions.

    Args:
        decisions: what is known of them.
        annotation_status: (R, N) int, places in ``STATUSES``.
        scored: batch after batch, for each of M methods what its maps came to.
        metrics: K names, canonical.
        map_size: (height, width) of the maps.
    """

    def joined(part: Callable[[MapScores], torch.Tensor]) -> NDArray[Any]:
        batches = [torch.stack([part(one) for one in batch]) for batch in scored]
        values: NDArray[Any] = torch.cat(batches, dim=-1).cpu().numpy()
        return values

    return ScoredUnit(
        decisions,
        annotation_status=annotation_status,
        flat=joined(lambda one: one.flat),
        scores=joined(lambda one: torch.stack([one.values[name] for name in metrics], dim=1)),
        annotation_area=joined(lambda one: one.annotation_area),
        salient_area=joined(lambda one: one.salient_area.expand(one.annotation_area.shape)),
        map_size=map_size,
        center_iou=joined(lambda one: one.center_iou),
    )
