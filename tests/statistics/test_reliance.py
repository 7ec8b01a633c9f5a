"""Reliance: what maps and interventions show, on tables small enough to reckon by hand."""

from __future__ import annotations

import inspect
from functools import partial
from statistics import fmean

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize_scalar

from explanation_alignment.cli import reliance as command
from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.statistics import chance_levels, summarise, wilson_interval
from explanation_alignment.statistics.paired_proportions import (
    difference_interval,
    difference_statistic,
    one_sided_p,
)
from explanation_alignment.statistics.relying.region_reliance import RELIANCE_SCHEMA, VERDICTS
from explanation_alignment.statistics.relying.region_reliance import reliance as judge
from explanation_alignment.statistics.relying.words import MARGIN, MIN_FLIP, rule, sentences
from statistics_tables import random_scores, rows

#: The examples' shares are made for these thresholds, whatever the defaults.
reliance = partial(judge, margin=0.05, min_flip=0.05)
CHANCE = float(chance_levels("iou_coverage", 4, 4, 16))
PAIRS = {"block": [("first", "second")]}


def paired(block: float, digit: float, predictions: tuple[int, ...] = (0,) * 400) -> pl.DataFrame:
    """Images in two datasets; the predictions are those on the second, all 0 on the first."""
    parts = []
    for dataset, predicted in (("first", (0,) * len(predictions)), ("second", predictions)):
        for region, value in (("block", block), ("digit", digit)):
            decisions = [
                {"prediction": p, "iou_coverage": value + 0.01 * (i % 2), "sample_id": f"s{i}"}
                for i, p in enumerate(predicted)
            ]
            parts.append(rows(*decisions, dataset=dataset, region=region))
    return pl.concat(parts)


def exchanged(
    excess: float, both: int = 0, first_only: int = 0, second_only: int = 0, images: int = 400, spread: float = 0.05
) -> pl.DataFrame:
    """One dataset with the centre's scores; the block's exchange flips so many predictions, as does its control."""
    kinds = [(True, True)] * both + [(True, False)] * first_only + [(False, True)] * second_only
    kinds += [(False, False)] * (images - len(kinds))
    parts = []
    for region, above in (("block", excess), ("digit", 0.1)):
        decisions = [
            {
                "sample_id": f"s{i}",
                "iou_coverage": 0.3 + above + spread * (-1) ** i,
                "center_iou": 0.3,
                "exchange_flip": here,
                "elsewhere_flip": there,
                "attr_hair": "dark" if i < images // 2 else "fair",
            }
            for i, (here, there) in enumerate(kinds)
        ]
        parts.append(rows(*decisions, region=region))
    return pl.concat(parts)


def only(table: pl.DataFrame, region: str = "block", group: str = "all") -> dict[str, object]:
    return table.row(by_predicate=(pl.col("region") == region) & (pl.col("group") == group), named=True)


# ------------------------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("excess", "flips", "verdict"),
    [
        (0.2, {"first_only": 80}, "confirmed"),
        (0.2, {"first_only": 80, "both": 40}, "confirmed"),
        (0.2, {"first_only": 2}, "not confirmed"),  # the maps mark what decides nothing
        (0.2, {"both": 80}, "not confirmed"),  # as many elsewhere: the image is simply near a boundary
        (0.2, {"first_only": 24}, "suspected"),  # 6 % of 400: the interval spans 5 %
        (0.0, {"first_only": 80}, "suspected"),  # a map that misses a shortcut does not clear it
        (-0.2, {"first_only": 80}, "suspected"),
        (0.0, {"first_only": 2}, "not relied on"),
        (0.0, {"first_only": 20}, "unknown"),
        (0.05, {"first_only": 2}, "unknown"),  # at the margin
    ],
)
def test_verdicts_with_the_exchange(excess: float, flips: dict[str, int], verdict: str) -> None:
    row = only(reliance(exchanged(excess, **flips), evidence=["digit"]))
    assert (row["verdict"], row["null"], row["intervention"]) == (verdict, "center", "exchange")
    assert row["excess"] == pytest.approx(excess)


