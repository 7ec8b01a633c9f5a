"""From scored batches to the rows of a part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from explanation_alignment.evaluation.deciding import Decider, Scored
from explanation_alignment.runs.rows import ScoredUnit, score_rows

__all__ = ["tabulate"]


def tabulate(decider: Decider, places: Sequence[int], scored: Sequence[Scored]) -> pa.Table:
    """The rows of scored batches, brought to the CPU together."""
    dataset = decider.reading.dataset
    prediction, rank = torch.cat([part.decisions for part in scored], dim=1).cpu().numpy()
    areas = torch.cat([part.areas for part in scored], dim=3).cpu().numpy()
    flips = torch.cat([part.flips for part in scored], dim=2).cpu().numpy()
    label = torch.cat([part.labels for part in scored]).numpy()
    correct = prediction == label
    if decider.accepted is not None:
        accepted = [decider.accepted[place] for place in places]
        correct = np.array([one in classes for one, classes in zip(prediction.tolist(), accepted, strict=True)])
    unit = ScoredUnit(
        ids=[name for part in scored for name in part.ids],
        messages=[part.errors.get(at) for part in scored for at in range(len(part.ids))],
        label=label,
        correct=correct,
        prediction=prediction,
        label_rank=rank,
        confidence=torch.cat([part.confidence for part in scored]).cpu().numpy(),
        annotation_status=torch.cat([part.given for part in scored], dim=1).numpy(),
        flat=torch.cat([part.flat for part in scored], dim=1).cpu().numpy(),
        scores=torch.cat([part.scores for part in scored], dim=3).cpu().numpy(),
        annotation_area=areas[:, :, 0],
        salient_area=areas[:, :, 1],
        map_size=scored[0].size,
        center_iou=torch.cat([part.center_iou for part in scored], dim=2).cpu().numpy(),
        exchange_flip=flips[0],
        elsewhere_flip=flips[1],
    )
    where = pa.array(places)
    return score_rows(
        unit,
        key={"model": decider.classifier.name, "seed": decider.seed, "dataset": dataset.name, "target": decider.target},
        methods=[(request.canonical, request.binarization) for request in decider.requests],
        regions=list(dataset.regions),
        metrics=decider.metrics,
        attributes={name: values.take(where) for name, values in decider.reading.attributes.items()},
    )
