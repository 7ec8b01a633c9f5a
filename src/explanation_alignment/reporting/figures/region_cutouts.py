"""One image with each of its regions cut out, and how each model's map lies on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.metrics.registry import METRICS
from explanation_alignment.reporting.figures.pictures import class_word, fill_of, fit, mask_of, outline_of, picture_of
from explanation_alignment.reporting.figures.sheet import (
    FILL_PHOTO,
    INK,
    LEGEND,
    MUTED,
    NOTE,
    OUTLINES,
    RULE,
    SALIENT,
    WRONG,
    Sheet,
    as_written,
    chosen_of,
    metric_label,
    show,
    toy_note,
)

__all__ = ["image_with_most_regions", "region_cutouts"]

#: Inches: a picture's side, the gap between two, a line of text.
_SIDE: Final = 0.98
_GAP: Final = 0.07
_LINE: Final = 0.15
_LABEL: Final = 1.6
#: How much of the image shows outside the region.
_GHOST: Final = 0.16
_SCORES: Final = ("iou_coverage", "pointing_game")


@as_written
def region_cutouts(
    examples: pl.DataFrame,
    *,
    sample_id: str | None = None,
    regions: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    title: str | None = None,
    toy: bool = False,
) -> Figure:
    """One image, its regions cut out side by side; below them a line for each model's (and method's) binarized map.

    A line shows the image in grey with the map, and each cut-out with what of the map lies there, its IoU and whether
    the map's maximum hits it. Cut-outs keep their place and size in the image: that a region is large is part of why
    some statistics rank it first.

    Args:
        examples: rows of a run's examples, as :func:`.example_grid` takes them.
        sample_id: which image; by default :func:`image_with_most_regions`.
        regions: which regions, in this order; all by default.
        models: which models, in this order; all by default.
        class_names: names to show instead of the class indices.
        labels: words to show instead of the names of models, regions and methods.
        title: heading.
        toy: whether the data are generated; the figure then says so.

    Returns:
        The figure; its height grows with the number of models, seeds and methods.

    Raises:
        UnknownNameError: the examples have no such image, region or model.
        UsageError: there is no example.
    """
    words = labels or {}
    if examples.is_empty():
        raise UsageError("no example to draw")
    names = ("model", "dataset", "sample_id", "method", "binarization", "region", "status")
    table = examples.with_columns(pl.col(name).cast(pl.String) for name in names)
    regions, models = chosen_of(table, "region", regions), chosen_of(table, "model", models)
    table = table.filter(pl.col("region").is_in(regions), pl.col("model").is_in(models))
    if sample_id is None:
        sample_id = image_with_most_regions(table)
    known = table["sample_id"].unique(maintain_order=True).to_list()
    if sample_id not in known:
        raise UnknownNameError("image among the examples", sample_id, known)
    table = table.filter(pl.col("sample_id") == sample_id)
    table = table.filter(pl.col("dataset") == table["dataset"][0])  # the same image may be in several test sets
    keys = ["model", "seed", "method", "binarization"]
    table = table.with_columns(_model=pl.col("model").replace_strict({name: i for i, name in enumerate(models)}))
    lines = [
        part for _, part in table.sort("_model", *keys[1:], maintain_order=True).group_by(keys, maintain_order=True)
    ]

    handles: list[Artist] = [Patch(facecolor=SALIENT, alpha=FILL_PHOTO, label="salient: where the model looked")]
    handles.append(Line2D([], [], color=OUTLINES[0], linewidth=1.6, label="the region's outline"))
    handles.append(Line2D([], [], linestyle="none", label="in bold: the prediction, red where wrong"))
    top = 0.44 if title else 0.14
    width = max(_LABEL + (1 + len(regions)) * (_SIDE + _GAP) + Sheet.MARGIN, 6.4)
    per_line = max(1, int((width - 0.3) // 2.7))
    head = top + LEGEND * -(-len(handles) // per_line) + 0.14 + _LINE
    step = _SIDE + _LINE + 0.22
    notes = [*toy_note(toy), (f"Image {sample_id}. A cut-out keeps its place and size in the image.", MUTED)]
    sheet = Sheet(width, head + _SIDE + 0.14 + len(lines) * step + 0.1 + NOTE * len(notes))
    if title:
        sheet.text(sheet.MARGIN, 0.14, title, size=11.5, bold=True)
    sheet.legend(top, handles, min(per_line, len(handles)))

    image = next((picture for data in table["image"] if (picture := picture_of(data)) is not None), None)
    masks = {region: _mask_in(table, region) for region in regions}
    size = next((a.shape[:2] for a in (image, *masks.values()) if a is not None), (1, 1))
    places = [_LABEL + i * (_SIDE + _GAP) for i in range(1 + len(regions))]
    for x, name in zip(places, ["", *regions], strict=True):
        sheet.text(x, head - _LINE - 0.02, fit(show(name, words), 14), size=9, bold=True)
    sheet.text(sheet.MARGIN, head + _SIDE / 2 - 0.08, "the image", size=9.5, bold=True)
    _draw(_picture_axes(sheet, places[0], head), image, None, None, size)
    for x, region in zip(places[1:], regions, strict=True):
        _draw(_picture_axes(sheet, x, head), image, masks[region], None, size, alone=True)
    y = head + _SIDE + 0.14
    seeds = table["seed"].n_unique() > 1
    for rows in lines:
        sheet.rule(y - 0.06)
        _draw_line(sheet, y, rows, regions, masks, image, size, places, class_names, words, told_seed=seeds)
        y += step
    sheet.notes(notes)
    return sheet.figure


def image_with_most_regions(examples: pl.DataFrame) -> str:
    """The first image of those that most models, seeds and methods explained and that have most annotated regions.

    Args:
        examples: rows of a run's examples, at least one.
    """
    counted = examples.group_by("sample_id", maintain_order=True).agg(
        lines=pl.struct("model", "seed", "method").n_unique(),
        regions=pl.col("region").filter(pl.col("annotation").is_not_null()).n_unique(),
    )
    best = counted.sort("lines", "regions", descending=True, maintain_order=True)
    return str(best["sample_id"][0])


def _mask_in(table: pl.DataFrame, region: str) -> NDArray[np.bool_] | None:
    of_region = table.filter(pl.col("region") == region)["annotation"].drop_nulls()
    return mask_of(of_region[0]) if len(of_region) else None


def _picture_axes(sheet: Sheet, x: float, y: float) -> Axes:
    ax = sheet.axes(x, y, _SIDE, _SIDE)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_color(RULE)
    return ax


def _draw_line(
    sheet: Sheet,
    y: float,
    rows: pl.DataFrame,
    regions: Sequence[str],
    masks: Mapping[str, NDArray[np.bool_] | None],
    image: NDArray[np.uint8] | None,
    size: tuple[int, ...],
    places: Sequence[float],
    class_names: Sequence[str] | None,
    words: Mapping[str, str],
    *,
    told_seed: bool,
) -> None:
    """One model's map on the image and on each region."""
    of_region = {str(row["region"]): row for row in rows.iter_rows(named=True)}
    first = next(iter(of_region.values()))
    undefined = first["status"] in ("flat_map", "error")
    told = [(fit(show(first["model"], words), 18), INK, True)]
    told += [(f"seed {first['seed']}", MUTED, False)] if told_seed else []
    told += [(fit(show(first["method"], words), 24), MUTED, False)]
    colour = WRONG if first["correct"] is False else INK
    told += [(fit(class_word(first["prediction"], class_names), 20), colour, True)]
    for i, (text, ink, bold) in enumerate(told):
        sheet.text(sheet.MARGIN, y + 0.14 + 0.19 * i, text, size=9.5 if i == 0 else 8.5, color=ink, bold=bold)
    for x, region in zip(places, [None, *regions], strict=True):
        row = first if region is None else of_region.get(region)
        salient = None if row is None or undefined else mask_of(row["salient"])
        mask = None if region is None else masks[region]
        _draw(_picture_axes(sheet, x, y), image, mask, salient, size, alone=region is not None)
        if region is not None:
            for i, text in enumerate(_score_lines(row)):
                sheet.text(x, y + _SIDE + 0.05 + i * _LINE, text, size=8)


