"""Decisions to look at, a line per model and dataset."""

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
    show,
    toy_note,
)

__all__ = ["example_grid"]

#: Inches: a picture's side, the gap within a pair, a line of scores.
_SIDE: Final = 0.86
_GAP: Final = 0.05
_SCORE: Final = 0.145


@as_written
def example_grid(
    examples: pl.DataFrame,
    *,
    max_columns: int = 5,
    max_rows: int = 12,
    regions: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    title: str | None = None,
    toy: bool = False,
) -> Figure:
    """Decisions to look at: a line per model and dataset, an example per column.

    An example is a pair of pictures: the image as the model saw it, and the same in grey with the annotations as
    outlines and the binarized map as a filled area. Above it the prediction (and the label, where it is wrong), below
    it the IoU with each region and whether the map's maximum hits it.

    Args:
        examples: rows of a run's examples: the key columns, label, prediction, correct, status, the metrics, and the
            Binary columns ``image`` (PNG, RGB), ``annotation`` and ``salient`` (PNG, 0 or not), null where there is
            none. The rows of several regions of one decision become one example.
        max_columns: examples per line; those images that all lines share come first, in the same columns.
        max_rows: lines at most; the figure says how many there are.
        regions: which regions to outline, in this order; all by default.
        class_names: names to show instead of the class indices of labels and predictions.
        labels: words to show instead of the names of models, datasets, regions and methods.
        title: heading.
        toy: whether the data are generated; the figure then says so.

    Returns:
        The figure.

    Raises:
        UnknownNameError: a region is not among the examples.
        UsageError: there is no example, or max_columns or max_rows is below 1.
    """
    words = labels or {}
    if examples.is_empty():
        raise UsageError("no example to draw")
    if max_columns < 1 or max_rows < 1:
        raise UsageError(f"max_columns and max_rows must be at least 1, got {max_columns} and {max_rows}")
    names = ("model", "dataset", "sample_id", "target", "method", "binarization", "region", "status")
    table = examples.with_columns(pl.col(name).cast(pl.String) for name in names)
    regions = chosen_of(table, "region", regions)
    table = table.filter(pl.col("region").is_in(regions))
    keys = ["model", "dataset", *(c for c in ("seed", "method", "binarization", "target") if table[c].n_unique() > 1)]
    lines = list(table.group_by(keys, maintain_order=True))
    notes = toy_note(toy)
    if len(lines) > max_rows:
        notes.append((f"The first {max_rows} of {len(lines)} lines.", MUTED))
        lines = lines[:max_rows]
    chosen = _columns([rows["sample_id"].unique(maintain_order=True).to_list() for _, rows in lines], max_columns)
    columns = max(map(len, chosen))
    scored = [m for m in ("iou_coverage", "pointing_game") if m in table.columns]

    pair, between = 2 * _SIDE + _GAP, 0.22
    shown = table.filter(pl.col("sample_id").is_in([i for ids in chosen for i in ids])).rows(named=True)
    head = 0.08 + 0.16 * max(len(_heading(row, class_names)) for row in shown)
    foot = 0.09 + _SCORE * len(regions) * bool(scored)
    label_width, line = 1.75, head + _SIDE + foot + 0.1
    width = max(label_width + columns * (pair + between), 6.4)
    handles: list[Artist] = [Patch(facecolor=SALIENT, alpha=FILL, label="salient: where the model looked")]
    outlines = {region: OUTLINES[i % len(OUTLINES)] for i, region in enumerate(regions)}
    for region, colour in outlines.items():
        handles.append(Line2D([], [], color=colour, linewidth=2, label=f"annotation: {show(region, words)}"))
    handles.append(Line2D([], [], linestyle="none", label="in bold: the prediction, red where wrong"))
    per_line = max(1, int((width - 0.3) // 2.35))
    top = (0.44 if title else 0.14) + LEGEND * -(-len(handles) // per_line) + 0.1
    sheet = Sheet(width, top + len(lines) * line + 0.1 + NOTE * len(notes))
    if title:
        sheet.text(sheet.MARGIN, 0.14, title, size=11.5, bold=True)
    sheet.legend(0.44 if title else 0.14, handles, min(per_line, len(handles)))
    for i, ((key, rows), ids) in enumerate(zip(lines, chosen, strict=True)):
        y = top + i * line
        if i:
            sheet.rule(y - 0.03)
        _line_label(sheet, dict(zip(keys, key, strict=True)), words, y + head + _SIDE / 2)
        for c, sample_id in enumerate(ids):
            decision = rows.filter(pl.col("sample_id") == sample_id).rows(named=True)
            x = label_width + c * (pair + between)
            _draw_example(sheet, x, y + head, decision, outlines, class_names)
            for k, row in enumerate(sorted(decision, key=lambda row: regions.index(row["region"]))):
                if scored:
                    text = _score_line(row, scored, show(row["region"], words))
                    sheet.text(x, y + head + _SIDE + 0.06 + k * _SCORE, text, size=7.5)
    sheet.notes(notes)
    return sheet.figure


def _columns(ids: Sequence[list[str]], limit: int) -> list[list[str]]:
    """Which examples each line shows: the shared ones in shared columns, then each line's own."""
    common = set(ids[0]).intersection(*ids[1:])
    shared = [i for i in ids[0] if i in common][:limit]
    return [shared + [i for i in own if i not in shared][: limit - len(shared)] for own in ids]


def _line_label(sheet: Sheet, key: Mapping[str, Any], words: Mapping[str, str], middle: float) -> None:
    """The model in bold, below it the data and whatever else tells the lines apart."""
    model = _wrap(show(key["model"], words), 18)[:3]
    rest = [f"on {show(key['dataset'], words)}"]
    rest += [
        f"seed {value}" if name == "seed" else show(value, words)
        for name, value in key.items()
        if name not in ("model", "dataset")
    ]
    small = [line for text in rest for line in _wrap(text, 24)[:2]]
    step = 0.155
    top = middle - step * (len(model) + len(small)) / 2
    for i, text in enumerate(model):
        sheet.text(sheet.MARGIN, top + i * step, text, size=9.5, bold=True)
    for i, text in enumerate(small, len(model)):
        sheet.text(sheet.MARGIN, top + i * step, text, color=MUTED)


def _wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` characters, broken after a separator where there is one."""
    lines = []
    while len(text) > width:
        cut = max(text.rfind(mark, 0, width) for mark in " -_./:,=") + 1
        cut = cut if cut > width // 3 else width
        lines.append(text[:cut].rstrip())
        text = text[cut:]
    return [*lines, text]


def _draw_example(
    sheet: Sheet,
    x: float,
    y: float,
    decision: Sequence[Mapping[str, Any]],
    outlines: Mapping[str, str],
    class_names: Sequence[str] | None,
) -> None:
    """The image, and beside it what was looked at; ``decision`` has a row per region."""
    first = decision[0]
    left, right = (sheet.axes(x + i * (_SIDE + _GAP), y, _SIDE, _SIDE) for i in range(2))
    for ax in (left, right):
        ax.set_xticks([])
        ax.set_yticks([])
        for spine in ax.spines.values():
            spine.set_color(RULE)
    heading, color = _heading(first, class_names), WRONG if first["correct"] is False else INK
    for i, text in enumerate(reversed(heading)):
        sheet.text(x, y - 0.18 - 0.16 * i, fit(text, 24), size=8.5, color=color, bold=True)

    image = picture_of(first["image"])
    undefined = first["status"] in ("flat_map", "error")
    salient = None if undefined else mask_of(first["salient"])
    shape = next((picture.shape[:2] for picture in (image, salient) if picture is not None), (1, 1))
    extent = (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5)
    right.set_xlim(extent[:2])
    right.set_ylim(extent[2:])
    small = max(shape) <= SMALL
    smoothing = "nearest" if small else "antialiased"
    if image is None:
        _write_across(left, "no image", MUTED)
    else:
        left.imshow(image, interpolation=smoothing, aspect="auto")
        grey = image.astype(np.float64) @ np.array([0.299, 0.587, 0.114]) / 255
        # faded, so that what is drawn over it stands out
        right.imshow(
            0.5 + 0.5 * grey, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation=smoothing, aspect="auto"
        )
    if salient is not None:
        right.imshow(
            fill_of(salient, FILL if small else FILL_PHOTO), extent=extent, interpolation="nearest", aspect="auto"
        )
    for row in decision:
        mask = mask_of(row["annotation"])
        if mask is not None:
            colour = outlines[str(row["region"])]
            right.add_collection(
                LineCollection(outline_of(mask, shape), colors=colour, linewidths=1.6, capstyle="projecting")
            )
    if salient is None:
        _write_across(right, _in_words(first["status"]) if undefined else "no map", WRONG)


def _heading(row: Mapping[str, Any], class_names: Sequence[str] | None) -> list[str]:
    """The prediction, and where it is wrong the label: on one line if they fit."""
    prediction = class_word(row["prediction"], class_names)
    if row["correct"] is not False:
        return [prediction]
    label = f"not {class_word(row['label'], class_names)}"
    together = f"{prediction}, {label}"
    return [together] if len(together) <= 24 else [prediction, label]


def _write_across(ax: Axes, text: str, color: str) -> None:
    paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.9, "pad": 1.5}
    ax.text(
        0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=8, color=color, bbox=paper, zorder=9
    )


def _in_words(status: object) -> str:
    return str(status).replace("_", " ")


def _score_line(row: Mapping[str, Any], scored: Sequence[str], region: str) -> str:
    if row["status"] != "ok":
        return f"{fit(region, 12)}: {_in_words(row['status'])}"
    parts = []
    for metric in scored:
        value = row[metric]
        if METRICS[metric].binary:
            parts.append("-" if value is None else "hit" if value else "miss")
        else:
            parts.append(f"{metric_label(metric)} " + ("-" if value is None else f"{value:.2f}"))
    return f"{fit(region, 12)}: {', '.join(parts)}"
