"""The same images seen by several models: a line per image, a column per model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import matplotlib
import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from explanation_alignment.errors import UsageError
from explanation_alignment.metrics.registry import METRICS
from explanation_alignment.reporting.figures.pictures import class_word, fill_of, fit, mask_of, outline_of, picture_of
from explanation_alignment.reporting.figures.sheet import (
    FILL,
    FILL_PHOTO,
    INK,
    LEGEND,
    MUTED,
    NOTE,
    OUTLINES,
    RULE,
    SALIENT,
    SMALL,
    WRONG,
    Sheet,
    as_written,
    chosen_of,
    metric_label,
    one_of,
    show,
    toy_note,
)

__all__ = ["model_grid"]

Shown: TypeAlias = Literal["salient", "saliency"]

#: Inches: a picture's side, the gap between pictures, a line of text below a picture.
_SIDE: Final = 1.15
_GAP: Final = 0.09
_TEXT: Final = 0.145
#: Characters that fit a picture's width, in bold and in small print.
_BOLD: Final = 17
_SMALL_PRINT: Final = 21


@as_written
def model_grid(
    examples: pl.DataFrame,
    leaderboard: pl.DataFrame | None = None,
    *,
    metric: str = "iou_coverage",
    models: Sequence[str] | None = None,
    images: Sequence[str] | None = None,
    dataset: str | None = None,
    method: str | None = None,
    region: str | None = None,
    binarization: str | None = None,
    seed: int | None = None,
    target: str | None = None,
    draw: Shown = "salient",
    max_models: int = 8,
    max_images: int = 8,
    class_names: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    title: str | None = None,
    toy: bool = False,
) -> Figure:
    """Where several models look on the same images: a line per image, a column per model.

    The first column shows the image and its label, the others the image in grey with the annotation as an outline and
    the map as a filled area; below, the prediction (red where it is wrong), the score, and whether the map's maximum
    hits the annotation. Above each column the model with its accuracy and alignment over the whole dataset.

    Args:
        examples: rows of a run's examples, as :func:`~explanation_alignment.reporting.figures.example_grid` takes them.
        leaderboard: from :func:`~explanation_alignment.statistics.leaderboards.leaderboard`, a row a model, for the
            numbers above the columns and their order; without it there are none, and the order is that of the examples.
        metric: the metric in the heads and below the pictures.
        models: which models, in this order.
        images: which images (sample ids), in this order; by default those that all these models keep, in the order
            of the examples, then those that most do.
        dataset: which dataset; needed where the examples hold several, as are the next five.
        method: which method.
        region: which region to outline and score.
        binarization: which binarization.
        seed: which seed.
        target: which target.
        draw: ``"salient"``, the binarized map, which scores are about; or ``"saliency"``, the map itself, more opaque
            where it is stronger.
        max_models: columns at most; the figure says how many there are.
        max_images: lines at most.
        class_names: names to show instead of class indices.
        labels: words to show instead of the names of models and regions.
        title: heading.
        toy: whether the data are generated; the figure then says so.

    Returns:
        The figure.

    Raises:
        UnknownNameError: the examples hold no such model, image, dataset, method, region, binarization, seed or target.
        UsageError: there is no example, several of something are not told apart, or a limit is below 1.
    """
    words = labels or {}
    if examples.is_empty():
        raise UsageError("no example to draw")
    if max_models < 1 or max_images < 1:
        raise UsageError(f"max_models and max_images must be at least 1, got {max_models} and {max_images}")
    asked = {
        "dataset": dataset,
        "method": method,
        "binarization": binarization,
        "region": region,
        "target": target,
        "seed": None if seed is None else str(seed),
    }
    table = _one_of_each(examples, asked)
    shown_models = chosen_of(table, "model", models)
    numbers = _numbers(leaderboard, metric)
    if models is None and numbers:
        shown_models = [name for name in numbers if name in shown_models] + [
            name for name in shown_models if name not in numbers
        ]
    notes = toy_note(toy or (leaderboard is not None and "toy" in leaderboard.columns))
    if len(shown_models) > max_models:
        notes.append((f"The first {max_models} of {len(shown_models)} models.", MUTED))
        shown_models = shown_models[:max_models]
    table = table.filter(pl.col("model").is_in(shown_models))
    shown_images = _images(table, shown_models, images)
    if len(shown_images) > max_images:
        notes.append((f"The first {max_images} of {len(shown_images)} images.", MUTED))
        shown_images = shown_images[:max_images]
    decisions = {(row["model"], row["sample_id"]): row for row in table.iter_rows(named=True)}
    missing = sum((m, i) not in decisions for m in shown_models for i in shown_images)
    if missing:
        notes.append(("A run keeps examples for each evaluation; empty places are images it does not keep.", MUTED))

    scored = [m for m in dict.fromkeys((metric, "pointing_game")) if m in table.columns]
    heads = [_head(show(name, words), numbers.get(name), metric) for name in shown_models]
    head = 0.1 + 0.155 * max(map(len, heads))
    line = _SIDE + 0.1 + 2 * _TEXT + 0.08
    width = max(2 * Sheet.MARGIN + (1 + len(shown_models)) * (_SIDE + _GAP), 6.4)
    region_name = str(table["region"][0])
    handles: list[Artist] = [
        Patch(facecolor=SALIENT, alpha=FILL, label="where the model looked"),
        Line2D([], [], color=OUTLINES[0], linewidth=2, label=f"annotation: {show(region_name, words)}"),
        Line2D([], [], linestyle="none", label="in bold: the prediction, red where wrong"),
    ]
    per_line = max(1, int((width - 0.3) // 2.35))
    top = (0.44 if title else 0.14) + LEGEND * -(-len(handles) // per_line) + 0.06
    sheet = Sheet(width, top + head + len(shown_images) * line + 0.06 + NOTE * len(notes))
    if title:
        sheet.text(sheet.MARGIN, 0.14, title, size=11.5, bold=True)
    sheet.legend(0.44 if title else 0.14, handles, min(per_line, len(handles)))
    for c, lines in enumerate(heads, 1):
        for k, (text, bold) in enumerate(reversed(lines), 1):
            x = sheet.MARGIN + c * (_SIDE + _GAP)
            sheet.text(x, top + head - 0.05 - 0.155 * k, text, size=8 if bold else 7.5, bold=bold, color=INK)
    for r, sample_id in enumerate(shown_images):
        y = top + head + r * line
        known = [decisions[m, sample_id] for m in shown_models if (m, sample_id) in decisions]
        _draw_image(sheet, sheet.MARGIN, y, known[0], class_names)
        for c, name in enumerate(shown_models, 1):
            row = decisions.get((name, sample_id))
            if row is not None:
                _draw_decision(sheet, sheet.MARGIN + c * (_SIDE + _GAP), y, row, draw, scored, class_names)
    sheet.notes(notes)
    return sheet.figure


def _one_of_each(examples: pl.DataFrame, asked: Mapping[str, str | None]) -> pl.DataFrame:
    """The rows of one dataset, method, binarization, region, target and seed."""
    table = examples.with_columns(
        pl.col("model", "dataset", "sample_id", "target", "method", "binarization", "region", "status").cast(pl.String),
        pl.col("seed").cast(pl.String),
    )
    for column, wanted in asked.items():
        names = table[column].unique(maintain_order=True).to_list()
        if wanted is not None:
            table = table.filter(pl.col(column) == one_of(f"{column} of these examples", wanted, table[column]))
        elif len(names) > 1:
            raise UsageError(
                f"these examples hold several {column}s ({', '.join(map(str, names[:5]))}); choose one: {column}=..."
            )
    return table


def _images(table: pl.DataFrame, models: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """Which images, those that most models keep first; of equally many in the order of the examples."""
    if wanted is not None:
        return chosen_of(table, "sample_id", wanted)
    kept = table.group_by("sample_id", maintain_order=True).agg(pl.col("model").n_unique().alias("models"))
    return [str(name) for name in kept.sort("models", descending=True, maintain_order=True)["sample_id"]]


def _numbers(leaderboard: pl.DataFrame | None, metric: str) -> dict[str, tuple[float | None, float | None]]:
    """Accuracy in percent and alignment of each model, in the leaderboard's order."""
    if leaderboard is None:
        return {}
    one_of("metric of this leaderboard", f"ea_{metric}", pl.Series(leaderboard.columns))
    if leaderboard["model"].is_duplicated().any():
        raise UsageError("the leaderboard must hold a row a model: choose one dataset, method and region, and one seed")
    return {row[0]: (row[1], row[2]) for row in leaderboard.select("model", "top1", f"ea_{metric}").iter_rows()}


