"""Binarization: the rules against loops in NumPy, their text, and the promise that a mask depends on its map alone."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explanation_alignment import binarization
from explanation_alignment.binarization import BINARIZATIONS, Binarization, binarize
from explanation_alignment.errors import UnknownNameError, UsageError

SPECS = ("std:1", "std:-0.5", "threshold:0.5", "percentile:90", "percentile:37.5", "area", "otsu")


def random_maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_masks(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.3


def reference(s: np.ndarray, spec: str, g: np.ndarray) -> np.ndarray:
    """The mask of one map, pixel by pixel in float64."""
    rule, _, number = spec.partition(":")
    pixels = [float(x) for x in s.ravel()]
    n = len(pixels)
    if rule == "area":
        chosen = sorted(range(n), key=lambda i: (-pixels[i], i))[: int(g.sum())]
        return np.isin(np.arange(n), chosen).reshape(s.shape)
    if rule == "std":
        mean = math.fsum(pixels) / n
        threshold = mean + float(number) * math.sqrt(math.fsum((x - mean) ** 2 for x in pixels) / n)
    elif rule == "threshold":
        threshold = min(pixels) + float(number) * (max(pixels) - min(pixels))
    elif rule == "percentile":
        threshold = float(np.percentile(np.array(pixels), float(number)))
    else:
        low, high = min(pixels), max(pixels)
        bins = [min(255, int((x - low) / (high - low) * 256)) for x in pixels]
        best, threshold = -1.0, low
        for first in range(1, 256):
            below, above = [b for b in bins if b < first], [b for b in bins if b >= first]
            between = len(below) * len(above) * (sum(below) / len(below) - sum(above) / len(above)) ** 2
            if between > best * (1 + 1e-12):
                best, threshold = between, low + first / 256 * (high - low)
    return s.astype(np.float64) >= threshold


@pytest.mark.parametrize("spec", SPECS)
def test_every_rule_equals_a_loop(spec: str) -> None:
    maps, masks = random_maps(6, 9, 11), random_masks(6, 9, 11)
    expected = [reference(s, spec, g) for s, g in zip(maps.numpy(), masks.numpy(), strict=True)]
    assert np.array_equal(binarize(maps, spec, annotation=masks).numpy(), np.stack(expected))


def test_standard_deviation_is_the_populations() -> None:
    # mean .25; 1.6 population deviations above is .94, 1.6 sample deviations 1.05.
    assert binarize(torch.tensor([[[0.0, 0.0, 0.0, 1.0]]]), "std:1.6").sum() == 1


@pytest.mark.parametrize(
    ("spec", "values", "salient"),
    [
        ("std:1", [0.0, 0.0, 1.0, 1.0], 2),  # mean and deviation .5: the threshold is 1
        ("std:0", [1.0, 2.0, 3.0], 2),
        ("threshold:0.5", [0.0, 0.5, 1.0], 2),
        ("threshold:0", [0.0, 0.5, 1.0], 3),
        ("threshold:1", [-0.3, 0.1, 1.0], 1),
        ("percentile:50", [1.0, 2.0, 3.0], 2),
        ("percentile:100", [1.0, 2.0, 3.0], 1),
        ("percentile:0", [1.0, 2.0, 3.0], 3),
        ("percentile:7", [float(i) for i in range(101)], 94),  # 7 / 100 * 100 is more than 7
        ("otsu", [0.0, 0.0, 5.0, 5.0], 2),
    ],
)
def test_a_pixel_at_the_threshold_is_salient(spec: str, values: list[float], salient: int) -> None:
    assert binarize(torch.tensor([[values]]), spec).sum() == salient


def test_the_maximum_is_salient_at_threshold_1() -> None:
    maps = torch.tensor([[[-0.72, 0.88]]], dtype=torch.float64)  # -.72 + (.88 + .72) is more than .88
    assert binarize(maps, "threshold:1").tolist() == [[[False, True]]]


def test_area_takes_ties_in_row_major_order() -> None:
    maps = torch.tensor([[[1.0, 5.0, 1.0], [1.0, 0.0, 1.0]]])
    annotation = torch.tensor([[[0, 0, 0], [1, 1, 1]]])
    assert binarize(maps, "area", annotation=annotation).int().tolist() == [[[1, 1, 1], [0, 0, 0]]]


def test_area_of_empty_and_full_annotations() -> None:
    maps = torch.zeros(2, 3, 3)
    annotation = torch.stack([torch.zeros(3, 3), torch.ones(3, 3)])
    assert binarize(maps, "area", annotation=annotation).sum((1, 2)).tolist() == [0, 9]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("factor", [1e-25, 1e25, 2.0**-120, 2.0**120])
def test_scale_does_not_matter(spec: str, factor: float) -> None:
    maps, masks = random_maps(5, 16, 16), random_masks(5, 16, 16)
    assert torch.equal(binarize(maps * factor, spec, annotation=masks), binarize(maps, spec, annotation=masks))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_scale_does_not_matter_in_double_precision(spec: str, factor: float) -> None:
    maps, masks = random_maps(3, 8, 8).double(), random_masks(3, 8, 8)
    assert torch.equal(binarize(maps * factor, spec, annotation=masks), binarize(maps, spec, annotation=masks))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("size", [(7, 5), (1, 40), (28, 28)])
def test_a_mask_does_not_depend_on_its_batch(spec: str, size: tuple[int, int]) -> None:
    maps, masks = random_maps(512, *size), random_masks(512, *size)
    whole = binarize(maps, spec, annotation=masks)
    for batch in (1, 7):
        parts = [binarize(maps[i : i + batch], spec, annotation=masks[i : i + batch]) for i in range(0, 21, batch)]
        assert torch.equal(torch.cat(parts), whole[:21])


@pytest.mark.parametrize("batch", [1, 3])
def test_thresholds_do_not_depend_on_threads(batch: int) -> None:
    maps = binarization.Maps(random_maps(batch, 224, 224))
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            fresh = binarization.Maps(maps.values)
            found.append(torch.cat([fresh.mean, fresh.std]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_non_finite_map_has_no_salient_pixel_and_harms_no_other(spec: str, bad: float) -> None:
    maps, masks = random_maps(3, 8, 8), random_masks(3, 8, 8)
    expected = binarize(maps, spec, annotation=masks)
    maps[1, 2, 3] = bad
    found = binarize(maps, spec, annotation=masks)
    assert not found[1].any()
    assert torch.equal(found[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("spec", [s for s in SPECS if s != "area"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e-30, 3e38])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_map_is_salient_everywhere(spec: str, value: float, dtype: torch.dtype) -> None:
    assert binarize(torch.full((2, 13, 17), value, dtype=dtype), spec).all()


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_agree(spec: str, dtype: torch.dtype) -> None:
    maps, masks = random_maps(4, 8, 8).to(dtype), random_masks(4, 8, 8)
    found = binarize(maps, spec, annotation=masks)
    assert found.dtype == torch.bool
    assert torch.equal(found, binarize(maps.float(), spec, annotation=masks))


def test_shape_layout_and_gradients_are_the_callers_business() -> None:
    maps = random_maps(4, 8, 6)
    expected = binarize(maps, "std:1")
    assert torch.equal(binarize(maps[:, None], "std:1"), expected[:, None])
    assert torch.equal(binarize(maps.mT.contiguous().mT, "std:1"), expected)
    assert not binarize(maps.requires_grad_(), "std:1").requires_grad
    assert binarize(torch.zeros(0, 8, 6), "std:1").shape == (0, 8, 6)


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 40), st.integers(1, 90)),
    start=st.integers(0, 9),
    turned=st.booleans(),
)
def test_pixels_are_counted_however_the_masks_lie_in_memory(shape: tuple[int, ...], start: int, turned: bool) -> None:
    storage = random_masks(math.prod(shape) + start) if math.prod(shape) else torch.zeros(start, dtype=torch.bool)
    masks = storage[start:].view(shape)
    masks = masks.mT if turned else masks
    found = binarization.count_pixels(masks)
    assert found.dtype == torch.int32
    assert found.tolist() == masks.int().sum((-2, -1)).tolist()


@pytest.mark.parametrize("size", [(64, 64), (511, 513)])
def test_full_masks_are_counted_in_full(size: tuple[int, int]) -> None:
    assert binarization.count_pixels(torch.ones(2, *size, dtype=torch.bool)).tolist() == [size[0] * size[1]] * 2


@settings(max_examples=40)
@given(batch=st.integers(0, 5), height=st.integers(1, 400), width=st.integers(1, 400), seed=st.integers(0, 2**32 - 1))
def test_thresholds_hold_in_blocks_too(batch: int, height: int, width: int, seed: int) -> None:
    maps, thresholds = random_maps(batch, height, width, seed=seed), random_maps(batch, seed=seed + 1)
    assert torch.equal(binarization.at_least(maps, thresholds), maps >= thresholds[:, None, None])


@settings(max_examples=60)
@given(size=st.integers(2, 9), seed=st.integers(0, 2**32 - 1), t=st.floats(0, 1))
def test_a_threshold_between_two_single_precision_numbers_is_not_rounded_down(size: int, seed: int, t: float) -> None:
    # Neighbouring float32 values around 1, so that thresholds in double precision fall between them.
    steps = torch.randint(0, 5, (1, size, size), generator=torch.Generator().manual_seed(seed))
    steps[0, 0, :2] = torch.tensor([0, 4])
    maps = (1 + steps.double() * 2.0**-23).float()
    expected = maps.double() >= maps.double().amin() + t * (maps.double().amax() - maps.double().amin())
    assert torch.equal(binarize(maps, f"threshold:{t!r}"), expected)


@settings(max_examples=30)
@given(
    size=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    levels=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_peak_is_the_first_maximum(size: tuple[int, int, int], levels: int, seed: int) -> None:
    maps = torch.randint(0, levels, size, generator=torch.Generator().manual_seed(seed)).float()
    assert binarization.Maps.of(maps).peak.tolist() == [int(m.argmax()) for m in maps.numpy()]


@pytest.mark.parametrize(("offset", "spread"), [(1e6, 1e-3), (1e-3, 1e-6), (-1e8, 1.0), (3e38, 0.0)])
def test_moments_are_exact_far_from_zero(offset: float, spread: float) -> None:
    maps = (offset + spread * random_maps(5, 200, 300).double()).float()
    found = binarization.Maps.of(maps)
    values = maps.double().numpy()
    np.testing.assert_allclose(found.mean.flatten(), values.mean((1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.std.flatten(), values.std((1, 2)), rtol=1e-9, atol=abs(offset) * 1e-15)


def test_percentile_of_more_elements_than_quantile_takes() -> None:
    maps = torch.arange(1024.0 * 1024).view(1024, 1024).expand(17, 1024, 1024)
    assert binarize(maps, "percentile:75").sum((1, 2)).tolist() == [2**18] * 17


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("std:1", "std:1"),
        ("std:1.0", "std:1"),
        ("std:-0", "std:0"),
        ("std:+2.50", "std:2.5"),
        ("std:1e-3", "std:0.001"),
        ("threshold:0.50", "threshold:0.5"),
        ("percentile:95", "percentile:95"),
        ("percentile:1", "percentile:1"),
        ("area", "area"),
        ("otsu", "otsu"),
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    spec = Binarization.parse(text)
    assert str(spec) == canonical
    assert Binarization.parse(canonical) == spec == Binarization.parse(spec)
    assert hash(spec) == hash(Binarization.parse(canonical))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("std", "needs a number, such as std:1"),
        ("std:", "not a number"),
        ("std: 1", "not a number"),
        ("std:nan", "not a number"),
        ("std:1e999", "finite"),
        ("std:1:2", "not a number"),
        ("std:1_0", "not a number"),
        ("threshold:1.5", "0 to 1"),
        ("threshold:-0.1", "0 to 1"),
        ("percentile:101", "0 to 100"),
        ("percentile:0.95", "did you mean percentile:95"),
        ("otsu:3", "takes no number"),
        ("area:0.2", "takes no number"),
        (3, "is text such as"),
    ],
)
def test_wrong_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Binarization.parse(text)


@pytest.mark.parametrize("text", ["Std:1", "", "treshold:0.5", " std:1", "mean:1"])
def test_unknown_rules_are_refused(text: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown binarization"):
        Binarization.parse(text)


@pytest.mark.parametrize(
    ("saliency", "options", "message"),
    [
        (torch.zeros(3, 3), {}, r"saliency has shape \(3, 3\); expected \(B, H, W\).*\[None\]"),
        (torch.zeros(2, 3, 4, 4), {}, r"saliency has shape \(2, 3, 4, 4\)"),
        (torch.zeros(2, 0, 4), {}, r"\(2, 0, 4\)"),
        (torch.zeros(2, 3, 4, dtype=torch.uint8), {}, "saliency has dtype torch.uint8; expected a floating"),
        (np.zeros((2, 3, 4)), {}, "saliency is a ndarray; expected a tensor"),
        (torch.zeros(2, 3, 4), {"spec": "area"}, "'area' needs the annotation"),
        (
            torch.zeros(2, 3, 4),
            {"spec": "area", "annotation": torch.zeros(2, 4, 3)},
            r"annotation has shape \(2, 4, 3\)",
        ),
        (torch.zeros(2, 3, 4), {"spec": "area", "annotation": torch.full((2, 3, 4), 0.5)}, "other than 0 and 1"),
        (torch.zeros(2, 3, 4), {"spec": "area", "annotation": torch.zeros(2, 3, 4).cfloat()}, "dtype torch.complex64"),
    ],
)
def test_wrong_input_is_named(saliency: torch.Tensor, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        binarize(saliency, **{"spec": "std:1", **options})


def test_every_rule_is_tested() -> None:
    assert {spec.partition(":")[0] for spec in SPECS} == set(BINARIZATIONS)


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(binarization).failed == 0
