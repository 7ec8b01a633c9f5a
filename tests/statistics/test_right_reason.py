"""The right-for-the-right-reason rate against plain Python over the rows, and its curve against the rate."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.statistics.right_reasons import RIGHT_REASON_SCHEMA, right_reason, right_reason_curve
from statistics_tables import WORDS, random_scores, rows


def test_the_rate_is_that_of_plain_python() -> None:
    scores = random_scores(seeds=(0, 1), datasets=("d", "e"))
    table = right_reason(scores, threshold=0.3, by=["hair"])
    assert table.schema == RIGHT_REASON_SCHEMA
    records = scores.with_columns(pl.col(*WORDS).cast(pl.String)).rows(named=True)
    assert table.height == 2 * 2 * 2 * 2 * 3
    for row in table.rows(named=True):
        keys = ("model", "seed", "dataset", "region")
        mine = [r for r in records if all(r[k] == row[k] for k in keys)]
        if row["group"] != "all":
            mine = [r for r in mine if f"attr_hair={r['attr_hair']}" == row["group"]]
        known = [r for r in mine if r["iou_coverage"] is not None]
        good = sum(r["correct"] and r["iou_coverage"] >= 0.3 for r in known)
        right = sum(r["correct"] for r in known)
        assert (row["n"], row["n_undefined"]) == (len(known), len(mine) - len(known))
        assert row["rate"] == pytest.approx(good / len(known))
        assert row["accuracy"] == pytest.approx(right / len(known))
        assert row["of_correct"] == pytest.approx(good / right)
        wilson = binomtest(good, len(known)).proportion_ci(0.95, method="wilson")
        assert (row["ci_low"], row["ci_high"]) == (
            pytest.approx(wilson.low, abs=1e-12),
            pytest.approx(wilson.high),
        )


def test_what_is_not_known_is_left_out_and_counted() -> None:
    scores = rows(
        {"iou_coverage": 0.9, "correct": True},
        {"iou_coverage": 0.9, "correct": False},
        {"iou_coverage": 0.1, "correct": True},
        {"iou_coverage": None, "correct": True, "status": "no_annotation"},
        {"iou_coverage": 0.9, "correct": None},
        {"iou_coverage": None, "correct": None, "status": "error"},
    )
    row = right_reason(scores).row(0, named=True)
    assert (row["n"], row["n_undefined"]) == (3, 3)
    assert (row["rate"], row["accuracy"], row["of_correct"]) == pytest.approx((1 / 3, 2 / 3, 1 / 2))
    nothing = right_reason(scores.filter(pl.col("status") == "error")).row(0, named=True)
    assert [nothing[k] for k in ("rate", "ci_low", "ci_high", "accuracy", "of_correct")] == [None] * 5
    assert right_reason(rows({"iou_coverage": 0.9, "correct": False}))["of_correct"].to_list() == [None]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.6, 0.7, 0.9])
def test_a_score_stored_in_single_precision_reaches_its_own_threshold(threshold: float) -> None:
    scores = rows({"iou_coverage": threshold}).cast({"iou_coverage": pl.Float32})
    assert right_reason(scores, threshold=threshold)["rate"].item() == 1
    curve = right_reason_curve(scores, thresholds=[threshold, threshold + 1e-6])
    assert curve["rate"].to_list() == [1, 0]


def test_other_targets_are_left_out() -> None:
    scores = pl.concat(
        [rows({"iou_coverage": 0.9}, {"iou_coverage": 0.1}), rows({"iou_coverage": 0.9}, target="label")]
    )
    assert right_reason(scores).select("rate", "n").rows() == [(0.5, 2)]
    assert right_reason_curve(scores, thresholds=[0.5]).select("rate", "n").rows() == [(0.5, 2)]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_curve_never_rises_and_is_the_rate_at_every_threshold(data: st.DataObject) -> None:
    score = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1, width=32))
    decisions = data.draw(st.lists(st.tuples(score, st.sampled_from([True, False, None])), min_size=1, max_size=30))
    scores = rows(*({"iou_coverage": s, "correct": c} for s, c in decisions)).cast(
        {"iou_coverage": pl.Float64, "correct": pl.Boolean}
    )
    thresholds = [0.0, 0.25, 0.3, 0.5, 1.0]
    curve = right_reason_curve(scores, thresholds=thresholds)
    assert curve["threshold"].to_list() == thresholds
    for name in ("rate", "ci_low", "ci_high"):
        found = curve[name].to_list()
        each = [right_reason(scores, threshold=t)[name].item() for t in thresholds]
        assert found == pytest.approx(each) if found[0] is not None else found == each
        known = [value for value in found if value is not None]
        assert known == sorted(known, reverse=True)
    assert curve["rate"][0] == right_reason(scores)["accuracy"][0]  # every score is at least 0


def test_the_default_curve() -> None:
    curve = right_reason_curve(random_scores(), by=["hair"])
    assert curve.height == 4 * 3 * 101
    assert curve["threshold"].min() == 0
    assert curve["threshold"].max() == 1
    assert right_reason_curve(random_scores().clear()).is_empty()
    assert right_reason(random_scores().clear()).is_empty()


def test_clusters_widen_rate_and_curve_alike() -> None:
    rng = np.random.default_rng(0)
    scene = np.repeat(np.arange(40), 5)
    scores = rows(
        *(
            {"iou_coverage": float(v), "correct": bool(c), "attr_scene": int(s)}
            for v, c, s in zip(rng.random(40)[scene], rng.random(200) < 0.9, scene, strict=True)
        )
    )
    alone, together = right_reason(scores), right_reason(scores, cluster="scene")
    assert together["rate"].equals(alone["rate"])
    assert (together["ci_high"] - together["ci_low"]).item() > 1.5 * (alone["ci_high"] - alone["ci_low"]).item()
    curve = right_reason_curve(scores, thresholds=[0.5], cluster="scene")
    for name in ("rate", "ci_low", "ci_high"):
        assert curve[name].item() == pytest.approx(together[name].item())


def test_what_is_asked_wrongly() -> None:
    scores = random_scores(5)
    with pytest.raises(UnknownNameError, match="iou_coverage"):
        right_reason(scores, metric="iou_coverag")
    with pytest.raises(UsageError, match="falls with agreement"):
        right_reason(scores, metric="heatmap_kl")
    with pytest.raises(UsageError, match="threshold"):
        right_reason(scores, threshold=float("nan"))
    with pytest.raises(UsageError, match="threshold"):
        right_reason_curve(scores, thresholds=[])
    with pytest.raises(UsageError, match="level"):
        right_reason(scores, level=95)
    with pytest.raises(UnknownNameError, match="attr_hair"):
        right_reason(scores, by=["hairs"])


def test_of_several_targets_without_a_main_one_none_is_taken_silently() -> None:
    scores = pl.concat([rows({"iou_coverage": 0.9, "correct": True}, target=target) for target in ("cat", "dog")])
    for of in (right_reason, right_reason_curve):
        with pytest.raises(UsageError, match="several targets \\(cat, dog\\)"):
            of(scores)
        assert of(scores.filter(target="cat"))["n"][0] == 1