@pytest.mark.parametrize(("excess", "verdict"), [(0.2, "suspected"), (0.0, "unknown"), (-0.2, "unknown")])
def test_without_an_intervention_maps_can_raise_a_suspicion_and_not_clear(excess: float, verdict: str) -> None:
    scores = exchanged(excess).with_columns(exchange_flip=None, elsewhere_flip=None)
    for table in (scores, scores.drop("exchange_flip", "elsewhere_flip")):
        row = only(reliance(table, evidence=["digit"]))
        assert (row["verdict"], row["intervention"], row["flips"], row["n_images"]) == (verdict, None, None, 0)
        assert row["p_joint"] is row["p_intervention"] is None


@pytest.mark.parametrize(
    ("block", "flipped", "pairs", "verdict"),
    [
        (0.6, 300, PAIRS, "confirmed"),
        (0.6, 0, None, "suspected"),
        (0.6, 0, PAIRS, "not confirmed"),  # the maps say so; no prediction changed
        (CHANCE - 0.1, 0, PAIRS, "not relied on"),
        (CHANCE - 0.1, 8, PAIRS, "not relied on"),  # 2 %
        (CHANCE - 0.1, 20, PAIRS, "unknown"),  # 5 %
        (CHANCE - 0.1, 200, PAIRS, "suspected"),  # whatever the maps show
    ],
)
def test_verdicts_with_paired_datasets(
    block: float, flipped: int, pairs: dict[str, list[tuple[str, str]]] | None, verdict: str
) -> None:
    scores = paired(block, 0.4, (1,) * flipped + (0,) * (400 - flipped))
    row = only(reliance(scores, evidence=["digit"], pairs=pairs, pool=["dataset"]))
    assert (row["verdict"], row["null"]) == (verdict, "chance")


def test_paired_datasets_are_the_stronger_intervention_and_win() -> None:
    scores = paired(0.6, 0.1, (1,) * 300 + (0,) * 100).with_columns(
        exchange_flip=pl.lit(False), elsewhere_flip=pl.lit(False)
    )
    table = reliance(scores, evidence=["digit"], pairs=PAIRS, pool=["dataset"])
    assert table.schema == RELIANCE_SCHEMA
    block = only(table)
    assert block["verdict"] == "confirmed"
    assert block["intervention"] == "paired datasets"
    assert block["excess"] == pytest.approx(0.605 - CHANCE)
    assert (block["flips"], block["elsewhere_flips"], block["n_images"]) == (0.75, None, 400)
    assert (block["n"], block["n_undefined"], block["dataset"], block["pooled"]) == (800, 0, None, "2 datasets")
    assert (block["flip_low"], block["flip_high"]) == tuple(float(v) for v in wilson_interval(300, 400))
    score = (0.75 - 0.05) / np.sqrt(0.05 * 0.95 / 400)
    assert block["p_intervention"] == pytest.approx(float(stats.norm.sf(score)))
    digit = only(table, "digit")
    assert (digit["verdict"], digit["is_evidence"], digit["intervention"]) == ("evidence", True, "exchange")


def test_nothing_defined_is_unknown_and_an_intervention_still_counts() -> None:
    scores = exchanged(0.2, first_only=80).with_columns(iou_coverage=None, status=pl.lit("flat_map"))
    row = only(reliance(scores, evidence=["digit"]))
    assert (row["verdict"], row["excess"], row["rank"], row["p_joint"]) == ("suspected", None, None, None)
    assert (row["n"], row["n_undefined"]) == (0, 400)
    blind = scores.drop("exchange_flip", "elsewhere_flip")
    row = only(reliance(blind, evidence=["digit"]))
    assert (row["verdict"], row["shortcut_score"]) == ("unknown", None)


def test_the_evidence_gets_no_verdict_and_is_in_no_family() -> None:
    table = reliance(exchanged(0.2, first_only=80), evidence=["digit"], by=["hair"])
    digit = only(table, "digit")
    assert (digit["verdict"], digit["n_tests"], digit["p_joint_adjusted"]) == ("evidence", 0, None)
    assert only(table)["n_tests"] == 3
    none = reliance(exchanged(0.2, first_only=80), evidence=[], by=["hair"])
    assert set(none["n_tests"]) == {6}
    assert set(none["verdict"]) <= set(VERDICTS) - {"evidence"}


