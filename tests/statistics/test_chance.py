"""Chance levels against sums over scipy's distribution and against shuffled maps."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from explanation_alignment.statistics import adjusted_for_chance, ceiling_levels, chance_levels, expected_iou


def summed_iou(b: int, g: int, n: int) -> float:
    """The definition: every possible overlap times its probability."""
    overlap = np.arange(max(0, b + g - n), min(b, g) + 1)
    return float((hypergeom.pmf(overlap, n, g, b) * overlap / (b + g - overlap)).sum())


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_expected_iou_is_the_exact_sum_on_small_maps(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 900))
    b, g = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    assert expected_iou(b, g, n) == pytest.approx(summed_iou(b, g, n), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(
    ("b", "g"),
    [(1, 1), (1, 50_000), (2508, 2508), (5000, 10_000), (48_000, 45_000), (50_176, 7), (300, 20_000)],
)
def test_expected_iou_on_maps_of_224_pixels(b: int, g: int) -> None:
    assert expected_iou(b, g, 224 * 224) == pytest.approx(summed_iou(b, g, 224 * 224), rel=1e-6)


def test_expected_iou_where_the_series_takes_over() -> None:
    # the standard deviation of the overlap passes 10 within this range of areas
    for b in range(300, 1200, 37):
        assert expected_iou(b, 4000, 10_000) == pytest.approx(summed_iou(b, 4000, 10_000), rel=1e-6)


@pytest.mark.parametrize("side", [1400, 1500, 3000])
def test_expected_iou_of_maps_of_many_megapixels(side: int) -> None:
    # three areas of a map of more than 2 megapixels do not fit into one number of 64 bits
    n = side**2
    b, g = np.array([n // 10, n // 5, 3, n // 10]), np.array([n // 5, n // 3, 7, n // 5])
    found = expected_iou(b, g, n)
    # the overlap of large sets hardly varies, so that the mean of the ratio is the ratio of the means
    overlap = b[:2] * (g[:2] / n)
    assert found[:2] == pytest.approx(overlap / (b + g)[:2] / (1 - overlap / (b + g)[:2]), rel=1e-4)
    assert found[2] == pytest.approx(7 / n * 3 / 9, rel=1e-4)  # of small ones it is 1 pixel or none
    assert found[3] == found[0]


def test_maps_of_many_megapixels_leave_the_small_ones_beside_them_as_they_are() -> None:
    small = expected_iou([8, 5], [4, 9], 16)
    assert expected_iou([8, 10_000_000, 5], [4, 20_000_000, 9], [16, 10**8, 16])[[0, 2]].tolist() == small.tolist()


def test_expected_iou_at_the_edges() -> None:
    assert expected_iou([0, 5, 9, 9], [5, 0, 9, 3], 9).tolist() == [0, 0, 1, pytest.approx(1 / 3)]
    assert np.isnan(expected_iou(0, 0, 9))
    assert expected_iou([], [], []).shape == (0,)
    assert expected_iou([[1, 2], [3, 4]], 4, [[16], [20]]).shape == (2, 2)
    with pytest.raises(ValueError, match="between 0 and"):
        expected_iou(10, 5, 9)


def test_levels_match_shuffled_maps() -> None:
    rng = np.random.default_rng(0)
    b, g, n, shuffles = 7, 11, 36, 20_000
    annotation = np.arange(n) < g
    order = rng.permuted(np.tile(np.arange(n), (shuffles, 1)), axis=1)  # rank of every pixel, 0 the most salient
    salient = order < b
    overlap = (salient & annotation).sum(axis=1)
    seen = {
        "iou_coverage": overlap / (b + g - overlap),
        "ground_truth_coverage": overlap / g,
        "saliency_coverage": overlap / b,
        "pointing_game": annotation[order.argmin(axis=1)],
        "relevance_rank_accuracy": ((order < g) & annotation).sum(axis=1) / g,
        "relevance_mass_accuracy": (annotation * (n - order)).sum(axis=1) / (n - order).sum(axis=1),
        "top_k_intersection": ((order < 2) & annotation).sum(axis=1) / 2,
    }
    for metric, values in seen.items():
        error = 5 * values.std() / np.sqrt(shuffles)
        assert float(chance_levels(metric, b, g, n)) == pytest.approx(values.mean(), abs=error), metric


@pytest.mark.parametrize(
    ("metric", "chance", "ceiling"),
    [
        ("iou_coverage", summed_iou(8, 4, 16), 0.5),
        ("ground_truth_coverage", 0.5, 1.0),
        ("saliency_coverage", 0.25, 0.5),
        ("pointing_game", 0.25, 1.0),
        ("top_k_intersection(k=3)", 0.25, 1.0),
        ("roc_auc", 0.5, 1.0),
        ("heatmap_spearman", 0.0, 1.0),
    ],
)
def test_levels_of_one_decision(metric: str, chance: float, ceiling: float) -> None:
    assert float(chance_levels(metric, 8, 4, 16)) == pytest.approx(chance)
    assert float(ceiling_levels(metric, 8, 4, 16)) == pytest.approx(ceiling)


@pytest.mark.parametrize("metric", ["pointing_game(tolerance=15)", "heatmap_kl", "somebody_elses"])
def test_no_level_is_guessed(metric: str) -> None:
    assert np.isnan(chance_levels(metric, [8, 8], 4, 16)).all()
    assert np.isnan(ceiling_levels(metric, [8, 8], 4, 16)).all()


def test_unknown_areas_give_no_level() -> None:
    assert np.isnan(chance_levels("iou_coverage", np.nan, 4, 16))
    assert float(chance_levels("pointing_game", np.nan, 4, 16)) == 0.25  # needs no salient area
    assert np.isnan(chance_levels("pointing_game", 8, np.nan, 16))
    with pytest.raises(ValueError, match="between 0 and"):
        chance_levels("pointing_game", 8, 17, 16)


def test_adjusted_for_chance() -> None:
    assert adjusted_for_chance(0.5, 0.2, 0.8) == pytest.approx(0.5)
    assert adjusted_for_chance(0.1, 0.2, 0.8) == pytest.approx(-1 / 6)
    assert adjusted_for_chance(0.5, 0.5, 0.5) is None
    assert adjusted_for_chance(None, 0.2, 0.8) is None
    assert adjusted_for_chance(0.5, None, None) is None


def test_half_a_million_rows_take_seconds() -> None:
    rng = np.random.default_rng(0)
    row = rng.integers(0, 50_000, 500_000)
    areas = rng.integers(1, 400, (2, 50_000))
    begin = time.process_time()
    expected_iou(areas[0, row], areas[1, row], 784)
    assert time.process_time() - begin < 10  # measured below 1; the margin is for slow machines
