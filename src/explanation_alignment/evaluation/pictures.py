"""The pictures of the decisions a run keeps as examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from explanation_alignment.binarization import binarize
from explanation_alignment.evaluation.deciding import Decider
from explanation_alignment.runs.examples import Example
from explanation_alignment.runs.schema import STATUSES

__all__ = ["pictures"]

_OK = STATUSES.index("ok")


def pictures(decider: Decider, places: Sequence[int]) -> Iterator[Example]:
    """The pictures of the decisions at these places."""
    regions = decider.reading.dataset.regions
    for batch in decider.reading.batches(places, decider.classifier):
        maps = decider.explain(batch).maps
        keys = [(request.canonical, request.binarization) for request in decider.requests]
        saliency = {key: batch_maps.cpu().numpy() for key, batch_maps in zip(keys, maps, strict=True)}
        salient = {
            (*key, region): binarize(batch_maps.cpu(), key[1], annotation=batch.annotations[at]).numpy()
            for key, batch_maps in zip(keys, maps, strict=True)
            for at, region in enumerate(regions)
        }
        annotated = (batch.annotation_status == _OK).numpy()
        for place, name in enumerate(batch.ids):
            yield Example(
                sample_id=name,
                image=batch.images[place].permute(1, 2, 0).numpy(),
                annotations={
                    region: batch.annotations[at, place].numpy() if annotated[at, place] else None
                    for at, region in enumerate(regions)
                },
                saliency={key: values[place] for key, values in saliency.items()},
                salient={key: values[place] for key, values in salient.items()},
            )
