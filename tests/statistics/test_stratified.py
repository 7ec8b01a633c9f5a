"""A class-balanced sample speaks for the whole dataset: its means are unbiased, its intervals hold the true mean."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.stats import t as student

from explanation_alignment.sampling import sample_order
from explanation_alignment.statistics import summarise

KEY = ("m", 0, "d", "predicted")


class Population:
    """Images whose scores depend on their class; the larger a class, the higher."""

    name = "d"

    def __init__(self, sizes: list[int], *, hits: bool = False, undefined: float = 0.0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.sizes = sizes
        self.label = np.repeat(np.arange(len(sizes)), sizes)
        of_class = np.linspace(0.1, 0.8, len(sizes))[np.argsort(np.argsort(sizes, kind="stable"))]
        mean = of_class[self.label]
        self.score = (rng.random(len(mean)) < mean) * 1.0 if hits else rng.beta(4 * mean, 4 * (1 - mean))
        self.score[rng.random(len(mean)) < undefined] = np.nan
        self.correct = rng.random(len(mean)) < mean
        self.metric = "pointing_game" if hits else "iou_coverage"

    def __len__(self) -> int:
        return len(self.label)

    def ids(self) -> list[str]:
        return [f"i{place:05d}" for place in range(len(self))]

    def labels(self) -> list[int]:
        return self.label.tolist()

    def rows(self, places: np.ndarray) -> pl.DataFrame:
        ids = np.array(self.ids())[places]
        score = pl.Series(self.score[places]).fill_nan(None)
        table = pl.DataFrame({"sample_id": ids, "label": self.label[places], "correct": self.correct[places]})
        return table.with_columns(
            score.alias(self.metric),
            model=pl.lit("m"),
            seed=0,
            dataset=pl.lit("d"),
            target=pl.lit("predicted"),
            method=pl.lit("gradcam"),
            binarization=pl.lit("std:1"),
            region=pl.lit("object"),
            status=pl.when(score.is_null()).then(pl.lit("no_annotation")).otherwise(pl.lit("ok")),
            annotation_area=pl.lit(4),
            salient_area=pl.lit(4),
            map_height=pl.lit(4),
            map_width=pl.lit(4),
        )

    def sample(self, size: int, seed: int) -> pl.DataFrame:
        return self.rows(np.array(sample_order(self, self.ids(), size, seed)))  # type: ignore[arg-type]

    @property
    def populations(self) -> dict[tuple[object, ...], list[int]]:
        return {KEY: [*self.sizes, 0]}


UNEQUAL = [10, 20, 35, 60, 90, 150, 200, 260, 330, 380]


@pytest.mark.parametrize(
    ("population", "size"),
    [
        pytest.param(Population([60] * 10), 60, id="equal classes"),
        pytest.param(Population(UNEQUAL), 80, id="unequal classes"),
        pytest.param(Population(UNEQUAL, undefined=0.2), 100, id="some undefined"),
        pytest.param(Population(UNEQUAL, hits=True), 120, id="hits"),
        pytest.param(Population([30] * 40), 40, id="one of each class"),
        pytest.param(Population(UNEQUAL * 4), 25, id="fewer than classes"),
        pytest.param(Population([60] * 10), 400, id="most of them"),
    ],
)
def test_means_are_unbiased_and_intervals_hold_the_mean_of_all(population: Population, size: int) -> None:
    truth, accuracy = np.nanmean(population.score), population.correct.mean()
    draws = 100
    rows = [summarise(population.sample(size, seed), populations=population.populations) for seed in range(draws)]
    table = pl.concat(rows)
    bias, spread = table["ea"].mean() - truth, table["ea"].std() / np.sqrt(draws)
    assert abs(bias) < 3.5 * spread
    assert abs(table["accuracy"].mean() - accuracy) < 3.5 * table["accuracy"].std() / np.sqrt(draws)
    held = ((table["ci_low"] <= truth) & (table["ci_high"] >= truth)).mean()
    assert held >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / draws)  # 88 of 100 draws at the very least
    width = (table["ci_high"] - table["ci_low"]).mean()
    assert width < 2 * 2 * 1.96 * table["ea"].std()  # and is not too wide to be of use


def test_without_weights_unequal_classes_are_missed() -> None:
    """What the weights are for: the check above can fail."""
    population = Population(UNEQUAL)
    truth = population.score.mean()
    plain = pl.concat([summarise(population.sample(80, seed)) for seed in range(30)])
    assert ((plain["ci_low"] <= truth) & (plain["ci_high"] >= truth)).mean() < 0.2


def test_the_formula_by_hand() -> None:
    """Two classes: the stratified mean, its variance and Student's interval as they stand in a textbook."""
    population = Population([40, 160], seed=3)
    rows = population.sample(20, 0).rename({"iou_coverage": "score_without_bounds"})
    [row] = summarise(rows, populations=population.populations, level=0.9).to_dicts()
    groups = [rows.filter(label=label)["score_without_bounds"].to_numpy() for label in (0, 1)]
    shares = [0.2, 0.8]
    mean = sum(share * group.mean() for share, group in zip(shares, groups, strict=True))
    variance = sum(
        share**2 * (1 - 10 / size) * group.var(ddof=1) / 10
        for share, size, group in zip(shares, (40, 160), groups, strict=True)
    )
    half = student.ppf(0.95, 18) * np.sqrt(variance)
    assert row["ea"] == pytest.approx(mean)
    assert (row["ci_low"], row["ci_high"]) == (pytest.approx(mean - half), pytest.approx(mean + half))
    weights = np.where(rows["label"] == 0, 4.0, 16.0)
    assert row["accuracy"] == pytest.approx(np.average(rows["correct"].to_numpy(), weights=weights))


