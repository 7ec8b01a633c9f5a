"""Ranking stability against rankings written out by hand and scipy's tau."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from scipy.stats import kendalltau

from explanation_alignment.errors import UsageError
from explanation_alignment.statistics.ranking import (
    RANKING_SCHEMA,
    ranking_agreement,
    ranking_stability,
    ranking_swaps,
)


def summary(means: Mapping[str, Sequence[float | None]], **changed: object) -> pl.DataFrame:
    """Binarization -> the means of models a, b, c, ..."""
    records = [
        {
            "model": "abcdefgh"[i],
            "seed": 0,
            "dataset": "d",
            "method": "gradcam",
            "binarization": binarization,
            "region": "object",
            "group": "all",
            "metric": "iou_coverage",
            "ea": ea,
        }
        | changed
        for binarization, values in means.items()
        for i, ea in enumerate(values)
    ]
    return pl.DataFrame(records, infer_schema_length=None).cast({"ea": pl.Float64, "seed": pl.Int64})


def test_rankings_written_out_by_hand() -> None:
    # a, b, c in order; then b before a; then all reversed
    table = summary({"t:1": [0.3, 0.2, 0.1], "t:2": [0.2, 0.3, 0.1], "t:3": [0.1, 0.2, 0.3]})
    tau = {(r["binarization_a"], r["binarization_b"]): r["tau"] for r in ranking_agreement(table).rows(named=True)}
    assert tau == {
        ("t:1", "t:2"): pytest.approx(1 / 3),
        ("t:1", "t:3"): pytest.approx(-1),
        ("t:2", "t:3"): pytest.approx(-1 / 3),
    }
    swaps = ranking_swaps(table)
    assert swaps.select("model_a", "model_b", "a_ahead", "b_ahead", "tied").rows() == [
        ("a", "b", 1, 2, 0),
        ("a", "c", 2, 1, 0),
        ("b", "c", 2, 1, 0),
    ]
    assert swaps["swaps"].to_list() == pytest.approx([2 / 3] * 3)
    whole = ranking_stability(table)
    assert whole.schema == RANKING_SCHEMA
    row = whole.row(0, named=True)
    assert (row["models"], row["binarizations"], row["pairs_that_swap"]) == (3, 3, 1)
    assert (row["tau_mean"], row["tau_min"], row["swaps"]) == pytest.approx((-1 / 3, -1, 2 / 3))


def test_many_models_against_scipy_and_a_plain_count() -> None:
    rng = np.random.default_rng(0)
    means = {f"threshold:0.{k}": rng.random(8).round(1).tolist() for k in range(1, 6)}
    table = summary(means)
    for row in ranking_agreement(table).rows(named=True):
        pair = means[row["binarization_a"]], means[row["binarization_b"]]
        assert row["tau"] == pytest.approx(kendalltau(*pair).statistic)
    opposite = sum(
        (one[i] - one[j]) * (two[i] - two[j]) < 0
        for one, two in combinations(means.values(), 2)
        for i, j in combinations(range(8), 2)
    )
    assert ranking_swaps(table)["swaps"].mean() == pytest.approx(opposite / (10 * 28))


def test_undefined_means_and_ties() -> None:
    table = summary({"t:1": [0.3, None, 0.1], "t:2": [0.2, 0.3, 0.2]})
    [agreement] = ranking_agreement(table).rows(named=True)
    assert (agreement["models"], agreement["tau"]) == (2, None)  # a and c tie under the second
    swaps = {(r["model_a"], r["model_b"]): r for r in ranking_swaps(table).rows(named=True)}
    assert swaps["a", "c"]["tied"] == 1
    assert (swaps["a", "b"]["binarizations"], swaps["a", "b"]["swaps"]) == (1, None)


def test_a_metric_that_falls_with_agreement_is_ahead_when_it_is_lower() -> None:
    table = summary({"t:1": [3.0, 2.0], "t:2": [1.0, 2.0]}, metric="somebody_elses")
    assert ranking_swaps(table).select("a_ahead", "b_ahead").row(0) == (1, 1)


def test_metrics_that_need_no_binarized_map_are_left_out() -> None:
    means = {"t:1": [0.3, 0.2], "t:2": [0.2, 0.3]}
    both = pl.concat([summary(means), summary(means, metric="pointing_game")])
    assert ranking_stability(both)["metric"].to_list() == ["iou_coverage"]


def test_pooled_seeds_are_ranked_too() -> None:
    means = {"t:1": [0.3, 0.2], "t:2": [0.2, 0.3]}
    table = pl.concat([summary(means).with_columns(seed=pl.lit(None, pl.Int64)), summary(means, dataset="e")])
    assert ranking_stability(table).select("dataset", "seed", "tau_mean").rows() == [("d", None, -1.0), ("e", 0, -1.0)]


def test_nothing_to_compare_says_what_is_missing() -> None:
    with pytest.raises(UsageError, match="several binarizations"):
        ranking_stability(summary({"t:1": [0.3, 0.2]}))
    with pytest.raises(UsageError, match="several models"):
        ranking_stability(summary({"t:1": [0.3], "t:2": [0.2]}))
