"""Numbers of images against a textbook formula, SciPy's noncentral t and simulated experiments."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.statistics.comparing.permutation import mcnemar_test
from explanation_alignment.statistics.planning import PLAN_SCHEMA, plan, power, sample_size
from statistics_tables import random_scores, rows


def test_the_textbooks_number() -> None:
    # (1.96 + .842)^2 * 2 (1 - r) sd^2 / d^2 = 784.9 with the normal distribution; Student's adds two
    assert sample_size(0.02, sd=0.2, correlation=0.5) == 787
    assert sample_size(0.5, sd=1.0, kind="unpaired") == 64  # Cohen 1988, table 2.4.1: d = .5, 80 %
    assert sample_size(-0.5, sd=1.0, kind="unpaired") == 64
    assert sample_size(0.1, sd=0.0) == 2


@settings(max_examples=25)
@given(st.floats(0.01, 2), st.floats(0.05, 1), st.floats(-0.9, 0.9), st.sampled_from(["paired", "unpaired"]))
def test_the_number_is_the_smallest_that_has_the_power(difference: float, sd: float, r: float, kind: str) -> None:
    n = sample_size(difference, sd=sd, correlation=r, kind=kind)
    assert power(n, difference, sd=sd, correlation=r, kind=kind) >= 0.8
    assert n == 2 or power(n - 1, difference, sd=sd, correlation=r, kind=kind) < 0.8


@pytest.mark.parametrize("n", [5, 30, 400])
def test_power_is_that_of_the_noncentral_t(n: int) -> None:
    shift, bound = 0.3 * math.sqrt(n), stats.t.ppf(0.975, n - 1)
    expected = stats.nct.sf(bound, n - 1, shift) + stats.nct.cdf(-bound, n - 1, shift)
    assert power(n, 0.3, sd=2**-0.5) == pytest.approx(expected, abs=1e-6)
    assert power(10_000_000, 0.3, sd=1.0) == 1
    assert power(20, 0.0, sd=1.0) == pytest.approx(0.05)
    assert power(1, 0.3, sd=1.0) == 0


def test_a_mean_is_as_wide_as_asked() -> None:
    n = sample_size(0.02, sd=0.2, kind="mean")
    assert stats.t.ppf(0.975, n - 1) * 0.2 / n**0.5 <= 0.02 < stats.t.ppf(0.975, n - 2) * 0.2 / (n - 1) ** 0.5


def test_simulated_experiments_show_the_difference_as_often_as_planned() -> None:
    rng = np.random.default_rng(0)
    shared, own = rng.beta(2, 5, (60_000, 1)), rng.beta(2, 5, (60_000, 2))
    scores = 0.7 * shared + 0.3 * own
    sd, r = float(scores.std()), float(np.corrcoef(scores.T)[0, 1])
    n = sample_size(0.02, sd=sd, correlation=r)
    base = 0.7 * rng.beta(2, 5, (n, 3000))
    first, second = (base + 0.3 * rng.beta(2, 5, (n, 3000)) for _ in range(2))
    shown = stats.ttest_rel(first + 0.02, second).pvalue < 0.05
    assert shown.mean() == pytest.approx(0.8, abs=0.025)


def test_hits_take_a_few_more_for_the_exact_test() -> None:
    rng = np.random.default_rng(1)
    n = sample_size(0.1, sd=0.21**0.5, sd_second=0.24**0.5, hits=True)
    first, second = rng.random((n, 4000)) < 0.7, rng.random((n, 4000)) < 0.6
    p, _ = mcnemar_test((first & ~second).sum(0).astype(float), (second & ~first).sum(0).astype(float))
    assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.025)


def test_a_plan_takes_the_runs_own_spread() -> None:
    scores = random_scores(models=("a", "b", "c"))
    table = plan(scores, 0.05, metrics=["iou_coverage", "accuracy"])
    assert table.schema == PLAN_SCHEMA
    assert table.height == 3 * (2 + 1)
    row = table.filter(region="object", first="a", second="b").row(0, named=True)
    wide = (
        scores.filter(pl.col("region").cast(pl.String) == "object")
        .with_columns(pl.col("model").cast(pl.String))
        .pivot("model", index="sample_id", values="iou_coverage")
        .drop_nulls(["a", "b"])
    )
    first, second = (wide[name].cast(pl.Float64).to_numpy() for name in "ab")
    assert row["n_now"] == len(first)
    assert (row["sd_first"], row["sd_second"]) == pytest.approx((first.std(ddof=1), second.std(ddof=1)))
    assert row["correlation"] == pytest.approx(np.corrcoef(first, second)[0, 1])
    spread = (first - second).std(ddof=1)
    assert row["images_paired"] == sample_size(0.05, sd=spread / 2**0.5)
    assert row["power_now"] == pytest.approx(power(len(first), 0.05, sd=spread / 2**0.5))
    assert row["images_one_mean"] == sample_size(0.05, sd=max(row["sd_first"], row["sd_second"]), kind="mean")


def test_one_model_is_planned_alone_and_nothing_defined_is_null() -> None:
    row = plan(rows({"iou_coverage": 0.2}, {"iou_coverage": 0.6}), 0.1, metrics=["iou_coverage"]).row(0, named=True)
    assert (row["second"], row["images_paired"]) == (None, None)
    assert row["images_one_mean"] == sample_size(0.1, sd=0.08**0.5, kind="mean")
    empty = plan(rows({"iou_coverage": None}, {"iou_coverage": None}), 0.1, metrics=["iou_coverage"])
    assert empty.select("n_now", "images_one_mean").row(0) == (0, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"difference": 0}, "other than 0"),
        ({"difference": math.nan}, "other than 0"),
        ({"sd": -1}, "at least 0"),
        ({"correlation": 2}, "between -1 and 1"),
        ({"power": 1}, "power"),
        ({"power": 0.01}, "power"),
        ({"level": 0}, "level"),
        ({"kind": "piared"}, "did you mean 'paired'"),
        ({"difference": 1e-9}, "larger one"),
    ],
)
def test_mistakes(change: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        sample_size(**{"difference": 0.1, "sd": 0.2, **change})  # type: ignore[arg-type]


def test_an_unknown_metric_is_named() -> None:
    with pytest.raises(UnknownNameError, match="iou_coverage"):
        plan(random_scores(), 0.1, metrics=["iou_coverge"])
    with pytest.raises(UsageError, match="kind"):
        power(10, 0.1, sd=1, kind="mean")
