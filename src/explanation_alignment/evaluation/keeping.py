"""Keeps every map of an evaluation, where that is asked for: packed as they come, a file a work unit."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from explanation_alignment.batches import Batch
from explanation_alignment.decoded import in_bytes
from explanation_alignment.evaluation.deciding import Decider
from explanation_alignment.runs.saved_maps import MapFiles, MapKind, Packed, UnitMaps, pack
from explanation_alignment.saliency.single_pass import PassResult

__all__ = ["MapKeeper", "size_of_maps"]

_BYTES = {"uint8": 1, "float16": 2, "float32": 4}


@dataclass(slots=True)
class MapKeeper(AbstractContextManager["MapKeeper"]):
    """Writes the maps of the units that are worked on.

    Args:
        files: of the evaluation.
        kind: how a pixel is kept.
        places: of the methods among those of the decider, in the order of ``files.methods``.
    """

    files: MapFiles
    kind: MapKind
    places: Sequence[int]
    _held: dict[str, Packed | None] = field(default_factory=dict)
    _open: UnitMaps | None = None

    @classmethod
    def of(cls, decider: Decider, files: MapFiles, kind: MapKind) -> MapKeeper:
        """One for what a decider explains."""
        methods = [request.canonical for request in decider.requests]
        return cls(files, kind, [methods.index(method) for method in files.methods])

    def missing(self, units: Mapping[int, Sequence[int]]) -> list[int]:
        """Units whose maps are owed.

        Args:
            units: unit -> its places.
        """
        return self.files.missing({unit: len(places) for unit, places in units.items()}, self.kind)

    def add(self, batch: Batch, result: PassResult) -> None:
        """Hold a batch's maps until it is scored; a batch that is explained anew takes the place of what was held."""
        packed = [pack(result.maps[place].cpu().numpy(), self.kind) for place in self.places]
        for at, name in enumerate(batch.ids):
            self._held[name] = None if at in batch.errors else _of_one(packed, at)

    def write(self, unit: int, ids: Sequence[str]) -> None:
        """Write what is held of some samples of a unit.

        Raises:
            RunError: they cannot be written.
        """
        if self._open is None:
            self._open = UnitMaps(self.files, unit, self.kind)
        self._open.add(ids, {name: self._held.pop(name) for name in ids})

    def finish(self) -> None:
        """The unit is whole.

        Raises:
            RunError: it cannot be written.
        """
        if self._open is not None:
            self._open.commit()
        self._open = None

    def __exit__(self, *_: object) -> None:
        """Nothing more comes; a unit that is not whole is left out."""
        self.give_up()

    def give_up(self) -> None:
        """The unit is given up, or begins anew: nothing of it is kept."""
        if self._open is not None:
            self._open.discard()
        self._open = None
        self._held.clear()


def _of_one(packed: Sequence[Packed], at: int) -> Packed:
    """The maps of one sample, by method."""
    return Packed(*(np.stack([getattr(one, name)[at] for one in packed]) for name in ("pixels", "low", "scale")))


def size_of_maps(decider: Decider, files: MapFiles, kind: MapKind, decisions: int, out: Path) -> str:
    """What the maps will take, in words, before there are any.

    Args:
        decider: of the evaluation.
        files: where they go.
        kind: how a pixel is kept.
        decisions: how many there are.
        out: the run folder.
    """
    _, height, width = decider.classifier.preprocessing.input_size
    size = decisions * len(files.methods) * height * width * _BYTES[kind]
    free = shutil.disk_usage(out).free
    many = "" if len(files.methods) == 1 else f" x {len(files.methods)} methods"
    return (
        f"maps of {decider.classifier.name}: {decisions:,} decisions{many} x {height} x {width} in {kind} are "
        f"{in_bytes(size)} before compression; the disk has {in_bytes(free)}"
    )
