"""Comparisons against SciPy's tests, plain Python over the rows, and samples whose truth is known."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from statistics import fmean, stdev
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import explanation_alignment as ea
from explanation_alignment.errors import RunError, UnknownNameError, UsageError
from explanation_alignment.statistics.comparing.comparison import COMPARISON_SCHEMA, compare, unmatched
from explanation_alignment.statistics.comparing.differences import moments_of, paired_differences, unpaired_differences
from explanation_alignment.statistics.comparing.permutation import (
    TESTS,
    fisher_test,
    label_test,
    mcnemar_test,
    sign_test,
)
from explanation_alignment.statistics.comparing.words import sentences
from explanation_alignment.statistics.intervals import Scale
from statistics_tables import WORDS, random_scores, rows

SCORE, HIT, ANY = Scale(0, 1), Scale(0, 1, binary=True), Scale()


def models(
    first: list[float | None], second: list[float | None], metric: str = "iou_coverage", **more: Any
) -> pl.DataFrame:
    """Two models' scores on the same images."""
    parts = [
        rows(*({metric: value} for value in values), model=name, **more)
        for name, values in (("a", first), ("b", second))
    ]
    return pl.concat(parts, how="vertical_relaxed").with_columns(pl.col(metric).cast(pl.Float64))


def one(table: pl.DataFrame, **where: str) -> dict[str, Any]:
    [row] = table.filter(**where).rows(named=True)
    return row


def flips(difference: np.ndarray, *, draws: int = 500, seed: int = 0) -> tuple[float, str]:
    names = [f"{i:04}" for i in range(difference.size)]
    columns = np.column_stack([difference, np.zeros(difference.size)])
    p, test = sign_test(
        names, np.arange(difference.size), columns, np.array([0]), np.array([1]), draws=draws, seed=seed
    )
    return float(p[0]), str(test[0])


# ------------------------------------------------------------------------------------------------------ the tests


@settings(max_examples=40)
@given(st.lists(st.sampled_from([0.0, 0.0, 0.25, -0.25, 0.1, -0.7, 0.5]), min_size=1, max_size=11))
def test_few_pairs_give_the_exact_p_value_of_all_patterns(values: list[float]) -> None:
    observed = abs(sum(values))
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in product((1, -1), repeat=len(values))
    ]
    p, test = flips(np.array(values))
    assert test == "all sign flips"
    assert p == pytest.approx(fmean(s >= observed - 1e-9 for s in sums))


def test_drawn_flips_agree_with_scipys_permutation_test() -> None:
    rng = np.random.default_rng(1)
    difference = rng.normal(0.15, 1, 60)
    expected = stats.permutation_test(
        (difference, np.zeros(60)),
        lambda x, y, axis: (x - y).mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    ).pvalue
    p, test = flips(difference, draws=20_000)
    assert test == "drawn sign flips"
    assert p == pytest.approx(expected, abs=0.012)


def test_a_p_value_below_what_draws_can_tell_is_a_bound_that_holds() -> None:
    rng = np.random.default_rng(2)
    difference = rng.normal(1, 1, 50)
    p, test = flips(difference, draws=200)
    z = difference.sum() / np.sqrt((difference**2).sum())
    assert test == "Hoeffding's bound"
    assert p == pytest.approx(2 * np.exp(-(z**2) / 2))
    assert p < 1 / 201
    # never below the exact p-value, counted here over all patterns of 13 equal differences
    assert flips(np.ones(13), draws=500)[0] >= 2 * 0.5**13


def test_the_order_of_pairs_and_of_what_else_is_tested_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    columns = rng.random((80, 4))
    columns[:5, 3] = np.nan  # one of them knows fewer images: another way through the code
    names = [f"{i:03}" for i in range(80)]
    unit = np.arange(80)
    first, second = np.array([0, 1, 0]), np.array([2, 3, 3])
    p, _ = sign_test(names, unit, columns, first, second, draws=300, seed=0)
    swapped, _ = sign_test(names, unit, columns, second, first, draws=300, seed=0)
    alone = [sign_test(names, unit, columns, first[[i]], second[[i]], draws=300, seed=0)[0][0] for i in range(3)]
    assert p.tolist() == swapped.tolist() == alone


