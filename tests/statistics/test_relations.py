"""Relations between columns over models, against SciPy and against formulas written another way."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import explanation_alignment as ea
from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.statistics.relations import RELATION_SCHEMA, relate, relation_sentence

GROUPS = ("cnn", "mixer", "transformer")


def models(n: int = 24, seed: int = 0, *, ties: bool = False) -> pl.DataFrame:
    """Accuracy and IoU that both rise with size, and less with each other."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(3, 1, n)
    accuracy = 0.5 + 0.05 * np.log(size) + rng.normal(0, 0.04, n)
    iou = 0.2 + 0.04 * np.log(size) + rng.normal(0, 0.03, n)
    if ties:
        accuracy, iou = accuracy.round(1), iou.round(1)
    return pl.DataFrame(
        {
            "model": [f"m{i}" for i in range(n)],
            "accuracy": accuracy,
            "iou_coverage": iou,
            "parameters": (size * 1e6).astype(int),
            "depth": rng.integers(10, 100, n),
            "family": [GROUPS[i % 3] for i in range(n)],
        }
    )


def row_of(table: pl.DataFrame, statistic: str = "spearman") -> dict[str, object]:
    return table.row(by_predicate=pl.col("statistic") == statistic, named=True)


@given(seed=st.integers(0, 1000), n=st.integers(5, 40), ties=st.booleans())
@settings(max_examples=25)
def test_coefficients_are_those_of_scipy(seed: int, n: int, ties: bool) -> None:
    table = models(n, seed, ties=ties)
    if table["accuracy"].n_unique() == 1 or table["iou_coverage"].n_unique() == 1:
        return
    found = relate(table, n_resamples=10)
    assert found.schema == RELATION_SCHEMA
    pair = table["accuracy"].to_numpy(), table["iou_coverage"].to_numpy()
    assert row_of(found)["coefficient"] == pytest.approx(stats.spearmanr(*pair).statistic, abs=1e-12)
    assert row_of(found, "pearson")["coefficient"] == pytest.approx(stats.pearsonr(*pair).statistic, abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_a_partial_correlation_is_that_of_the_inverse_correlation_matrix(ties: bool) -> None:
    table = models(ties=ties)
    controls = ["parameters", "depth"]
    ranks = np.array([stats.rankdata(table[c]) for c in ["accuracy", "iou_coverage", *controls]])
    precision = np.linalg.inv(np.corrcoef(ranks))
    expected = -precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1])
    row = row_of(relate(table, controls=controls), "partial spearman")
    assert row["coefficient"] == pytest.approx(expected, abs=1e-10)
    assert row["controls"] == "parameters, depth"
    logarithm = table.with_columns(pl.col("parameters").log())
    assert row_of(relate(logarithm, controls=controls), "partial spearman") == row


def test_a_group_held_fixed_is_the_correlation_within_groups() -> None:
    table = models()
    ranks = {c: stats.rankdata(table[c]) for c in ("accuracy", "iou_coverage")}
    family = table["family"].to_numpy()
    within = {c: r - np.array([r[family == f].mean() for f in family]) for c, r in ranks.items()}
    expected = stats.pearsonr(within["accuracy"], within["iou_coverage"]).statistic
    assert row_of(relate(table, group="family"), "partial spearman")["coefficient"] == pytest.approx(expected)


@pytest.mark.parametrize(("statistic", "function"), [("spearman", stats.spearmanr), ("pearson", stats.pearsonr)])
def test_intervals_are_scipys_for_the_same_draws(statistic: str, function: object) -> None:
    table = models(20)
    row = row_of(relate(table, n_resamples=999, seed=3), statistic)
    theirs = stats.bootstrap(
        (table["accuracy"].to_numpy(), table["iou_coverage"].to_numpy()),
        lambda a, b: function(a, b).statistic,  # type: ignore[operator]
        paired=True,
        vectorized=False,
        n_resamples=999,
        method="BCa",
        rng=np.random.default_rng([3, 20]),
    ).confidence_interval
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_a_resample_without_variation_does_not_spoil_the_interval() -> None:
    table = models(4)  # one resample in 64 repeats one model four times
    row = row_of(relate(table))
    assert -1 <= row["ci_low"] <= row["ci_high"] <= 1  # type: ignore[operator]
    assert row["caution"] == "only 4 models: the interval cannot be trusted"


