"""Leaderboards: accuracy recomputed by hand, alignment as the summary has it, and timm's units."""

from __future__ import annotations

import csv
import importlib.resources
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

import explanation_alignment as ea
from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.statistics.leaderboards import TIMM_COLUMNS, crop_share, leaderboard, leaderboard_metrics
from model_runs import model_row, model_scores, write_models
from statistics_tables import random_scores, rows

RNG = np.random.default_rng(5)
RIGHT = {"a": RNG.random(60) < 0.7, "b": RNG.random(60) < 0.9, "c": RNG.random(60) < 0.5}
IOU = {"a": RNG.random(60), "b": RNG.random(60) * 0.3, "c": np.where(RNG.random(60) < 0.2, np.nan, 0.6)}
SCORES = [model_scores(name, RIGHT[name], IOU[name]) for name in "abc"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = [model_row("a"), model_row("b", parameters=5_288_548, family=None), model_row("c", resize="256")]
    return write_models(tmp_path_factory.mktemp("board") / "run", SCORES, models=models)


def test_accuracy_is_counted_over_images_with_wilsons_interval(run: Path) -> None:
    table = ea.leaderboard(run)
    assert table["model"].to_list() == ["b", "a", "c"]  # by top1
    for row, scores in zip(table.sort("model").rows(named=True), SCORES, strict=True):
        ranks = scores["label_rank"].to_list()
        for name, hits in (("top1", scores["correct"].sum()), ("top5", sum(rank <= 5 for rank in ranks))):
            interval = binomtest(hits, 60).proportion_ci(0.95, "wilson")
            assert row[name] == pytest.approx(100 * hits / 60)
            assert row[f"{name}_err"] == pytest.approx(100 - 100 * hits / 60)
            assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx((100 * interval.low, 100 * interval.high))
        assert row["n_images"] == 60


def test_of_several_targets_without_a_main_one_none_is_ranked(tmp_path: Path) -> None:
    targets = ("cat", "cat", "dog")
    scores = [table.with_columns(target=pl.lit(name)) for table, name in zip(SCORES, targets, strict=True)]
    run = write_models(tmp_path / "run", scores)
    for one in (run, pl.concat(scores)):
        for asked in ({"sort": "top1"}, {"sort": "ea_iou_coverage"}, {"methods": ["gradcam"]}):
            with pytest.raises(UsageError, match=r"several targets \(cat, dog\), none of them 'predicted'"):
                leaderboard(one, **asked)  # type: ignore[arg-type]
    assert leaderboard(pl.concat(scores).filter(target="cat"))["model"].to_list() == ["b", "a"]
    main = [SCORES[0], *scores[1:]]
    assert leaderboard(write_models(tmp_path / "main", main))["model"].to_list() == ["a"]


def test_alignment_is_that_of_the_summary(run: Path) -> None:
    table = leaderboard(run, level=0.8)
    summary = ea.open_run(run).summary(level=0.8)
    assert leaderboard_metrics(table) == ["iou_coverage", "pointing_game"]
    parts = {
        "": "ea",
        "_low": "ci_low",
        "_high": "ci_high",
        "_chance": "chance",
        "_adjusted": "adjusted",
        "_n": "n",
        "_undefined": "n_undefined",
        "_unreliable": "unreliable",
    }
    for row in summary.rows(named=True):
        [shown] = table.filter(model=row["model"]).rows(named=True)
        assert {end: shown[f"ea_{row['metric']}{end}"] for end in parts} == {end: row[c] for end, c in parts.items()}
        assert shown["top1"] == pytest.approx(100 * row["accuracy"])


def test_what_is_known_of_models_is_in_timms_units(run: Path) -> None:
    table = leaderboard(run, sort="model")
    assert tuple(table.columns[:9]) == ("model", *TIMM_COLUMNS)
    assert table["param_count"].to_list() == [25.56, 5.29, 25.56]
    assert table["crop_pct"].to_list() == [0.9, 0.9, 0.875]
    assert table["img_size"].to_list() == [224] * 3
    assert table["interpolation"].to_list() == ["bicubic"] * 3
    assert table["family"].to_list() == ["cnn", None, "cnn"]


def test_a_recorded_crop_share_goes_before_what_the_sizes_tell(tmp_path: Path) -> None:
    models = [
        model_row("a", crop_pct=0.8975),
        model_row("b", crop_pct=None, resize=None, crop=None),
        model_row("c", crop_pct=None, crop=None),
    ]
    table = leaderboard(write_models(tmp_path / "run", SCORES, models=models), sort="model")
    assert table["crop_pct"].to_list() == [0.8975, None, 1.0]


def test_shares_of_the_published_models_are_told_from_the_sizes() -> None:
    resource = importlib.resources.files("explanation_alignment.classifiers.data") / "paper_timm_models.csv"
    told = []
    for row in csv.DictReader(resource.read_text().splitlines()):
        size, share = int(row["input_size"]), float(row["crop_pct"])
        found = crop_share(math.floor(size / share), size)
        assert math.floor(size / found) == math.floor(size / share)
        assert abs(found - share) < 0.005
        told.append(found == share)
    assert sum(told) >= 184  # of 195; several shares lead to the size of the others


@given(st.integers(32, 600), st.integers(32, 700))
def test_a_share_leads_to_the_size_it_was_told_from(kept: int, resized: int) -> None:
    assert abs(math.floor(kept / crop_share(resized, kept) + 1e-9) - resized) == 0


@pytest.mark.parametrize(
    ("sort", "ascending", "expected"),
    [
        ("top1", False, "bac"),
        ("top1", True, "cab"),
        ("top1_err", False, "cab"),
        ("model", False, "abc"),
        ("param_count", False, "acb"),  # a tie goes by name
        ("ea_iou_coverage_undefined", False, "cab"),
    ],
)
def test_models_are_sorted_by_any_column(run: Path, sort: str, ascending: bool, expected: str) -> None:
    assert "".join(leaderboard(run, sort=sort, ascending=ascending)["model"]) == expected


def test_what_is_undefined_comes_last_either_way(tmp_path: Path) -> None:
    flat = model_scores("d", [True] * 60, [math.nan] * 60)
    run = write_models(tmp_path / "run", [*SCORES, flat])
    for ascending in (False, True):
        table = leaderboard(run, sort="ea_iou_coverage", ascending=ascending)
        assert table["model"][-1] == "d"
        assert table.row(-1, named=True)["ea_iou_coverage_undefined"] == 60


@pytest.mark.parametrize(
    ("classes", "declared", "defined"),
    [(10, None, True), (5, None, False), (5, 10, True), (10, 5, False), (6, None, True)],
)
def test_top5_needs_six_classes(tmp_path: Path, classes: int, declared: int | None, defined: bool) -> None:
    scores = model_scores("a", RIGHT["a"], IOU["a"], classes=classes)
    names = None if declared is None else [str(i) for i in range(declared)]
    [row] = leaderboard(write_models(tmp_path / "run", [scores], class_names=names)).rows(named=True)
    assert (row["top5"] is not None) == defined
    assert (row["top5_err"] is not None) == defined
    assert (row["top5_low"] is not None) == defined
    assert row["top1"] is not None


def test_top5_is_unknown_where_the_rank_of_a_missed_label_is() -> None:
    unknown = SCORES[0].with_columns(label_rank=pl.when("correct").then("label_rank"))
    assert leaderboard(unknown)["top5"].to_list() == [None]
    # of a right decision the rank is known: 1
    known = SCORES[0].with_columns(label_rank=pl.when(~pl.col("correct")).then("label_rank"))
    assert leaderboard(known)["top5"].equals(leaderboard(SCORES[0])["top5"])
    assert leaderboard(SCORES[0].drop("label_rank"))["top5"].to_list() == [None]


def test_failed_decisions_count_in_no_accuracy() -> None:
    scores = SCORES[0].with_columns(
        pl.when(pl.col("sample_id") == "s3").then(None).otherwise(pl.col(name)).alias(name)
        for name in ("correct", "label_rank", "prediction", "iou_coverage")
    )
    [row] = leaderboard(scores).rows(named=True)
    others = np.delete(RIGHT["a"], 3)
    assert row["top1"] == pytest.approx(100 * others.mean())
    assert row["n_images"] == 59
    assert row["top5"] is not None


def test_keys_are_named_where_they_vary() -> None:
    def keys(table: pl.DataFrame) -> list[str]:
        return table.columns[1 : table.columns.index("img_size")]

    scores = random_scores(models=("a", "b"), regions=("object",))
    assert keys(leaderboard(scores)) == []
    assert keys(leaderboard(scores, all_keys=True)) == ["seed", "dataset", "method", "binarization", "region"]
    several = random_scores(seeds=(0, 1), datasets=("d", "e"))
    table = leaderboard(several)
    assert keys(table) == ["seed", "dataset", "region"]
    assert table.height == 2 * 2 * 2 * 2
    both = pl.concat([scores, scores.with_columns(binarization=pl.lit("std:2").cast(pl.Categorical))])
    assert keys(leaderboard(both)) == ["binarization"]
    other = scores.with_columns(
        method=pl.lit("gradcam").cast(pl.Categorical), binarization=pl.lit("threshold:0.5").cast(pl.Categorical)
    )
    assert keys(leaderboard(pl.concat([scores, other]))) == ["method"]


def test_rows_can_be_chosen_and_nulls_are_left_out() -> None:
    scores = random_scores(models=("a", "b"))
    null = scores.with_columns(method=pl.lit("random").cast(pl.Categorical))
    table = leaderboard(pl.concat([scores, null]))
    assert table.equals(leaderboard(scores))
    chosen = leaderboard(pl.concat([scores, null]), models=["b"], regions=["block"], methods=["random"])
    assert chosen["model"].to_list() == ["b"]


def test_seeds_can_be_pooled(tmp_path: Path) -> None:
    other = model_scores("a", RIGHT["b"], IOU["b"], seed=1)
    models = [model_row("a"), model_row("a", seed=1)]
    run = write_models(tmp_path / "run", [SCORES[0], other], models=models)
    apart, [pooled] = leaderboard(run), leaderboard(run, pool_seeds=True).rows(named=True)
    assert apart["seed"].to_list() == [1, 0]
    assert pooled["top1"] == pytest.approx(apart["top1"].mean())
    assert pooled["param_count"] == 25.56
    assert pooled["n_images"] == 120
    spread = abs(apart["top1"][0] - apart["top1"][1])
    assert pooled["top1_high"] - pooled["top1_low"] > spread  # two seeds tell little of a third


def test_clusters_widen_the_interval_of_accuracy() -> None:
    films = pl.Series("attr_film", [i // 10 for i in range(60)])
    right = np.repeat([True, False, True, True, False, True], 10)
    scores = model_scores("a", right, IOU["a"]).with_columns(films)
    width = [
        row["top1_high"] - row["top1_low"]
        for row in (leaderboard(scores, cluster=cluster).row(0, named=True) for cluster in (None, "film"))
    ]
    assert width[1] > 2 * width[0]


def test_toy_data_says_so(tmp_path: Path) -> None:
    run = write_models(tmp_path / "run", SCORES, toy=True)
    assert leaderboard(run)["toy"].to_list() == [True] * 3


def test_rows_know_nothing_of_their_models() -> None:
    table = leaderboard(pl.concat(SCORES))
    for name in ("img_size", "param_count", "crop_pct", "interpolation", "family"):
        assert table[name].null_count() == 3
    assert table["top1"].to_list() == sorted(100 * float(RIGHT[m].mean()) for m in "abc")[::-1]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"sort": "ea_iou_covrage"}, UnknownNameError, "did you mean 'ea_iou_coverage'"),
        ({"sort": "top11"}, UnknownNameError, "top1"),
        ({"metrics": ["iou"]}, UnknownNameError, "metric"),
        ({"models": ["d"]}, UnknownNameError, "model of this run"),
        ({"regions": ["objct"]}, UnknownNameError, "did you mean 'object'"),
        ({"level": 95}, UsageError, "such as 0.95"),
        ({"cluster": "hat"}, UnknownNameError, "cluster"),
    ],
)
def test_mistakes(run: Path, change: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        leaderboard(run, **change)


def test_a_decision_with_several_regions_counts_once() -> None:
    two = rows(
        {"sample_id": "x", "region": "object", "correct": True, "iou_coverage": 0.5},
        {"sample_id": "x", "region": "block", "correct": True, "iou_coverage": 0.1},
        {"sample_id": "y", "region": "object", "correct": False, "iou_coverage": 0.5},
    )
    table = leaderboard(two)
    assert table["top1"].to_list() == [50.0, 50.0]
    assert table["n_images"].to_list() == [2, 2]