def test_clusters_are_flipped_as_a_whole() -> None:
    rng = np.random.default_rng(4)
    difference = rng.normal(size=60)
    unit = np.repeat(np.arange(20), 3)
    names = [f"{i:02}" for i in range(20)]
    columns = np.column_stack([difference, np.zeros(60)])
    p, _ = sign_test(names, unit, columns, np.array([0]), np.array([1]), draws=400, seed=0)
    sums = np.add.reduceat(difference, np.arange(0, 60, 3))
    summed, _ = sign_test(
        names, np.arange(20), np.column_stack([sums, np.zeros(20)]), np.array([0]), np.array([1]), draws=400, seed=0
    )
    assert p[0] == summed[0]


@given(st.integers(0, 40), st.integers(0, 40))
def test_hits_have_the_exact_binomial_test(b: int, c: int) -> None:
    p, test = mcnemar_test(np.array([float(b)]), np.array([float(c)]))
    assert test[0] == "McNemar exact"
    assert p[0] == pytest.approx(stats.binomtest(b, b + c).pvalue if b + c else 1.0)


@given(st.integers(0, 15), st.integers(1, 15), st.integers(0, 25), st.integers(1, 25))
def test_hits_of_groups_have_fishers_test(b: int, n: int, c: int, m: int) -> None:
    b, c = min(b, n), min(c, m)
    p, _ = fisher_test((b, c), (n, m))
    assert p == pytest.approx(stats.fisher_exact([[b, n - b], [c, m - c]]).pvalue)


def test_labels_agree_with_scipys_permuted_welch_test() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(0.4, 1, 30), rng.normal(0, 2, 50)
    expected = stats.ttest_ind(
        x, y, equal_var=False, method=stats.PermutationMethod(n_resamples=5_000, rng=np.random.default_rng(0))
    ).pvalue
    names = [f"{i:02}" for i in range(80)]
    p, test = label_test(names, np.concatenate([x, y]), np.ones(80), np.arange(80) < 30, draws=5_000, seed=0)
    assert test == "drawn labels"
    assert p == pytest.approx(expected, abs=0.02)
    far, test = label_test(names, np.concatenate([x + 9, y]), np.ones(80), np.arange(80) < 30, draws=100, seed=0)
    assert test == "Welch t"
    assert 0 < far < 1e-9
    assert label_test(names, np.ones(80), np.ones(80), np.arange(80) < 30, draws=50, seed=0)[0] == 1
    assert label_test(names[:3], np.array([1.0, 2, 3]), np.ones(3), np.arange(3) < 1, draws=50, seed=0)[0] == 1


# ------------------------------------------------------------------------------------------------- the intervals


def test_an_unbounded_metric_gets_the_paired_t_interval() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.normal(3, 1, (40, 1)), rng.normal(2, 2, (40, 1))
    found = paired_differences(x, y, np.ones((40, 1)), [ANY], 0.9)
    expected = stats.ttest_rel(x[:, 0], y[:, 0]).confidence_interval(0.9)
    assert (found.low[0], found.high[0]) == pytest.approx(tuple(expected))


def test_hits_get_newcombes_interval() -> None:
    # Newcombe 1998, method 10, from the four cells of a paired table
    a, b, c, d = 20, 12, 2, 16
    n = a + b + c + d
    first = np.repeat([1.0, 1.0, 0.0, 0.0], (a, b, c, d))[:, None]
    second = np.repeat([1.0, 0.0, 1.0, 0.0], (a, b, c, d))[:, None]
    found = paired_differences(first, second, np.ones((n, 1)), [HIT], 0.95)
    wilson = [stats.binomtest(hits, n).proportion_ci(method="wilson") for hits in (a + b, a + c)]
    p = [(a + b) / n, (a + c) / n]
    phi = max(a * d - b * c - n / 2, 0) / ((a + b) * (c + d) * (a + c) * (b + d)) ** 0.5
    down, up = p[0] - wilson[0].low, wilson[1].high - p[1]
    low = p[0] - p[1] - (down**2 - 2 * phi * down * up + up**2) ** 0.5
    down, up = wilson[0].high - p[0], p[1] - wilson[1].low
    high = p[0] - p[1] + (down**2 - 2 * phi * down * up + up**2) ** 0.5
    # the correction's variance has n - 1 where Newcombe's has n
    assert (found.low[0], found.high[0]) == pytest.approx((low, high), abs=2e-3)


def test_agreement_on_all_images_drawn_is_no_certainty() -> None:
    scores = np.linspace(0.1, 0.9, 50)[:, None]
    found = paired_differences(scores, scores, np.ones((50, 1)), [SCORE], 0.95)
    assert found.low[0] < 0 < found.high[0]
    nothing = np.zeros((50, 1))
    found = paired_differences(nothing, nothing, np.ones((50, 1)), [SCORE], 0.95)
    assert found.low[0] < -0.02
    assert found.high[0] > 0.02


