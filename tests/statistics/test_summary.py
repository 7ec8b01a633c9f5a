"""The summary against numbers written out by hand and against plain Python over the rows."""

from __future__ import annotations

from itertools import product
from statistics import fmean, stdev

import numpy as np
import polars as pl
import pytest
from scipy.stats import t as student

from explanation_alignment.errors import RunError, UnknownNameError, UsageError
from explanation_alignment.runs.schema import SUMMARY_SCHEMA
from explanation_alignment.statistics import (
    MeanEstimator,
    Scale,
    ceiling_levels,
    chance_levels,
    metric_columns,
    spread,
    summarise,
    undefined_reasons,
    wilson_interval,
)
from statistics_tables import WORDS, random_scores, rows


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
        comparable = SUMMARY_SCHEMA[column] == pl.Float64 and None not in kept
        close = pytest.approx(kept, rel=1e-12) if comparable else kept
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


def test_lift_and_excess_stand_beside_their_metrics_alone() -> None:
    scores = rows(
        {"iou_coverage": 0.5, "saliency_coverage": 0.5, "center_iou": 0.25},
        {"iou_coverage": 0.25, "saliency_coverage": 0.25, "center_iou": 0.5},
        {"iou_coverage": 0.75, "saliency_coverage": 0.75, "center_iou": None},
        {"iou_coverage": None, "saliency_coverage": None, "center_iou": 0.125, "status": "flat_map"},
    )
    iou, coverage = summarise(scores).rows(named=True)
    assert (iou["metric"], coverage["metric"]) == ("iou_coverage", "saliency_coverage")
    assert iou["lift"] is coverage["excess"] is coverage["excess_low"] is None
    assert coverage["lift"] == pytest.approx(0.5 / 0.25)  # four of 16 pixels are annotated
    assert iou["excess"] == 0  # over the two decisions where both are known
    assert -1 <= iou["excess_low"] < 0 < iou["excess_high"] <= 1
    assert iou["excess_low"] == pytest.approx(-iou["excess_high"])
    old = summarise(scores.drop("center_iou"))  # a run written before there was a centre
    assert old["excess"].null_count() == old.height
    assert old.drop("excess", "excess_low", "excess_high").equals(
        summarise(scores).drop("excess", "excess_low", "excess_high")
    )


def test_excess_has_the_interval_of_a_mean_between_minus_one_and_one() -> None:
    rng = np.random.default_rng(0)
    iou, centre = rng.beta(2, 5, (2, 200))
    scores = rows(*({"iou_coverage": a, "center_iou": b} for a, b in zip(iou, centre, strict=True)))
    row = summarise(scores, level=0.9).row(0, named=True)
    difference = iou - centre
    half = student.ppf(0.95, 199) * difference.std(ddof=1) / np.sqrt(200)
    assert row["excess"] == pytest.approx(difference.mean())
    # the scale's ends are far, so that it is close to Student's
    assert (row["excess_low"], row["excess_high"]) == pytest.approx(
        (difference.mean() - half, difference.mean() + half), abs=0.03 * half
    )


def test_clusters_are_drawn_in_place_of_images() -> None:
    scores = random_scores(200).with_columns(
        pl.col("sample_id").str.extract(r"(\d+)").cast(pl.Int64).mod(25).alias("attr_scene"),
        label=pl.col("sample_id").str.extract(r"(\d+)").cast(pl.Int64).mod(40),
    )
    alone = summarise(scores)
    by_scene = summarise(scores, cluster="scene")
    assert by_scene.select("ea", "n", "chance").equals(alone.select("ea", "n", "chance"))
    one = scores.filter(pl.col("model").cast(pl.String) == "a", pl.col("region").cast(pl.String) == "object")
    per = one.group_by("attr_scene").agg(
        pl.col("iou_coverage").cast(pl.Float64).sum(), n=pl.col("iou_coverage").count()
    )
    [expected] = MeanEstimator().estimate(
        [],
        per["iou_coverage"].to_numpy()[:, None],
        per["n"].cast(pl.Float64).to_numpy()[:, None],
        [200],
        scales=[Scale(0, 1)],
    )
    row = by_scene.filter(model="a", region="object", metric="iou_coverage").row(0, named=True)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((expected.low, expected.high))
    assert summarise(scores, cluster="class").equals(summarise(scores, cluster="label"))
    assert not summarise(scores, cluster="class")["ci_low"].equals(alone["ci_low"])
    with pytest.raises(UnknownNameError, match="attr_scene"):
        summarise(scores, cluster="scen")


