"""Another image's annotations."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

import explanation_alignment as ea
from explanation_alignment.datasets.shuffled import ShuffledAnnotations, _squashed
from explanation_alignment.errors import UsageError
from toys import Patches


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