# ------------------------------------------------------------------------------------- statistics and correction


def test_a_joint_p_is_the_larger_one_and_is_corrected_over_regions_and_groups() -> None:
    table = reliance(exchanged(0.06, first_only=32), evidence=[], by=["hair"])
    assert table.height == 6
    assert (table["p_joint"] == table.select(pl.max_horizontal("p_maps", "p_intervention")).to_series()).all()
    for name in ("p_maps", "p_intervention", "p_joint"):
        ordered = sorted(table[name])
        by_hand, least = {}, 0.0
        for k, p in enumerate(ordered):
            least = max(least, min(1.0, p * (6 - k)))
            by_hand[p] = by_hand.get(p, least)
        expected = [by_hand[p] for p in table[name]]
        assert table[f"{name}_adjusted"].to_list() == pytest.approx(expected)


def test_the_calibrated_thresholds_are_the_defaults_everywhere() -> None:
    for function in (judge, rule, command.reliance):
        defaults = inspect.signature(function).parameters
        assert defaults["margin"].default == MARGIN
        assert defaults["min_flip"].default == MIN_FLIP


def test_correction_can_undo_a_verdict() -> None:
    scores = exchanged(0.2, first_only=32)  # 8 % of the predictions: p is .003
    assert only(reliance(scores, evidence=["digit"]))["verdict"] == "confirmed"
    many = scores.with_columns(attr_place=pl.col("sample_id").str.slice(1).cast(pl.Int64) % 20)
    assert only(reliance(many, evidence=["digit"], by=["place"]))["verdict"] == "suspected"


@given(
    excess=st.floats(-0.2, 0.3),
    spread=st.floats(0.001, 0.3),
    images=st.integers(2, 60),
    margin=st.floats(0, 0.2),
    level=st.sampled_from([0.9, 0.95]),
)
@settings(max_examples=40)
def test_the_test_rejects_just_where_the_interval_leaves_the_margin(
    excess: float, spread: float, images: int, margin: float, level: float
) -> None:
    scores = exchanged(excess, images=images, spread=spread)
    row = only(reliance(scores, evidence=["digit"], margin=margin, level=level))
    gap = row["excess_low"] - margin  # type: ignore[operator]
    if abs(gap) > 1e-9:
        assert (row["p_maps"] < (1 - level) / 2) == (gap > 0)  # type: ignore[operator]


def test_scores_that_do_not_vary_are_as_many_trials_as_images() -> None:
    few, many = (only(reliance(exchanged(0.3, images=n, spread=0), evidence=["digit"])) for n in (5, 500))
    assert few["p_maps"] > 0.2  # type: ignore[operator]
    assert many["p_maps"] < 1e-6  # type: ignore[operator]


def test_p_of_the_maps_is_near_students() -> None:
    rng = np.random.default_rng(0)
    values = np.clip(rng.normal(0.37, 0.1, 200), 0, 1)
    block = rows(*({"iou_coverage": float(v), "center_iou": 0.3} for v in values), region="block")
    row = only(reliance(block, evidence=[]))
    student = stats.ttest_1samp(values - 0.3, 0.05, alternative="greater")
    assert row["p_maps"] == pytest.approx(student.pvalue, rel=0.15)


def test_the_shortcut_score_is_the_rule_with_both_thresholds_raised() -> None:
    scores = exchanged(0.2, first_only=60)
    row = only(reliance(scores, evidence=["digit"]))
    score = row["shortcut_score"]
    assert score == pytest.approx(min(row["excess_low"] - 0.05, row["flip_low"] - 0.05))  # type: ignore[operator]
    for step, verdict in ((-1e-6, {"confirmed"}), (1e-6, {"suspected"})):
        raised = 0.05 + score + step  # type: ignore[operator]
        again = only(reliance(scores, evidence=["digit"], margin=raised, min_flip=raised))
        assert again["verdict"] in verdict
    maps_only = scores.drop("exchange_flip", "elsewhere_flip")
    row = only(reliance(maps_only, evidence=["digit"]))
    assert row["shortcut_score"] == pytest.approx(row["excess_low"] - 0.05)  # type: ignore[operator]


