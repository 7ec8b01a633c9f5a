"""The nulls that need no model: random by sample, the centre, and the image's edges."""

from __future__ import annotations

import doctest
import math
from collections import Counter

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explanation_alignment.binarization import binarize
from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.metrics import functional
from explanation_alignment.saliency import baselines
from explanation_alignment.saliency.baselines import (
    BASELINES,
    baseline_maps,
    center_maps,
    random_maps,
    sobel_maps,
)
from explanation_alignment.statistics import expected_iou

IDS = [f"val/{i}.png" for i in range(12)]
sides = st.integers(1, 12)


def images(B: int = 5, C: int = 3, H: int = 9, W: int = 7) -> torch.Tensor:
    return torch.randn(B, C, H, W, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_maps_are_float32_and_depend_on_their_own_image_only(name: str, dtype: torch.dtype) -> None:
    batch = images(40, H=31, W=33).to(dtype)
    ids = [str(i) for i in range(40)]
    maps = baseline_maps(name, batch, ids, seed=3)
    assert maps.shape == (40, 31, 33)
    assert maps.dtype == torch.float32
    assert maps.isfinite().all()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1)).tolist()
    assert torch.equal(baseline_maps(name, batch[order], [ids[i] for i in order], seed=3), maps[order])
    for size in (1, 7):
        parts = [baseline_maps(name, batch[i : i + size], ids[i : i + size], seed=3) for i in range(0, 40, size)]
        assert torch.equal(torch.cat(parts), maps)
    assert baseline_maps(name, batch[:0], []).shape == (0, 31, 33)


@pytest.mark.parametrize("name", BASELINES)
def test_maps_are_on_the_images_device(name: str) -> None:
    assert baseline_maps(name, images().to("meta"), IDS[:5]).device.type == "meta"


@pytest.mark.parametrize("name", BASELINES)
def test_images_are_left_alone(name: str) -> None:
    batch = images().requires_grad_()
    maps = baseline_maps(name, batch, IDS[:5])
    assert not maps.requires_grad
    maps.zero_()  # a cached map must not be handed out
    again = baseline_maps(name, batch, IDS[:5])
    assert again.flatten(1).amax(1).gt(0).all()
    assert torch.equal(batch, images())


def test_random_maps_are_the_same_on_every_machine() -> None:
    found = (random_maps(["a", "cat/7.jpg"], 2, 3, seed=5) * 2**24).long()
    assert found.flatten(1).tolist() == RECORDED


RECORDED = [
    [13379062, 15133315, 10777320, 7588148, 2683460, 1847080],
    [11704296, 14406145, 6870500, 601811, 15266503, 10185136],
]


def test_random_maps_follow_seed_and_id() -> None:
    maps = random_maps(["a", "b"], 20, 20)
    assert torch.equal(maps, random_maps(["a", "b"], 20, 20, seed=0))
    others = [maps[1], random_maps(["a"], 20, 20, seed=1)[0], random_maps(["1:a"], 20, 20)[0]]
    for other in others:
        assert (maps[0] != other).float().mean() > 0.99


@settings(max_examples=20)
@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(-5, 2**40))
def test_no_two_random_values_are_equal(height: int, width: int, seed: int) -> None:
    maps = random_maps(IDS[:2], height, width, seed)
    assert ((maps >= 0) & (maps < 1)).all()
    for values in maps.flatten(1):
        assert values.unique().numel() == height * width


def test_random_values_are_uniform_and_neighbours_independent() -> None:
    B, H = 120, 64
    maps = random_maps([str(i) for i in range(B)], H, H).double()
    expected = H * H / 32
    chi = sum(((torch.histc(m, 32, 0, 1) - expected) ** 2).sum() / expected for m in maps)
    freedom = 31 * B
    assert abs(chi - freedom) < 5 * math.sqrt(2 * freedom)
    z = (maps - 0.5) * math.sqrt(12)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 32), (16, 0), (0, 8)):
        product = (z[:, dy:, dx:] * z[:, : H - dy, : H - dx]).mean((1, 2)) * math.sqrt((H - dy) * (H - dx))
        assert abs(product.square().mean() - 1) < 5 * math.sqrt(2 / B), (dy, dx)
        assert product.abs().max() < 5
    between = np.corrcoef(z.flatten(1).numpy())[np.triu_indices(B, 1)] * H
    assert abs(np.mean(between**2) - 1) < 5 * math.sqrt(2 / len(between))


