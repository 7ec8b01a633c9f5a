"""What the figures show, read back from their artists; and that their files are the same each time."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib import pyplot
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from report_tables import examples, png, summary

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.reporting.figures import ea_bars, example_grid, figure_bytes, save_figure


def texts(figure: Figure) -> list[str]:
    found = [t.get_text() for t in figure.texts]
    for ax in figure.axes:
        found += [ax.get_title(loc="left"), *(t.get_text() for t in ax.texts)]
        found += [t.get_text() for t in ax.get_yticklabels()]
    return found + [t.get_text() for legend in figure.legends for t in legend.get_texts()]


def bars_of(figure: Figure) -> list[list[float]]:
    return [[p.get_width() for p in ax.patches if isinstance(p, Rectangle)] for ax in figure.axes]


def inside(figure: Figure) -> bool:
    """Whether every text lies within the sheet, and the panels' titles below the legend."""
    figure.draw_without_rendering()
    titles = [ax.title for ax in figure.axes] + [ax._left_title for ax in figure.axes]
    labels = [*figure.texts, *titles]
    for ax in figure.axes:
        labels += [*ax.texts, *ax.get_yticklabels(), ax.xaxis.label]
    labels += [text for legend in figure.legends for text in legend.get_texts()]
    boxes = [label.get_window_extent() for label in labels if label.get_text()]
    below = min((legend.get_window_extent().y0 for legend in figure.legends), default=figure.bbox.y1)
    assert all(title.get_window_extent().y1 <= below for title in titles if title.get_text())
    return all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= figure.bbox.x1 and b.y1 <= figure.bbox.y1 for b in boxes)


def test_bars_are_the_summarys_numbers() -> None:
    table = summary()
    figure = ea_bars(table)
    iou = table.filter(pl.col("metric") == "iou_coverage")
    for widths, region in zip(bars_of(figure), ("digit", "block"), strict=True):
        expected = iou.filter(pl.col("region") == region)["ea"].to_list()  # by model, then dataset
        assert widths == pytest.approx(expected)
    shown = texts(figure)
    assert all(f"{ea:.3f}" in shown for ea in iou["ea"])
    assert {"honest", "cheating", "same", "other", "chance", "region: digit", "region: block"} <= set(shown)
    assert "n = 1,000 to 1,014 decisions per bar. Whisker: 95 % interval." in shown
    first = next(iter(iou.rows(named=True)))
    whisker, _, chance = (line.get_xdata() for line in figure.axes[0].lines[1:4])
    assert list(whisker) == pytest.approx([first["ci_low"], first["ci_high"]])
    assert list(chance) == pytest.approx([first["chance"]] * 2)
    assert inside(figure)


def test_bars_of_several_seeds_are_their_mean_from_smallest_to_largest() -> None:
    table = summary(models=("m",), datasets=("d",), regions=("digit",), seeds=(0, 1, 2))
    figure = ea_bars(table)
    values = table.filter(pl.col("metric") == "iou_coverage")["ea"]
    assert bars_of(figure) == [[pytest.approx(values.mean())]]
    assert list(figure.axes[0].lines[1].get_xdata()) == pytest.approx([values.min(), values.max()])
    assert any("per bar and seed. Whisker: smallest to largest of the seeds." in text for text in texts(figure))


def test_bars_can_be_chosen_and_renamed() -> None:
    table = summary(models=("a", "b", "c"), methods=("vanilla_gradients", "gradcam"))
    figure = ea_bars(
        table,
        "pointing_game",
        models=["c", "a"],
        regions=["block"],
        datasets=["same"],
        labels={"c": "The third", "block": "the corner"},
        title="A title",
        toy=True,
    )
    assert len(figure.axes) == 2  # a panel a method
    shown = texts(figure)
    assert {"The third", "a", "A title", "gradcam (std:1)\nregion: the corner"} <= set(shown)
    assert "b" not in shown
    assert "same" not in shown  # one dataset needs no legend
    assert any("toy data" in text for text in shown)


@pytest.mark.parametrize(
    ("models", "datasets"),
    [
        (("m",), ("d",)),
        (("m", "n"), tuple(f"mnist-uncorrelated-{i}" for i in range(6))),
        (tuple(f"timm:a_rather_long_name_of_a_model.number_{i}" for i in range(22)), ("d",)),
    ],
)
def test_bars_of_any_number_stay_on_the_sheet(models: tuple[str, ...], datasets: tuple[str, ...]) -> None:
    assert inside(ea_bars(summary(models=models, datasets=datasets)))


def test_bars_without_numbers() -> None:
    empty = dict.fromkeys(("ea", "ci_low", "ci_high", "chance"))
    figure = ea_bars(summary(datasets=("d",), **empty))
    assert " undefined" in texts(figure)
    assert "chance" not in texts(figure)


def test_bars_asked_wrongly() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'iou_coverage'"):
        ea_bars(summary(), "iou_coverag")
    with pytest.raises(UnknownNameError, match="group"):
        ea_bars(summary(), group="attr_x=1")
    with pytest.raises(UnknownNameError, match="model"):
        ea_bars(summary(), models=["other"])


