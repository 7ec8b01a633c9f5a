"""Figures of several models: the numbers they show, read back from their artists, and labels that do not collide."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import polars as pl
import pytest
from matplotlib import pyplot
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from model_tables import board
from report_tables import examples

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.reporting.figures import accuracy_scatter, figure_bytes, model_grid, relation_plot
from explanation_alignment.reporting.figures.scatter import families_of, look_of
from explanation_alignment.statistics.relations import relate, relation_residuals


def words(figure: Figure) -> list[str]:
    found = [t.get_text() for t in figure.texts]
    found += [t.get_text() for ax in figure.axes for t in ax.texts]
    return found + [t.get_text() for legend in figure.legends for t in legend.get_texts()]


def inside(figure: Figure) -> bool:
    """Whether every text lies within the sheet, and no two of the sheet's own lie on each other."""
    figure.draw_without_rendering()
    labels = [*figure.texts]
    for ax in figure.axes:
        labels += [*ax.texts, ax.xaxis.label, ax.yaxis.label]
        for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            labels += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    labels += [text for legend in figure.legends for text in legend.get_texts()]
    boxes = [label.get_window_extent() for label in labels if label.get_text()]
    own = [text.get_window_extent() for text in figure.texts if text.get_text()]
    assert not any(a.shrunk(0.98, 0.9).overlaps(b.shrunk(0.98, 0.9)) for a, b in combinations(own, 2))
    return all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= figure.bbox.x1 and b.y1 <= figure.bbox.y1 for b in boxes)


def points_of(figure: Figure, *, hollow: bool = False) -> np.ndarray:
    found = [c for c in figure.axes[0].collections if isinstance(c, PathCollection)]
    chosen = [c for c in found if (c.get_facecolors().size == 0) == hollow]
    return np.concatenate([np.asarray(c.get_offsets()) for c in chosen])


