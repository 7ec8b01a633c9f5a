"""Equally accurate pairs: every number as ``compare`` has it, planted pairs found, and no more than there are."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

import explanation_alignment as ea
from explanation_alignment.errors import RunError, UnknownNameError, UsageError
from explanation_alignment.statistics.comparing.comparison import compare
from explanation_alignment.statistics.comparing.differences import paired_differences, paired_hits
from explanation_alignment.statistics.comparing.equal_accuracy import (
    DIFFERENTLY_ALIGNED,
    EQUAL_ACCURACY_SCHEMA,
    VERDICTS,
    equal_accuracy_sentences,
    equally_accurate,
    images_to_tell,
)
from explanation_alignment.statistics.comparing.permutation import sign_test
from explanation_alignment.statistics.intervals import Scale
from model_runs import model_scores, write_models
from statistics_tables import random_scores

HIT = Scale(0, 1, binary=True)


def planted(images: int = 3000, seed: int = 0) -> list[pl.DataFrame]:
    """Five models. ``a`` and ``b``: same accuracy, other alignment. ``a`` and ``c``: same in both. ``d``: less
    accurate. ``e``: as accurate as a, but on other images, so that its interval is wide.
    """
    rng = np.random.default_rng(seed)
    right = rng.random(images) < 0.8
    iou = rng.beta(3, 3, images)

    def near(values: np.ndarray, flips: int) -> np.ndarray:
        out = values.copy()
        out[rng.choice(np.flatnonzero(values), flips, replace=False)] = False
        out[rng.choice(np.flatnonzero(~values), flips, replace=False)] = True
        return out

    noise = rng.normal(0, 0.05, (4, images))
    return [
        model_scores("a", right, iou),
        model_scores("b", near(right, 10), np.clip(iou - 0.1 + noise[0], 0, 1)),
        model_scores("c", near(right, 10), np.clip(iou + noise[1], 0, 1)),
        model_scores("d", right & (rng.random(images) < 0.9), np.clip(iou - 0.2 + noise[2], 0, 1)),
        model_scores("e", near(right, 400), np.clip(iou - 0.2 + noise[3], 0, 1)),
    ]


PLANTED = planted()


def verdicts(table: pl.DataFrame, metric: str = "iou_coverage") -> dict[str, str]:
    rows = table.filter(metric=metric).rows(named=True)
    return {"".join(sorted((row["first"], row["second"]))): row["verdict"] for row in rows}


def test_planted_pairs_are_told() -> None:
    table = equally_accurate(pl.concat(PLANTED), metrics=["iou_coverage"], all_pairs=True)
    assert table.schema == EQUAL_ACCURACY_SCHEMA
    found = verdicts(table)
    assert found["ab"] == DIFFERENTLY_ALIGNED
    assert found["bc"] == DIFFERENTLY_ALIGNED
    assert found["ac"] == "no difference shown"
    assert {found[pair] for pair in ("ad", "bd", "cd", "de")} == {"different accuracy"}
    assert {found[pair] for pair in ("ae", "be", "ce")} == {"too wide to tell"}
    assert set(found.values()) <= set(VERDICTS)
    alone = ea.equally_accurate(pl.concat(PLANTED), metrics=["iou_coverage"])
    assert alone.equals(table.filter(verdict=DIFFERENTLY_ALIGNED))
    assert alone["difference"].is_sorted(descending=True)
    assert set(alone["second"]) == {"b"}  # the one that is less aligned


def test_every_number_is_that_of_compare() -> None:
    scores = pl.concat(PLANTED)
    metrics = ["iou_coverage", "pointing_game"]
    ours = equally_accurate(scores, metrics=metrics, all_pairs=True, margin=0.05)
    theirs = compare(scores, metrics=metrics)
    accuracy = compare(scores, metrics=["accuracy"])
    assert ours.height == theirs.height == 20
    for row in ours.rows(named=True):
        pair = sorted((row["first"], row["second"]))
        sign = 1 if pair[0] == row["first"] else -1
        [same] = theirs.filter(metric=row["metric"], first=pair[0], second=pair[1]).rows(named=True)
        [decided] = accuracy.filter(first=pair[0], second=pair[1]).rows(named=True)
        assert row["difference"] == pytest.approx(sign * same["difference"])
        assert row["difference"] >= 0
        for name in ("p_value", "p_holm", "n", "n_undefined"):
            assert row[name] == pytest.approx(same[name]), name
        bounds = sorted(sign * same[end] for end in ("ci_low", "ci_high"))
        if row["verdict"] in (DIFFERENTLY_ALIGNED, "no difference shown"):
            assert [row["ci_low"], row["ci_high"]] == pytest.approx(bounds)
            assert row["unreliable"] == same["unreliable"]
        else:
            assert row["ci_low"] is None
        assert row["accuracy_difference"] == pytest.approx(sign * decided["difference"])
        assert row["accuracy_p"] == pytest.approx(decided["p_value"])
        bounds = sorted(sign * decided[end] for end in ("ci_low", "ci_high"))
        assert [row["accuracy_low"], row["accuracy_high"]] == pytest.approx(bounds)
        assert row["n_accuracy"] == decided["n"]
        means = {row["first"]: row["accuracy_first"], row["second"]: row["accuracy_second"]}
        assert [means[name] for name in pair] == pytest.approx([decided["mean_first"], decided["mean_second"]])


@given(*[st.integers(0, 40)] * 4)
def test_hits_by_their_counts_are_paired_differences(both: int, one: int, two: int, neither: int) -> None:
    first = np.repeat([1.0, 1, 0, 0], [both, one, two, neither])[:, None]
    second = np.repeat([1.0, 0, 1, 0], [both, one, two, neither])[:, None]
    if not first.size:
        return
    slow = paired_differences(first, second, np.ones(first.shape), [HIT], 0.95)
    quick = paired_hits(*(np.array([float(c)]) for c in (both, one, two, both + one + two + neither)), 0.95)
    for name in ("first", "second", "low", "high"):
        assert getattr(quick, name) == pytest.approx(getattr(slow, name), abs=1e-12, nan_ok=True), name


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_sign_flips_agree_whichever_rows_are_undefined(seed: int, clustered: bool) -> None:
    """Columns undefined in different rows are tested as each pair's own differences are."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(0.1, 1, (40, 5))
    columns[rng.random(columns.shape) < 0.15] = np.nan
    unit = np.sort(rng.integers(0, 20, 40)) if clustered else np.arange(40)
    unit = np.unique(unit, return_inverse=True)[1].astype(np.int64)
    names = [f"{i:03}" for i in range(unit.max() + 1)]
    first, second = np.triu_indices(5, k=1)
    p, test = sign_test(names, unit, columns, first, second, draws=200, seed=1)
    for i, (one, two) in enumerate(zip(first, second, strict=True)):
        difference = np.nan_to_num(columns[:, one] - columns[:, two])
        alone = np.column_stack([difference, np.zeros(40)])
        expected, named = sign_test(names, unit, alone, np.array([0]), np.array([1]), draws=200, seed=1)
        assert p[i] == pytest.approx(expected[0])
        assert test[i] == named[0]