def test_an_image_that_could_not_be_read_is_as_if_not_drawn() -> None:
    population = Population(UNEQUAL)
    rows = population.sample(80, 0)
    lost = rows["sample_id"][::9].to_list()
    broken = rows.with_columns(
        pl.when(pl.col("sample_id").is_in(lost)).then(None).otherwise(pl.col(name)).alias(name)
        for name in ("label", "correct", "iou_coverage", "annotation_area", "salient_area")
    ).with_columns(status=pl.when(pl.col("sample_id").is_in(lost)).then(pl.lit("error")).otherwise("status"))
    one = summarise(broken, populations=population.populations)
    other = summarise(rows.filter(~pl.col("sample_id").is_in(lost)), populations=population.populations)
    columns = ["ea", "ci_low", "ci_high", "accuracy", "n"]
    assert_frame_equal(one.select(columns), other.select(columns))
    assert one["n_undefined"].to_list() == [len(lost)]


def test_groups_are_parts_of_the_same_sample() -> None:
    """A class is a group whose population is known: its interval is that of its own images."""
    population = Population(UNEQUAL)
    rows = population.sample(80, 0)
    table = summarise(rows, by=["label"], populations=population.populations).filter(pl.col("group") != "all")
    for row in table.iter_rows(named=True):
        values = rows.filter(label=int(row["group"].partition("=")[2]))["iou_coverage"]
        assert row["ea"] == pytest.approx(values.mean())
        assert row["n"] == len(values)
    drawn_whole = table.filter(group="label=0")  # eight of ten: nearly all is known
    assert drawn_whole["ci_high"].item() - drawn_whole["ci_low"].item() < 0.15


def test_more_images_buy_narrower_intervals() -> None:
    population = Population([60] * 10)
    widths = [
        summarise(population.sample(size, 0), populations=population.populations).select(
            pl.col("ci_high") - pl.col("ci_low")
        )
        for size in (20, 60, 200, 500, 590)
    ]
    values = [width.item() for width in widths]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] / 10


def test_rows_of_no_sample_are_as_they_were() -> None:
    population = Population(UNEQUAL)
    rows = population.rows(np.arange(len(population)))
    other = population.sample(80, 0).with_columns(model=pl.lit("sampled"))
    populations = {("sampled", *KEY[1:]): [*UNEQUAL, 0]}
    both = summarise(pl.concat([rows, other]), by=["label"], populations=populations)
    assert_frame_equal(both.filter(model="m"), summarise(rows, by=["label"]), check_exact=True)
    assert_frame_equal(
        both.filter(model="sampled"), summarise(other, by=["label"], populations=populations), check_exact=True
    )
    assert_frame_equal(summarise(rows, populations={}), summarise(rows), check_exact=True)


@pytest.mark.parametrize("option", [{"cluster": "label"}, {"pool_seeds": True}])
def test_clusters_and_pooled_seeds_are_about_other_images(option: dict[str, object]) -> None:
    population = Population(UNEQUAL)
    rows = pl.concat([population.sample(80, 0), population.sample(80, 1).with_columns(seed=1)])
    populations = {(*KEY[:1], seed, *KEY[2:]): [*UNEQUAL, 0] for seed in (0, 1)}
    assert_frame_equal(
        summarise(rows, populations=populations, **option),  # type: ignore[arg-type]
        summarise(rows, **option),  # type: ignore[arg-type]
        check_exact=True,
    )


@pytest.mark.parametrize("size", [1, 2, 3])
def test_tiny_samples_have_wide_intervals(size: int) -> None:
    population = Population([5, 5, 5])
    [row] = summarise(population.sample(size, 0), populations=population.populations).to_dicts()
    assert 0 <= row["ci_low"] <= row["ea"] <= row["ci_high"] <= 1
    assert row["ci_high"] - row["ci_low"] > 0.4
    assert row["unreliable"]
