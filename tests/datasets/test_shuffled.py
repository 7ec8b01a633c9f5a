"""Another image's annotations."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_positives import Several

import explanation_alignment as ea
from explanation_alignment.datasets.base import Subset
from explanation_alignment.datasets.positives import PositiveLabels
from explanation_alignment.datasets.shuffled import ShuffledAnnotations, _squashed
from explanation_alignment.errors import UsageError
from toys import Patches, small_classifier


def test_every_annotation_is_used_once_by_another_image() -> None:
    dataset = Patches(9)
    for seed in (0, 1):
        shuffled = ShuffledAnnotations(dataset, seed=seed)
        assert sorted(shuffled._next.values()) == list(range(9))
        for place in range(9):
            sample, own, other = shuffled[place], dataset[place], dataset[shuffled._next[place]]
            assert other.id != own.id == sample.id
            assert sample.label == own.label
            assert np.array_equal(np.array(sample.image), np.array(own.image))
            mask, expected = sample.annotations["patch"], other.annotations["patch"]
            assert mask is not None
            assert expected is not None
            assert np.array_equal(mask.to_mask(), expected.to_mask())
    assert ShuffledAnnotations(dataset).fingerprint != ShuffledAnnotations(dataset, seed=1).fingerprint
    assert ShuffledAnnotations(dataset).name == "patches~shuffled"
    assert list(pickle.loads(pickle.dumps(ShuffledAnnotations(dataset))).ids()) == dataset.ids()


class _Two:
    """A small and a large image, annotated in each way."""

    name, class_names, regions, evidence, fingerprint = "two", ("a", "b"), ("mask", "boxes", "heat", "none"), (), "x"

    def __len__(self) -> int:
        return 2

    def ids(self) -> list[str]:
        return ["small", "large"]

    def attributes(self) -> dict[str, list[int]]:
        return {}

    def __getitem__(self, index: int) -> ea.Sample:
        side = 4 * (index + 1)
        upper = np.zeros((side, side), dtype=bool)
        upper[: side // 2] = True
        return ea.Sample(
            self.ids()[index],
            Image.new("RGB", (side, side)),
            index,
            {
                "mask": ea.Mask(upper),
                "boxes": ea.Boxes(np.array([[0, 0, side, side // 2]]), side, side),
                "heat": ea.Heatmap(upper.astype(np.float32)),
                "none": None,
            },
        )


@pytest.mark.parametrize("region", ["mask", "boxes", "heat"])
@pytest.mark.parametrize("place", [0, 1])
def test_another_size_is_squashed_to_the_images_own(place: int, region: str) -> None:
    sample = ShuffledAnnotations(_Two())[place]
    annotation = sample.annotations[region]
    assert annotation is not None
    assert annotation.size == (sample.image.height, sample.image.width)
    mask = annotation.to_mask()
    half = sample.image.height // 2
    assert mask[:half].mean() > 0.9
    assert mask[half + 1 :].mean() == 0
    assert sample.annotations["none"] is None


def test_one_sample_has_no_other() -> None:
    with pytest.raises(UsageError, match="at least two"):
        ShuffledAnnotations(Patches(1))


def test_a_thin_box_is_not_lost() -> None:
    wide = ea.Boxes(np.array([[5, 0, 6, 90], [0, 30, 60, 60]]), 90, 90)
    assert _squashed(wide, (9, 9)).xyxy.tolist() == [[0, 0, 1, 9], [0, 3, 6, 6]]
    assert _squashed(ea.Boxes(np.array([[1, 1, 3, 3]]), 3, 3), (49, 49)).xyxy.tolist() == [[16, 16, 49, 49]]


def test_with_every_class_an_image_shows_the_null_asks_what_the_evaluation_asks(tmp_path: Path) -> None:
    dataset, shuffled = Several(16), ShuffledAnnotations(Several(16))
    real, null = PositiveLabels(dataset), PositiveLabels(shuffled)
    assert null.ids() == real.ids()
    assert null.accepted() == real.accepted()
    assert null.name == "patches~shuffled~positives"
    runs = [
        ea.evaluate(small_classifier(), data, ["sobel"], tmp_path / data.name, target="positives", progress=False)
        for data in (dataset, shuffled)
    ]
    told = [run.summary(metrics=["iou_coverage"]).filter(region="patch").row(0, named=True) for run in runs]
    assert told[0]["n"] + told[0]["n_undefined"] == told[1]["n"] + told[1]["n_undefined"] == 24
    assert told[0]["accuracy"] == told[1]["accuracy"]


def test_each_class_of_an_image_takes_another_class_of_the_next_image() -> None:
    dataset = Several(16)
    shuffled = ShuffledAnnotations(dataset)
    shown = dataset.positives()
    for place, labels in enumerate(shown):
        other = shuffled._next[place]
        for turn, label in enumerate(labels):
            sample = shuffled.read_for(place, label)
            assert (sample.id, sample.label) == (dataset[place].id, label)
            assert np.array_equal(np.asarray(sample.image), np.asarray(dataset[place].image))
            theirs = shown[other]
            expected = dataset.read_for(other, theirs[turn % len(theirs)]) if theirs else dataset[other]
            mask, wanted = sample.annotations["patch"], expected.annotations["patch"]
            assert mask is not None
            assert wanted is not None
            assert np.array_equal(mask.to_mask(), wanted.to_mask())
    part = Subset(shuffled, [dataset.ids()[3]])
    assert part.positives() == [shown[3]]


def test_a_class_that_an_image_does_not_show_is_refused() -> None:
    with pytest.raises(UsageError, match=r"img/001 shows \[1\], not class 3"):
        ShuffledAnnotations(Several(8)).read_for(1, 3)
