"""The Shared Interest cases, against the published table written out as plain Python."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

import explanation_alignment as ea
from explanation_alignment.errors import RunError, UnknownNameError, UsageError
from explanation_alignment.statistics.shared_interest_cases import CASES, CASES_SCHEMA, case_name, cases, with_cases
from statistics_tables import random_scores, rows


def expected(iou: float, gtc: float, sc: float | None, correct: bool, low: float, high: float) -> str:
    """The table, row by row."""
    if iou >= high:
        return "human aligned" if correct else "confuser"
    if sc is not None and sc >= high and gtc <= low:
        return "sufficient subset" if correct else "insufficient subset"
    if sc is not None and gtc >= high and sc <= low:
        return "context dependent" if correct else "context confusion"
    if iou <= low:
        return "sufficient context" if correct else "distractor"
    return "unclassified"


def case_of(iou: float | None, gtc: float | None, sc: float | None, **decision: object) -> str | None:
    settings = {name: decision.pop(name) for name in ("low", "high") if name in decision}
    scores = {"iou_coverage": iou, "ground_truth_coverage": gtc, "saliency_coverage": sc}
    table = rows(scores | decision).with_columns(pl.col(list(scores)).cast(pl.Float64))
    return with_cases(table, **settings)["case"][0]  # type: ignore[arg-type]


@given(
    overlap=st.integers(0, 40),
    missed=st.integers(0, 40),
    beside=st.integers(0, 40),
    correct=st.booleans(),
    low=st.floats(0, 0.6),
    gap=st.floats(0.01, 0.4),
)
def test_every_overlap_of_two_areas_has_the_case_of_the_table(
    overlap: int, missed: int, beside: int, correct: bool, low: float, gap: float
) -> None:
    annotated, salient = overlap + missed, overlap + beside
    if annotated == 0:
        return
    iou = overlap / (overlap + missed + beside)
    gtc, sc = overlap / annotated, overlap / salient if salient else None
    stored = [None if v is None else float(np.float32(v)) for v in (iou, gtc, sc)]
    high = min(low + gap, 1.0)
    if any(v is not None and min(abs(v - low), abs(v - high)) < 1e-6 for v in stored):
        return  # thresholds are met at float32's precision; the next test is about them
    found = case_of(*stored, correct=correct, salient_area=salient, low=low, high=high)
    assert found == expected(stored[0], stored[1], stored[2], correct, low, high)


@pytest.mark.parametrize(
    ("iou", "gtc", "sc", "right", "wrong"),
    [
        (13 / 20, 1.0, 13 / 20, "human aligned", "confuser"),  # at the threshold
        (0.64, 1.0, 0.64, "unclassified", "unclassified"),
        (1 / 5, 1 / 5, 1.0, "sufficient subset", "insufficient subset"),  # before the last rule, which holds too
        (1 / 5, 1.0, 1 / 5, "context dependent", "context confusion"),
        (1 / 5, 0.3, 0.4, "sufficient context", "distractor"),
        (0.21, 0.3, 0.4, "unclassified", "unclassified"),
        (0.0, 0.0, 0.0, "sufficient context", "distractor"),
    ],
)
def test_the_default_thresholds_hold_for_stored_scores(
    iou: float, gtc: float, sc: float, right: str, wrong: str
) -> None:
    for kind in (pl.Float32, pl.Float64):
        table = rows(
            *(
                {"iou_coverage": iou, "ground_truth_coverage": gtc, "saliency_coverage": sc, "correct": c}
                for c in (1, 0)
            )
        ).with_columns(pl.col("^.*_coverage$").cast(kind), pl.col("correct").cast(pl.Boolean))
        assert with_cases(table)["case"].to_list() == [right, wrong]


def test_no_salient_pixel_counts_as_no_overlap() -> None:
    assert case_of(0.0, 0.0, None, salient_area=0) == "sufficient context"
    assert case_of(None, 0.0, None, salient_area=0, correct=False) == "distractor"
    assert case_of(None, 0.0, None, salient_area=0, status="flat_map") is None


def test_a_decision_without_a_score_or_an_outcome_has_no_case() -> None:
    assert case_of(None, None, None) is None
    assert case_of(math.nan, 0.5, 0.5) is None
    assert case_of(0.9, 0.9, 0.9, correct=None) is None
    for status in ("no_annotation", "annotation_cropped", "flat_map", "error"):
        assert case_of(0.9, 0.9, 0.9, status=status) is None


def scored() -> pl.DataFrame:
    """Two models, two regions, a tenth of the maps flat, with the third metric."""
    scores = random_scores(60)
    return scores.with_columns(
        ground_truth_coverage=(pl.col("iou_coverage") * 1.5).clip(0, 1),
        saliency_coverage=(pl.col("iou_coverage") * 2).clip(0, 1),
    )


def test_rows_keep_their_order_and_get_one_column() -> None:
    scores = scored().sample(fraction=1, shuffle=True, seed=1)
    marked = with_cases(scores)
    assert marked.drop("case").equals(scores)
    assert marked.columns[-1] == "case"


def test_counts_are_those_of_plain_python_and_shares_add_up() -> None:
    scores = scored()
    table = ea.cases(scores, by=["hair"])
    assert table.schema == CASES_SCHEMA
    marked = with_cases(scores).rows(named=True)
    for row in table.rows(named=True):
        mine = [
            r["case"]
            for r in marked
            if (r["model"], r["region"]) == (row["model"], row["region"])
            and row["group"] in ("all", f"attr_hair={r['attr_hair']}")
        ]
        defined = [case for case in mine if case is not None]
        assert (row["n"], row["n_undefined"]) == (len(defined), len(mine) - len(defined))
        assert row["count"] == defined.count(row["case"])
        wilson = binomtest(row["count"], row["n"]).proportion_ci(method="wilson")
        assert (row["share_low"], row["share_high"]) == pytest.approx((wilson.low, wilson.high))
    per_cell = table.group_by("model", "region", "group").agg(pl.len(), pl.col("share").sum())
    assert set(per_cell["len"]) == {len(CASES)}
    assert per_cell["share"].to_list() == pytest.approx([1.0] * per_cell.height)
    assert table["group"].unique(maintain_order=True).to_list() == ["all", "attr_hair=dark", "attr_hair=fair"]
    assert any(row["n_undefined"] for row in table.rows(named=True))


def test_nothing_defined_has_no_share() -> None:
    nothing = scored().with_columns(status=pl.lit("flat_map"))
    table = cases(nothing)
    assert table.height == 4 * len(CASES)
    assert table["share"].null_count() == table["share_low"].null_count() == table.height
    assert set(table["n"]) == {0}


def test_targets_seeds_and_datasets_stay_apart() -> None:
    scores = scored()
    other = scores.with_columns(target=pl.lit("label").cast(pl.Categorical), correct=pl.lit(False))
    table = cases(pl.concat([scores, other, scores.with_columns(seed=pl.lit(1, scores.schema["seed"]))]))
    assert (
        table.filter(pl.col("target") == "predicted", pl.col("seed") == 0)
        .drop("target")
        .equals(cases(scores).drop("target"))
    )
    wrong = table.filter(pl.col("target") == "label", pl.col("count") > 0)["case"].cast(pl.String).unique()
    assert set(wrong) <= {"confuser", "insufficient subset", "context confusion", "distractor", "unclassified"}


def test_a_case_is_found_by_its_words() -> None:
    assert case_name("Human-aligned") == case_name("human_aligned ") == "human aligned"
    with pytest.raises(UnknownNameError, match="did you mean 'confuser'"):
        case_name("confusor")


@pytest.mark.parametrize(("low", "high"), [(0.65, 0.2), (0.5, 0.5), (-0.1, 0.5), (0.2, 1.1), (math.nan, 0.5)])
def test_thresholds_that_mean_nothing_are_refused(low: float, high: float) -> None:
    with pytest.raises(UsageError, match="0 <= low < high <= 1"):
        cases(scored(), low=low, high=high)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(RunError, match=r"'ground_truth_coverage'.*iou_coverage, ground_truth_coverage"):
        cases(random_scores())
    with pytest.raises(RunError, match="'sample_id'"):
        cases(scored().drop("sample_id"))
    with pytest.raises(UnknownNameError, match="attr_hair"):
        cases(scored(), by=["hare"])
    with pytest.raises(UsageError, match="expected a run"):
        cases(7)  # type: ignore[arg-type]