def test_a_run_is_read_like_its_rows(tmp_path: Path) -> None:
    run = write_models(tmp_path / "run", PLANTED)
    assert equally_accurate(run, all_pairs=True).equals(equally_accurate(pl.concat(PLANTED), all_pairs=True))


def test_cells_are_compared_each_by_itself_and_corrected_together() -> None:
    scores = random_scores(300, models=("a", "b", "c"), seeds=(0, 1), datasets=("d", "e"))
    metrics = ["iou_coverage", "saliency_coverage"]
    ours = equally_accurate(scores, metrics=metrics, all_pairs=True)
    theirs = compare(scores, metrics=metrics)
    assert ours.height == theirs.height == 3 * 2 * 2 * 2 * 2
    assert sorted(ours["p_holm"]) == pytest.approx(sorted(theirs["p_holm"]))
    chosen = equally_accurate(
        scores, metrics=metrics, models=["a", "c"], datasets=["e"], regions=["block"], all_pairs=True
    )
    assert chosen.height == 2 * 2
    assert set(chosen["dataset"]) == {"e"}


def test_no_more_pairs_are_found_than_there_are() -> None:
    """Models that are the same in both: at most one false alarm in twenty runs, over all pairs."""
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        right, iou = rng.random(500) < 0.9, rng.beta(2, 5, 500)
        flips, noise = rng.random((4, 500)) < 0.005, rng.normal(0, 0.05, (4, 500))
        same = model_scores("same", right, iou)
        scores = [
            same.with_columns(
                model=pl.lit(name),
                correct=pl.Series(right ^ flips[i]),
                iou_coverage=pl.Series(np.clip(iou + noise[i], 0, 1)),
            )
            for i, name in enumerate("abcd")
        ]
        asked = {"metrics": ["iou_coverage"], "margin": 0.03, "n_resamples": 1000}
        table = equally_accurate(pl.concat(scores), all_pairs=True, **asked)
        assert {"no difference shown", DIFFERENTLY_ALIGNED} & set(table["verdict"])
        alarms += (table["verdict"] == DIFFERENTLY_ALIGNED).any()
    assert binomtest(alarms, 40, 0.05, alternative="greater").pvalue > 0.01


