"""What an annotation may be, and the masks of boxes, drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import explanation_alignment as ea
from explanation_alignment.errors import UsageError
from explanation_alignment.sample import Boxes, Mask, Sample


def drawn(boxes: list[tuple[int, int, int, int]], height: int = 4, width: int = 6) -> list[str]:
    mask = Boxes(np.array(boxes).reshape(-1, 4).astype(np.int64), height, width).to_mask()
    assert mask.dtype == np.bool_
    return ["".join("#" if pixel else "." for pixel in row) for row in mask]


def test_a_mask_is_its_pixels() -> None:
    pixels = np.eye(3, 5, dtype=bool)
    assert np.array_equal(Mask(pixels).to_mask(), pixels)


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param(np.zeros((3, 3)), id="float"),
        pytest.param(np.zeros((3, 3), dtype=np.uint8), id="uint8"),
        pytest.param(np.zeros((1, 3, 3), dtype=bool), id="three dimensions"),
        pytest.param(np.zeros(3, dtype=bool), id="one dimension"),
    ],
)
def test_a_mask_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"Mask.pixels: expected a \(H, W\) bool array, got shape") as caught:
        Mask(pixels)
    assert str(pixels.shape) in str(caught.value)
    assert str(pixels.dtype) in str(caught.value)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        pytest.param([], ["......", "......", "......", "......"], id="none"),
        pytest.param([(1, 0, 3, 2)], [".##...", ".##...", "......", "......"], id="half-open"),
        pytest.param([(0, 0, 6, 4)], ["######", "######", "######", "######"], id="all"),
        pytest.param([(5, 3, 6, 4)], ["......", "......", "......", ".....#"], id="last pixel"),
        pytest.param([(0, 0, 2, 2), (1, 1, 4, 3)], ["##....", "####..", ".###..", "......"], id="union"),
        pytest.param([(4, 2, 99, 99)], ["......", "......", "....##", "....##"], id="beyond the end"),
        pytest.param([(-3, -2, 2, 1)], ["##....", "......", "......", "......"], id="before the start"),
        pytest.param([(-5, -5, 99, 99)], ["######", "######", "######", "######"], id="beyond both"),
        pytest.param([(-4, -4, -1, -1)], ["......", "......", "......", "......"], id="outside before"),
        pytest.param([(6, 4, 9, 9)], ["......", "......", "......", "......"], id="outside after"),
        pytest.param([(-4, 1, -2, 3)], ["......", "......", "......", "......"], id="outside left"),
        pytest.param([(2, 2, 2, 4)], ["......", "......", "......", "......"], id="no width"),
        pytest.param([(2, 2, 4, 2)], ["......", "......", "......", "......"], id="no height"),
        pytest.param([(4, 1, 2, 3)], ["......", "......", "......", "......"], id="inverted x"),
        pytest.param([(2, 3, 4, 1)], ["......", "......", "......", "......"], id="inverted y"),
        pytest.param([(4, 1, -1, 3)], ["......", "......", "......", "......"], id="inverted and outside"),
        pytest.param([(4, 1, 2, 3), (0, 3, 1, 4)], ["......", "......", "......", "#....."], id="one of two is empty"),
    ],
)
def test_masks_of_boxes(boxes: list[tuple[int, int, int, int]], expected: list[str]) -> None:
    assert drawn(boxes) == expected


@given(st.lists(st.tuples(*[st.integers(-9, 9)] * 4), max_size=4), st.integers(1, 7), st.integers(1, 7))
def test_masks_of_boxes_equal_a_loop(boxes: list[tuple[int, int, int, int]], height: int, width: int) -> None:
    expected = [
        "".join("#" if any(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in boxes) else "." for x in range(width))
        for y in range(height)
    ]
    assert drawn(boxes, height, width) == expected


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64, np.uint64])
def test_boxes_of_any_integer(dtype: type[np.integer]) -> None:
    mask = Boxes(np.array([[1, 1, 3, 2]], dtype=dtype), 3, 4).to_mask()
    assert np.argwhere(mask).tolist() == [[1, 1], [1, 2]]


@pytest.mark.parametrize(
    "xyxy",
    [
        pytest.param(np.zeros((2, 4)), id="float"),
        pytest.param(np.zeros((2, 5), dtype=int), id="five numbers"),
        pytest.param(np.zeros(4, dtype=int), id="one dimension"),
        pytest.param(np.zeros((2, 4), dtype=bool), id="bool"),
        pytest.param(np.zeros((1, 2, 4), dtype=int), id="three dimensions"),
    ],
)
def test_boxes_are_refused(xyxy: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"Boxes.xyxy: expected an \(N, 4\) integer array, got shape") as caught:
        Boxes(xyxy, 4, 4)
    assert str(xyxy.shape) in str(caught.value)


def test_a_sample_needs_no_attributes() -> None:
    sample = Sample("a", Image.new("RGB", (2, 2)), None, {"object": None})
    assert sample.attributes == {}
    assert sample.label is None


def test_anything_with_the_attributes_is_an_annotated_dataset() -> None:
    class Own:
        name, class_names, regions, evidence, fingerprint = "own", ("a",), ("r",), ("r",), "0"

        def ids(self) -> list[str]:
            return ["1"]

        def attributes(self) -> dict[str, list[int]]:
            return {}

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Sample:
            return Sample("1", Image.new("L", (1, 1)), 0, {"r": None})

    assert isinstance(Own(), ea.AnnotatedDataset)
    assert not isinstance([Own()[0]], ea.AnnotatedDataset)
    assert not isinstance(torch.utils.data.TensorDataset(torch.zeros(1)), ea.AnnotatedDataset)