def test_every_order_of_pixels_is_as_likely() -> None:
    n = 24_000
    maps = random_maps([str(i) for i in range(n)], 2, 2)
    orders = Counter(map(tuple, maps.flatten(1).argsort(1).tolist()))
    assert len(orders) == 24
    chi = sum((count - n / 24) ** 2 / (n / 24) for count in orders.values())
    assert chi < 23 + 5 * math.sqrt(46)


def test_random_maps_score_what_chance_says() -> None:
    maps = random_maps([str(i) for i in range(400)], 32, 32)
    annotation = torch.zeros(400, 32, 32, dtype=torch.bool)
    annotation[:, 3:15, 10:30] = True
    mask = binarize(maps, "std:1")
    scores = functional.iou_coverage(mask, annotation).double()
    chance = expected_iou(mask.sum((1, 2)).numpy(), 240, 1024).mean()
    assert abs(scores.mean() - chance) < 4 * scores.std() / 20
    assert abs(functional.roc_auc(maps, annotation).mean() - 0.5) < 0.005


def test_random_maps_have_as_many_pixels_as_float32_has_values() -> None:
    with pytest.raises(UsageError, match=r"4097 x 4096 has 16781312 pixels; random maps have at most 16777216"):
        random_maps(["a"], 4097, 4096)


@settings(max_examples=40)
@given(height=sides, width=sides)
def test_the_centre_is_a_gaussian_around_the_exact_middle(height: int, width: int) -> None:
    maps = center_maps(2, height, width)
    sigma = math.hypot(height, width) / 4
    expected = [
        [math.exp(-((y - (height - 1) / 2) ** 2 + (x - (width - 1) / 2) ** 2) / (2 * sigma**2)) for x in range(width)]
        for y in range(height)
    ]
    np.testing.assert_allclose(maps.numpy(), [expected, expected], rtol=1e-6)
    for turned in (maps.flip(1), maps.flip(2)):
        assert torch.equal(turned, maps)


@pytest.mark.parametrize("size", [(224, 224), (223, 224), (3, 2000), (1, 500), (700, 701)])
def test_values_differ_where_distances_do(size: tuple[int, int]) -> None:
    y, x = np.indices(size)
    distances = np.unique((2 * y - size[0] + 1) ** 2 + (2 * x - size[1] + 1) ** 2)
    assert center_maps(1, *size).unique().numel() == len(distances)


@settings(max_examples=25)
@given(size=st.tuples(st.integers(1, 4), st.sampled_from([1, 3]), sides, sides), seed=st.integers(0, 2**32 - 1))
def test_edges_equal_scipys(size: tuple[int, int, int, int], seed: int) -> None:
    batch = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    for image, edges in zip(batch.double().numpy(), sobel_maps(batch).numpy(), strict=True):
        gray = image[0] if len(image) == 1 else np.tensordot([0.299, 0.587, 0.114], image, 1)
        expected = np.hypot(*(scipy.ndimage.sobel(gray, axis, mode="reflect") for axis in (0, 1)))
        np.testing.assert_allclose(edges, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [0.1, -2.3, 0.7])
def test_an_image_of_one_colour_has_no_edges(value: float) -> None:
    assert (sobel_maps(torch.full((2, 3, 8, 9), value)) == 0).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: baseline_maps("centre", images(), IDS[:5]), UnknownNameError, "did you mean 'center'"),
        (lambda: baseline_maps("random", images(), IDS), UsageError, "12 ids for 5 images"),
        (lambda: baseline_maps("sobel", images()[0], IDS), UsageError, r"images have shape \(3, 9, 7\)"),
        (lambda: sobel_maps(images().byte()), UsageError, "dtype torch.uint8; expected .* floating"),
        (lambda: sobel_maps(images(C=4)), UsageError, r"\(5, 4, 9, 7\); expected 1 or 3 channels"),
        (lambda: sobel_maps(images(H=0)), UsageError, r"\(5, 3, 0, 7\)"),
        (lambda: random_maps(["a"], 0, 3), UsageError, "height is 0; expected a whole number"),
        (lambda: center_maps(1, 3, -1), UsageError, "width is -1"),
        (lambda: center_maps(1, 3, True), UsageError, "width is True"),
    ],
)
def test_wrong_input_is_named(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(baselines).failed == 0
