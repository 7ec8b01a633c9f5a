"""Generated faces on disk, in CelebA's and CelebAMask-HQ's own layouts, enough of each group for a protocol's draws."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from explanation_alignment.datasets.reading.files import is_toy
from explanation_alignment.datasets.toy import celeba, celebamask_hq
from explanation_alignment.errors import RunError
from explanation_alignment.experiments.celeba.protocol import Protocol

__all__ = ["ToyTrees", "toy_trees"]

#: Of the faces a third is of each common group and a sixth of each rare one: twice as many, as the draws want them.
CORRELATION: Final = 1 / 3
#: Shares of the faces that train and that test.
_TRAIN, _TEST = Fraction(6, 10), Fraction(3, 10)


@dataclass(frozen=True, slots=True)
class ToyTrees:
    """The folders of the two stand-ins.

    Args:
        celeba: CelebA's.
        celebamask_hq: CelebAMask-HQ's.
    """

    celeba: Path
    celebamask_hq: Path


def toy_trees(
    folder: Path, protocol: Protocol, *, seed: int = 0, masked_per_group: int | None = None, tell: bool = False
) -> ToyTrees:
    """The two trees of generated faces below a folder, written where they are not there yet.

    A tree's folder has its number of faces and its seed in its name, and is written whole or not at all.

    Args:
        folder: where to.
        protocol: whose draws they must suffice for.
        seed: another seed, other faces.
        masked_per_group: test faces with masks of each group, if more than the protocol's.
        tell: say on stderr what is being written.

    Raises:
        RunError: if they cannot be written.
    """
    masked = max(masked_per_group or 0, protocol.hair_per_group)
    hq = _enough(masked, _TEST)
    numbers = {
        "celeba": max(_enough(protocol.train_per_group, _TRAIN), _enough(protocol.test_per_group, _TEST), hq),
        "celebamask_hq": hq,
    }
    writers: dict[str, Callable[..., None]] = {"celeba": celeba.write, "celebamask_hq": celebamask_hq.write}
    places = {}
    for name, n in numbers.items():
        places[name] = folder / f"{name}-{n}-seed{seed}"
        if not is_toy(places[name]):
            _write(places[name], writers[name], n, seed, tell)
    return ToyTrees(**places)


def _enough(rare: int, partition: Fraction) -> int:
    """How many faces a tree needs for so many of a rare group, a sixth of a partition, whose number is rounded."""
    return 10 * math.ceil((rare + 1) * 6 / partition / 10)


def _write(place: Path, write: Callable[..., None], n: int, seed: int, tell: bool) -> None:
    """Write a tree beside its place and move it there."""
    half = place.with_name(f".{place.name}.tmp")
    if tell:
        sys.stderr.write(f"writing {n:,} generated faces to {place}\n")
    try:
        shutil.rmtree(half, ignore_errors=True)  # what a killed process left
        half.parent.mkdir(parents=True, exist_ok=True)
        write(half, n, seed, CORRELATION, 0.0)
        half.rename(place)
    except OSError as error:
        raise RunError(f"cannot write generated faces to {place}: {error.strerror or error}") from error
