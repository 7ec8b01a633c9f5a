"""The registry: names, arguments, errors, and that it needs no torch."""

from __future__ import annotations

import doctest
import pickle
import subprocess
import sys

import pytest

import explanation_alignment.metrics as package
from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.metrics import functional, registry
from explanation_alignment.metrics.registry import DEFAULT_METRICS, METRICS, get_metric


def test_names_and_labels_are_plain_unique_and_complete() -> None:
    assert all(name == metric.name == metric.base for name, metric in METRICS.items())
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)
    assert all(metric.summary and metric.source and metric.range[0] < metric.range[1] for metric in METRICS.values())
    assert set(DEFAULT_METRICS) <= set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_the_function_is_the_functional_one(name: str) -> None:
    assert METRICS[name].function is getattr(functional, name)


@pytest.mark.parametrize(
    ("spec", "name", "label"),
    [
        ("iou_coverage", "iou_coverage", "IoU"),
        ("pointing_game", "pointing_game", "hit"),
        ("pointing_game()", "pointing_game", "hit"),
        ("pointing_game(tolerance=0)", "pointing_game", "hit"),
        ("pointing_game(tolerance=15)", "pointing_game(tolerance=15)", "hit@15"),
        ("pointing_game( tolerance = 15.0 )", "pointing_game(tolerance=15)", "hit@15"),
        ("pointing_game(tolerance=2.5)", "pointing_game(tolerance=2.5)", "hit@2.5"),
        ("top_k_intersection(k=1000)", "top_k_intersection(k=1000)", "top-k@1000"),
    ],
)
def test_specs_have_one_canonical_name(spec: str, name: str, label: str) -> None:
    metric = get_metric(spec)
    assert (metric.name, metric.label) == (name, label)
    assert get_metric(metric.name) == metric == get_metric(metric)
    assert pickle.loads(pickle.dumps(metric)) == metric
    assert hash(metric) == hash(get_metric(name))


def test_arguments_reach_the_function() -> None:
    metric = get_metric("pointing_game(tolerance=15)")
    assert metric.arguments == {"tolerance": 15}
    assert metric.function.keywords == {"tolerance": 15}
    assert metric.with_arguments({"tolerance": 0}) is METRICS["pointing_game"]
    assert METRICS["top_k_intersection"].with_arguments({"k": None}) is METRICS["top_k_intersection"]


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("iou", UnknownNameError, "unknown metric 'iou'"),
        ("iou_covrage", UnknownNameError, "did you mean 'iou_coverage'"),
        ("pointing_game(tolerence=3)", UnknownNameError, "did you mean 'tolerance'"),
        ("iou_coverage(k=3)", UsageError, "takes no arguments"),
        ("IoU", UnknownNameError, "unknown metric 'IoU'; did you mean 'iou_coverage'"),
        ("gtc", UnknownNameError, "unknown metric 'gtc'; did you mean 'ground_truth_coverage'"),
        ("pointing_game(tolerance)", UsageError, "expected argument=value"),
        ("pointing_game(15)", UsageError, "expected argument=value"),
        ("pointing_game(tolerance=1,tolerance=2)", UsageError, "twice"),
        ("pointing_game(tolerance=-1)", UsageError, "a number of at least 0"),
        ("pointing_game(tolerance=nan)", UsageError, "a number of at least 0"),
        ("pointing_game(tolerance=inf)", UsageError, "a number of at least 0"),
        ("pointing_game(tolerance=far)", UsageError, "'far'; expected a number"),
        ("top_k_intersection(k=2.5)", UsageError, "a whole number of at least 1"),
        ("top_k_intersection(k=0)", UsageError, "a whole number of at least 1"),
        ("pointing_game(tolerance=1", UsageError, "cannot read metric"),
        ("", UsageError, "cannot read metric"),
    ],
)
def test_wrong_specs_are_refused(spec: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        get_metric(spec)


def test_a_flag_is_no_number() -> None:
    with pytest.raises(UsageError, match="tolerance of metric pointing_game is True"):
        METRICS["pointing_game"].with_arguments({"tolerance": True})


def test_the_registry_imports_no_torch_and_the_rest_does_on_use() -> None:
    script = """
import sys
from explanation_alignment.metrics.registry import METRICS, get_metric
import explanation_alignment.metrics as metrics
assert [m.label for m in METRICS.values()] and get_metric("pointing_game(tolerance=15)").binary
assert metrics.get_metric is get_metric
assert not {"torch", "torchmetrics"} & set(sys.modules), sorted(sys.modules)
METRICS["iou_coverage"].function
assert "torch" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_public_name_of_the_package_can_be_had() -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert dir(package) == sorted(package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'IoU'"):
        package.IoU  # noqa: B018


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(registry).failed == 0