@given(
    first_only=st.integers(0, 30),
    second_only=st.integers(0, 30),
    neither=st.integers(0, 60),
    tested=st.floats(-0.9, 0.9),
)
@settings(max_examples=60)
def test_the_score_statistic_is_that_of_the_constrained_likelihood(
    first_only: int, second_only: int, neither: int, tested: float
) -> None:
    n = first_only + second_only + neither
    if n == 0 or abs(tested) < 1e-3:
        return
    least, most = max(0.0, -tested), (1 - tested) / 2

    def surprise(q: float) -> float:
        cells = ((first_only, q + tested), (second_only, q), (neither, 1 - 2 * q - tested))
        return -sum(count * np.log(max(p, 1e-300)) for count, p in cells if count)

    q = minimize_scalar(surprise, bounds=(least, most), method="bounded", options={"xatol": 1e-12}).x
    variance = n * (2 * q + tested * (1 - tested))
    if variance < 1e-4:
        return
    expected = (first_only - second_only - n * tested) / np.sqrt(variance)
    assert float(difference_statistic(first_only, second_only, n, tested)) == pytest.approx(
        expected, rel=1e-3, abs=1e-3
    )


def test_the_interval_holds_the_differences_that_are_not_rejected() -> None:
    counts = np.array([[10, 2, 100], [0, 0, 100], [50, 0, 50], [0, 50, 50], [3, 9, 40]]).T
    low, high = difference_interval(*counts)
    z = stats.norm.ppf(0.975)
    for i, (b, c, n) in enumerate(counts.T):
        assert low[i] <= (b - c) / n <= high[i]
        for bound, sign in ((low[i], 1), (high[i], -1)):
            if -1 < bound < 1:
                assert difference_statistic(b, c, n, bound) == pytest.approx(sign * z, abs=1e-6)
    assert (high[2], low[3]) == (1, -1)
    assert low[1] == pytest.approx(-high[1])
    assert high[1] == pytest.approx(z**2 / (100 + z**2))  # Wilson's bound of 0 in 100
    assert np.isnan(difference_interval(0, 0, 0)).all()


def test_the_interval_covers_as_it_promises() -> None:
    rng = np.random.default_rng(0)
    for first_only, second_only, n in ((0.04, 0.01, 60), (0.3, 0.05, 40), (0.02, 0.02, 100)):
        drawn = rng.multinomial(n, [first_only, second_only, 1 - first_only - second_only], 4000)
        low, high = difference_interval(drawn[:, 0], drawn[:, 1], n)
        truth = first_only - second_only
        assert ((low <= truth) & (truth <= high)).mean() >= 0.93
        p = one_sided_p(difference_statistic(drawn[:, 0], drawn[:, 1], n, truth))
        assert (p <= 0.025).mean() <= 0.04


# ------------------------------------------------------------------------------------------- nulls, ranks, groups


def test_excess_is_that_of_plain_python() -> None:
    scores = random_scores(datasets=("d", "e"))
    table = reliance(scores, evidence=["object"], metric="pointing_game", pool=["dataset"])
    assert table.height == 4
    for row in table.rows(named=True):
        mine = scores.filter(
            pl.col("model").cast(pl.String) == row["model"], pl.col("region").cast(pl.String) == row["region"]
        ).rows(named=True)
        excess = [r["pointing_game"] - r["annotation_area"] / 64 for r in mine if r["pointing_game"] is not None]
        assert row["excess"] == pytest.approx(fmean(excess))
        assert (row["n"], row["null"]) == (len(excess), "chance")
        precise = [r for r in mine if r["saliency_coverage"] is not None]
        lift = fmean(r["saliency_coverage"] for r in precise) / fmean(r["annotation_area"] / 64 for r in precise)
        assert row["lift"] == pytest.approx(lift)
        assert row["iou"] == pytest.approx(fmean(r["iou_coverage"] for r in mine if r["iou_coverage"] is not None))
        assert row["hits"] == pytest.approx(row["ea"])
    shuffled = scores.sample(fraction=1, shuffle=True, seed=2)
    assert reliance(shuffled, evidence=["object"], metric="pointing_game", pool=["dataset"]).equals(table)


