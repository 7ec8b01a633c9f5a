"""The torchmetrics classes: the mean over defined decisions, in collections, loaders and several processes."""

from __future__ import annotations

import doctest
import math
import pickle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.metrics import classes
from explanation_alignment.metrics.classes import AlignmentMetric
from explanation_alignment.metrics.registry import METRICS
from explanation_alignment.metrics.scoring import score_maps

CLASSES = [getattr(classes, name) for name in classes.__all__ if name != "AlignmentMetric"]
each = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


def batch(cls: type[AlignmentMetric], B: int = 12) -> tuple[Tensor, Tensor]:
    """Maps, two of them flat, beside annotations, one of them empty."""
    rng = torch.Generator().manual_seed(0)
    maps = torch.randn(B, 8, 9, generator=rng)
    maps[1], maps[2, 0, 0] = 0.5, math.nan
    if cls._registered.needs == "heatmap":
        annotations = torch.rand(B, 8, 9, generator=rng)
    else:
        annotations = (torch.rand(B, 8, 9, generator=rng) < 0.3).byte()
    annotations[4] = 0
    return maps, annotations


def expected(metric: AlignmentMetric, maps: Tensor, annotations: Tensor) -> tuple[float, int]:
    """The mean score and over how many."""
    if metric.metric.needs == "heatmap":
        scores = metric.metric.function(maps, annotations)
    else:
        rule = metric.binarization or "std:1"
        scores = score_maps(maps, rule, annotations[None] != 0, [metric.metric]).values[metric.metric.name][0]
    defined = scores[~scores.isnan()].tolist()
    return math.fsum(defined) / len(defined), len(defined)


@each
def test_the_mean_over_defined_decisions(cls: type[AlignmentMetric]) -> None:
    maps, annotations = batch(cls)
    metric = cls()
    for start in (0, 5, 10):
        metric.update(maps[start : start + 5], annotations[start : start + 5])
    mean, n = expected(metric, maps, annotations)
    assert metric.compute().item() == pytest.approx(mean, rel=1e-6)
    assert metric.compute().dtype == torch.float32
    assert (metric.n, metric.n_undefined) == (n, 12 - n)
    assert n == 9
    metric.reset()
    assert (metric.n, metric.n_undefined) == (0, 0)


@each
def test_forward_gives_the_batch_and_keeps_the_whole(cls: type[AlignmentMetric]) -> None:
    maps, annotations = batch(cls)
    metric = cls()
    first, _ = metric(maps[:6], annotations[:6]), metric(maps[6:], annotations[6:])
    assert first.item() == pytest.approx(expected(metric, maps[:6], annotations[:6])[0], rel=1e-6)
    assert metric.compute().item() == pytest.approx(expected(metric, maps, annotations)[0], rel=1e-6)


@each
def test_direction_and_range_are_the_registrys(cls: type[AlignmentMetric]) -> None:
    registered = cls().metric
    assert cls.higher_is_better == registered.higher_is_better
    for bound, value in zip((cls.plot_lower_bound, cls.plot_upper_bound), registered.range, strict=True):
        assert bound == (value if math.isfinite(value) else None)


def test_every_registered_metric_has_a_class() -> None:
    assert {cls._registered.name for cls in CLASSES} == set(METRICS)


@each
def test_no_defined_decision_gives_nan_without_a_warning(cls: type[AlignmentMetric]) -> None:
    maps, annotations = batch(cls)
    metric = cls()
    metric.update(maps[1:2], annotations[1:2])
    assert metric.compute().isnan()
    assert (metric.n, metric.n_undefined) == (0, 1)


def test_arguments_reach_the_metric() -> None:
    assert classes.PointingGame(tolerance=15.0).metric.name == "pointing_game(tolerance=15)"
    assert classes.TopKIntersection(k=7).metric.name == "top_k_intersection(k=7)"
    assert classes.TopKIntersection().metric is METRICS["top_k_intersection"]
    assert str(classes.IoUCoverage("threshold:0.50").binarization) == "threshold:0.5"
    for cls, arguments in ((classes.PointingGame, {"tolerance": 2}), (classes.IoUCoverage, {"binarization": "area"})):
        maps, annotations = batch(cls)
        metric = cls(**arguments)
        metric.update(maps, annotations)
        assert metric.compute().item() == pytest.approx(expected(metric, maps, annotations)[0], rel=1e-6)


