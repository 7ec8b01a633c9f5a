"""The summary against numbers written out by hand and against plain Python over the rows."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from statistics import fmean, stdev

import polars as pl
import pytest
from statistics_tables import WORDS, random_scores, rows

from explanation_alignment.errors import RunError, UnknownNameError, UsageError
from explanation_alignment.runs.schema import SUMMARY_SCHEMA
from explanation_alignment.statistics import (
    ceiling_levels,
    chance_levels,
    metric_columns,
    spread,
    summarise,
    undefined_reasons,
    wilson_interval,
)


def test_a_table_written_out_by_hand() -> None:
    scores = rows(
        {"iou_coverage": 0.5, "pointing_game": 1.0, "correct": True, "salient_area": 2},
        {"iou_coverage": 0.25, "pointing_game": 0.0, "correct": False},
        {"iou_coverage": None, "pointing_game": None, "correct": True, "status": "flat_map", "salient_area": 0},
        {"iou_coverage": None, "pointing_game": None, "correct": None, "prediction": None, "status": "error"},
    )
    table = summarise(scores)
    assert table.schema == SUMMARY_SCHEMA
    iou, hit = table.rows(named=True)
    assert (iou["metric"], hit["metric"]) == ("iou_coverage", "pointing_game")
    # two of 16 pixels at random on four annotated: overlap 0, 1, 2 with probability 66, 48, 6 of 120
    chance_2_on_4 = (48 * 1 / 5 + 6 * 2 / 4) / 120
    chance_4_on_4 = float(chance_levels("iou_coverage", 4, 4, 16))
    assert iou["chance"] == pytest.approx((chance_2_on_4 + chance_4_on_4) / 2)
    assert iou["ceiling"] == pytest.approx((0.5 + 1) / 2)
    assert iou["ea"] == 0.375
    assert iou["adjusted"] == pytest.approx((0.375 - iou["chance"]) / (0.75 - iou["chance"]))
    assert (iou["n"], iou["n_undefined"]) == (2, 2)
    assert 0 < iou["ci_low"] < 0.05  # two decisions tell next to nothing
    assert 0.9 < iou["ci_high"] < 1
    assert (hit["ea"], hit["chance"], hit["ceiling"]) == (0.5, 0.25, 1)
    assert (hit["ci_low"], hit["ci_high"]) == tuple(float(v) for v in wilson_interval(1, 2))
    assert iou["accuracy"] == hit["accuracy"] == pytest.approx(2 / 3)  # the decision that failed is no decision
    key = ("m", 0, "d", "gradcam", "threshold:0.5", "object", "all")
    assert table.rows()[0][:7] == key


def test_every_number_is_that_of_plain_python() -> None:
    scores = random_scores(datasets=("d", "e"), seeds=(0, 1))
    table = summarise(scores, by=["hair", "correct"], n_resamples=50)
    records = scores.with_columns(pl.col(*WORDS).cast(pl.String)).rows(named=True)
    metrics = ("iou_coverage", "saliency_coverage", "pointing_game")
    groups = {
        "all": lambda r: True,
        "attr_hair=dark": lambda r: r["attr_hair"] == "dark",
        "attr_hair=fair": lambda r: r["attr_hair"] == "fair",
        "correct=false": lambda r: not r["correct"],
        "correct=true": lambda r: r["correct"],
    }
    expected = list(product(("a", "b"), (0, 1), ("d", "e"), ("block", "object"), groups, metrics))
    found = table.select("model", "seed", "dataset", "region", "group", "metric").rows()
    assert found == expected  # all of them, in this order
    for row in table.rows(named=True):
        mine = [
            r
            for r in records
            if all(r[k] == row[k] for k in ("model", "seed", "dataset", "region")) and groups[row["group"]](r)
        ]
        defined = [r for r in mine if r[row["metric"]] is not None]
        areas = [(r["salient_area"], r["annotation_area"], 64) for r in defined]
        assert row["ea"] == pytest.approx(fmean(r[row["metric"]] for r in defined))
        assert row["chance"] == pytest.approx(fmean(float(chance_levels(row["metric"], *a)) for a in areas))
        assert row["ceiling"] == pytest.approx(fmean(float(ceiling_levels(row["metric"], *a)) for a in areas))
        assert (row["n"], row["n_undefined"]) == (len(defined), len(mine) - len(defined))
        assert row["accuracy"] == pytest.approx(fmean(r["correct"] for r in mine))
        assert row["ci_low"] <= row["ea"] <= row["ci_high"]


def test_the_order_and_kind_of_the_rows_do_not_matter() -> None:
    scores = random_scores()
    table = summarise(scores, by=["hair"])
    assert summarise(scores.sample(fraction=1, shuffle=True, seed=1), by=["attr_hair"]).equals(table)
    assert summarise(scores.with_columns(pl.col(*WORDS).cast(pl.String)).lazy(), by=["hair"]).equals(table)
    enumerated = scores.with_columns(pl.col("model").cast(pl.Enum(["b", "a", "z"])))
    assert summarise(enumerated, by=["hair"]).equals(table)


def test_a_model_gets_the_same_numbers_whatever_else_the_run_holds() -> None:
    scores = random_scores()
    both = summarise(scores)
    alone = summarise(scores.filter(pl.col("model").cast(pl.String) == "b"))
    for column in SUMMARY_SCHEMA:
        kept = both.filter(pl.col("model") == "b")[column].to_list()
        close = pytest.approx(kept, rel=1e-12) if SUMMARY_SCHEMA[column] == pl.Float64 else kept
        assert alone[column].to_list() == close


def test_nan_is_undefined() -> None:
    scores = rows({"iou_coverage": float("nan")}, {"iou_coverage": 0.5})
    assert summarise(scores).select("ea", "n", "n_undefined").row(0) == (0.5, 1, 1)


def test_nothing_defined_is_null_not_zero() -> None:
    scores = rows(
        {"iou_coverage": None, "status": "no_annotation", "annotation_area": None},
        {"iou_coverage": None, "status": "no_annotation", "annotation_area": None},
    )
    row = summarise(scores).row(0, named=True)
    assert [row[k] for k in ("ea", "ci_low", "ci_high", "chance", "ceiling", "adjusted")] == [None] * 6
    assert (row["n"], row["n_undefined"], row["accuracy"]) == (0, 2, 1)


def test_no_level_for_a_metric_without_one() -> None:
    scores = rows({"pointing_game(tolerance=15)": 1.0, "somebody_elses": 3.0})
    table = summarise(scores)
    assert table["metric"].to_list() == ["pointing_game(tolerance=15)", "somebody_elses"]
    assert table["chance"].to_list() == table["adjusted"].to_list() == [None, None]
    assert table["ci_low"][0] == pytest.approx(float(wilson_interval(1, 1)[0]))  # still a proportion


def test_means_never_mix_targets() -> None:
    scores = pl.concat(
        [
            rows({"iou_coverage": 0.2}, {"iou_coverage": 0.4}),
            rows({"iou_coverage": 0.6}, {"iou_coverage": 1.0}, target="label", attr_x="u"),
        ],
        how="diagonal",
    )
    table = summarise(scores, by=["x"])
    assert dict(zip(table["group"], table["ea"].round(6), strict=True)) == {
        "all": 0.3,
        "attr_x=null": 0.3,
        "target=label": 0.8,
        "target=label, attr_x=u": 0.8,
    }
    only = summarise(scores.filter(pl.col("target") == "label"))
    assert only.select("group", "ea").row(0) == ("all", 0.8)


def test_empty_scores_give_an_empty_summary() -> None:
    assert summarise(random_scores().clear()).schema == SUMMARY_SCHEMA
    assert summarise(random_scores(), metrics=[]).is_empty()


def test_what_is_asked_wrongly() -> None:
    scores = random_scores(5)
    with pytest.raises(UnknownNameError, match="did you mean 'iou_coverage'"):
        summarise(scores, metrics=["iou_coverag"])
    with pytest.raises(UnknownNameError, match="attr_hair"):
        summarise(scores, by=["hairs"])
    with pytest.raises(RunError, match="'region' is missing"):
        summarise(scores.drop("region"))
    with pytest.raises(UsageError, match="note"):
        summarise(scores.with_columns(note=pl.lit("x")))


def test_metric_columns_in_the_registrys_order() -> None:
    columns = ["zz", "pointing_game", "attr_iou_coverage", "model", "pointing_game(tolerance=3)", "iou_coverage"]
    assert metric_columns(columns) == ["iou_coverage", "pointing_game", "pointing_game(tolerance=3)", "zz"]


def test_undefined_reasons() -> None:
    values = dict.fromkeys(("iou_coverage", "saliency_coverage", "roc_auc", "relevance_mass_accuracy", "own"), None)
    fine = dict.fromkeys(values, 0.5)
    scores = rows(
        fine,
        {**values, "status": "flat_map"},
        {**values, "status": "error", "correct": None},
        {**fine, "saliency_coverage": None, "salient_area": 0},
        {**fine, "roc_auc": None, "annotation_area": 16},
        {**fine, "relevance_mass_accuracy": None},
        {**fine, "own": None},
    ).cast({"status": pl.Categorical})
    table = undefined_reasons(scores)
    found = {(r["metric"], r["reason"]): r["n"] for r in table.rows(named=True)}
    status = {(metric, reason): 1 for metric in values for reason in ("flat_map", "error")}
    assert found == status | {
        ("saliency_coverage", "empty_binarization"): 1,
        ("roc_auc", "full_annotation"): 1,
        ("relevance_mass_accuracy", "no_positive_mass"): 1,
        ("own", "undefined"): 1,
    }
    counted = table.group_by("metric").agg(pl.col("n").sum()).sort("metric")
    summed = summarise(scores).select("metric", n="n_undefined").sort("metric")
    assert counted.equals(summed)
    assert undefined_reasons(rows(fine)).is_empty()


def test_spread_over_datasets_and_seeds() -> None:
    summary = summarise(random_scores(seeds=(0, 1, 2), datasets=("d-1", "d-2", "other")), n_resamples=10)
    table = spread(summary, over="dataset", members=["d-1", "d-2"])
    row = table.row(0, named=True)
    same = summary.filter(
        pl.col("dataset").is_in(["d-1", "d-2"]),
        *(pl.col(k) == row[k] for k in ("model", "seed", "method", "region", "group", "metric")),
    )
    assert row["replicates"] == 2
    for name in ("ea", "accuracy"):
        values = same[name].to_list()
        assert row[f"{name}_mean"] == pytest.approx(fmean(values))
        assert row[f"{name}_std"] == pytest.approx(stdev(values))
        assert (row[f"{name}_min"], row[f"{name}_max"]) == (min(values), max(values))
    assert "dataset" not in table.columns
    assert table["metric"][:3].to_list() == ["iou_coverage", "saliency_coverage", "pointing_game"]
    per_seed = spread(summary, over="seed")
    assert set(per_seed["replicates"]) == {3}
    assert spread(summary, over="seed", members=[1])["ea_std"].null_count() == len(per_seed)
    with pytest.raises(UnknownNameError, match="d-1"):
        spread(summary, over="dataset", members=["d-3"])
    with pytest.raises(UsageError, match="over"):
        spread(summary, over="model")  # type: ignore[arg-type]


def test_statistics_and_report_import_no_torch() -> None:
    code = (
        "import sys, explanation_alignment.statistics.reliance, explanation_alignment.statistics.summary,"
        " explanation_alignment.reporting.figures, explanation_alignment.reporting.html;"
        " sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
