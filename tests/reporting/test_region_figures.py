"""What the figures of a region ranking show, read back from their artists."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from report_tables import examples, png
from test_figures import inside, texts

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.reporting.figures import (
    figure_bytes,
    ranking_bars,
    rankings_side_by_side,
    region_cutouts,
)
from explanation_alignment.reporting.figures.region_cutouts import image_with_most_regions
from explanation_alignment.reporting.text import TOY_WARNING
from explanation_alignment.statistics.region_ranking import REGION_RANKING_SCHEMA

#: statistic -> the regions from first to last.
ORDERS = {
    "excess": ("mouth", "hair", "skin"),
    "lift": ("mouth", "skin", "hair"),
    "iou": ("skin", "hair", "mouth"),
    "hits": ("hair", "skin", "mouth"),
}


def ranking(*, seeds: tuple[int, ...] = (0,), models: tuple[str, ...] = ("unbiased", "biased")) -> pl.DataFrame:
    """A ranking whose every value is different."""
    records: list[dict[str, Any]] = []
    for model in models:
        for seed in seeds:
            for dataset in ("d-unbiased", "d-biased"):
                for statistic, regions in ORDERS.items():
                    for rank, region in enumerate(regions, 1):
                        value = 0.5 - 0.1 * rank + 0.0007 * len(records)
                        records.append(
                            {
                                "model": model,
                                "seed": seed,
                                "dataset": dataset,
                                "method": "gradcam",
                                "binarization": "threshold:0.5",
                                "group": "all",
                                "statistic": statistic,
                                "region": region,
                                "rank": rank,
                                "rank_low": max(1, rank - 1),
                                "rank_high": rank,
                                "first": 0.75 if rank == 1 else 0.125,
                                "value": value,
                                "low": value - 0.011,
                                "high": value + 0.022,
                                "chance": {"excess": 0.0, "lift": 1.0}.get(statistic, value / 4),
                                "n": 100 + rank,
                                "n_undefined": 3,
                                "unreliable": False,
                            }
                        )
    return pl.DataFrame(records, schema=REGION_RANKING_SCHEMA)


def widths(ax: Axes) -> list[float]:
    return [patch.get_width() for patch in ax.patches if isinstance(patch, Rectangle)]


def test_bars_are_the_ranking_from_first_to_last_with_what_ranks_are_worth() -> None:
    table = ranking()
    figure = ranking_bars(table, dataset="d-unbiased", evidence=["mouth"])
    rows = table.filter(pl.col("dataset") == "d-unbiased", pl.col("statistic") == "excess")
    for ax, model in zip(figure.axes, ("unbiased", "biased"), strict=True):
        own = rows.filter(pl.col("model") == model)
        assert widths(ax) == pytest.approx(own["value"].to_list())
        assert [label.get_text() for label in ax.get_yticklabels()] == ["1  mouth", "2  hair", "3  skin"]
        whisker = ax.lines[1].get_xdata()
        assert list(whisker) == pytest.approx([own["low"][0], own["high"][0]])
        marks = [line.get_xdata() for line in ax.lines if line.get_linewidth() == 1.6]
        assert all(list(mark) == [0, 0] for mark in marks)
        assert len(marks) == 3  # the centre stands beside every bar
    shown = texts(figure)
    assert {"rank 1, first 75 %", "ranks 1-2, first 12 %", "the evidence", "a map at the centre"} <= set(shown)
    assert "On d-unbiased, n = 101 to 103 decisions per region. Whisker: 95 % interval. Ranks: those" in " ".join(shown)
    colours = [patch.get_facecolor() for patch in figure.axes[0].patches]
    assert colours[0] != colours[1] == colours[2]
    assert inside(figure)


def test_bars_of_several_seeds_are_means_and_tell_how_often_a_region_is_first() -> None:
    table = ranking(seeds=(0, 1, 2))
    one = (pl.col("seed") == 2) & (pl.col("statistic") == "excess") & (pl.col("model") == "biased")
    swapped = {"mouth": 2, "hair": 1, "skin": 3}
    table = table.with_columns(
        rank=pl.when(one).then(pl.col("region").replace_strict(swapped, default=None)).otherwise(pl.col("rank"))
    )
    figure = ranking_bars(table, dataset="d-biased")
    rows = table.filter(dataset="d-biased", statistic="excess", model="biased", region="mouth")
    ax = figure.axes[1]
    assert widths(ax)[0] == pytest.approx(rows["value"].mean())
    assert list(ax.lines[1].get_xdata()) == pytest.approx([rows["value"].min(), rows["value"].max()])
    assert ax.get_yticklabels()[0].get_text() == "1.3  mouth"
    shown = texts(figure)
    assert {"ranks 1-2, first in 2 of 3", "ranks 1-2, first in 1 of 3", "rank 1, first in 3 of 3"} <= set(shown)
    assert inside(figure)


def test_a_region_without_a_rank_stands_last_and_says_so() -> None:
    table = ranking()
    hair = (pl.col("region") == "hair") & (pl.col("model") == "biased")
    empty = ("rank", "rank_low", "rank_high", "first", "value", "low", "high", "chance")
    table = table.with_columns(pl.when(hair).then(None).otherwise(pl.col(name)).alias(name) for name in empty)
    figure = ranking_bars(table)
    assert figure.axes[1].get_yticklabels()[-1].get_text() == "hair"
    assert "no score" in texts(figure)
    assert any(text.get_text() == "-" for text in rankings_side_by_side(table).axes[1].texts)
    assert inside(figure)


def test_other_rankings_and_datasets_can_be_drawn_and_wrong_names_are_refused() -> None:
    table = ranking()
    figure = ranking_bars(table, statistic="iou", dataset="d-biased", models=["biased"], labels={"hair": "the hair"})
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["1  skin", "2  the hair", "3  mouth"]
    assert "a map that knows nothing" in texts(figure)
    with pytest.raises(UnknownNameError, match="'excess'"):
        ranking_bars(table, statistic="exces")
    with pytest.raises(UnknownNameError, match="dataset"):
        rankings_side_by_side(table, dataset="d")
    with pytest.raises(UnknownNameError, match="model"):
        ranking_bars(table, models=["nobody"])
    with pytest.raises(UsageError, match="no ranking"):
        ranking_bars(table.head(0))


def names_in_columns(ax: Axes) -> dict[int, list[str]]:
    columns: dict[int, list[tuple[float, str]]] = {}
    for text in ax.texts:
        x, y = text.get_position()
        if float(x).is_integer():
            columns.setdefault(int(x), []).append((y, text.get_text().strip()))
    return {x: [name for _, name in sorted(column)] for x, column in columns.items()}


def test_rankings_stand_side_by_side_with_lines_that_follow_a_region() -> None:
    table = ranking()
    figure = rankings_side_by_side(table, dataset="d-unbiased", evidence=["mouth"])
    for ax in figure.axes:
        assert names_in_columns(ax) == {i: list(order) for i, order in enumerate(ORDERS.values())}
        assert len(ax.lines) == 3 * 3  # each region from column to column
        for line in ax.lines:
            start, end = line.get_ydata()
            column = int(line.get_xdata()[0])
            orders = list(ORDERS.values())
            assert orders[column][int(start)] == orders[column + 1][int(end)]
    row = table.filter(statistic="iou", dataset="d-unbiased", model="unbiased", region="skin").row(0, named=True)
    assert f"{row['value']:.3f} ({row['chance']:.3f})".replace("0.", ".") in texts(figure)
    assert inside(figure)


def test_toy_data_say_so_in_every_figure() -> None:
    table = ranking()
    shown = [ranking_bars(table, toy=True), rankings_side_by_side(table, toy=True), region_cutouts(faces(), toy=True)]
    plain = [ranking_bars(table), rankings_side_by_side(table), region_cutouts(faces())]
    assert all(TOY_WARNING in texts(figure) for figure in shown)
    assert not any(TOY_WARNING in texts(figure) for figure in plain)


def faces() -> pl.DataFrame:
    """Examples whose second image lacks a region in each model's rows, and the map of one is flat."""
    return examples(images=3, size=24)


