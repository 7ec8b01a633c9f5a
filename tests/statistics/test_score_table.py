"""Short cuts in reading rows give what the long way gives."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from explanation_alignment.statistics.summary import summarise
from explanation_alignment.statistics.tables import CELL, ScoreTable, cells_of, coded
from statistics_tables import random_scores

WORDS = st.lists(st.sampled_from(["a", "b", "ab", "B", "ä", "10", "9", ""]), max_size=12)


@given(words=WORDS)
def test_codes_are_places_among_the_sorted_distinct_words(words: list[str]) -> None:
    names, codes = coded(pl.Series(words, dtype=pl.String))
    assert names.to_list() == sorted(set(words), key=lambda word: word.encode())
    assert [names[int(code)] for code in codes] == words


@given(
    words=st.lists(st.sampled_from("abcdef"), unique=True, min_size=1).map(sorted),
    turns=st.integers(1, 4),
    cut=st.integers(0, 5),
)
def test_codes_of_images_that_come_in_turns(words: list[str], turns: int, cut: int) -> None:
    rows = (words * turns)[: max(1, len(words) * turns - cut)]
    names, codes = coded(pl.Series(rows))
    assert [names[int(code)] for code in codes] == rows
    assert names.to_list() == sorted(set(rows))


@given(
    rows=st.lists(st.tuples(st.sampled_from(["m", "n"]), st.sampled_from([None, 1, 2]), st.just("same")), max_size=9)
)
def test_cells_are_the_distinct_keys_sorted(rows: list[tuple[str, int | None, str]]) -> None:
    table = pl.DataFrame(rows, schema={"model": pl.String, "seed": pl.Int64, "dataset": pl.String}, orient="row")
    cells, cell = cells_of(table, ["dataset", "seed", "model"])
    assert cells.columns == ["dataset", "seed", "model"]
    expected = sorted(set(rows), key=lambda row: (row[1] is not None, row[1] or 0, row[0]))
    assert [(row["model"], row["seed"], row["dataset"]) for row in cells.iter_rows(named=True)] == expected
    assert [expected[int(place)] for place in cell] == rows


def test_rows_are_sorted_by_cell_and_image_whatever_their_order() -> None:
    scores = random_scores(seeds=(0, 1))
    long = scores.with_columns(pl.col(pl.Categorical).cast(pl.String)).sort(*CELL, "sample_id")
    orders = [scores, scores.reverse(), scores.sort("sample_id"), scores.sample(fraction=1, shuffle=True, seed=1)]
    for order in orders:
        found = ScoreTable(order).rows
        assert found.select(*CELL, "sample_id").equals(long.select(*CELL, "sample_id"))
    first = summarise(scores, by=["correct"])
    assert all(summarise(order, by=["correct"]).equals(first) for order in orders)


def test_accuracy_counts_each_image_once_in_its_group_and_with_pooled_seeds() -> None:
    scores = random_scores(seeds=(0, 1)).with_columns(attr_half=pl.col("sample_id").hash() % 2 == 0)
    images = scores.unique(["model", "seed", "dataset", "sample_id"])
    for pooled in (False, True):
        keys = ["model", "dataset", *([] if pooled else ["seed"])]
        expected = {
            (*(row[name] for name in keys), f"attr_half={str(row['attr_half']).lower()}"): row["correct"]
            for row in images.group_by(*keys, "attr_half").agg(pl.col("correct").mean()).iter_rows(named=True)
        }
        found = summarise(scores, by=["half"], pool_seeds=pooled).filter(pl.col("group") != "all")
        assert found.height
        for row in found.iter_rows(named=True):
            np.testing.assert_allclose(row["accuracy"], expected[(*(row[name] for name in keys), row["group"])])