def test_means_are_those_of_the_summary() -> None:
    scores = random_scores(datasets=("d", "e"), seeds=(0, 1))
    summary = summarise(scores, by=["hair"], metrics=["iou_coverage"])
    table = reliance(scores, evidence=["object"], by=["hair"])
    keys = ["model", "seed", "dataset", "method", "binarization", "region", "group"]
    both = table.join(summary, on=keys, suffix="_summary")
    assert both.height == table.height == summary.height
    for ours, theirs in (
        ("ea", "ea_summary"),
        ("ea_low", "ci_low"),
        ("ea_high", "ci_high"),
        ("adjusted", "adjusted_summary"),
        ("accuracy", "accuracy_summary"),
        ("n", "n_summary"),
    ):
        assert both[ours].to_list() == pytest.approx(both[theirs].to_list())


def test_regions_are_ranked_by_excess_within_each_group() -> None:
    scores = pl.concat([exchanged(e).with_columns(region=pl.lit(f"r{e}")) for e in (0.1, 0.3, 0.2)])
    scores = scores.filter(pl.int_range(pl.len()).over("region", "sample_id") == 0)
    table = reliance(scores, evidence=[], by=["hair"])
    assert table["region"].to_list() == ["r0.3", "r0.2", "r0.1"] * 3
    assert table["rank"].to_list() == [1, 2, 3] * 3
    assert table["group"].unique(maintain_order=True).to_list() == ["all", "attr_hair=dark", "attr_hair=fair"]


def test_the_centre_is_the_null_of_a_whole_ranking_or_of_none_of_it() -> None:
    scores = exchanged(0.2)
    missing = scores.with_columns(
        center_iou=pl.when((pl.col("region") == "digit") & (pl.col("sample_id") == "s3")).then(None).otherwise(0.3)
    )
    table = reliance(missing, evidence=["digit"])
    assert set(table["null"]) == {"chance"}
    assert only(table)["excess"] == pytest.approx(0.5 - CHANCE)
    flat = missing.with_columns(
        iou_coverage=pl.when(pl.col("center_iou").is_not_null()).then("iou_coverage"),
        status=pl.when(pl.col("center_iou").is_null()).then(pl.lit("flat_map")).otherwise("status"),
    )
    assert set(reliance(flat, evidence=["digit"])["null"]) == {"center"}  # nothing is missing where a score is
    empty = missing.with_columns(salient_area=pl.when(pl.col("center_iou").is_null()).then(0).otherwise(4))
    assert set(reliance(empty, evidence=["digit"])["null"]) == {"center"}  # no salient pixel, no overlap


def test_datasets_and_seeds_stay_apart_unless_pooled() -> None:
    scores = random_scores(datasets=("d", "e"), seeds=(0, 1))
    apart = reliance(scores, evidence=["object"])
    assert apart.height == 16
    assert apart["pooled"].null_count() == 16
    whole = reliance(scores, evidence=["object"], pool=["dataset", "seed"])
    assert whole.height == 4
    assert set(whole["pooled"]) == {"2 datasets, 2 seeds"}
    assert whole["seed"].null_count() == whole["dataset"].null_count() == 4
    only_one = reliance(scores.filter(pl.col("dataset") == "d"), evidence=["object"], pool=["dataset"])
    assert (only_one["dataset"].to_list(), only_one["pooled"].null_count()) == (["d"] * 8, 8)


@pytest.mark.parametrize("pool", ["seed", "dataset"])
def test_what_is_pooled_has_one_null(pool: str) -> None:
    scores = exchanged(0.1)
    other = {"seed": 1, "dataset": "elsewhere"}[pool]
    without = scores.with_columns(pl.lit(other).alias(pool), center_iou=pl.lit(None, pl.Float64))
    both = pl.concat([scores, without.cast(dict(scores.schema))])  # type: ignore[arg-type]
    apart = reliance(both, evidence=["digit"])
    assert set(apart["null"]) == {"center", "chance"}
    row = only(reliance(both, evidence=["digit"], pool=[pool]))
    assert row["null"] == "chance"
    assert row["excess"] == pytest.approx(0.4 - CHANCE)