def _head(name: str, numbers: tuple[float | None, float | None] | None, metric: str) -> list[tuple[str, bool]]:
    """What stands above a column: (text, whether it is bold)."""
    lines = [(text, True) for text in _broken(name)]
    if numbers is None:
        return lines
    accuracy, ea = numbers
    lines.append(("accuracy -" if accuracy is None else f"accuracy {accuracy:.1f} %", False))
    return [*lines, (f"EA ({metric_label(metric)}) " + ("-" if ea is None else f"{ea:.3f}"), False)]


def _broken(name: str) -> list[str]:
    """A name in lines that fit a column, three at most."""
    lines: list[str] = []
    while len(name) > _BOLD and len(lines) < 2:
        cut = max(name.rfind(mark, 0, _BOLD) for mark in " -_./:,=") + 1
        cut = cut if cut > _BOLD // 3 else _BOLD
        lines.append(name[:cut])
        name = name[cut:]
    return [*lines, fit(name, _BOLD)]


def _frame(sheet: Sheet, x: float, y: float) -> Axes:
    ax = sheet.axes(x, y, _SIDE, _SIDE)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_color(RULE)
    return ax


def _draw_image(sheet: Sheet, x: float, y: float, row: Mapping[str, Any], class_names: Sequence[str] | None) -> None:
    ax = _frame(sheet, x, y)
    image = picture_of(row["image"])
    if image is not None:
        smoothing = "nearest" if max(image.shape[:2]) <= SMALL else "antialiased"
        ax.imshow(image, interpolation=smoothing, aspect="auto")
    label = "no label" if row["label"] is None else class_word(row["label"], class_names)
    sheet.text(x, y + _SIDE + 0.05, fit(label, _BOLD), size=8, bold=True)
    sheet.text(x, y + _SIDE + 0.05 + _TEXT, _ending(row["sample_id"], _BOLD), size=7, color=MUTED)