def test_few_models_get_the_exact_permutation_test() -> None:
    table = models(6, 5, ties=True)
    pair = table["accuracy"].to_numpy(), table["iou_coverage"].to_numpy()
    exact = stats.permutation_test(
        (pair[0],), lambda x: stats.spearmanr(x, pair[1]).statistic, permutation_type="pairings", n_resamples=np.inf
    )
    assert row_of(relate(table))["p_value"] == pytest.approx(exact.pvalue)


def test_permuted_residuals_are_regressed_on_the_controls_again() -> None:
    table = models(6, 4)
    accuracy, iou, size = (stats.rankdata(table[c]) for c in ("accuracy", "iou_coverage", "parameters"))
    design = np.column_stack([np.ones(6), size])
    fitted = design @ np.linalg.lstsq(design, accuracy)[0]

    def partial(outcome: np.ndarray) -> float:
        precision = np.linalg.inv(np.corrcoef([outcome, iou, size]))
        return abs(precision[0, 1]) / np.sqrt(precision[0, 0] * precision[1, 1])

    observed = partial(accuracy)
    drawn = [partial(fitted + (accuracy - fitted)[list(order)]) for order in permutations(range(6))]
    row = row_of(relate(table, controls=["parameters"]), "partial spearman")
    assert row["p_value"] == pytest.approx(np.mean([d >= observed - 1e-9 for d in drawn]))


@pytest.mark.parametrize("n", [6, 20])
def test_a_falling_relation_has_the_p_of_its_mirror_image(n: int) -> None:
    table = models(n, 9)
    mirror = table.with_columns(-pl.col("iou_coverage"))
    for one, other in zip(relate(table).rows(named=True), relate(mirror).rows(named=True), strict=True):
        assert other["coefficient"] == pytest.approx(-one["coefficient"])
        assert other["p_value"] == pytest.approx(one["p_value"])


def test_many_models_get_drawn_permutations_near_the_t_test() -> None:
    table = models(30, 2)
    row = row_of(relate(table, controls=["parameters"], n_resamples=9999), "partial spearman")
    r, freedom = row["coefficient"], 30 - 3
    expected = 2 * stats.t.sf(abs(r) * np.sqrt(freedom / (1 - r**2)), freedom)  # type: ignore[operator, arg-type]
    assert row["p_value"] == pytest.approx(expected, abs=0.02)
    plain = row_of(relate(table, n_resamples=9999))
    assert plain["p_value"] < 0.05  # type: ignore[operator]


def test_chance_alone_is_rejected_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(300):
        z = rng.normal(size=12)
        table = pl.DataFrame({"accuracy": z + rng.normal(size=12), "iou_coverage": z + rng.normal(size=12), "z": z})
        row = row_of(relate(table, controls=["z"], n_resamples=199), "partial spearman")
        rejected += row["p_value"] <= 0.05  # type: ignore[operator]
    assert rejected <= 28  # 15 expected, and three standard deviations more


def test_leave_one_out_names_the_model_that_matters() -> None:
    table = models(12, 4).with_columns(iou_coverage=pl.col("accuracy") + 0.01)
    outlier = table.with_columns(
        iou_coverage=pl.when(pl.col("model") == "m7").then(9.0).otherwise("iou_coverage"),
        accuracy=pl.when(pl.col("model") == "m7").then(0.0).otherwise("accuracy"),
    )
    row = row_of(relate(outlier))
    assert row["influential_model"] == "m7"
    assert row["without_it"] == pytest.approx(1.0)
    without = [
        stats.spearmanr(kept["accuracy"], kept["iou_coverage"]).statistic
        for i in range(12)
        for kept in [outlier.filter(pl.col("model") != f"m{i}")]
    ]
    assert (row["loo_low"], row["loo_high"]) == pytest.approx((min(without), max(without)))


