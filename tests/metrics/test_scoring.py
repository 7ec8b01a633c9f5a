"""The hot path: equal to the functions, nothing computed twice, nothing waiting for the device."""

from __future__ import annotations

import doctest
import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from explanation_alignment.binarization import binarize
from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.metrics import scoring
from explanation_alignment.metrics.registry import DEFAULT_METRICS, METRICS, get_metric
from explanation_alignment.metrics.scoring import score_maps

SPECS = ("std:1", "threshold:0.5", "percentile:80", "area", "otsu")
NAMES = [
    *(name for name, metric in METRICS.items() if metric.needs != "heatmap"),
    "pointing_game(tolerance=2)",
    "top_k_intersection(k=9)",
]


def batch(B: int = 9, R: int = 3) -> tuple[Tensor, Tensor]:
    """Maps with ties, some of them flat or without positive or salient pixels; some regions empty or full."""
    rng = torch.Generator().manual_seed(0)
    maps = torch.randint(-4, 9, (B, 6, 7), generator=rng).float()
    maps[1], maps[2], maps[3, 1, 1], maps[4, 2, 2] = 0.0, 1.5, math.nan, math.inf
    maps[5] = -maps[5].abs() - 1
    regions = torch.rand(R, B, 6, 7, generator=rng) < 0.3
    regions[0, 0], regions[1, 6] = False, True
    return maps, regions


@pytest.mark.parametrize("spec", SPECS)
def test_values_equal_the_functions(spec: str) -> None:
    maps, regions = batch()
    scores = score_maps(maps, spec, regions, NAMES)
    assert scores.flat.tolist() == [False, True, True, True, True, False, False, False, False]
    assert list(scores.values) == NAMES
    for name, values in scores.values.items():
        assert values.shape == (3, 9)
        assert values.dtype == torch.float32
        for region, annotation in enumerate(regions):
            metric = get_metric(name)
            prediction = binarize(maps, spec, annotation=annotation) if metric.needs == "mask" else maps
            expected = metric.function(prediction, annotation)
            expected[scores.flat] = math.nan
            torch.testing.assert_close(values[region], expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("spec", SPECS)
def test_areas_are_counted(spec: str) -> None:
    maps, regions = batch()
    scores = score_maps(maps, spec, regions)
    assert scores.annotation_area.dtype == scores.salient_area.dtype == torch.int32
    assert torch.equal(scores.annotation_area, regions.sum((2, 3)))
    if spec == "area":
        expected = torch.stack([binarize(maps, spec, annotation=g).sum((1, 2)) for g in regions])
    else:
        expected = binarize(maps, spec).sum((1, 2))
    assert torch.equal(scores.salient_area, expected)


def test_a_negative_map_is_undefined_by_mass_only() -> None:
    maps, regions = batch()
    values = score_maps(maps, "std:1", regions, NAMES).values
    assert [name for name in NAMES if values[name][1, 5].isnan()] == ["relevance_mass_accuracy"]


def test_shape_and_names() -> None:
    maps, regions = batch()
    scores = score_maps(maps[:, None].half(), "std:1", regions, ["pointing_game(tolerance=2.0)", METRICS["roc_auc"]])
    assert list(scores.values) == ["pointing_game(tolerance=2)", "roc_auc"]
    assert list(score_maps(maps, "std:1", regions).values) == list(DEFAULT_METRICS)
    assert score_maps(maps, "std:1", regions[:0]).values["iou_coverage"].shape == (0, 9)


class Calls(TorchDispatchMode):
    """Counts the operations that look at so many values or more."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.values = values
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if isinstance(args[0], Tensor) and args[0].numel() >= self.values:
            self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_metrics_share_extremes_and_orders() -> None:
    maps, regions = batch()
    with Calls(maps.numel()) as calls:
        score_maps(maps, "area", regions, NAMES)
    ordering = ("sort", "amax", "amin", "max", "kthvalue", "argmax")
    assert {name: calls.counts[name] for name in ordering if calls.counts[name]} == {"sort": 1, "amax": 1, "amin": 1}


@pytest.mark.parametrize("spec", SPECS)
def test_nothing_waits_for_the_device(spec: str) -> None:
    # A tensor on "meta" has no values, so whatever asks for one fails.
    maps, regions = (tensor.to("meta") for tensor in batch())
    scores = score_maps(maps, spec, regions, NAMES)
    assert all(values.device.type == "meta" and values.shape == (3, 9) for values in scores.values.values())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"annotations": torch.zeros(9, 6, 7, dtype=torch.bool)},
            UsageError,
            r"expected \(R, 9, 6, 7\) and torch.bool",
        ),
        ({"annotations": torch.zeros(1, 9, 6, 7)}, UsageError, "dtype torch.float32"),
        ({"annotations": torch.zeros(1, 9, 7, 6, dtype=torch.bool)}, UsageError, r"shape \(1, 9, 7, 6\)"),
        ({"saliency": torch.zeros(6, 7)}, UsageError, r"saliency has shape \(6, 7\)"),
        ({"metrics": ["heatmap_kl"]}, UsageError, "'heatmap_kl' needs real-valued annotations"),
        ({"metrics": ["iou"]}, UnknownNameError, "unknown metric 'iou'"),
        ({"metrics": ["top_k_intersection(k=43)"]}, UsageError, "k is 43; expected a whole number from 1 to 42"),
        ({"binarization": "mean:1"}, UnknownNameError, "unknown binarization 'mean'"),
    ],
)
def test_wrong_input_is_named(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    maps, regions = batch()
    with pytest.raises(error, match=message):
        score_maps(**{"saliency": maps, "binarization": "std:1", "annotations": regions, **changes})


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(scoring).failed == 0