@pytest.mark.parametrize(("zeros", "n"), [(0.0, 50), (0.8, 50), (0.95, 200)])
def test_the_interval_holds_the_true_difference_as_often_as_it_says(zeros: float, n: int) -> None:
    rng = np.random.default_rng(7)
    shape = (n, 1500)
    shared = rng.random(shape) < 0.5
    x, y = (np.where(rng.random(shape) < zeros, 0, rng.beta(2, 5, shape)) for _ in range(2))
    y = 0.7 * np.where(shared, x, y)
    found = paired_differences(x, y, np.ones(shape), [SCORE] * 1500, 0.95)
    held = (found.low <= 0.3 * (1 - zeros) * 2 / 7) & (found.high >= 0.3 * (1 - zeros) * 2 / 7)
    assert 0.925 <= held.mean() <= 0.985


def test_no_difference_is_called_in_at_most_one_of_twenty() -> None:
    rng = np.random.default_rng(8)
    shape = (60, 1500)
    x, y = (np.where(rng.random(shape) < 0.6, 0, rng.beta(2, 5, shape)) for _ in range(2))
    names = [f"{i:02}" for i in range(60)]
    first = np.arange(1500)
    p, _ = sign_test(names, np.arange(60), np.concatenate([x, y], axis=1), first, first + 1500, draws=999, seed=0)
    assert 0.035 <= (p < 0.05).mean() <= 0.065
    found = paired_differences(x, y, np.ones(shape), [SCORE] * 1500, 0.95)
    assert ((found.low > 0) | (found.high < 0)).mean() <= 0.065


def test_groups_of_an_unbounded_metric_get_an_interval_of_welchs_kind() -> None:
    rng = np.random.default_rng(9)
    x, y = rng.normal(1, 1, (30, 1)), rng.normal(0, 3, (50, 1))
    one_group, other = (moments_of(v, np.ones_like(v), [ANY], 0.95) for v in (x, y))
    found = unpaired_differences(one_group, other, [ANY])
    expected = stats.ttest_ind(x[:, 0], y[:, 0], equal_var=False).confidence_interval()
    assert (found.low[0], found.high[0]) == pytest.approx(tuple(expected), rel=0.02)


# ----------------------------------------------------------------------------------------------------- the table


def test_every_number_is_that_of_plain_python() -> None:
    scores = random_scores(models=("a", "b", "c"), datasets=("d", "e"))
    table = compare(scores, n_resamples=200)
    assert table.schema == COMPARISON_SCHEMA
    records = scores.with_columns(pl.col(*WORDS).cast(pl.String)).rows(named=True)
    metrics = ("iou_coverage", "saliency_coverage", "pointing_game")
    pairs = (("a", "b"), ("a", "c"), ("b", "c"))
    assert table.height == 2 * 3 * (2 * 3 + 1)
    assert set(table["test"]) <= set(TESTS)
    for dataset, region, (first, second), metric in product("de", ("block", "object"), pairs, metrics):
        row = one(table, dataset=dataset, region=region, first=first, second=second, metric=metric)
        mine = [
            {
                r["sample_id"]: r[metric]
                for r in records
                if (r["model"], r["dataset"], r["region"]) == (m, dataset, region)
            }
            for m in (first, second)
        ]
        both = [k for k in mine[0] if mine[0][k] is not None and mine[1][k] is not None]
        differences = [mine[0][k] - mine[1][k] for k in both]
        assert row["n"] == len(both)
        assert row["n_undefined"] == 40 - len(both)
        assert row["mean_first"] == pytest.approx(fmean(mine[0][k] for k in both))
        assert row["difference"] == pytest.approx(fmean(differences))
        assert row["effect_size"] == pytest.approx(fmean(differences) / stdev(differences))
        assert row["n_first_higher"] == sum(d > 0 for d in differences)
        assert row["n_second_higher"] == sum(d < 0 for d in differences)
        assert row["ci_low"] <= row["difference"] <= row["ci_high"]
        assert (row["seeds"], row["paired"], row["n_unshared"]) == (1, True, 0)
    right = one(table, dataset="d", first="a", second="b", metric="accuracy")
    assert right["difference"] == pytest.approx(
        fmean(r["correct"] for r in records if (r["model"], r["dataset"]) == ("a", "d"))
        - fmean(r["correct"] for r in records if (r["model"], r["dataset"]) == ("b", "d"))
    )
    b, c = right["n_first_higher"], right["n_second_higher"]
    assert right["p_value"] == pytest.approx(stats.binomtest(b, b + c).pvalue)
    assert (right["region"], right["method"], right["n"]) == (None, None, 40)