def test_examples_show_decision_and_scores() -> None:
    figure = example_grid(examples(), class_names=["zero", "one", "two"], title="Look", labels={"digit": "the digit"})
    shown = texts(figure)
    assert len(figure.axes) == 2 * 2 * 3  # two models, three images, a pair each
    assert {"Look", "honest", "cheating", "on same", "zero", "zero, not one", "zero, not two"} <= set(shown)
    assert "the digit: IoU 0.25, hit" in shown
    assert "the digit: no annotation" in shown
    assert "block: flat map" in shown
    assert shown.count("flat map") == 1  # written across the picture
    assert "annotation: the digit" in shown
    assert inside(figure)


def test_examples_draw_image_mask_and_outline() -> None:
    figure = example_grid(examples(lines=("honest",), images=1))
    left, right = figure.axes
    record = examples(lines=("honest",), images=1).row(0, named=True)
    with Image.open(io.BytesIO(record["image"])) as image:
        assert (np.asarray(left.images[0].get_array()) == np.asarray(image)).all()
    with Image.open(io.BytesIO(record["salient"])) as image:
        assert ((np.asarray(right.images[1].get_array())[..., 3] > 0) == np.asarray(image)).all()
    outlines = [c for c in right.collections if isinstance(c, LineCollection)]
    assert len(outlines) == 2  # a region each
    points = np.concatenate(outlines[0].get_segments())
    assert (points.min(axis=0) == -0.5).all()
    assert (points.max(axis=0) == 3.5).all()  # 4 x 4 pixels in the corner


def test_an_outline_goes_around_holes_and_scales() -> None:
    table = examples(lines=("honest",), images=1).filter(pl.col("region") == "digit")
    ring = np.zeros((6, 6), np.uint8)
    ring[1:5, 1:5] = 255
    ring[2:4, 2:4] = 0
    figure = example_grid(table.with_columns(annotation=pl.lit(png(ring))))
    [outline] = [c for c in figure.axes[1].collections if isinstance(c, LineCollection)]
    length = sum(np.abs(np.diff(s, axis=0)).sum() for s in outline.get_segments())
    assert length == 2 * (4 * 4 + 4 * 2)  # both borders, in pixels of the image, which is twice as large


def test_lines_share_columns_where_they_share_images() -> None:
    table = examples(images=4)
    own = table.filter(~((pl.col("model") == "honest") & (pl.col("sample_id") == "image-0")))
    figure = example_grid(own, max_columns=3)
    pictures = [np.asarray(ax.images[0].get_array()) for ax in figure.axes[::2]]
    by_model = [table.filter(pl.col("model") == m, pl.col("region") == "digit") for m in ("honest", "cheating")]
    for line, rows in enumerate(by_model):
        for column, i in enumerate((1, 2, 3)):
            data = rows.filter(pl.col("sample_id") == f"image-{i}")["image"][0]
            with Image.open(io.BytesIO(data)) as image:
                assert (pictures[3 * line + column] == np.asarray(image)).all()


def test_examples_without_pictures_or_prediction() -> None:
    bare = examples(images=1, lines=("honest",)).with_columns(
        image=None, annotation=None, salient=None, prediction=None, correct=None, status=pl.lit("error")
    )
    shown = texts(example_grid(bare, toy=True))
    assert {"no image", "error", "no prediction", "digit: error"} <= set(shown)


def test_examples_are_cut_and_the_figure_says_so() -> None:
    table = pl.concat([examples(images=1).with_columns(method=pl.lit(m)) for m in ("gradcam", "vanilla_gradients")])
    figure = example_grid(table, max_rows=3)
    assert "The first 3 of 4 lines." in texts(figure)
    assert "gradcam" in texts(figure)


def test_examples_asked_wrongly() -> None:
    with pytest.raises(UsageError, match="no example"):
        example_grid(examples().clear())
    with pytest.raises(UsageError, match="at least 1"):
        example_grid(examples(), max_columns=0)
    with pytest.raises(UnknownNameError, match="region"):
        example_grid(examples(), regions=["mouth"])


def test_files_are_the_same_each_time_and_free_of_dates(tmp_path: Path) -> None:
    first = save_figure(example_grid(examples(images=1)), tmp_path / "new", "grid")
    contents = [path.read_bytes() for path in first]
    second = save_figure(example_grid(examples(images=1)), tmp_path / "new", "grid")
    assert [path.name for path in second] == ["grid.png", "grid.svg"]
    assert [path.read_bytes() for path in second] == contents
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["grid.png", "grid.svg"]
    assert not re.search(rb"<dc:date>|20\d\d-\d\d-\d\d", contents[1])
    assert figure_bytes(ea_bars(summary()), "png").startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="kind"):
        figure_bytes(ea_bars(summary()), "pdf")


def test_figures_leave_pyplot_alone() -> None:
    ea_bars(summary())
    example_grid(examples(images=1))
    assert pyplot.get_fignums() == []