def _draw(
    ax: Axes,
    image: NDArray[np.uint8] | None,
    mask: NDArray[np.bool_] | None,
    salient: NDArray[np.bool_] | None,
    size: tuple[int, ...],
    *,
    alone: bool = False,
) -> None:
    """The image, or with ``alone`` what of it lies in the mask; the salient area over it."""
    extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
    ax.set_xlim(extent[0], extent[1])
    ax.set_ylim(extent[2], extent[3])
    if alone and mask is None:
        ax.text(0.5, 0.5, "not there", transform=ax.transAxes, ha="center", va="center", fontsize=8, color=MUTED)
        return
    if image is not None:
        picture = image.astype(np.float64) / 255
        if salient is not None:
            picture = np.repeat((0.4 + 0.6 * picture @ np.array([0.299, 0.587, 0.114]))[..., None], 3, axis=2)
        if alone and mask is not None:
            inside = _resized(mask, picture.shape[:2])[..., None]
            picture = np.where(inside, picture, 1 - _GHOST * (1 - picture))
        ax.imshow(picture, extent=extent, interpolation="nearest", aspect="auto")
    if salient is not None:
        inside = salient & _resized(mask, salient.shape) if alone and mask is not None else salient
        ax.imshow(fill_of(inside, FILL_PHOTO), extent=extent, interpolation="nearest", aspect="auto")
    if alone and mask is not None:
        ax.add_collection(LineCollection(outline_of(mask, size), colors=OUTLINES[0], linewidths=0.9))


def _resized(mask: NDArray[np.bool_], shape: Sequence[int]) -> NDArray[np.bool_]:
    """The mask at another size, nearest neighbour; pictures of one example may be stored at different ones."""
    rows = np.arange(shape[0]) * mask.shape[0] // shape[0]
    columns = np.arange(shape[1]) * mask.shape[1] // shape[1]
    chosen: NDArray[np.bool_] = mask[rows[:, None], columns]
    return chosen


def _score_lines(row: Mapping[str, Any] | None) -> list[str]:
    if row is None:
        return []
    if row["status"] != "ok":
        return [str(row["status"]).replace("_", " ")]
    parts = []
    for metric in (name for name in _SCORES if name in row):
        value = row[metric]
        if METRICS[metric].binary:
            parts.append("-" if value is None else "hit" if value else "miss")
        else:
            parts.append(f"{metric_label(metric)} " + ("-" if value is None else f"{value:.2f}"))
    return [", ".join(parts)]