def test_accuracy_is_that_of_the_group() -> None:
    scores = exchanged(0.2).with_columns(correct=pl.col("attr_hair") == "dark")
    table = reliance(scores, evidence=["digit"], by=["hair", "correct"])
    accuracy = {group: only(table, group=group)["accuracy"] for group in table["group"].unique()}
    assert accuracy == {
        "all": 0.5,
        "attr_hair=dark": 1,
        "attr_hair=fair": 0,
        "correct=true": 1,
        "correct=false": 0,
    }


def test_flips_are_those_of_the_group_and_the_same_for_all_methods() -> None:
    scores = exchanged(0.2, first_only=80)  # the first 80 images all have dark hair
    other = scores.with_columns(method=pl.lit("other"))
    table = reliance(pl.concat([scores, other]), evidence=["digit"], by=["hair"])
    for method in ("gradcam", "other"):
        mine = table.filter(pl.col("method") == method)
        assert [only(mine, group=g)["flips"] for g in ("all", "attr_hair=dark", "attr_hair=fair")] == [0.2, 0.4, 0]
        assert only(mine)["n_images"] == 400


def test_an_image_without_a_control_is_not_counted() -> None:
    scores = exchanged(0.2, first_only=80).with_columns(
        elsewhere_flip=pl.when(pl.col("sample_id") != "s0").then("elsewhere_flip")
    )
    row = only(reliance(scores, evidence=["digit"]))
    assert (row["n_images"], row["flips"]) == (399, 79 / 399)


def test_a_pair_counts_for_both_its_datasets_and_once_when_pooled() -> None:
    scores = paired(0.1, 0.1, (1,) * 100 + (0,) * 300)
    third = scores.filter(pl.col("dataset") == "first").with_columns(dataset=pl.lit("third"))
    three = pl.concat([scores, third])
    pairs = {"block": [("first", "second"), ("first", "third")]}
    row = only(reliance(three, evidence=[], pairs=pairs, pool=["dataset"]))
    assert (row["flips"], row["n_images"]) == (0.125, 400)  # an image is one trial, whatever its number of pairs
    assert row["flip_low"] == pytest.approx(float(wilson_interval(50, 400)[0]))
    apart = reliance(three, evidence=[], pairs=pairs)
    flips = {d: only(apart.filter(pl.col("dataset") == d))["flips"] for d in ("first", "second", "third")}
    assert flips == {"first": 0.125, "second": 0.25, "third": 0}


def test_a_pair_that_was_not_evaluated_says_nothing() -> None:
    row = only(reliance(paired(0.1, 0.1), evidence=[], pairs={"block": [("first", "elsewhere")]}, pool=["dataset"]))
    assert (row["flips"], row["n_images"], row["verdict"]) == (None, 0, "unknown")


def test_each_dataset_declares_its_own_evidence() -> None:
    scores = paired(0.6, 0.6)
    table = reliance(scores, evidence={"first": ["digit"], "second": ["block"]})
    declared = {(row["dataset"], row["region"]) for row in table.rows(named=True) if row["is_evidence"]}
    assert declared == {("first", "digit"), ("second", "block")}
    with pytest.raises(UsageError, match="datasets disagree"):
        reliance(scores, evidence={"first": ["digit"], "second": ["block"]}, pool=["dataset"])


# ------------------------------------------------------------------------------------------------------- in words