def test_the_family_is_the_whole_table() -> None:
    scores = random_scores(models=("a", "b", "c"))
    table = compare(scores, n_resamples=200)
    p = table["p_value"].to_numpy()
    assert table["p_holm"].min() == pytest.approx(min(1, p.min() * len(p)))
    assert table["p_bh"].to_list() == pytest.approx(stats.false_discovery_control(p).tolist())
    alone = compare(scores, metrics=["pointing_game"], n_resamples=200)
    assert alone.height == 6
    assert set(alone["metric"]) == {"pointing_game"}


def test_the_order_and_kind_of_the_rows_do_not_matter() -> None:
    scores = random_scores()
    table = compare(scores, n_resamples=200)
    assert compare(scores.sample(fraction=1, shuffle=True, seed=1), n_resamples=200).equals(table)
    assert compare(scores.with_columns(pl.col(*WORDS).cast(pl.String)).lazy(), n_resamples=200).equals(table)
    assert not compare(scores, n_resamples=200, seed=1)["p_value"].equals(table["p_value"])


def test_a_pair_has_the_same_numbers_whatever_else_the_run_holds() -> None:
    scores = random_scores(models=("a", "b", "c"))
    both = compare(scores, n_resamples=300).filter(first="a", second="b").drop("p_holm", "p_bh", "verdict")
    alone = compare(scores.filter(pl.col("model").cast(pl.String) != "c"), n_resamples=300)
    assert alone.drop("p_holm", "p_bh", "verdict").rows() == [
        pytest.approx(row) if False else row for row in both.rows()
    ]


def test_a_reference_is_second_and_the_others_are_held_against_it() -> None:
    table = compare(random_scores(models=("a", "b", "c")), reference="b", n_resamples=100)
    assert set(table["second"]) == {"b"}
    assert set(table["first"]) == {"a", "c"}
    with pytest.raises(UnknownNameError, match="did you mean"):
        compare(random_scores(models=("resnet50", "vgg")), reference="resnet5")


def test_a_difference_that_is_there_is_shown_and_told() -> None:
    rng = np.random.default_rng(0)
    base = rng.beta(2, 5, 100) * 0.8
    scores = models(list(base + 0.1), list(base + rng.normal(0, 0.01, 100)))
    table = compare(scores, metrics=["iou_coverage"])
    row = table.row(0, named=True)
    assert row["verdict"] == "higher"
    assert row["p_holm"] < 1e-6
    text = sentences(table)
    assert text[0].startswith("1 of 1 comparison shows a difference (Holm, over 1 test)")
    assert "IoU is higher for a than for b: +0.1" in text[1]


def test_pairs_defined_nowhere_are_unknown_and_no_part_of_the_family() -> None:
    scores = models([0.1, None, 0.3], [None, 0.2, None])
    table = compare(scores, metrics=["iou_coverage", "accuracy"])
    row = one(table, metric="iou_coverage")
    assert [row[name] for name in ("difference", "ci_low", "p_value", "p_holm", "effect_size")] == [None] * 5
    assert (row["n"], row["n_undefined"], row["verdict"]) == (0, 3, "unknown")
    assert one(table, metric="accuracy")["p_holm"] == 1
    assert "had no decision that both define" in sentences(table)[0]


def test_different_images_are_refused_by_name_and_shared_ones_compared_when_asked() -> None:
    scores = pl.concat(
        [
            rows(*({"sample_id": i, "iou_coverage": 0.5} for i in "abcdefg"), model="one"),
            rows(*({"sample_id": i, "iou_coverage": 0.25} for i in "cdefgxyz"), model="two"),
        ]
    )
    with pytest.raises(UsageError) as error:
        compare(scores)
    assert "2 only in 'one' (a, b); 3 only in 'two' (x, y, z); common=True (--common) compares the 5" in str(
        error.value
    )
    table = compare(scores, common=True)
    assert set(table["n"]) == {5}
    assert set(table["n_unshared"]) == {5}
    apart = scores.filter((pl.col("model") == "one") | pl.col("sample_id").is_in(["x", "y"]))
    with pytest.raises(UsageError, match="share none"):
        compare(apart, common=True)


