"""The test images of the ranking of regions: CelebAMask-HQ's faces, but for those of persons the models know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from explanation_alignment.datasets.base import IndexedDataset, draw_balanced
from explanation_alignment.datasets.celebamask_hq import CelebAMaskHQ
from explanation_alignment.errors import UsageError
from explanation_alignment.experiments.celeba.draws import GroupedFaces
from explanation_alignment.experiments.celeba.protocol import GROUPS, Group, group_word
from explanation_alignment.experiments.celeba.regions_protocol import (
    PUBLISHED_PER_GROUP,
    TEST_SETS,
    KeptOut,
    RegionsProtocol,
)

__all__ = ["RegionFaces", "draw_region_faces"]

_BY: Final = ("hair_color", "Smiling")


@dataclass(frozen=True, slots=True, eq=False)
class RegionFaces:
    """The test sets, and what was kept out of them.

    Args:
        test_sets: ``"unbiased"`` and ``"biased"``.
        per_group: unbiased images of each group.
        kept_out: what they were not drawn from.
    """

    test_sets: dict[str, GroupedFaces]
    per_group: int
    kept_out: KeptOut


def draw_region_faces(
    hq_dir: str | Path | None,
    data_dir: str | Path | None,
    protocol: RegionsProtocol,
    training: Sequence[GroupedFaces] | None,
) -> RegionFaces:
    """Draw both test sets from CelebAMask-HQ; nested, by id and seed alone.

    Args:
        hq_dir: CelebAMask-HQ's folder.
        data_dir: CelebA's folder; needed for aligned pictures and to keep persons out.
        protocol: the experiment's numbers.
        training: what the models were trained on; None where that is not known.

    Raises:
        UsageError: a group is too small, with the counts; or something is needed that was not given.
        DatasetError: lists or folders are missing or damaged.
    """
    whole = CelebAMaskHQ(hq_dir, images=protocol.images, celeba_dir=data_dir)
    kept, kept_out = _apart(whole, protocol, training)
    groups = list(zip(*(whole.attributes()[name] for name in _BY), strict=True))
    place_of = {name: place for place, name in enumerate(whole.ids())}
    counted = [groups[place_of[name]] for name in kept]
    there = {group: counted.count(group) for group in GROUPS}
    per_group = protocol.test_per_group or min(PUBLISHED_PER_GROUP, *there.values())
    _check(whole, there, max(per_group, 1), kept_out)
    pool = whole.subset(kept)
    sets = {}
    for test_set in TEST_SETS:
        drawn = draw_balanced(pool, by=_BY, n=dict(protocol.test_counts(test_set, per_group)), seed=protocol.draw_seed)
        sets[test_set] = GroupedFaces(whole, drawn, f"{whole.name}-{test_set}")
    return RegionFaces(sets, per_group, kept_out)


def _apart(
    whole: CelebAMaskHQ, protocol: RegionsProtocol, training: Sequence[GroupedFaces] | None
) -> tuple[list[str], KeptOut]:
    """The ids that may be drawn, and what was kept out."""
    attributes = whole.attributes()
    wanted = [group in GROUPS for group in zip(*(attributes[name] for name in _BY), strict=True)]
    if training is None or protocol.keep_training_identities:
        rule = "unknown" if training is None else "nothing"
        return list(whole.ids()), KeptOut(rule, 0, sum(wanted))
    files = {f"{name}.jpg" for faces in training for name in faces.ids()}
    known = [file in files for file in attributes["celeba_file"]]
    persons = _persons(training)
    if persons is not None and "identity" in attributes:
        rule = "persons"
        known = [hit or person in persons for hit, person in zip(known, attributes["identity"], strict=True)]
    else:
        rule, persons = "training partition", None
        known = [hit or split in ("train", None) for hit, split in zip(known, attributes["split"], strict=True)]
    out = sum(hit and counts for hit, counts in zip(known, wanted, strict=True))
    left = [name for name, hit in zip(whole.ids(), known, strict=True) if not hit]
    return left, KeptOut(rule, out, sum(wanted) - out, None if persons is None else len(persons))


def _persons(training: Iterable[IndexedDataset]) -> set[Any] | None:
    """Who is in the training images; None where it is not known of all of them."""
    persons: set[Any] = set()
    for faces in training:
        known = faces.attributes().get("identity")
        if known is None or None in known:
            return None
        persons |= set(known)
    return persons


def _check(whole: CelebAMaskHQ, there: dict[Group, int], per_group: int, kept_out: KeptOut) -> None:
    short = [
        f"{count:,} {group_word(group)}, {per_group:,} wanted" for group, count in there.items() if count < per_group
    ]
    if not short:
        return
    hint = "Draw fewer of each with --test-per-group"
    apart = ""
    if kept_out.images:
        apart = f" after {kept_out.images:,} images of what the models were trained on were kept out"
        hint += ", or from all with --keep-training-identities (as published)"
    raise UsageError(f"{whole.name} has too few faces{apart}: {'; '.join(short)}. {hint}")