def _ending(name: str, width: int) -> str:
    """The last characters of a name, which tell one image from the next."""
    return name if len(name) <= width else f"…{name[1 - width :]}"


def _draw_decision(
    sheet: Sheet,
    x: float,
    y: float,
    row: Mapping[str, Any],
    draw: Shown,
    scored: Sequence[str],
    class_names: Sequence[str] | None,
) -> None:
    """The faded image with map and outline; below it prediction and scores."""
    ax = _frame(sheet, x, y)
    image = picture_of(row["image"])
    undefined = row["status"] in ("flat_map", "error")
    pixels = None if undefined else _map(row, draw, small=image is not None and max(image.shape[:2]) <= SMALL)
    shape = next((picture.shape[:2] for picture in (image, pixels) if picture is not None), (1, 1))
    extent = (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5)
    ax.set_xlim(extent[:2])
    ax.set_ylim(extent[2:])
    if image is not None:
        grey = image.astype(np.float64) @ np.array([0.299, 0.587, 0.114]) / 255
        smoothing = "nearest" if max(shape) <= SMALL else "antialiased"
        ax.imshow(0.4 + 0.6 * grey, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation=smoothing, aspect="auto")
    if pixels is not None:
        ax.imshow(pixels, extent=extent, interpolation="nearest", aspect="auto")
    annotation = mask_of(row["annotation"])
    if annotation is not None:
        lines = outline_of(annotation, shape)
        ax.add_collection(LineCollection(lines, colors=OUTLINES[0], linewidths=1.5, capstyle="projecting"))
    prediction = class_word(row["prediction"], class_names)
    color = WRONG if row["correct"] is False else INK
    sheet.text(x, y + _SIDE + 0.05, fit(prediction, _BOLD), size=8, bold=True, color=color)
    sheet.text(x, y + _SIDE + 0.05 + _TEXT, fit(_scores(row, scored), _SMALL_PRINT), size=7.5)


def _map(row: Mapping[str, Any], draw: Shown, *, small: bool) -> NDArray[np.float64] | None:
    """(H, W, 4) of what to lay over the image; None where the run keeps none."""
    opacity = FILL if small else FILL_PHOTO
    if draw == "salient":
        salient = mask_of(row["salient"])
        return None if salient is None else fill_of(salient, opacity)
    saliency = picture_of(row["saliency"])
    if saliency is None:
        return None
    values = saliency[..., 0].astype(np.float64) / 255
    pixels = np.empty((*values.shape, 4))
    pixels[:] = matplotlib.colors.to_rgba(SALIENT)
    pixels[..., 3] = values * FILL
    return pixels


def _scores(row: Mapping[str, Any], scored: Sequence[str]) -> str:
    if row["status"] != "ok":
        return str(row["status"]).replace("_", " ")
    parts = []
    for metric in scored:
        value = row[metric]
        if metric in METRICS and METRICS[metric].binary:
            parts.append("-" if value is None else "hit" if value else "miss")
        else:
            parts.append(f"{metric_label(metric)} " + ("-" if value is None else f"{value:.2f}"))
    return ", ".join(parts)
