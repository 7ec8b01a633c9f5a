"""The estimator against scipy's bootstrap and Wilson interval, solved equations, plain loops and its coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest, bootstrap
from scipy.stats import t as student

from explanation_alignment.errors import UsageError
from explanation_alignment.statistics import MeanEstimator, Scale, resample_weights, wilson_interval

SHARE = Scale(0, 1)
HIT = Scale(0, 1, binary=True)


def ids_of(n: int) -> list[str]:
    return [f"{i:05d}" for i in range(n)]


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_wilson_is_scipys(level: float) -> None:
    for k, n in [(0, 5), (1, 5), (5, 5), (17, 400), (399, 400)]:
        low, high = wilson_interval(k, n, level)
        reference = binomtest(k, n).proportion_ci(level, method="wilson")
        assert (low, high) == (pytest.approx(reference.low, abs=1e-12), pytest.approx(reference.high))


def test_wilson_has_no_width_zero_and_no_answer_without_trials() -> None:
    low, high = wilson_interval([0, 40, 0], [40, 40, 0])
    assert low[0] == 0
    assert high[1] == 1
    assert 0.05 < high[0] < 0.1
    assert np.isnan([low[2], high[2]]).all()
    with pytest.raises(UsageError, match="level"):
        wilson_interval(1, 2, level=95)


def test_weights_are_draws_with_replacement_of_every_image() -> None:
    weights = np.concatenate([w.copy() for w in resample_weights(ids_of(50), n_resamples=4000, seed=3)])
    assert weights.shape == (4000, 50)
    assert (weights.sum(axis=1) == 50).all()
    assert weights.mean() == 1
    assert weights.var() == pytest.approx(1 - 1 / 50, rel=0.02)  # binomial(50, 1/50)


def test_weights_depend_on_seed_and_ids_alone() -> None:
    def drawn(ids: list[str], seed: int) -> np.ndarray:
        return np.concatenate([w.copy() for w in resample_weights(ids, n_resamples=20, seed=seed)])

    ids = ids_of(30)
    assert (drawn(ids, 0) == drawn(ids[::-1], 0)).all()
    assert (drawn(ids, 0) != drawn(ids, 1)).any()
    assert (drawn(ids, 0) != drawn([*ids[:-1], "other"], 0)).any()


def test_a_long_list_of_images_comes_in_blocks() -> None:
    blocks = [w.shape for w in resample_weights(ids_of(500_000), n_resamples=9, seed=0)]
    assert len(blocks) > 1
    assert sum(rows for rows, _ in blocks) == 9


def single(values: NDArray[np.float64], scale: Scale, **settings: float) -> tuple[float | None, float | None]:
    """The interval of one value an image."""
    column = values[:, None]
    estimator = MeanEstimator(**settings)  # type: ignore[arg-type]
    [estimate] = estimator.estimate(ids_of(len(values)), column, np.ones_like(column), [len(values)], scales=[scale])
    assert estimate.mean == pytest.approx(values.mean())
    assert (estimate.n, estimate.n_undefined) == (len(values), 0)
    return estimate.low, estimate.high


def test_a_bounded_interval_solves_its_score_equation() -> None:
    values = np.random.default_rng(1).beta(6, 6, 60) * np.r_[np.ones(20), np.zeros(40)]  # leans less than hits do
    mean, n = values.mean(), len(values)
    effective = n * mean * (1 - mean) / values.var(ddof=1)
    quantile = student.ppf(0.95, n - 1)

    def excess(share: float) -> float:
        return (mean - share) ** 2 - quantile**2 * share * (1 - share) / effective

    expected = brentq(excess, 0, mean), brentq(excess, mean, 1)
    assert single(values, SHARE, level=0.9) == pytest.approx(expected)


@pytest.mark.parametrize("mirrored", [False, True])
def test_scores_that_lean_further_than_hits_move_the_bound_on_that_side_out(mirrored: bool) -> None:
    values = np.minimum(np.random.default_rng(5).lognormal(-4, 1.5, 400), 1)
    values = 1 - values if mirrored else values
    mean, n = values.mean(), len(values)
    error = values.std(ddof=1) / np.sqrt(n)
    effective = mean * (1 - mean) / error**2
    skewness = ((values - mean) ** 3).sum() / n**3 / error**3
    beyond = skewness - (1 - 2 * mean) / np.sqrt(effective * mean * (1 - mean))
    moved = beyond * (2 * 1.959964**2 + 1) / 6 * error
    assert (moved < 0) == mirrored
    assert abs(moved) > 0.1 * error  # it matters here
    low, high = effective_wilson(mean, effective, n - 1)
    expected = (low + moved, high) if mirrored else (low, high + moved)
    assert single(values, SHARE) == pytest.approx(expected, rel=1e-6)


def test_a_bounded_interval_moves_with_its_scale() -> None:
    values = np.random.default_rng(1).beta(1, 6, 60)
    low, high = single(values, SHARE)
    assert single(2 * values - 1, Scale(-1, 1)) == pytest.approx((2 * low - 1, 2 * high - 1))


def test_scores_that_do_not_vary_still_have_an_interval() -> None:
    for value in (0.0, 1.0):  # at the ends it is Wilson's
        assert single(np.full(40, value), SHARE) == pytest.approx(
            tuple(float(v) for v in effective_wilson(value, 40, 39))
        )
    low, high = single(np.array([0.5]), SHARE)
    assert low < 0.1
    assert high > 0.9


def effective_wilson(share: float, n: float, degrees: int) -> tuple[float, float]:
    z2 = student.ppf(0.975, degrees) ** 2
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n)))
    return (share + z2 / (2 * n) - half) / (1 + z2 / n), (share + z2 / (2 * n) + half) / (1 + z2 / n)


@pytest.mark.parametrize("n", [20, 50, 1000])
@pytest.mark.parametrize("zeros", [0.0, 0.8, 0.95])
def test_bounded_intervals_hold_the_true_mean_as_often_as_they_say(n: int, zeros: float) -> None:
    rng = np.random.default_rng(3)
    samples = 1200
    values = rng.beta(2, 5, (n, samples)) * (rng.random((n, samples)) >= zeros)
    estimates = MeanEstimator().estimate(
        ids_of(n), values, np.ones_like(values), [n] * samples, scales=[SHARE] * samples
    )
    true = 2 / 7 * (1 - zeros)
    held = np.mean([e.low <= true <= e.high for e in estimates])
    assert 0.925 < held < 0.975  # three standard errors of 1,200 samples are 1.9 points


def test_clusters_widen_the_interval_as_their_images_vary() -> None:
    rng = np.random.default_rng(3)
    n, samples, per_image = 60, 800, 4
    level = rng.beta(1, 4, (n, samples))
    sums = sum(rng.beta(20 * level + 0.01, 20 * (1 - level) + 0.01) for _ in range(per_image))
    counts = np.full((n, samples), float(per_image))
    rows = [n * per_image] * samples
    estimates = MeanEstimator().estimate(ids_of(n), sums, counts, rows, scales=[SHARE] * samples)
    true = 0.2 * 20 / 20.02 + 0.01 / 20.02
    assert 0.92 < np.mean([e.low <= true <= e.high for e in estimates]) < 0.975


@pytest.mark.parametrize("draw", ["normal", "lognormal"])
def test_an_unbounded_interval_is_that_of_scipys_bootstrap(draw: str) -> None:
    values = getattr(np.random.default_rng(1), draw)(size=80)
    low, high = single(values, Scale(), n_resamples=20_000)
    rng = np.random.default_rng(2)
    reference = bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=rng).confidence_interval
    width = reference.high - reference.low
    assert low == pytest.approx(reference.low, abs=0.03 * width)
    assert high == pytest.approx(reference.high, abs=0.03 * width)


def test_a_bootstrap_of_too_little() -> None:
    assert single(np.array([0.3]), Scale()) == (None, None)
    assert single(np.full(9, 0.3), Scale()) == pytest.approx((0.3, 0.3))


def test_replicates_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    n = 12
    values = np.where(rng.random((n, 3)) < 0.3, np.nan, rng.random((n, 3)))
    values[:, 2] = rng.random(n)  # one column is defined everywhere
    counts = (~np.isnan(values)).astype(float)
    estimator = MeanEstimator(n_resamples=200, seed=5)
    replicates = estimator.replicates(ids_of(n), np.nan_to_num(values), counts)
    row = 0
    for weights in resample_weights(ids_of(n), n_resamples=200, seed=5):
        for weight in weights.astype(int):
            drawn = np.repeat(values, weight, axis=0)
            for column in range(3):
                kept = drawn[:, column][~np.isnan(drawn[:, column])]
                assert replicates[row, column] == pytest.approx(kept.mean() if kept.size else np.nan, nan_ok=True)
            row += 1
    assert row == 200


def test_an_image_is_drawn_with_all_its_rows() -> None:
    # two rows an image that hold the same value: as uncertain as one row an image, not as twice as many images
    values = np.random.default_rng(0).random(200)
    estimator = MeanEstimator()
    for scale in (SHARE, Scale()):
        [once] = estimator.estimate(ids_of(200), values[:, None], np.ones((200, 1)), [200], scales=[scale])
        [twice] = estimator.estimate(ids_of(200), 2 * values[:, None], np.full((200, 1), 2.0), [400], scales=[scale])
        assert (twice.low, twice.high) == pytest.approx((once.low, once.high))
        assert twice.n == 400


def test_columns_share_their_resamples() -> None:
    values = np.random.default_rng(0).random(100)
    both = np.column_stack([values, values + 0.25])
    replicates = MeanEstimator(n_resamples=50).replicates(ids_of(100), both, np.ones_like(both))
    np.testing.assert_allclose(replicates[:, 1] - replicates[:, 0], 0.25)


@pytest.mark.parametrize("scale", [SHARE, Scale()])
def test_images_without_a_defined_row_do_not_count(scale: Scale) -> None:
    values = np.random.default_rng(0).random(50)
    counts = np.concatenate([np.ones(40), np.zeros(10)])[:, None]
    sums = values[:, None] * counts
    estimator = MeanEstimator()
    [some] = estimator.estimate(ids_of(50), sums, counts, [50], scales=[scale])
    [all_] = estimator.estimate(ids_of(40), sums[:40], counts[:40], [40], scales=[scale])
    assert (some.n, some.n_undefined) == (40, 10)
    assert (some.low, some.high) == pytest.approx((all_.low, all_.high), rel=0.03)


def test_kinds_of_columns() -> None:
    sums = np.array([[1.0, 0.0, 0.5], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    counts = np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    hit, empty, one = MeanEstimator().estimate(ids_of(3), sums, counts, [3, 3, 4], scales=[HIT, SHARE, SHARE])
    assert (hit.method, hit.mean, hit.n_undefined, hit.unreliable) == ("wilson", pytest.approx(2 / 3), 0, True)
    assert (hit.low, hit.high) == tuple(pytest.approx(float(v)) for v in wilson_interval(2, 3))
    assert (empty.mean, empty.low, empty.high, empty.n, empty.n_undefined) == (None, None, None, 0, 3)
    assert (one.method, one.mean, one.n, one.n_undefined, one.unreliable) == ("effective wilson", 0.5, 1, 3, True)


def reliable(values: NDArray[np.float64], scale: Scale) -> bool:
    column = values[:, None]
    [estimate] = MeanEstimator(n_resamples=20).estimate(
        ids_of(len(values)), column, np.ones_like(column), [len(values)], scales=[scale]
    )
    return not estimate.unreliable


@pytest.mark.parametrize("scale", [SHARE, HIT, Scale()])
def test_fewer_than_thirty_values_beside_zeros_are_unreliable(scale: Scale) -> None:
    for few in (29, 30):
        values = np.zeros(400)
        values[:few] = 1.0 if scale.binary else 0.3
        assert reliable(values, scale) == (few == 30)


def test_few_misses_are_unreliable() -> None:
    for few in (9, 10):
        assert reliable(np.r_[np.zeros(few), np.ones(400)], HIT) == (few == 10)


def test_a_few_large_values_over_many_tiny_ones_are_unreliable() -> None:
    rng = np.random.default_rng(0)
    tiny = rng.uniform(0.002, 0.008, 490)
    assert reliable(tiny, SHARE)
    assert not reliable(np.r_[tiny, rng.uniform(0.6, 0.9, 10)], SHARE)
    assert not reliable(1 - np.r_[tiny, rng.uniform(0.6, 0.9, 10)], SHARE)  # the same at the other end of the scale
    # three far values make up the variance, while the standard error is small beside the mean
    assert not reliable(np.r_[rng.uniform(0.10, 0.12, 490), 0.9, 0.9, 0.9], SHARE)
    assert not reliable(np.r_[rng.normal(5, 1, 490), 90.0], Scale())
    assert reliable(rng.normal(5, 1, 490), Scale())


def test_few_units_are_unreliable_however_many_rows_they_hold() -> None:
    rng = np.random.default_rng(0)
    for units in (19, 20):
        counts = np.full((units, 1), 50.0)
        sums = 50 * rng.uniform(0.4, 0.5, (units, 1))
        for nonzero in (29, 30):
            [estimate] = MeanEstimator().estimate([], sums, counts, [50 * units], scales=[SHARE], nonzero=[nonzero])
            assert estimate.unreliable == (units < 20 or nonzero < 30)


def two_way_parts(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Variance of the mean by images, by seeds and by what is left: mean squares of the two-way table, divided."""
    n, seeds = values.shape
    images, runs, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    left = values - images[:, None] - runs + mean
    return (
        images.var(ddof=1) / n,
        runs.var(ddof=1) / seeds,
        (left**2).sum() / ((n - 1) * (seeds - 1)) / (n * seeds),
    )