def test_images_without_a_cluster_are_units_of_their_own() -> None:
    scores = random_scores(60).with_columns(attr_scene=pl.lit(None, pl.String))
    assert summarise(scores, cluster="scene").equals(summarise(scores))


def test_hits_of_a_cluster_that_agree_are_as_uncertain_as_their_clusters() -> None:
    hits = np.random.default_rng(0).random(100) < 0.4
    scores = rows(*({"pointing_game": float(hits[i // 4]), "attr_scene": i // 4} for i in range(400)))
    together = summarise(scores, cluster="scene").row(0, named=True)
    alone = summarise(scores).row(0, named=True)
    assert together["ci_high"] - together["ci_low"] > 1.9 * (alone["ci_high"] - alone["ci_low"])


def test_pooled_seeds_are_one_row_with_the_spread_of_seeds_in_its_interval() -> None:
    scores = random_scores(300, seeds=(0, 1, 2))
    value = pl.col("iou_coverage")
    apart = scores.with_columns(value * (0.4 + 0.2 * pl.col("seed")))
    pooled, single = summarise(apart, pool_seeds=True), summarise(apart)
    assert pooled["seed"].null_count() == pooled.height == single.height / 3
    row = pooled.filter(model="a", region="object", metric="iou_coverage").row(0, named=True)
    parts = single.filter(model="a", region="object", metric="iou_coverage")
    assert row["ea"] == pytest.approx((parts["ea"] * parts["n"]).sum() / parts["n"].sum())
    assert (row["n"], row["n_undefined"]) == (parts["n"].sum(), parts["n_undefined"].sum())
    assert row["accuracy"] == pytest.approx(parts["accuracy"].mean())
    assert row["ci_low"] < parts["ea"].min()  # three seeds so far apart leave room for a fourth beyond them
    assert row["ci_high"] > parts["ea"].max()
    close = summarise(scores, pool_seeds=True).filter(model="a", region="object", metric="iou_coverage")
    assert (close["ci_high"] - close["ci_low"]).item() < 0.2 * (row["ci_high"] - row["ci_low"])
    one = summarise(random_scores(40), pool_seeds=True)
    assert one.drop("seed").equals(summarise(random_scores(40)).drop("seed"))


def test_strata_by_the_size_of_the_annotation() -> None:
    areas = [0, 4, 5, 14, 15, 34, 35, 64, 65, 100, None]
    scores = rows(
        *({"iou_coverage": 0.5, "annotation_area": a, "correct": i % 2 == 0} for i, a in enumerate(areas)),
        map_height=10,
        map_width=10,
        salient_area=10,
    )
    table = summarise(scores, by=["annotation_size"])
    strata = ["00-05%", "05-15%", "15-35%", "35-65%", "65-100%"]
    assert table["group"].to_list() == ["all", *(f"annotation_size={s}" for s in strata), "annotation_size=null"]
    assert table["n"].to_list() == [11, 2, 2, 2, 2, 2, 1]


def test_accuracy_of_a_stratum_is_that_of_the_images_in_it() -> None:
    big, small = {"annotation_area": 16}, {"annotation_area": 1}
    scores = pl.concat(
        [
            rows({**big, "correct": True}, {**small, "correct": False}, region="object", iou_coverage=0.5),
            rows({**small, "correct": True}, {**small, "correct": False}, region="block", iou_coverage=0.5),
        ]
    )
    table = summarise(scores, by=["annotation_size"])
    found = {(r["region"], r["group"].partition("=")[2]): r["accuracy"] for r in table.rows(named=True)}
    assert found == {
        ("object", ""): 0.5,
        ("block", ""): 0.5,
        ("object", "05-15%"): 0,
        ("object", "65-100%"): 1,
        ("block", "05-15%"): 0.5,
    }


def test_few_scores_other_than_zero_are_marked() -> None:
    values = np.zeros(500)
    values[:29] = np.linspace(0.2, 0.4, 29)
    table = summarise(rows(*({"iou_coverage": v} for v in values)))
    assert table["unreliable"].to_list() == [True]
    values[29:80] = 0.3
    assert summarise(rows(*({"iou_coverage": v} for v in values)))["unreliable"].to_list() == [False]


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


def test_the_size_of_an_annotation_on_a_huge_image_does_not_overflow() -> None:
    from explanation_alignment.statistics.tables import annotation_size

    areas = pl.DataFrame({"annotation_area": [22_000_000, 30_000_000]}, schema={"annotation_area": pl.Int32})
    sides = areas.with_columns(
        pl.lit(10_000, pl.Int32).alias("map_height"), pl.lit(10_000, pl.Int32).alias("map_width")
    )
    assert sides.select(annotation_size()).to_series().to_list() == ["15-35%", "15-35%"]