def test_sentences_say_what_the_numbers_do() -> None:
    block, digit = sentences(reliance(exchanged(0.2, 20, 80, 4), evidence=["digit"]))
    assert block == (
        "m relies on block, which is not part of the evidence: its maps lie there more than a map at the centre (IoU "
        "minus that map's +0.200, +0.195 to +0.205, 400 decisions); exchanging its content with another label's "
        "changes 25.0 % of its predictions, as many pixels elsewhere 6.0 % (difference 19.0 %, 15.1 % to 23.3 %, 400 "
        "images); both together, corrected for 1 test: p < 0.001."
    )
    assert digit.startswith("m looks at digit, the evidence, more than a map at the centre (IoU minus that map's +")
    [sentence] = sentences(reliance(paired(0.6, 0.5), evidence=["digit"]).filter(region="block", dataset="first"))
    assert sentence.startswith("m is suspected to rely on block, which is not part of the evidence: its maps lie")
    assert "more than chance (IoU minus its chance level" in sentence
    assert "no intervention was done" in sentence
    clear = exchanged(0.0, first_only=2)
    block = sentences(reliance(clear, evidence=["digit"]).filter(region="block"))[0]
    assert block.startswith("m shows no reliance on block beyond the thresholds: its maps lie there about as much as")
    silent = clear.drop("exchange_flip", "elsewhere_flip")
    [sentence] = sentences(reliance(silent, evidence=["digit"]).filter(region="block"))
    assert sentence.startswith("The maps of m give no clear sign of reliance on block, which does not clear it:")
    [sentence] = sentences(reliance(exchanged(0.2, first_only=2), evidence=["digit"]).filter(region="block"))
    assert sentence.startswith(
        "m's maps lie on block, which is not part of the evidence, but changing it changes hardly"
    )
    nothing = silent.with_columns(iou_coverage=None, status=pl.lit("flat_map"))
    told = sentences(reliance(nothing, evidence=["digit"]))
    assert told[0].startswith("Whether m relies on block is unknown: none of its scores there is defined;")
    assert told[1] == "Whether m looks at digit, the evidence, is unknown: none of its scores there is defined."


def test_sentences_name_what_tells_rows_apart() -> None:
    scores = random_scores(seeds=(0, 1), datasets=("d", "e"))
    other = scores.with_columns(method=pl.lit("gradcam").cast(pl.Categorical))
    told = sentences(reliance(pl.concat([scores, other]), evidence=["object"], by=["hair"]))
    assert len(set(told)) == len(told) == 96
    assert any(sentence.startswith("a (seed 0, on d, attr_hair=dark, gradcam maps) ") for sentence in told)


def test_the_rule_states_its_thresholds() -> None:
    text = rule(metric="pointing_game", margin=0.1, min_flip=0.02, level=0.9)
    for part in ("hit minus its chance level exceeds 0.1", "in 2 % of the images", "test at 0.05", "90 % interval"):
        assert part in text
    assert "centred map" in rule()


def test_what_is_asked_wrongly() -> None:
    scores = paired(0.1, 0.1)
    with pytest.raises(UnknownNameError, match="did you mean 'digit'"):
        reliance(scores, evidence=["digits"])
    with pytest.raises(UnknownNameError, match="region"):
        reliance(scores, evidence=["digit"], pairs={"blocks": []})
    for wrong in (("first", "second"), [("first",)], [("first", "second", "third")], "first", [(1, 2)], ["ab"]):
        with pytest.raises(
            UsageError, match=r'pairs of .block.: expected a list of two datasets each, such as \[\("first'
        ):
            reliance(scores, evidence=["digit"], pairs={"block": wrong})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match=r"pairs: expected region -> .*; got \["):
        reliance(scores, evidence=["digit"], pairs=[("first", "second")])  # type: ignore[arg-type]
    dataset = scores["dataset"][0]
    with pytest.raises(UsageError, match=r"evidence of .* is a list of regions, such as \['digit'\]; got 'digit'"):
        reliance(scores, evidence={dataset: "digit"})
    with pytest.raises(UsageError, match="no analytic chance level"):
        reliance(scores, evidence=["digit"], metric="heatmap_kl")
    with pytest.raises(UsageError, match="margin"):
        reliance(scores, evidence=["digit"], margin=5)
    with pytest.raises(UsageError, match=r"give evidence="):
        reliance(scores)
    with pytest.raises(UsageError, match=r"a list of regions, such as \['digit'\]"):
        reliance(scores, evidence="digit")
    with pytest.raises(UsageError, match="no evidence is given for dataset 'second'"):
        reliance(scores, evidence={"first": ["digit"]})
    with pytest.raises(UnknownNameError, match="did you mean 'first'"):
        reliance(scores, evidence={"firs": ["digit"]})
    with pytest.raises(UnknownNameError, match="thing to pool"):
        reliance(scores, evidence=["digit"], pool=["model"])
    with pytest.raises(UnknownNameError, match="group"):
        reliance(scores, evidence=["digit"], by=["hair"])