def test_few_images_never_show_equal_accuracy() -> None:
    rng = np.random.default_rng(0)
    shares = {"a": 1.0, "b": 0.2}
    scores = [model_scores(name, rng.random(60) < 0.8, rng.random(60) * share) for name, share in shares.items()]
    table = equally_accurate(pl.concat(scores), all_pairs=True)
    assert set(table["verdict"]) == {"too wide to tell"}
    half = (table["accuracy_high"][0] - table["accuracy_low"][0]) / 2
    assert images_to_tell(table, 0.01) == pytest.approx(60 * (half / 0.01) ** 2, abs=1)
    said = " ".join(equal_accuracy_sentences(table, 0.01))
    assert "of 1 pairs 0 are equally accurate (within 1 point)" in said
    assert "it cannot be told" in said
    assert f"{images_to_tell(table, 0.01):,}" in said


def test_a_wider_margin_calls_more_pairs_equal() -> None:
    counts = [
        equally_accurate(pl.concat(PLANTED), metrics=["iou_coverage"], margin=margin).height
        for margin in (0.002, 0.01, 0.03)
    ]
    assert counts == [0, 2, 5]
    assert images_to_tell(equally_accurate(pl.concat(PLANTED), all_pairs=True), 0.01) is None


def test_pairs_without_a_shared_score_are_unknown_and_no_part_of_the_family() -> None:
    flat = model_scores("f", [True] * 3000, [np.nan] * 3000)
    whole = equally_accurate(pl.concat([*PLANTED, flat]), metrics=["iou_coverage"], all_pairs=True)
    unknown = whole.filter(verdict="unknown")
    assert unknown.height == 5
    assert unknown["p_holm"].null_count() == 5
    without = equally_accurate(pl.concat(PLANTED), metrics=["iou_coverage"], all_pairs=True)
    rest = whole.filter(pl.col("verdict") != "unknown")
    assert rest.select("first", "second", "p_holm", "verdict").equals(
        without.select("first", "second", "p_holm", "verdict")
    )
    assert any("nothing is known" in line for line in equal_accuracy_sentences(whole, 0.01))


def test_models_evaluated_on_other_images_are_refused_or_compared_on_shared_ones() -> None:
    part = PLANTED[1].filter(pl.col("sample_id") != "s7")
    scores = pl.concat([PLANTED[0], part])
    with pytest.raises(UsageError, match="different images"):
        equally_accurate(scores)
    table = equally_accurate(scores, common=True, metrics=["iou_coverage"], all_pairs=True)
    assert table["n"].to_list() == [2999]
    assert table["n_accuracy"].to_list() == [2999]


def test_nulls_are_left_out_unless_asked_for() -> None:
    scores = pl.concat(PLANTED[:2])
    null = scores.with_columns(method=pl.lit("random"))
    whole = pl.concat([scores, null])
    assert equally_accurate(whole, all_pairs=True).equals(equally_accurate(scores, all_pairs=True))
    assert set(equally_accurate(whole, methods=["random"], all_pairs=True)["method"]) == {"random"}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"margin": 1}, UsageError, "0.01 for one percentage point"),
        ({"margin": 0}, UsageError, "margin"),
        ({"metrics": ["iou_covrage"]}, UnknownNameError, "did you mean 'iou_coverage'"),
        ({"models": ["z"]}, UnknownNameError, "model of this run"),
        ({"models": ["a"]}, UsageError, "nothing to compare"),
        ({"level": 95}, UsageError, "such as 0.95"),
    ],
)
def test_mistakes(change: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        equally_accurate(pl.concat(PLANTED), **change)


def test_rows_that_are_no_scores_or_repeat_or_disagree_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="column 'binarization' is missing"):
        equally_accurate(PLANTED[0].drop("binarization"))
    with pytest.raises(RunError, match="several rows"):
        equally_accurate(pl.concat([*PLANTED[:2], PLANTED[0].head(1)]))
    relabelled = PLANTED[1].with_columns(label=pl.col("label") + 1)
    with pytest.raises(UsageError, match="different labels"):
        equally_accurate(pl.concat([PLANTED[0], relabelled]))
    with pytest.raises(UsageError, match="different labels"):
        equally_accurate(write_models(tmp_path / "run", [PLANTED[0], relabelled]))


def test_a_decision_that_failed_in_one_region_is_still_one_decision() -> None:
    scores = pl.concat(PLANTED[:2])
    other = scores.with_columns(region=pl.lit("block"), correct=pl.lit(None, pl.Boolean))
    table = equally_accurate(pl.concat([scores, other]), metrics=["iou_coverage"], all_pairs=True)
    assert set(table["n_accuracy"]) == {3000}
    assert len(list(combinations("ab", 2))) * 2 == table.height
