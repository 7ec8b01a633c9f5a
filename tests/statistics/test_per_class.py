"""Means in each class and over the classes: denominators, classes without trials, names, and what is refused."""

from __future__ import annotations

import doctest

import numpy as np
import polars as pl
import pytest

from explanation_alignment.errors import RunError, UnknownNameError, UsageError
from explanation_alignment.statistics import per_class
from explanation_alignment.statistics.per_class import class_means
from statistics_tables import random_scores, rows


def three_classes() -> pl.DataFrame:
    """Class 0: a hit and a miss; class 1: one hit, one undefined; class 2: undefined only."""
    return rows(
        {"label": 0, "pointing_game": 1.0},
        {"label": 0, "pointing_game": 0.0},
        {"label": 1, "pointing_game": 1.0},
        {"label": 1, "pointing_game": None, "status": "no_annotation"},
        {"label": 2, "pointing_game": float("nan"), "status": "flat_map"},
    )


def test_every_class_weighs_the_same() -> None:
    found = class_means(three_classes(), metric="pointing_game", classes=4)
    assert found.per_class.select("class", "mean", "n", "n_undefined").rows() == [
        ("0", 0.5, 2, 0),
        ("1", 1.0, 1, 1),
        ("2", None, 0, 1),
        ("3", None, 0, 0),
    ]
    shown = ("metric", "mean", "classes", "classes_without_trials", "n", "n_undefined")
    assert found.over_classes.select(shown).rows() == [("pointing_game", 1.5 / 4, 4, 2, 3, 2)]


def test_classes_without_trials_can_be_left_out() -> None:
    found = class_means(three_classes(), metric="pointing_game", classes=4, without_trials="leave_out")
    shown = ("mean", "classes", "classes_without_trials")
    assert found.over_classes.select(shown).rows() == [(0.75, 2, 2)]
    nothing = class_means(
        three_classes().filter(pl.col("label") == 2), metric="pointing_game", without_trials="leave_out"
    )
    assert nothing.over_classes.select(shown).rows() == [(None, 0, 1)]


def test_by_default_the_classes_that_occur() -> None:
    found = class_means(three_classes(), metric="pointing_game")
    assert found.per_class["class"].to_list() == ["0", "1", "2"]
    assert found.over_classes["mean"].item() == 0.5


def test_names_stand_in_the_order_of_the_labels() -> None:
    found = class_means(three_classes(), metric="pointing_game", classes=["zebra", "ant", "cat"])
    assert found.per_class.select("class", "n").rows() == [("zebra", 2), ("ant", 1), ("cat", 0)]


def test_words_name_classes_too() -> None:
    table = rows(
        {"sample_id": "a", "region": "dog", "pointing_game": 1.0},
        {"sample_id": "a", "region": "cat", "pointing_game": 0.0},
        {"sample_id": "b", "region": "cat", "pointing_game": 1.0},
    )
    found = class_means(table, metric="pointing_game", by="region", classes=["dog", "cat", "bird"])
    assert "region" not in found.per_class.columns
    assert found.per_class.select("class", "mean", "n").rows() == [("dog", 1.0, 1), ("cat", 0.5, 2), ("bird", None, 0)]
    assert found.over_classes.select("mean", "classes").row(0) == (0.5, 3)


def test_cells_are_kept_apart_and_equal_numpy() -> None:
    scores = random_scores(60, seeds=(0, 1)).with_columns(label=pl.int_range(pl.len()) % 5)
    for metric in ("iou_coverage", "pointing_game"):
        found = class_means(scores, metric=metric, classes=6)
        assert len(found.over_classes) == 8
        assert len(found.per_class) == 48
        for row in found.over_classes.iter_rows(named=True):
            cell = scores.filter(*(pl.col(name) == row[name] for name in ("model", "seed", "region")))
            values, labels = cell[metric].to_numpy().astype(float), cell["label"].to_numpy()
            means = [np.nanmean(values[labels == label]) for label in range(5)] + [0.0]
            assert row["mean"] == pytest.approx(np.mean(means), rel=1e-6)
            assert row["n"] == np.isfinite(values).sum()
            assert row["n_undefined"] == np.isnan(values).sum()


def test_order_of_the_rows_does_not_matter() -> None:
    scores = random_scores(60).with_columns(label=pl.int_range(pl.len()) % 5)
    first = class_means(scores, metric="pointing_game")
    second = class_means(scores.sample(fraction=1.0, shuffle=True, seed=3), metric="pointing_game")
    for one, other in zip(first, second, strict=True):
        assert one.equals(other)


def test_a_missing_label_without_a_score_is_no_class() -> None:
    table = pl.concat(
        [three_classes(), rows({"label": None, "pointing_game": None, "status": "error"})], how="diagonal"
    )
    assert class_means(table, metric="pointing_game").per_class["class"].to_list() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"metric": "pointing_gme"}, UnknownNameError, "did you mean 'pointing_game'"),
        ({"metric": "roc_auc"}, UnknownNameError, "unknown metric of these scores 'roc_auc'"),
        ({"by": "colour"}, UnknownNameError, "unknown group 'colour'"),
        ({"classes": 2}, UsageError, "label 2 occurs, but the 2 classes given do not have it"),
        ({"classes": ["a", "b", "a"]}, UsageError, "class 'a' is named twice"),
        ({"classes": 0}, UsageError, "classes is 0; expected how many"),
        ({"classes": "abc"}, UsageError, "classes is 'abc'; expected how many"),
        ({"classes": 3, "by": "region"}, UsageError, "region holds words, such as 'object'; give their names"),
        ({"classes": ["dog"], "by": "region"}, UsageError, "region 'object' occurs"),
        ({"without_trials": "skip"}, UsageError, "without_trials is 'skip'; expected 'zero' or 'leave_out'"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        class_means(three_classes(), **{"metric": "pointing_game", **arguments})


def test_a_score_without_a_class_is_refused() -> None:
    table = rows({"label": None, "pointing_game": 1.0}, {"label": 1, "pointing_game": 1.0})
    with pytest.raises(UsageError, match="1 scored rows have no label, such as sample 's0'"):
        class_means(table, metric="pointing_game")


def test_what_is_no_run_is_refused() -> None:
    with pytest.raises(RunError, match="column 'model' is missing"):
        class_means(pl.DataFrame({"label": [1], "pointing_game": [1.0]}), metric="pointing_game")


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(per_class).failed == 0