@pytest.mark.parametrize(
    ("cls", "arguments", "error"),
    [
        (classes.PointingGame, {"tolerance": -1}, UsageError),
        (classes.TopKIntersection, {"k": 0}, UsageError),
        (classes.IoUCoverage, {"binarization": "mean:1"}, UnknownNameError),
        (classes.IoUCoverage, {"tolerance": 1}, ValueError),
    ],
)
def test_wrong_arguments_are_refused(cls: type[AlignmentMetric], arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        cls(**arguments)


def test_wrong_input_is_named() -> None:
    with pytest.raises(UsageError, match=r"annotation has shape \(1, 2, 3\); expected \(1, 3, 2\)"):
        classes.PointingGame().update(torch.zeros(1, 3, 2), torch.zeros(1, 2, 3))


def test_a_collection_keeps_metrics_apart_that_begin_alike() -> None:
    # On the first batch all of these are 1 or undefined, so their states are equal; on the second they are not.
    collection = MetricCollection(
        {
            "iou": classes.IoUCoverage(),
            "iou_half": classes.IoUCoverage("threshold:0.5"),
            "gtc": classes.GroundTruthCoverage(),
            "hit": classes.PointingGame(),
            "hit_near": classes.PointingGame(tolerance=3),
        }
    )
    annotation = torch.zeros(1, 8, 9)
    annotation[0, 2:4, 2:4] = 1
    collection.update(annotation.clone(), annotation)
    assert set(map(float, collection.compute().values())) == {1.0}
    maps, annotations = batch(classes.IoUCoverage)
    collection.update(maps, annotations)
    found = {name: float(value) for name, value in collection.compute().items()}
    for name, metric in collection.items():
        mean, n = expected(metric, maps, annotations)
        assert found[name] == pytest.approx((mean * n + 1) / (n + 1), rel=1e-6)


def test_with_a_data_loader_pickled_and_restored() -> None:
    maps, annotations = batch(classes.IoUCoverage)
    metric = classes.IoUCoverage("threshold:0.5")
    metric.persistent(True)
    for saliency, annotation in DataLoader(TensorDataset(maps, annotations), batch_size=5):
        metric.update(saliency, annotation)
    copy = pickle.loads(pickle.dumps(metric))
    restored = classes.IoUCoverage("threshold:0.5")
    restored.load_state_dict(metric.state_dict())
    assert copy.compute() == metric.compute()
    assert (restored.n, restored.n_undefined) == (copy.n, copy.n_undefined) == (9, 3)


@each
def test_plot(cls: type[AlignmentMetric]) -> None:
    mpl.use("Agg")
    metric = cls()
    values = [metric(*batch(cls)), metric(*batch(cls, 10))]
    for given in ((), (values,)):
        figure, axes = metric.plot(*given)
        low, high = axes.get_ylim()
        assert cls.plot_lower_bound is None or low <= cls.plot_lower_bound
        assert cls.plot_upper_bound is None or high >= cls.plot_upper_bound
        assert cls.__name__ in axes.get_title() + axes.get_ylabel() + str(axes.get_legend_handles_labels())
        plt.close(figure)


@pytest.mark.parametrize("needs_heatmap", [False, True])
def test_all_in_one_collection(needs_heatmap: bool) -> None:
    chosen = [cls for cls in CLASSES if (cls._registered.needs == "heatmap") == needs_heatmap]
    collection = MetricCollection([cls() for cls in chosen], prefix="val/")
    maps, annotations = batch(chosen[0])
    stepped = collection(maps[:6], annotations[:6])
    collection.update(maps[6:], annotations[6:])
    computed = collection.compute()
    assert set(computed) == set(stepped) == {f"val/{cls.__name__}" for cls in chosen}
    for name, metric in collection.items():
        key = name if name.startswith("val/") else f"val/{name}"
        assert computed[key].item() == pytest.approx(expected(metric, maps, annotations)[0], rel=1e-6)
        assert stepped[key].item() == pytest.approx(expected(metric, maps[:6], annotations[:6])[0], rel=1e-6)
    copied = collection.clone(prefix="test/")
    copied.reset()
    assert all(metric.n == 0 for metric in copied.values())
    assert all(metric.n == 9 for metric in collection.values())


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_updates_in_any_dtype_and_shape(cls: type[AlignmentMetric], dtype: torch.dtype) -> None:
    maps, annotations = (tensor[:, None] for tensor in batch(cls))
    maps = maps.half()  # the same values in each
    if cls._registered.needs == "heatmap":
        annotations = annotations.half()
    first, second = cls(), cls()
    first.update(maps.float(), annotations.float())
    second.update(maps.to(dtype), annotations.to(dtype))
    assert first.compute().item() == pytest.approx(second.compute().item(), rel=1e-6)
    assert first.n == second.n


def share(rank: int, folder: str) -> None:
    """What each of two processes does: score its decisions, one more than the other, then agree on the mean."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        found = {}
        for cls in CLASSES:
            metric = cls()
            maps, annotations = batch(cls, 13)
            for chosen in (slice(rank, 7, 2), slice(7 + rank, None, 2)):
                metric.update(maps[chosen], annotations[chosen])
            found[cls.__name__] = (metric.compute().item(), metric.n, metric.n_undefined)
        torch.save(found, f"{folder}/{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(share, args=(str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for cls in CLASSES:
        metric = cls()
        metric.update(*batch(cls, 13))
        means, counts, undefined = zip(*(found[cls.__name__] for found in ranks), strict=True)
        assert means[0] == means[1] == metric.compute().item()
        assert sum(counts) == metric.n == 10
        assert sum(undefined) == metric.n_undefined == 3


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(classes).failed == 0