def test_what_cannot_be_said_is_said() -> None:
    constant = row_of(relate(models().with_columns(iou_coverage=0.3)))
    assert (constant["coefficient"], constant["caution"]) == (None, "a column does not vary")
    same = models().with_columns(depth=pl.col("accuracy") * 2)
    assert row_of(relate(same, controls=["depth"]), "partial spearman")["caution"] == (
        "a column does not vary once the others are held fixed"
    )
    crowded = row_of(relate(models(5), controls=["parameters"], group="family"), "partial spearman")
    assert crowded["caution"] == "too few models: 5 with 3 terms held fixed"
    gaps = models(12).with_columns(accuracy=pl.when(pl.col("model") != "m3").then("accuracy"))
    row = row_of(relate(gaps))
    assert (row["n_models"], row["n_dropped"]) == (11, 1)
    mostly = models(12).with_columns(accuracy=pl.when(pl.col("model").is_in(["m3", "m4"])).then("accuracy"))
    assert row_of(relate(mostly))["caution"] == "too few models: 2"


def test_methods_and_regions_are_related_apart() -> None:
    parts = [
        models(12, i).with_columns(method=pl.lit(method), region=pl.lit(region))
        for i, (method, region) in enumerate([("a", "digit"), ("a", "block"), ("b", "digit")])
    ]
    found = relate(pl.concat(parts), region="digit")
    assert found.select("method", "region").unique().height == 2
    first = row_of(found.filter(pl.col("method") == "a"))
    assert first["coefficient"] == row_of(relate(parts[0].drop("method", "region")))["coefficient"]


def test_sentences_say_what_the_numbers_do() -> None:
    [row] = relate(models(24, 1), predictor="parameters").filter(statistic="spearman").rows(named=True)
    told = relation_sentence(row)
    assert told.startswith("Over 24 models, accuracy and parameters rise together (spearman +0.")
    assert f"without {row['influential_model']} it is" in told
    falling = models(24, 1).with_columns(iou_coverage=-pl.col("accuracy"))
    [row] = relate(falling).filter(statistic="spearman").rows(named=True)
    assert "one of accuracy and IoU falls as the other rises" in relation_sentence(row)
    unsure = relation_sentence({**row, "p_value": 0.05})  # an interval away from 0 is not enough
    assert "accuracy and IoU show no clear relation" in unsure
    [row] = relate(models(12, 3), predictor="depth").filter(statistic="spearman").rows(named=True)
    assert "accuracy and depth show no clear relation" in relation_sentence(row)
    [row] = relate(models(5), controls=["depth"], group="family").filter(statistic="partial spearman").rows(named=True)
    assert relation_sentence(row) == (
        "Whether accuracy and IoU go together at equal depth, family is unknown: "
        "too few models: 5 with 3 terms held fixed."
    )


def test_what_is_asked_wrongly() -> None:
    with pytest.raises(UsageError, match=r"at least 4 models.*there are 3"):
        ea.relate(models(3))
    with pytest.raises(UnknownNameError, match="did you mean 'accuracy'"):
        relate(models(), outcome="acuracy")
    with pytest.raises(UsageError, match=r"'family' holds no numbers; words can only be held fixed"):
        relate(models(), controls=["family"])
    with pytest.raises(UsageError, match="one part to play"):
        relate(models(), controls=["accuracy"])
    with pytest.raises(UnknownNameError, match="method of this table"):
        relate(models(), method="gradcam")
    with pytest.raises(UsageError, match="level"):
        relate(models(), level=95)
    with pytest.raises(UsageError, match="n_resamples"):
        relate(models(), n_resamples=0)