@pytest.mark.parametrize("between", [0.0, 0.1])
@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_seeds_add_what_the_two_way_table_says(seeds: int, between: float) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(5, 1, (80, 1)) + rng.normal(0, between, (1, seeds)) + rng.normal(0, 0.5, (80, seeds))
    crossed = values[:, :, None]
    [estimate] = MeanEstimator(level=0.9).estimate_crossed(crossed, np.ones_like(crossed), [80 * seeds])
    images, runs, left = two_way_parts(values)
    added = max(runs - left, 0)
    half = np.sqrt(student.ppf(0.95, 79) ** 2 * images + student.ppf(0.95, seeds - 1) ** 2 * added)
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert (estimate.n, estimate.method, estimate.unreliable) == (80 * seeds, "student", seeds == 2)


@pytest.mark.parametrize("scale", [SHARE, HIT])
def test_one_seed_is_the_plain_interval(scale: Scale) -> None:
    rng = np.random.default_rng(0)
    values = (rng.random((60, 3)) < 0.4).astype(float) if scale.binary else rng.beta(1, 5, (60, 3))
    counts = (rng.random((60, 3)) < 0.9).astype(float)
    values *= counts
    plain = MeanEstimator().estimate([], values, counts, [60] * 3, scales=[scale] * 3)
    assert MeanEstimator().estimate_crossed(values[:, None], counts[:, None], [60] * 3, scales=[scale] * 3) == plain