def test_the_same_id_with_another_label_is_another_image() -> None:
    scores = models([0.1, 0.2], [0.1, 0.2]).with_columns(
        label=pl.when((pl.col("model") == "b") & (pl.col("sample_id") == "s1")).then(3).otherwise(pl.col("label"))
    )
    with pytest.raises(UsageError, match=r"'s1' has different labels"):
        compare(scores)


def test_between_regions_methods_and_binarizations() -> None:
    scores = random_scores(models=("a",))
    table = compare(scores, between="region", n_resamples=50)
    assert set(table.select("first", "second").rows()) == {("block", "object")}
    assert "accuracy" not in table["metric"]
    assert table["region"].null_count() == table.height
    other = scores.with_columns(pl.lit("gradcam").alias("method"), pl.lit("threshold:0.5").alias("binarization"))
    words = [pl.col(*WORDS).cast(pl.String)]
    both = pl.concat([scores.with_columns(*words), other.with_columns(*words)], how="vertical_relaxed")
    table = compare(both, between="method", n_resamples=50)
    assert set(table.select("first", "second").rows()) == {("gradcam", "vanilla_gradients")}
    assert set(table["difference"].drop_nulls()) == {0.0}
    more = pl.concat([both, other.with_columns(*words).with_columns(pl.lit("otsu").alias("binarization"))])
    names = {
        name
        for pair in compare(more, between="method", n_resamples=50).select("first", "second").rows()
        for name in pair
    }
    assert names == {"gradcam otsu", "gradcam threshold:0.5", "vanilla_gradients std:1"}
    assert set(compare(more.filter(method="gradcam"), between="binarization", n_resamples=50)["first"]) == {"otsu"}


def test_groups_are_different_images() -> None:
    scores = random_scores(images=90, models=("a",))
    table = compare(scores, between="hair", n_resamples=200)
    assert set(table["paired"]) == {False}
    row = one(table, region="object", metric="iou_coverage")
    assert (row["between"], row["first"], row["second"]) == ("attr_hair", "attr_hair=dark", "attr_hair=fair")
    groups = [
        scores.filter(attr_hair=name)
        .filter(pl.col("region").cast(pl.String) == "object")["iou_coverage"]
        .cast(pl.Float64)
        for name in ("dark", "fair")
    ]
    assert row["difference"] == pytest.approx(groups[0].mean() - groups[1].mean())
    assert row["n"] == sum(g.count() for g in groups)
    assert row["n_undefined"] == sum(g.null_count() for g in groups)
    pooled = ((groups[0].var() + groups[1].var()) / 2) ** 0.5
    assert row["effect_size"] == pytest.approx(row["difference"] / pooled)
    assert row["n_first_higher"] is None
    hit = one(table, region="object", metric="pointing_game")
    assert hit["test"] == "Fisher exact"
    assert "accuracy" in table["metric"]
    assert "accuracy" not in compare(scores, between="correct", n_resamples=50)["metric"]


def test_two_test_sets_of_different_images() -> None:
    parts = [
        rows(*({"sample_id": f"{name}{i}", "iou_coverage": i / 20} for i in range(count)), dataset=name)
        for name, count in (("d", 10), ("e", 15))
    ]
    scores = pl.concat(parts)
    with pytest.raises(UsageError, match="share none"):
        compare(scores, between="dataset")
    row = one(compare(scores, between="dataset", paired=False), metric="iou_coverage")
    assert (row["n"], row["paired"]) == (25, False)
    with pytest.raises(UsageError, match="in both"):
        compare(models([0.1, 0.2], [0.1, 0.2]), paired=False)


def test_over_seeds_the_spread_of_seeds_counts() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(0.5, 0.05, 200)
    parts = []
    for seed, shift in enumerate((0.02, 0.10, 0.18)):
        for model, more in (("a", shift), ("b", 0.0)):
            values = np.clip(image + more + rng.normal(0, 0.01, 200), 0, 1)
            parts.append(rows(*({"iou_coverage": float(v)} for v in values), model=model, seed=seed))
    scores = pl.concat(parts)
    each = compare(scores, metrics=["iou_coverage"])
    assert each.height == 3
    assert set(each["verdict"]) == {"higher"}
    row = compare(scores, metrics=["iou_coverage"], over_seeds=True).row(0, named=True)
    differences = each["difference"].to_list()
    assert (row["seeds"], row["n"], row["seed"], row["test"]) == (3, 600, None, "t over seeds")
    assert row["difference"] == pytest.approx(fmean(differences))
    plain = stats.ttest_1samp(differences, 0)
    assert row["p_value"] == pytest.approx(plain.pvalue, rel=0.02)  # images add next to nothing here
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(tuple(plain.confidence_interval()), abs=2e-3)
    assert row["verdict"] == "no difference shown"
    with pytest.raises(UsageError, match="two seeds in common"):
        compare(scores.filter(seed=0), over_seeds=True)
    with pytest.raises(UsageError, match="not between seeds"):
        compare(scores, between="seed", over_seeds=True)