def same_points(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether these are the same points, in whatever order."""
    one, two = (points[np.lexsort(points.T)] for points in (found, expected))
    return one.shape == two.shape and np.allclose(one, two)


def names_apart(figure: Figure) -> list[str]:
    """The names in the axes; no two of them, and no name and point, lie on each other."""
    figure.draw_without_rendering()
    ax = figure.axes[0]
    boxes = [text.get_window_extent() for text in ax.texts]
    for one, two in combinations(boxes, 2):
        assert not one.shrunk(0.99, 0.99).overlaps(two.shrunk(0.99, 0.99))
    for x, y in ax.transData.transform(points_of(figure)):
        assert not any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for box in boxes)
    frame = ax.get_window_extent()
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 and frame.y0 <= b.y0 and b.y1 <= frame.y1 for b in boxes)
    return [text.get_text() for text in ax.texts]


# --------------------------------------------------------------------------------------------------- scatter


def test_points_bars_and_chance_are_the_leaderboards_numbers() -> None:
    table = board(6)
    figure = accuracy_scatter(table)
    ax = figure.axes[0]
    expected = table.select(pl.col("top1") / 100, "ea_iou_coverage").to_numpy()
    assert same_points(points_of(figure), expected)
    segments = [np.column_stack(line.get_data()) for line in ax.lines if len(line.get_xdata()) == 2]
    row = table.row(0, named=True)
    y, x = row["ea_iou_coverage"], row["top1"] / 100
    across = np.array([[row["top1_low"] / 100, y], [row["top1_high"] / 100, y]])
    upright = np.array([[x, row["ea_iou_coverage_low"]], [x, row["ea_iou_coverage_high"]]])
    for bar in (across, upright):
        assert any(segment.shape == bar.shape and np.allclose(segment, bar) for segment in segments)
    chance = table["ea_iou_coverage_chance"].mean()
    assert any(np.allclose(segment[:, 1], chance) for segment in segments)
    assert {"chance", "cnn", "transformer", "other", "25 M parameters"} <= set(words(figure))
    assert any("6 models, 50,000 images, up to 185 of them without a score" in text for text in words(figure))
    assert inside(figure)


def test_areas_grow_with_the_root_of_the_parameters() -> None:
    table = board(4).with_columns(param_count=pl.Series([9.0, 36.0, 900.0, None]), family=pl.lit("cnn"))
    [marks] = [c for c in accuracy_scatter(table).axes[0].collections if isinstance(c, PathCollection)]
    sizes = marks.get_sizes()
    assert sizes[1] / sizes[0] == pytest.approx(2)
    assert sizes[2] / sizes[0] == pytest.approx(10)
    assert sizes[3] > 0


def test_the_smallest_models_are_still_seen() -> None:
    table = board(2).with_columns(param_count=pl.Series([0.3, 0.01]), family=pl.lit("cnn"))
    [marks] = [c for c in accuracy_scatter(table).axes[0].collections if isinstance(c, PathCollection)]
    assert marks.get_sizes().tolist() == [12, 12]


@pytest.mark.parametrize(("models", "named"), [(1, 1), (5, 5), (22, 22), (40, None), (195, 0)])
def test_any_number_of_models_is_readable(models: int, named: int | None) -> None:
    figure = accuracy_scatter(board(models))
    assert len(points_of(figure)) == models
    names = names_apart(figure)
    if named is None:  # what found no room is told
        told = [text for text in words(figure) if text.startswith("No room for the names of")]
        assert len(names) == models or told
    else:
        assert len(names) == named
    assert inside(figure)


def test_crowded_points_lose_names_and_the_figure_says_how_many() -> None:
    table = board(70).with_columns(
        top1=80 + pl.int_range(70) * 0.001, ea_iou_coverage=pl.lit(0.3), top1_low=pl.lit(60.0), top1_high=pl.lit(99.0)
    )
    figure = accuracy_scatter(table, names=table["model"].to_list())
    names = names_apart(figure)
    [told] = [text for text in words(figure) if text.startswith("No room for the names of")]
    assert f"of {70 - len(names)} models" in told
    assert 0 < len(names) < 70


def test_some_models_can_be_named() -> None:
    table = board(195)
    chosen = table["model"][:5].to_list()
    figure = accuracy_scatter(table, names=chosen, labels={chosen[0]: "The first"})
    assert set(names_apart(figure)) == {"The first", *chosen[1:]}


def test_reported_values_are_hollow_and_joined_to_ours() -> None:
    table = board(5)
    reported = pl.DataFrame({"model": table["model"][:2], "accuracy": [0.75, 0.85], "ea": [0.3, 0.5]})
    figure = accuracy_scatter(table, reported=reported)
    assert same_points(points_of(figure, hollow=True), np.array([[0.75, 0.3], [0.85, 0.5]]))
    ours = table.row(0, named=True)
    line = np.array([[ours["top1"] / 100, ours["ea_iou_coverage"]], [0.75, 0.3]])
    segments = [np.column_stack(each.get_data()) for each in figure.axes[0].lines if len(each.get_xdata()) == 2]
    assert any(np.allclose(segment, line) for segment in segments if segment.shape == line.shape)
    assert "reported" in words(figure)
    assert inside(figure)


def test_a_chance_level_far_off_is_told_in_words() -> None:
    figure = accuracy_scatter(board(5, chance=-3.0))
    assert "chance" not in words(figure)
    assert any(text.startswith("Chance level: -3.0") for text in words(figure))
    assert figure.axes[0].get_ylim()[0] > 0


def test_families_differ_in_colour_and_shape() -> None:
    looks = [look_of(place) for place in range(12)]
    assert len(set(looks)) == 12
    assert all(a[0] != b[0] and a[1] != b[1] for a, b in pairwise(looks))
    many = pl.Series("family", [f"f{i}" for i in range(20) for _ in range(20 - i)])
    own, order = families_of(many)
    assert len(order) == 12
    assert order[-1] == "other families"
    assert own.count("other families") == sum(20 - i for i in range(11, 20))
    figure = accuracy_scatter(board(195, families=[f"a_long_family_name_{i}" for i in range(30)]))
    assert "other families" in words(figure)
    assert inside(figure)
    assert families_of(pl.Series("family", ["cnn", None]))[1] == ["cnn", "unknown family"]


def test_toy_scatter_says_so_and_shows_nothing_reported() -> None:
    table = board(3).with_columns(toy=pl.lit(True))
    assert any("toy data" in text for text in words(accuracy_scatter(table)))
    reported = pl.DataFrame({"model": table["model"], "accuracy": 0.5, "ea": 0.5})
    for toy in (accuracy_scatter, lambda t, **more: accuracy_scatter(t.drop("toy"), toy=True, **more)):
        with pytest.raises(UsageError, match="toy"):
            toy(table, reported=reported)


def test_scatter_asked_wrongly() -> None:
    table = board(3)
    with pytest.raises(UnknownNameError, match="did you mean 'iou_coverage'"):
        accuracy_scatter(table, "iou_coverag")
    with pytest.raises(UnknownNameError, match="model of this leaderboard"):
        accuracy_scatter(table, names=["vgg"])
    twice = pl.concat([table, table]).with_columns(region=pl.Series(["object"] * 3 + ["block"] * 3))
    with pytest.raises(UsageError, match=r"differ in region: .*regions="):
        accuracy_scatter(twice)
    with pytest.raises(UsageError, match="nothing to draw"):
        accuracy_scatter(table.with_columns(top1=pl.lit(None, pl.Float64)))


def test_model_figures_are_the_same_each_time_and_leave_pyplot_alone() -> None:
    first, second = (figure_bytes(accuracy_scatter(board(22)), "svg") for _ in range(2))
    assert first == second
    model_grid(examples(), region="digit")
    assert pyplot.get_fignums() == []


# ------------------------------------------------------------------------------------------------------ grid


def test_the_grid_shows_images_models_predictions_and_scores() -> None:
    numbers = board(("cheating", "honest"))
    figure = model_grid(examples(), numbers, region="digit", class_names=["zero", "one", "two"], title="Look")
    shown = words(figure)
    assert len(figure.axes) == 3 * 3  # three images; the picture and two models each
    row = numbers.row(0, named=True)
    assert {"Look", "honest", "cheating", f"accuracy {row['top1']:.1f} %"} <= set(shown)
    assert f"EA (IoU) {row['ea_iou_coverage']:.3f}" in shown
    assert shown.count("zero") == 1 + 1 + 3  # the label; honest; whatever cheating is shown
    assert shown.count("IoU 0.25, hit") == 3
    assert shown.count("no annotation") == 2
    assert shown.count("flat map") == 1
    assert [t.get_color() for t in figure.texts if t.get_text() == "zero"].count("#b3261e") == 2
    assert inside(figure)


def test_columns_follow_the_leaderboard_unless_named() -> None:
    def heads(figure: Figure) -> list[str]:
        found = [t for t in figure.texts if t.get_text() in ("honest", "cheating")]
        return [t.get_text() for t in sorted(found, key=lambda t: t.get_position()[0])]

    assert heads(model_grid(examples(), board(("cheating", "honest")), region="digit")) == ["cheating", "honest"]
    assert heads(model_grid(examples(), board(("honest", "cheating")), region="digit")) == ["honest", "cheating"]
    assert heads(model_grid(examples(), models=["cheating", "honest"], region="digit")) == ["cheating", "honest"]


def test_the_grid_draws_map_and_outline() -> None:
    table = examples(lines=("honest",), images=1)
    [_, seen] = model_grid(table, region="digit").axes
    assert len([c for c in seen.collections if isinstance(c, LineCollection)]) == 1
    binarized = np.asarray(seen.images[1].get_array())[..., 3]
    [_, graded] = model_grid(table, region="digit", draw="saliency").axes
    opacity = np.asarray(graded.images[1].get_array())[..., 3]
    assert set(np.unique(binarized > 0)) == {False, True}
    assert ((opacity > 0) == (binarized > 0)).all()  # these examples' maps are binary


def test_images_that_most_models_keep_come_first() -> None:
    table = examples(images=4)
    own = table.filter(~((pl.col("model") == "honest") & (pl.col("sample_id") == "image-0")))
    figure = model_grid(own, region="digit", max_images=3)
    shown = [text for text in words(figure) if text.startswith("image-")]
    assert shown == ["image-1", "image-2", "image-3"]
    assert "The first 3 of 4 images." in words(figure)
    whole = model_grid(own, region="digit", images=["image-0"])
    assert len(whole.axes) == 2
    assert any("empty places" in text for text in words(whole))


@pytest.mark.parametrize(("models", "shown"), [(1, 1), (8, 8), (22, 8)])
def test_grids_of_any_size_stay_on_the_sheet(models: int, shown: int) -> None:
    names = tuple(f"vit_base_patch16_clip_224.laion2b_ft_in12k_in1k_{i:02}" for i in range(models))
    figure = model_grid(examples(lines=names, images=2), board(names), region="digit")
    assert len(figure.axes) == 2 * (1 + shown)
    assert any(f"The first 8 of {models} models." in text for text in words(figure)) == (models > 8)
    assert inside(figure)
    wide = model_grid(examples(lines=names, images=1), region="digit", max_models=30)
    assert len(wide.axes) == 1 + models
    assert inside(wide)


def test_grid_asked_wrongly() -> None:
    with pytest.raises(UsageError, match=r"several regions \(digit, block\); choose one: region="):
        model_grid(examples())
    with pytest.raises(UnknownNameError, match="region of these examples"):
        model_grid(examples(), region="mouth")
    with pytest.raises(UnknownNameError, match="model"):
        model_grid(examples(), region="digit", models=["vgg"])
    with pytest.raises(UnknownNameError, match="metric of this leaderboard"):
        model_grid(examples(), board(("honest", "cheating")), region="digit", metric="iou")
    with pytest.raises(UsageError, match="no example"):
        model_grid(examples().clear())
    with pytest.raises(UsageError, match="at least 1"):
        model_grid(examples(), region="digit", max_models=0)


# -------------------------------------------------------------------------------------------------- relation


def related(models: int) -> pl.DataFrame:
    rng = np.random.default_rng(2)
    accuracy, size = rng.random(models), rng.random(models)
    alignment = accuracy + rng.normal(0, 0.3, models)
    return pl.DataFrame(
        {
            "model": [f"model-{i:03}" for i in range(models)],
            "family": ["cnn" if i % 3 else "transformer" for i in range(models)],
            "accuracy": accuracy,
            "parameters": size,
            "iou_coverage": alignment,
            "transfer": alignment + accuracy - size + rng.normal(0, 0.4, models),
        }
    )


CONTROLS = {"outcome": "transfer", "predictor": "iou_coverage", "controls": ["accuracy", "parameters"]}


@pytest.mark.parametrize("more", [{}, {"group": "family"}, {"controls": []}])
def test_the_points_correlate_as_the_relation_says(more: dict[str, object]) -> None:
    asked = CONTROLS | more
    left = relation_residuals(related(25), **asked)
    statistic = "partial spearman" if asked["controls"] or "group" in asked else "spearman"
    [row] = relate(related(25), **asked, n_resamples=50).filter(statistic=statistic).rows(named=True)
    assert np.corrcoef(left["outcome"], left["predictor"])[0, 1] == pytest.approx(row["coefficient"])


@pytest.mark.parametrize(("models", "named"), [(22, 22), (195, 1)])
def test_the_plot_shows_the_residuals_the_line_and_the_sentence(models: int, named: int) -> None:
    table = related(models)
    figure = relation_plot(table, **CONTROLS, n_resamples=200)
    left = relation_residuals(table, **CONTROLS)
    assert same_points(points_of(figure), left.select("predictor", "outcome").to_numpy())
    assert len(names_apart(figure)) == named
    said = " ".join(words(figure))
    assert "partial spearman" in said
    assert f"Over {models} models" in said
    assert {"cnn", "transformer"} <= set(words(figure))
    slope = np.polyfit(left["predictor"], left["outcome"], 1)[0]
    lines = [np.column_stack(line.get_data()) for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert any(np.isclose((b - a)[1] / (b - a)[0], slope) for a, b in lines if (b - a)[0] and (b - a)[1])
    assert inside(figure)


def test_models_that_lack_a_value_are_counted() -> None:
    table = related(12).with_columns(transfer=pl.when(pl.col("model") == "model-003").then(None).otherwise("transfer"))
    figure = relation_plot(table, **CONTROLS, n_resamples=50, family=None, toy=True)
    assert len(points_of(figure)) == 11
    assert any(text.startswith("1 models lack a value") for text in words(figure))
    assert any("toy data" in text for text in words(figure))


def test_relation_asked_wrongly() -> None:
    with pytest.raises(UnknownNameError, match="transfer"):
        relation_plot(related(12), outcome="transfr", controls=["accuracy"])
    with pytest.raises(UsageError, match="several rows"):
        relation_plot(pl.concat([related(6), related(6)]), **CONTROLS)
    with pytest.raises(UsageError, match="at least 4 models"):
        relation_plot(related(3), **CONTROLS)
    with pytest.raises(UsageError, match="too few models"):
        relation_plot(related(4), **CONTROLS)
    with pytest.raises(UnknownNameError, match="model"):
        relation_residuals(related(6).drop("model"))
