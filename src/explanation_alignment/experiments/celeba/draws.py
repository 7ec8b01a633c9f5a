"""Which faces train and test: the study's groups drawn from CelebA, nested, by id and seed alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, get_args

import polars as pl

from explanation_alignment.datasets.base import IndexedDataset, Subset, draw_balanced
from explanation_alignment.datasets.celeba import CelebA
from explanation_alignment.datasets.celebamask_hq import CelebAMaskHQ
from explanation_alignment.datasets.reading.arguments import as_choice
from explanation_alignment.errors import UsageError
from explanation_alignment.experiments.celeba.protocol import GROUPS, Group, HairPairing, Protocol, group_word
from explanation_alignment.runs.files import write_atomically
from explanation_alignment.sample import Sample

__all__ = ["Faces", "GroupedFaces", "digest_of", "open_faces", "persons_in_both", "record_draws"]

#: The attributes whose values make a group.
_BY: Final = ("hair_color", "Smiling")


class GroupedFaces(Subset):
    """Faces under a name of their own, each with its group as the attribute ``group``.

    Args:
        dataset: with the attributes ``hair_color`` and ``Smiling``.
        ids: which faces, in the order wanted.
        name: of the dataset in tables.
        regions: the dataset's region -> what it is called here; the others keep their names.
    """

    def __init__(
        self, dataset: IndexedDataset, ids: Sequence[str], name: str, regions: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(dataset, ids)
        self._called = dict(regions or {})
        self.name = name
        self.regions = tuple(self._called.get(region, region) for region in self.regions)
        groups = zip(*(self._attributes[column] for column in _BY), strict=True)
        self._attributes["group"] = tuple(group_word((str(hair), bool(smiling))) for hair, smiling in groups)

    def _read(self, index: int) -> Sample:
        sample = super()._read(index)
        annotations = {self._called.get(region, region): item for region, item in sample.annotations.items()}
        return replace(sample, annotations=annotations, attributes={**sample.attributes, "group": self.groups[index]})

    @property
    def groups(self) -> Sequence[str]:
        """The group of every face."""
        return tuple(str(group) for group in self._attributes["group"])


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """CelebA as the experiment reads it; get it from :func:`open_faces`.

    Args:
        train: its training partition.
        test: its test partition; with the attribute ``hair_mask`` where there are masks.
        masked: what shows those of the test partition that have masks of the hair; None without masks.
        pairing: how pictures and masks of the hair belong together.
    """

    train: CelebA
    test: CelebA
    masked: CelebA | CelebAMaskHQ | None
    pairing: HairPairing

    @property
    def toy(self) -> bool:
        """Whether the files are a generated stand-in."""
        return self.train.toy

    def training_set(self, protocol: Protocol, model: str) -> GroupedFaces:
        """What a model is trained on: ``"unbiased"``, ``"biased"``, or one of the dose-response.

        Raises:
            UsageError: a group is too small; the message has the counts.
        """
        counts = protocol.training_counts(model)
        return GroupedFaces(
            self.train, _draw(self.train, counts, protocol, "--train-per-group"), f"celeba-train-{model}"
        )

    def test_sets(self, protocol: Protocol) -> dict[str, GroupedFaces]:
        """``"biased"``, ``"unbiased"`` and, where there are masks, ``"hair"``; all from the test partition.

        Raises:
            UsageError: a group is too small; the message has the counts.
        """
        biased = protocol.biased(protocol.test_per_group, protocol.test_rare_share)
        unbiased = dict.fromkeys(GROUPS, protocol.test_per_group)
        sets = {
            name: GroupedFaces(self.test, _draw(self.test, counts, protocol, "--test-per-group"), f"celeba-{name}")
            for name, counts in (("biased", biased), ("unbiased", unbiased))
        }
        if self.masked is not None:
            sets["hair"] = self._hair_set(self.masked, protocol)
        return sets

    def _hair_set(self, masked: CelebA | CelebAMaskHQ, protocol: Protocol) -> GroupedFaces:
        """As many faces with a mask of the hair of each group: the same persons whatever the pairing."""
        place = _masked_ids(self.test)
        counts = dict.fromkeys(GROUPS, protocol.hair_per_group)
        drawn = _draw(Subset(self.test, place), counts, protocol, "--hair-per-group", "with a mask of the hair")
        if isinstance(masked, CelebA):
            kind = "published_pairing" if self.pairing == "published" else "aligned"
            return GroupedFaces(masked, drawn, f"celeba-hair-{kind}", {"hair_hq_pairing": "hair"})
        files = masked.attributes()["celeba_file"]
        index = {str(file).removesuffix(".jpg"): name for file, name in zip(files, masked.ids(), strict=True)}
        return GroupedFaces(masked, [index[name] for name in drawn], "celeba-hair")


def open_faces(data_dir: str | Path, hq_dir: str | Path | None = None, pairing: HairPairing = "hq") -> Faces:
    """CelebA, and CelebAMask-HQ for the hair where its folder is given.

    Args:
        data_dir: CelebA's folder.
        hq_dir: CelebAMask-HQ's folder.
        pairing: ``"hq"``, the square pictures the masks were drawn on; ``"crop"``, CelebA's aligned pictures with the
            masks carried back to where the squares were cut from; ``"published"``, the aligned pictures with the masks
            laid on their centre, about 10 px off, as the study did.

    Raises:
        DatasetError: lists or folders are missing or damaged.
        UsageError: for another pairing, or one folder of generated and one of real files.
    """
    as_choice(pairing, "hair pairing", get_args(HairPairing))
    train = CelebA(data_dir, split="train")
    if hq_dir is None:
        return Faces(train, CelebA(data_dir, split="test"), None, pairing)
    test = CelebA(data_dir, split="test", masks_dir=hq_dir)
    masked: CelebA | CelebAMaskHQ
    if pairing == "hq":
        masked = CelebAMaskHQ(hq_dir, regions="mouth+hair", split="test", celeba_dir=data_dir)
    else:
        hair = "hair" if pairing == "crop" else "hair_hq_pairing"
        masked = CelebA(data_dir, split="test", regions=["mouth", hair], masks_dir=hq_dir)
    return Faces(train, test, masked, pairing)


def digest_of(ids: Iterable[str]) -> str:
    """What tells one draw from another: SHA-256 of its ids, hex."""
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()


def persons_in_both(training: Iterable[GroupedFaces], tests: Iterable[GroupedFaces]) -> int | None:
    """How many persons are in training and in test images; None where no list of persons is there."""
    persons: list[set[Any]] = []
    for part in (training, tests):
        persons.append(set())
        for faces in part:
            known = faces.attributes().get("identity")
            if known is None:
                return None
            persons[-1] |= set(known) - {None}
    return len(persons[0] & persons[1])


def record_draws(folder: Path, sets: Iterable[GroupedFaces]) -> None:
    """Write ``<folder>/<name>.csv`` for each draw: the ids, in order, and their groups.

    Raises:
        RunError: if a file cannot be written.
    """
    for faces in sets:
        table = pl.DataFrame({"sample_id": list(faces.ids()), "group": list(faces.groups)})
        path = folder / f"{faces.name}.csv"
        if not path.is_file() or path.read_text(encoding="utf-8") != table.write_csv():
            write_atomically(path, partial(_write, content=table.write_csv()))


def _write(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", newline="\n")


def _masked_ids(test: CelebA) -> list[str]:
    """The faces of a partition that have a mask of the hair."""
    known = test.attributes()["hair_mask"]
    return [name for name, has in zip(test.ids(), known, strict=True) if has]


def _draw(
    dataset: IndexedDataset, counts: Mapping[Group, int], protocol: Protocol, option: str, what: str = ""
) -> list[str]:
    """Ids of so many faces of each group, or an error with what there is of each that is too small."""
    columns = [dataset.attributes()[name] for name in _BY]
    groups = list(zip(*columns, strict=True))
    short = [
        f"{groups.count(group):,} {group_word(group)}, {count:,} wanted"
        for group, count in counts.items()
        if groups.count(group) < count
    ]
    if short:
        partition = dataset.attributes()["split"][0] if len(dataset) else "no"
        kind = f" {what}" if what else ""
        raise UsageError(
            f"the {partition} partition of {dataset.name.removesuffix('-train')} has too few faces{kind}: "
            f"{'; '.join(short)}. Draw fewer of each with {option}"
        )
    return draw_balanced(dataset, by=_BY, n=dict(counts), seed=protocol.draw_seed)