def pictures(figure: Figure) -> list[list[np.ndarray]]:
    return [[np.asarray(image.get_array()) for image in ax.images] for ax in figure.axes]


def test_cutouts_show_the_region_its_score_and_nothing_of_the_map_elsewhere() -> None:
    figure = region_cutouts(faces(), sample_id="image-0", class_names=["zero", "one", "two"])
    shown = pictures(figure)
    assert len(shown) == 3 * 3  # the image and two regions, above a line for each of two models
    annotated = np.zeros((24, 24), bool)
    annotated[:8, :8] = True
    whole, cut = shown[0][0], shown[1][0]
    assert np.allclose(cut[annotated], whole[annotated])
    assert (cut[~annotated] >= whole[~annotated] - 1e-9).all()
    assert cut[~annotated].min() > 0.8  # what is outside the region is faint
    on_image, on_region = shown[3][1][..., 3] > 0, shown[4][1][..., 3] > 0
    assert (on_region == (on_image & annotated)).all()
    words = texts(figure)
    assert words.count("IoU 0.25, hit") == 4
    assert {"digit", "block", "honest", "cheating", "zero", "the image"} <= set(words)
    assert "Image image-0. A cut-out keeps its place and size in the image." in words
    assert inside(figure)


def test_cutouts_say_what_is_missing() -> None:
    figure = region_cutouts(faces(), sample_id="image-1")
    words = texts(figure)
    assert words.count("not there") == 3  # no digit: in the image and in both models' lines
    assert words.count("no annotation") == 2
    flat = region_cutouts(faces(), sample_id="image-2")
    assert texts(flat).count("flat map") == 2
    assert len(pictures(flat)[6]) == 1  # the image in grey, no map over it
    assert inside(figure)


def test_the_image_drawn_is_one_that_all_models_explained_with_most_regions() -> None:
    table = faces()
    assert image_with_most_regions(table) == "image-0"
    only = table.filter((pl.col("sample_id") != "image-0") | (pl.col("model") == "honest"))
    assert image_with_most_regions(only) == "image-2"
    assert "Image image-2. A cut-out keeps its place and size in the image." in texts(region_cutouts(only))


def test_pictures_stored_at_other_sizes_are_cut_alike() -> None:
    table = faces()
    small = np.zeros((12, 12), bool)
    small[:4, :4] = True
    annotation = pl.when(pl.col("annotation").is_not_null()).then(pl.lit(png(small))).alias("annotation")
    whole, halved = (
        pictures(region_cutouts(item, sample_id="image-0")) for item in (table, table.with_columns(annotation))
    )
    assert np.allclose(whole[1][0], halved[1][0])


def test_cutouts_of_wrong_names_are_refused() -> None:
    with pytest.raises(UsageError, match="no example"):
        region_cutouts(faces().head(0))
    with pytest.raises(UnknownNameError, match="image-9"):
        region_cutouts(faces(), sample_id="image-9")
    with pytest.raises(UnknownNameError, match="region"):
        region_cutouts(faces(), regions=["mouth"])


def test_figures_are_the_same_each_time() -> None:
    table = ranking()
    for make in (lambda: ranking_bars(table), lambda: rankings_side_by_side(table), lambda: region_cutouts(faces())):
        assert figure_bytes(make()) == figure_bytes(make())
