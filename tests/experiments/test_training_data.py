"""Any annotated dataset as training data: each image once an epoch, the same from memory and from files."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

import explanation_alignment as ea
from explanation_alignment.batches import iterate_batches
from explanation_alignment.errors import DatasetError, UsageError
from explanation_alignment.experiments.training import DatasetTraining
from toys import Patches

CPU = torch.device("cpu")
SMALL = ea.Preprocessing((3, 8, 8), ea.Geometry(resize=9, crop=(8, 8)), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
WHOLE = ea.Preprocessing((3, 12, 12))
#: Bytes of the 23 images under SMALL.
BYTES = 23 * 3 * 8 * 8


class Counted(Patches):
    """Counts how often each sample is read."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.reads: Counter[int] = Counter()

    def __getitem__(self, index: int) -> ea.Sample:
        self.reads[index] += 1
        return super().__getitem__(index)


class Relabelled(Patches):
    """One sample has another label, or none."""

    def __init__(self, place: int, label: int | None) -> None:
        super().__init__()
        self._place, self._label = place, label

    def __getitem__(self, index: int) -> ea.Sample:
        sample = super().__getitem__(index)
        if index != self._place:
            return sample
        return ea.Sample(sample.id, sample.image, self._label, sample.annotations)


def epochs(data: DatasetTraining, count: int = 3, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [batch for _ in range(count) for batch in data.batches(generator, 5, CPU)]


def same(one: list[tuple[torch.Tensor, torch.Tensor]], other: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(one, other, strict=True)
    )


def reference() -> tuple[torch.Tensor, torch.Tensor]:
    """All images as an evaluation gives them to the network, and their labels."""
    dataset = Patches()
    (batch,) = iterate_batches(dataset, dataset.ids(), [range(23)], SMALL)
    return SMALL.normalise(batch.images), batch.labels


def test_an_epoch_has_each_image_once_as_the_network_sees_it_in_an_evaluation() -> None:
    images, labels = reference()
    data = DatasetTraining(Patches(), SMALL)
    assert data.images == 23
    found = epochs(data, 1)
    assert [len(part) for _, part in found] == [5, 5, 5, 5, 3]
    shown, given = torch.cat([part for part, _ in found]), torch.cat([part for _, part in found])
    assert (shown.dtype, given.dtype) == (torch.float32, torch.int64)
    order = [int((images == image).flatten(1).all(1).nonzero()) for image in shown]
    assert sorted(order) == list(range(23))
    assert order != sorted(order)
    assert given.tolist() == labels[order].tolist()


def test_epochs_differ_and_the_generator_decides_them() -> None:
    data = DatasetTraining(Patches(), SMALL)
    first = epochs(data, 2)
    assert not same(first[:5], first[5:])
    assert same(first, epochs(data, 2))
    assert not same(first, epochs(data, 2, seed=1))


@pytest.mark.parametrize("flip", [False, True])
def test_memory_files_and_workers_give_the_same_batches(flip: bool) -> None:
    kept = epochs(DatasetTraining(Patches(), SMALL, flip=flip))
    assert same(kept, epochs(DatasetTraining(Patches(), SMALL, memory_limit=0, flip=flip)))
    assert same(kept, epochs(DatasetTraining(Patches(), SMALL, memory_limit=0, workers=1, flip=flip), 3))


def test_where_an_epoch_starts_is_decided_by_the_generators_state() -> None:
    generator = torch.Generator().manual_seed(0)
    data = DatasetTraining(Patches(), SMALL, flip=True)
    list(data.batches(generator, 5, CPU))
    state = generator.get_state()
    second = list(data.batches(generator, 5, CPU))
    afresh = torch.Generator()
    afresh.set_state(state)
    assert same(second, list(DatasetTraining(Patches(), SMALL, flip=True).batches(afresh, 5, CPU)))


def test_what_fits_into_memory_is_read_once() -> None:
    dataset = Counted()
    epochs(DatasetTraining(dataset, SMALL, memory_limit=BYTES))
    assert set(dataset.reads.values()) == {1}
    dataset = Counted()
    epochs(DatasetTraining(dataset, SMALL, memory_limit=BYTES - 1))
    assert set(dataset.reads.values()) == {3}


def test_an_epoch_broken_off_leaves_nothing_behind() -> None:
    data = DatasetTraining(Patches(), SMALL)
    next(iter(data.batches(torch.Generator().manual_seed(4), 5, CPU)))
    assert same(epochs(data), epochs(DatasetTraining(Patches(), SMALL)))


def test_about_half_of_the_images_are_mirrored_and_nothing_else_is_done_to_them() -> None:
    images, _ = reference()
    flipped = 0
    for shown, _ in epochs(DatasetTraining(Patches(), SMALL, flip=True), 8):
        for image in shown:
            straight = (images == image).flatten(1).all(1).any()
            mirrored = (images.flip(3) == image).flatten(1).all(1).any()
            assert straight != mirrored
            flipped += bool(mirrored)
    assert 0.35 < flipped / (8 * 23) < 0.65


def test_a_dataset_that_reads_whole_batches() -> None:
    digits = ea.load_dataset("colored_mnist")
    data = DatasetTraining(ea.Subset(digits, digits.ids()[:12]), ea.Preprocessing((3, 28, 28)))
    shown, labels = next(data.batches(torch.Generator().manual_seed(0), 12, CPU))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist()
    expected = digits.read_batch(order)  # type: ignore[attr-defined]
    assert torch.equal(shown, expected.images.float() / 255)
    assert torch.equal(labels, expected.labels)


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_an_image_that_cannot_be_read_is_named(limit: int) -> None:
    data = DatasetTraining(Patches(broken=[7]), SMALL, memory_limit=limit)
    with pytest.raises(DatasetError, match=r"patches: training image img/007 cannot be read \(OSError: broken image\)"):
        epochs(data, 1)


@pytest.mark.parametrize(("label", "told"), [(None, "no label"), (4, "label 4"), (-3, "label -3")])
def test_labels_that_are_none(label: int | None, told: str) -> None:
    with pytest.raises(DatasetError, match=f"training image img/009 has {told}, expected one from 0 to 3"):
        epochs(DatasetTraining(Relabelled(9, label), SMALL), 1)


def test_what_cannot_be_meant() -> None:
    with pytest.raises(UsageError, match="memory_limit: expected at least 0, got -1"):
        DatasetTraining(Patches(), SMALL, memory_limit=-1)
    with pytest.raises(UsageError, match="workers: expected at least 0, got -2"):
        DatasetTraining(Patches(), SMALL, workers=-2)
    with pytest.raises(UsageError, match="patches has no samples to train on"):
        DatasetTraining(Patches(0), SMALL)


def test_the_description_has_what_changes_the_batches_and_nothing_else() -> None:
    described = DatasetTraining(Patches(), SMALL).describe()
    assert described == DatasetTraining(Patches(), SMALL, memory_limit=0, workers=2).describe()
    others = [
        DatasetTraining(Patches(22), SMALL),
        DatasetTraining(Patches(), WHOLE),
        DatasetTraining(Patches(), SMALL, flip=True),
        DatasetTraining(Patches(), ea.Preprocessing((3, 8, 8), ea.Geometry(resize=9, crop=(8, 8)))),
        DatasetTraining(Patches(), ea.Preprocessing((3, 8, 8), ea.Geometry(resize=8), SMALL.mean, SMALL.std)),
    ]
    assert all(other.describe() != described for other in others)
