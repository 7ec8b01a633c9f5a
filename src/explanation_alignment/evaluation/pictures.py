"""The pictures of the decisions a run keeps as examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from explanation_alignment.batches import Batch
from explanation_alignment.binarization import Binarization, binarize
from explanation_alignment.evaluation.deciding import Decider
from explanation_alignment.evaluation.memory import in_memory
from explanation_alignment.runs.examples import Example
from explanation_alignment.runs.schema import STATUSES
from explanation_alignment.saliency.single_pass import PassResult

__all__ = ["MapStore", "pictures", "worth_keeping"]

_OK = STATUSES.index("ok")
#: Bytes of maps an evaluation keeps at most while it runs.
_LIMIT: Final = 2**29
#: Share of decisions explained again for their pictures above which keeping their maps pays.
_WORTH: Final = 0.02


def worth_keeping(decider: Decider, decisions: int, wanted: int) -> bool:
    """Whether to keep every map of an evaluation while it runs, rather than to explain some decisions again after it.

    Args:
        decider: of the evaluation.
        decisions: how many there are.
        wanted: how many will be shown.
    """
    _, height, width = decider.classifier.preprocessing.input_size
    regions = len(decider.reading.dataset.regions)
    each = len(decider.requests) * height * width * (1 + regions / 8)  # a byte a pixel, a bit a pixel and region
    return wanted > _WORTH * decisions and decisions * each <= _LIMIT


@dataclass(frozen=True, slots=True)
class MapStore:
    """Maps as they are shown: 8 bits of their own range, and binarized for each region, packed.

    Args:
        decider: what explains.
    """

    decider: Decider
    _held: dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]] = field(default_factory=dict)

    def add(self, batch: Batch, result: PassResult) -> None:
        """Keep a batch's maps, (M, H, W) uint8 and (M, R, H, W) bits a decision."""
        annotations = batch.annotations.to(self.decider.classifier.device)
        saliency = torch.stack([_scaled(maps) for maps in result.maps], dim=1).cpu().numpy()
        salient = torch.stack(
            [
                _binarized(maps, request.binarization, annotations)
                for request, maps in zip(self.decider.requests, result.maps, strict=True)
            ],
            dim=1,
        )
        packed = np.packbits(salient.cpu().numpy(), axis=-1)
        for place, name in enumerate(batch.ids):
            self._held[name] = (saliency[place], packed[place])

    def __contains__(self, name: str) -> bool:
        return name in self._held

    def of(self, name: str, width: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The maps of a decision and what they come to: (M, H, W) uint8, (M, R, H, W) bool."""
        saliency, packed = self._held[name]
        return saliency, np.unpackbits(packed, axis=-1, count=width).astype(np.bool_)


def _binarized(maps: torch.Tensor, binarization: str, annotations: torch.Tensor) -> torch.Tensor:
    """(B, H, W) maps binarized for (R, B, H, W) annotations: (B, R, H, W), once where that is the same for all."""
    if Binarization.parse(binarization).needs_annotation:
        return torch.stack([binarize(maps, binarization, annotation=one) for one in annotations], dim=1)
    return binarize(maps, binarization)[:, None].expand(-1, len(annotations), -1, -1)


def _scaled(maps: torch.Tensor) -> torch.Tensor:
    """(B, H, W) maps in 8 bits, each over its own range; what is not finite, or constant, comes out as zeros."""
    values = maps.to(torch.float64).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    low, high = values.amin(dim=(1, 2), keepdim=True), values.amax(dim=(1, 2), keepdim=True)
    factor = torch.where(high > low, 255 / (high - low), 0.0)
    return ((values - low) * factor).round().to(torch.uint8)


def pictures(decider: Decider, places: Sequence[int], store: MapStore) -> Iterator[Example]:
    """The pictures of the decisions at these places; those whose maps the store lacks are explained again."""
    lacking = [place for place in places if decider.reading.ids[place] not in store]

    def explain(decider: Decider) -> None:
        for batch in decider.reading.batches(lacking, decider.classifier):
            store.add(batch, decider.explain(batch))

    _, decider = in_memory(explain, decider, len(lacking))
    reading = replace(decider.reading, workers=0)  # they are few, and no process can die over them
    regions = reading.dataset.regions
    keys = [(request.canonical, request.binarization) for request in decider.requests]
    for batch in reading.batches(places, decider.classifier):
        annotated = (batch.annotation_status == _OK).numpy()
        for place, name in enumerate(batch.ids):
            saliency, salient = store.of(name, batch.images.shape[3])
            yield Example(
                sample_id=name,
                image=batch.images[place].permute(1, 2, 0).numpy(),
                annotations={
                    region: batch.annotations[at, place].numpy() if annotated[at, place] else None
                    for at, region in enumerate(regions)
                },
                saliency=dict(zip(keys, saliency, strict=True)),
                salient={
                    (*key, region): salient[which, at]
                    for which, key in enumerate(keys)
                    for at, region in enumerate(regions)
                },
            )