@pytest.mark.parametrize("between", [0.0, 0.02, 0.08])
def test_intervals_over_three_seeds_hold_the_true_mean(between: float) -> None:
    rng = np.random.default_rng(4)
    n, seeds, samples = 60, 3, 800
    values = 0.4 + rng.normal(0, 0.08, (n, 1, samples)) + rng.normal(0, 0.06, (n, seeds, samples))
    values = np.clip(values + rng.normal(0, between, (1, seeds, samples)), 0, 1)
    estimates = MeanEstimator().estimate_crossed(
        values, np.ones_like(values), [n * seeds] * samples, scales=[SHARE] * samples
    )
    held = np.mean([e.low <= 0.4 <= e.high for e in estimates])
    assert 0.925 < held < 0.985  # a little too often where seeds hardly differ


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_bounded_interval_holds_its_mean_and_stays_on_its_scale(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 40))
    values = np.array(data.draw(st.lists(st.floats(0, 1), min_size=n, max_size=n)))
    low, high = single(values, SHARE, level=data.draw(st.sampled_from([0.5, 0.9, 0.99])))
    assert 0 <= low <= values.mean() + 1e-12
    assert values.mean() - 1e-12 <= high <= 1


@pytest.mark.parametrize("setting", [{"level": 0}, {"level": 1.5}, {"n_resamples": 0}, {"seed": -1}])
def test_settings_that_mean_nothing_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        MeanEstimator(**setting)  # type: ignore[arg-type]


def test_scores_that_do_not_vary_leave_room_for_what_was_not_seen() -> None:
    """Of n equal scores at most z^2 / (n + z^2) can have been others, which may lie at either end."""
    ids = [f"s{i}" for i in range(40)]
    for value, scale in ((0.0, Scale(-1, 1)), (0.3, Scale(0, 1)), (0.0, Scale(0, 1))):
        [estimate] = MeanEstimator().estimate(ids, np.full((40, 1), value), np.ones((40, 1)), [40], scales=[scale])
        quantile = student.ppf(0.975, 39)
        unseen = quantile**2 / (40 + quantile**2)
        assert estimate.low == pytest.approx(value - (value - scale.low) * unseen)
        assert estimate.high == pytest.approx(value + (scale.high - value) * unseen)