def test_clusters_widen_the_interval_and_stay_whole() -> None:
    rng = np.random.default_rng(1)
    film = np.repeat(rng.normal(0.05, 0.1, 20), 10)
    base = rng.random(200) * 0.2 + 0.4
    scores = models(list(base + film), list(base)).with_columns(
        attr_film=pl.Series([f"film {i // 10}" for i in range(200)] * 2)
    )
    alone, whole = (compare(scores, metrics=["iou_coverage"], cluster=c).row(0, named=True) for c in (None, "film"))
    assert whole["difference"] == pytest.approx(alone["difference"])
    assert whole["ci_high"] - whole["ci_low"] > 2 * (alone["ci_high"] - alone["ci_low"])
    assert whole["p_value"] > alone["p_value"]
    torn = scores.with_columns(attr_film=pl.col("model"))
    with pytest.raises(UsageError, match="several clusters"):
        compare(torn, cluster="film")


def test_two_runs_say_what_became_worse_where_the_evidence_is() -> None:
    rng = np.random.default_rng(2)
    base = rng.random(100) * 0.4 + 0.3
    before = pl.concat([rows(*({"iou_coverage": float(v)} for v in base), region=r) for r in ("object", "block")])
    now = before.with_columns(iou_coverage=pl.col("iou_coverage") - pl.Series(list(rng.random(100) * 0.2) * 2))
    table = compare(now, before, evidence=["object"])
    assert one(table, region="object")["verdict"] == "worse"
    assert one(table, region="block")["verdict"] == "lower"  # less on what is no evidence is not worse
    assert one(table, metric="accuracy")["verdict"] == "no change shown"
    assert set(compare(before, before)["verdict"]) == {"no change shown"}
    assert one(compare(before, now, evidence=["object"]), region="object")["verdict"] == "better"
    assert any("became worse" in line for line in sentences(table))
    left = unmatched(now, before.filter(region="object"))
    assert left == [
        "only now: model m, seed 0, dataset d, target predicted, method gradcam, binarization threshold:0.5, "
        "region block"
    ]
    with pytest.raises(UsageError, match="no evaluation in common"):
        compare(now, before.with_columns(model=pl.lit("other")))


def test_of_a_divergence_less_is_better() -> None:
    before = rows(*({"heatmap_kl": 2.0 + i / 50} for i in range(50)))
    now = before.with_columns(heatmap_kl=pl.col("heatmap_kl") - 1 - pl.Series([i % 3 / 10 for i in range(50)]))
    assert one(compare(now, before), metric="heatmap_kl")["verdict"] == "better"


def test_few_images_that_differ_are_called_unreliable() -> None:
    same = [0.5] * 60
    assert one(compare(models([0.2] * 10 + same, [0.3] * 10 + same)), metric="iou_coverage")["unreliable"]
    assert not one(compare(models(same, same)), metric="iou_coverage")["unreliable"]
    spread = [i / 100 for i in range(60)]
    assert not one(compare(models(spread, same)), metric="iou_coverage")["unreliable"]


def test_two_hundred_models_are_all_paired() -> None:
    rng = np.random.default_rng(0)
    names = [f"model-{i:03}" for i in range(200)]
    scores = pl.concat([rows(*({"pointing_game": float(v)} for v in rng.random(30) < 0.5), model=m) for m in names])
    table = compare(scores, metrics=["pointing_game"])
    assert table.height == 19_900
    assert (table["p_holm"] < 0.05).sum() == 0


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"between": "modle"}, UnknownNameError, "model"),
        ({"between": "group"}, UsageError, "attr_hair"),
        ({"metrics": ["iou"]}, UnknownNameError, "iou_coverage"),
        ({"cluster": "hat"}, UnknownNameError, "attr_hair"),
        ({"level": 1.5}, UsageError, "level"),
        ({"n_resamples": 0}, UsageError, "n_resamples"),
        ({"between": "region", "metrics": ["accuracy"]}, UsageError, "accuracy is the same"),
        ({"between": "dataset"}, UsageError, "one dataset only"),
        ({"between": "hair", "over_seeds": True}, UsageError, "same images"),
    ],
)
def test_mistakes(change: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        compare(random_scores(), **change)


def test_what_is_no_run_is_refused() -> None:
    with pytest.raises(UsageError, match="expected a run"):
        compare(3)  # type: ignore[arg-type]
    twice = pl.concat([models([0.1, 0.2], [0.3, 0.4])] * 2)
    with pytest.raises(RunError, match="several rows"):
        compare(twice)


def test_the_public_function_reads_tables_only() -> None:
    assert ea.compare is compare
    code = (
        "import sys, explanation_alignment as ea; ea.compare; ea.check; ea.plan\n"
        "assert not {'torch', 'matplotlib'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_small_p_value_among_many_tests_shows_nothing() -> None:
    # nine images that differ, all one way: p = 2 / 2^9; 20 other models without any difference
    names = [f"m{i:02}" for i in range(20)]
    parts = [rows(*({"iou_coverage": 0.3 + i / 200} for i in range(40)), model=m) for m in names]
    parts.append(rows(*({"iou_coverage": 0.3 + i / 200 + 0.2 * (i < 9)} for i in range(40)), model="z"))
    scores = pl.concat(parts)
    alone = compare(scores.filter(pl.col("model").is_in(["m00", "z"])), metrics=["iou_coverage"]).row(0, named=True)
    assert alone["p_value"] == alone["p_holm"] == pytest.approx(2 / 2**9)
    assert alone["verdict"] == "lower"
    table = compare(scores, metrics=["iou_coverage"])
    row = one(table, first="m00", second="z")
    assert row["p_value"] == alone["p_value"]
    assert row["p_holm"] == pytest.approx(210 * 2 / 2**9)
    assert row["ci_high"] < 0
    assert row["verdict"] == "no difference shown"


# -------------------------------------------------------------------------------------- accuracy, failures, clusters


def hits(first: list[bool | None], second: list[bool | None], **more: Any) -> pl.DataFrame:
    parts = [
        rows(*({"iou_coverage": 0.5, "correct": hit} for hit in values), model=name, **more)
        for name, values in (("a", first), ("b", second))
    ]
    return pl.concat(parts, how="vertical_relaxed").with_columns(pl.col("correct").cast(pl.Boolean))


def test_accuracy_can_be_compared_alone() -> None:
    scores = hits([True] * 8, [False] * 8)
    everything = compare(scores).filter(metric="accuracy").drop("p_holm", "p_bh")
    alone = compare(scores, metrics=["accuracy"])
    assert alone.schema == COMPARISON_SCHEMA
    assert alone.drop("p_holm", "p_bh").equals(everything)
    assert alone.select("difference", "n", "target", "region").row(0) == (1.0, 8, None, None)
    grouped = scores.with_columns(
        attr_hair=pl.col("sample_id").is_in(scores["sample_id"][:4].to_list()).cast(pl.String)
    )
    assert compare(grouped, between="hair", metrics=["accuracy"]).height == 2
    assert compare(scores, scores, metrics=["accuracy"])["verdict"].to_list() == ["no change shown"] * 2
    seeds = pl.concat([scores.with_columns(seed=pl.lit(s, pl.Int64)) for s in (0, 1)], how="vertical_relaxed")
    assert compare(seeds, metrics=["accuracy"], over_seeds=True).height == 1


def test_an_image_that_failed_in_one_evaluation_is_still_one_image() -> None:
    scores = hits([True, True, False], [False, True, True]).with_columns(label=pl.lit("cat"))
    ids = scores["sample_id"].unique().sort().to_list()
    other = scores.with_columns(method=pl.lit("lime"))
    failed = (pl.col("sample_id") == ids[0]) & (pl.col("method") == "lime")
    names = ("label", "correct", "iou_coverage")
    torn = pl.concat([scores, other]).with_columns(
        pl.when(failed).then(None).otherwise(pl.col(n)).alias(n) for n in names
    )
    whole = compare(pl.concat([scores, other])).filter(metric="accuracy")
    for cluster in (None, "label"):
        found = compare(torn, cluster=cluster).filter(metric="accuracy")
        assert found.select("mean_first", "mean_second", "n").equals(whole.select("mean_first", "mean_second", "n"))
    one_model = scores.with_columns(
        pl.when((pl.col("sample_id") == ids[0]) & (pl.col("model") == "b")).then(None).otherwise(pl.col(n)).alias(n)
        for n in names
    )
    assert set(compare(one_model, cluster="label")["n"]) == {2}


def test_one_decision_with_two_labels_or_clusters_is_refused() -> None:
    scores = hits([True, True], [False, True]).with_columns(label=pl.lit("cat"), attr_film=pl.lit("x"))
    torn = pl.concat([scores, scores.with_columns(method=pl.lit("lime"), label=pl.lit("dog"))])
    with pytest.raises(RunError, match="several labels"):
        compare(torn, metrics=["accuracy"])
    torn = pl.concat([scores, scores.with_columns(method=pl.lit("lime"), attr_film=pl.lit("y"))])
    with pytest.raises(UsageError, match="several clusters"):
        compare(torn, metrics=["accuracy"], cluster="film")


def test_images_without_a_cluster_stand_for_themselves() -> None:
    rng = np.random.default_rng(8)
    scores = models(list(rng.random(60)), list(rng.random(60)))
    unknown = scores.with_columns(attr_film=pl.lit(None, pl.String))
    names = ("difference", "ci_low", "ci_high", "unreliable", "n")
    plain, clustered = (compare(unknown, metrics=["iou_coverage"], cluster=c) for c in (None, "film"))
    assert clustered.select(names).equals(plain.select(names))
    assert clustered["p_value"][0] == pytest.approx(plain["p_value"][0], abs=0.02)


# -------------------------------------------------------------------------------------------- what cannot be told


@pytest.mark.parametrize("jitter", [0.0, 1e-15])
def test_no_p_value_of_groups_is_below_that_of_all_labellings(jitter: float) -> None:
    rng = np.random.default_rng(0)
    values = np.repeat([0.3, 0.7], 8) + jitter * rng.normal(size=16)
    names = [f"{i:02}" for i in range(16)]
    p, _ = label_test(names, values, np.ones(16), np.arange(16) < 8, draws=10_000, seed=0)
    assert p == pytest.approx(2 / 12870, rel=1e-6)
    smaller, _ = label_test(names, values, np.ones(16), np.arange(16) < 8, draws=100_000, seed=0)
    assert smaller >= 2 / 12870 * (1 - 1e-9)
    uneven, _ = label_test(names[:11], values[:11], np.ones(11), np.arange(11) < 8, draws=2_000, seed=0)
    assert 1 / 165 * (1 - 1e-9) <= uneven < 0.02


@pytest.mark.parametrize("gap", [0.2, 0.1 + 0.2, 0.0])
def test_seeds_and_images_that_all_differ_alike_tell_no_certainty(gap: float) -> None:
    scores = pl.concat([models([0.3 + gap] * 40, [0.3] * 40, seed=s) for s in (0, 1)], how="vertical_relaxed")
    table = compare(scores, metrics=["iou_coverage"], over_seeds=True)
    row = table.row(0, named=True)
    assert row["difference"] == pytest.approx(gap)
    assert (row["ci_low"], row["ci_high"], row["unreliable"]) == (None, None, True)
    assert (row["p_value"], row["verdict"]) == ((None, "unknown") if gap else (1.0, "no difference shown"))
    assert ("1 could not be tested" in sentences(table)[0]) == bool(gap)


def test_counts_over_seeds_are_told_apart_where_a_seed_is_undefined() -> None:
    parts = []
    for seed in (0, 1):
        table = models([0.5 if seed else None] * 40, [0.4] * 40, seed=seed)
        ids = table["sample_id"].unique().sort().to_list()
        gone = {"a": ids[:5], "b": ids[5:10]}  # 30 images that both have
        parts.append(
            table.filter(
                ~pl.any_horizontal(
                    (pl.col("model").cast(pl.String) == m) & pl.col("sample_id").is_in(i) for m, i in gone.items()
                )
            )
        )
    scores = pl.concat(parts, how="vertical_relaxed")
    row = compare(scores, metrics=["iou_coverage"], over_seeds=True, common=True).row(0, named=True)
    assert (row["n"], row["n_undefined"], row["n_unshared"]) == (30, 30, 20)
    assert (row["difference"], row["p_value"], row["verdict"]) == (None, None, "unknown")
