"""Figures of a run, drawn from its tables alone.

Every function returns a ``matplotlib.figure.Figure`` that belongs to no window and no global state;
:func:`save_figure` writes it as PNG and SVG, byte for byte the same each time.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

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
from PIL import Image

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.metrics.registry import METRICS, get_metric
from explanation_alignment.runs.files import write_atomically

__all__ = ["PALETTE", "ea_bars", "example_grid", "figure_bytes", "save_figure"]

#: Okabe and Ito's colours, told apart with any kind of colour vision (without black and yellow).
PALETTE: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")

_INK: Final = "#1f2328"
_MUTED: Final = "#59636e"
_RULE: Final = "#d1d9e0"
_SALIENT: Final = "#E8590C"
#: Its opacity, on drawings of few pixels and on photographs, which must show through.
_FILL: Final = 0.85
_FILL_PHOTO: Final = 0.55
#: Longer side in pixels up to which a picture is shown pixel by pixel.
_SMALL: Final = 64
#: Outlines of annotations: not the salient area's colour, and dark enough on white.
_OUTLINES: Final = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_WRONG: Final = "#b3261e"
TOY_WARNING: Final = "Generated toy data: these numbers say nothing about real images."

#: Inches: a line of the legend, a line of notes, a picture's side, the gap within a pair, a line of scores.
_LEGEND: Final = 0.19
_NOTE: Final = 0.17
_SIDE: Final = 0.86
_GAP: Final = 0.05
_SCORE: Final = 0.145

_Mask = NDArray[np.bool_]


def metric_label(metric: str) -> str:
    """A metric's short heading; its own name where it is not registered."""
    try:
        return get_metric(metric).label
    except UsageError:
        return metric


def _spelled(metric: str) -> str:
    """``IoU coverage``, ``pointing game (hit)``: the name in words, with the heading used for it."""
    name, label = metric.replace("_", " "), metric_label(metric)
    return label + name[len(label) :] if name.lower().startswith(label.lower()) else f"{name} ({label})"


class _Sheet:
    """A figure measured in inches from its top left corner, so that it can grow without anything in it moving."""

    MARGIN: Final = 0.14

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=150, facecolor="white")

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes whose top left corner is at (x, y)."""
        box = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def text(self, x: float, y: float, text: str, *, size: float = 8, color: str = _INK, bold: bool = False) -> None:
        """Text whose top left corner is at (x, y)."""
        weight = "bold" if bold else "normal"
        place = (x / self.width, 1 - y / self.height)
        self.figure.text(*place, text, fontsize=size, color=color, weight=weight, va="top")

    def rule(self, y: float) -> None:
        """A line from margin to margin."""
        ends = [self.MARGIN / self.width, 1 - self.MARGIN / self.width]
        self.figure.add_artist(Line2D(ends, [1 - y / self.height] * 2, color=_RULE, linewidth=0.7))

    def legend(self, y: float, handles: Sequence[Artist], columns: int) -> None:
        """A legend along the left margin, its upper edge at y."""
        self.figure.legend(
            handles=list(handles),
            loc="upper left",
            bbox_to_anchor=(self.MARGIN / self.width, 1 - y / self.height),
            ncols=columns,
            frameon=False,
            fontsize=8.5,
            labelcolor=_INK,
            handlelength=1.2,
            borderaxespad=0,
            borderpad=0,
            columnspacing=1.5,
        )

    def notes(self, lines: Sequence[tuple[str, str]]) -> None:
        """Lines of (text, colour) that end at the bottom margin."""
        for i, (text, color) in enumerate(lines):
            self.text(self.MARGIN, self.height - 0.08 - _NOTE * (len(lines) - i), text, color=color)


def _toy_note(toy: bool) -> list[tuple[str, str]]:
    return [(TOY_WARNING, _WRONG)] if toy else []


def _show(name: object, words: Mapping[str, str]) -> str:
    return words.get(str(name), str(name))


def _one_of(kind: str, name: str, column: pl.Series) -> str:
    known = [str(value) for value in column.unique().to_list()]
    if name not in known:
        raise UnknownNameError(kind, name, known)
    return name


def _chosen(table: pl.DataFrame, column: str, wanted: Sequence[str] | None) -> list[str]:
    """The wanted values of a column, or all of them in the table's order."""
    if wanted is None:
        return [str(v) for v in table[column].unique(maintain_order=True).to_list()]
    return [_one_of(column, name, table[column]) for name in wanted]


# ---------------------------------------------------------------------------------------------------- bars


def ea_bars(
    summary: pl.DataFrame,
    metric: str = "iou_coverage",
    *,
    group: str = "all",
    models: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    title: str | None = None,
    level: float = 0.95,
    toy: bool = False,
) -> Figure:
    """Explanation alignment as bars: models down the side, a panel per region (and a line of panels per method).

    A bar per dataset where there are several. Whiskers are the intervals; with several seeds a bar is the mean over
    them and the whisker goes from the smallest to the largest. The short black line across a bar is its chance level.

    Args:
        summary: a table with the columns of ``SUMMARY_SCHEMA``.
        metric: the metric to draw.
        group: the group to draw.
        models: which models, in this order; all in the table's order by default.
        regions: which regions, in this order; all by default.
        datasets: which datasets, in this order; all by default.
        labels: words to show instead of the names of models, datasets, regions and methods.
        title: heading; made from the metric by default.
        level: nominal coverage of the intervals, for the caption.
        toy: whether the data are generated; the figure then says so.

    Returns:
        The figure; its height grows with the number of bars.

    Raises:
        UnknownNameError: the table has no such metric, group, model, region or dataset.
        UsageError: nothing is left to draw.
    """
    words = labels or {}
    table = summary.filter(pl.col("metric") == _one_of("metric of this summary", metric, summary["metric"]))
    table = table.filter(pl.col("group") == _one_of("group of this summary", group, table["group"]))
    models = _chosen(table, "model", models)
    regions = _chosen(table, "region", regions)
    datasets = _chosen(table, "dataset", datasets)
    for column, names in (("model", models), ("region", regions), ("dataset", datasets)):
        table = table.filter(pl.col(column).is_in(names))
    if table.is_empty():
        raise UsageError("nothing to draw: no row of the summary has these models, regions and datasets")
    methods = list(table.select("method", "binarization").unique(maintain_order=True).iter_rows())
    bars = _bars(table)
    low, high = _limits(bars.values())

    label_width = min(3.4, 0.4 + 0.085 * max(len(_show(m, words)) for m in models))
    panel_width = 3.1 if len(regions) > 1 else 4.8
    panel_height = len(models) * max(0.36, 0.2 * len(datasets) + 0.12)
    above, between = 0.32 + 0.17 * (len(methods) > 1), 0.25  # of a panel: its title; the gap to the next
    below = 0.5
    notes = [*_toy_note(toy), (_bars_note(bars.values(), level, group), _MUTED)]
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(datasets)}
    handles: list[Artist] = [Patch(facecolor=colours[name], label=_show(name, words)) for name in datasets]
    if len(datasets) == 1:
        handles = []
    if any(bar.chance is not None for bar in bars.values()):
        handles.append(Line2D([], [], color=_INK, label="chance", marker="|", ms=9, mew=1.6, linestyle="none"))
    width = max(label_width + len(regions) * (panel_width + between), 6.4)
    per_line = max(1, int((width - 0.3) // (0.6 + 0.075 * max(len(_show(name, words)) for name in datasets))))
    head = 0.43 + _LEGEND * -(-len(handles) // per_line)
    sheet = _Sheet(width, head + len(methods) * (above + panel_height + below) + 0.16 + _NOTE * len(notes))
    sheet.text(sheet.MARGIN, 0.14, title or f"Explanation alignment: {_spelled(metric)}", size=11.5, bold=True)
    if handles:
        sheet.legend(0.43, handles, min(len(handles), per_line))
    thickness = 0.8 / len(datasets)
    for line, (method, binarization) in enumerate(methods):
        several = f"{_show(method, words)} ({binarization})" if len(methods) > 1 else None
        for place, region in enumerate(regions):
            top = head + line * (above + panel_height + below) + above
            left = label_width + place * (panel_width + between)
            ax = sheet.axes(left, top, panel_width, panel_height)
            heading = f"region: {_show(region, words)}"
            _bare(ax, heading if several is None else f"{several}\n{heading}")
            for m, model in enumerate(models):
                for d, dataset in enumerate(datasets):
                    bar = bars.get((model, dataset, method, binarization, region))
                    if bar is not None:
                        middle = m + (d - (len(datasets) - 1) / 2) * thickness
                        _draw_bar(ax, middle, thickness * 0.86, bar, colours[dataset], high - low)
            ax.set_ylim(len(models) - 0.5, -0.5)
            ax.set_xlim(low, high)
            ax.set_yticks(range(len(models)), [_show(m, words) for m in models] if place == 0 else [])
            if line == len(methods) - 1:
                ax.set_xlabel(f"EA ({metric_label(metric)})", fontsize=8.5, color=_MUTED)
    sheet.notes(notes)
    return sheet.figure


@dataclass(frozen=True, slots=True)
class _Bar:
    """What one bar shows."""

    ea: float | None
    low: float | None
    high: float | None
    chance: float | None
    counts: tuple[int, ...]  # n of each seed

    @property
    def reach(self) -> tuple[float, float]:
        """From where to where anything of it is drawn."""
        ends = [v for v in (self.ea, self.low, self.high, self.chance) if v is not None]
        return min(ends, default=0.0), max(ends, default=0.0)


def _bars(table: pl.DataFrame) -> dict[tuple[str, ...], _Bar]:
    """A bar per (model, dataset, method, binarization, region)."""
    keys = ["model", "dataset", "method", "binarization", "region"]
    single = pl.len() == 1
    per_bar = table.group_by(keys, maintain_order=True).agg(
        ea=pl.col("ea").mean(),
        low=pl.when(single).then(pl.col("ci_low").first()).otherwise(pl.col("ea").min()),
        high=pl.when(single).then(pl.col("ci_high").first()).otherwise(pl.col("ea").max()),
        chance=pl.when(pl.col("chance").null_count() == 0).then(pl.col("chance").mean()),
        counts=pl.col("n"),
    )
    return {
        tuple(row[key] for key in keys): _Bar(row["ea"], row["low"], row["high"], row["chance"], tuple(row["counts"]))
        for row in per_bar.iter_rows(named=True)
    }


def _limits(bars: Iterable[_Bar]) -> tuple[float, float]:
    reach = [bar.reach for bar in bars]
    low, high = min(0.0, *(r[0] for r in reach)), max(0.0, *(r[1] for r in reach))
    span = (high - low) or 1.0
    return low - (0.05 * span if low < 0 else 0), high + 0.22 * span  # room for the number behind the bar


def _draw_bar(ax: Axes, y: float, thickness: float, bar: _Bar, colour: str, span: float) -> None:
    if bar.ea is None:
        ax.text(0, y, " undefined", va="center", fontsize=7.5, color=_MUTED)
        return
    ax.barh(y, bar.ea, height=thickness, color=colour, zorder=2)
    if bar.low is not None and bar.high is not None:
        ax.plot([bar.low, bar.high], [y, y], color=_INK, linewidth=1.1, solid_capstyle="butt", zorder=4)
    if bar.chance is not None:
        ends = [y - thickness * 0.58, y + thickness * 0.58]
        ax.plot([bar.chance] * 2, ends, color="white", linewidth=3.0, solid_capstyle="butt", zorder=3)
        ax.plot([bar.chance] * 2, ends, color=_INK, linewidth=1.6, solid_capstyle="butt", zorder=5)
    ax.text(max(0, bar.reach[1]) + 0.02 * span, y, f"{bar.ea:.3f}", va="center", fontsize=8, color=_INK, zorder=6)


def _bare(ax: Axes, title: str) -> None:
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(_RULE)
    ax.axvline(0, color=_MUTED, linewidth=0.8, zorder=3)
    ax.grid(axis="x", color=_RULE, linewidth=0.6, zorder=0)
    ax.set_axisbelow(True)
    ax.tick_params(axis="x", labelsize=8, labelcolor=_MUTED, color=_RULE, length=0)
    ax.tick_params(axis="y", labelsize=9, labelcolor=_INK, length=0)
    ax.locator_params(axis="x", nbins=5)
    ax.set_title(title, loc="left", fontsize=9.5, color=_INK, pad=5)


def _bars_note(bars: Iterable[_Bar], level: float, group: str) -> str:
    counts = [bar.counts for bar in bars]
    low, high = min(n for c in counts for n in c), max(n for c in counts for n in c)
    n = f"n = {low:,}" if low == high else f"n = {low:,} to {high:,}"
    where = "" if group == "all" else f" in the group {group}"
    if max(map(len, counts)) == 1:
        return f"{n} decisions per bar{where}. Whisker: {100 * level:g} % interval."
    single = f" ({100 * level:g} % interval where there is one)" if min(map(len, counts)) == 1 else ""
    return f"{n} decisions per bar and seed{where}. Whisker: smallest to largest of the seeds{single}."


# -------------------------------------------------------------------------------------------------- examples


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
    regions = _chosen(table, "region", regions)
    table = table.filter(pl.col("region").is_in(regions))
    keys = ["model", "dataset", *(c for c in ("seed", "method", "binarization", "target") if table[c].n_unique() > 1)]
    lines = list(table.group_by(keys, maintain_order=True))
    notes = _toy_note(toy)
    if len(lines) > max_rows:
        notes.append((f"The first {max_rows} of {len(lines)} lines.", _MUTED))
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
    handles: list[Artist] = [Patch(facecolor=_SALIENT, alpha=_FILL, label="salient: where the model looked")]
    outlines = {region: _OUTLINES[i % len(_OUTLINES)] for i, region in enumerate(regions)}
    for region, colour in outlines.items():
        handles.append(Line2D([], [], color=colour, linewidth=2, label=f"annotation: {_show(region, words)}"))
    handles.append(Line2D([], [], linestyle="none", label="in bold: the prediction, red where wrong"))
    per_line = max(1, int((width - 0.3) // 2.35))
    top = (0.44 if title else 0.14) + _LEGEND * -(-len(handles) // per_line) + 0.1
    sheet = _Sheet(width, top + len(lines) * line + 0.1 + _NOTE * len(notes))
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
                    text = _score_line(row, scored, _show(row["region"], words))
                    sheet.text(x, y + head + _SIDE + 0.06 + k * _SCORE, text, size=7.5)
    sheet.notes(notes)
    return sheet.figure


def _columns(ids: Sequence[list[str]], limit: int) -> list[list[str]]:
    """Which examples each line shows: the shared ones in shared columns, then each line's own."""
    common = set(ids[0]).intersection(*ids[1:])
    shared = [i for i in ids[0] if i in common][:limit]
    return [shared + [i for i in own if i not in shared][: limit - len(shared)] for own in ids]


def _line_label(sheet: _Sheet, key: Mapping[str, Any], words: Mapping[str, str], middle: float) -> None:
    """The model in bold, below it the data and whatever else tells the lines apart."""
    model = _wrap(_show(key["model"], words), 18)[:3]
    rest = [f"on {_show(key['dataset'], words)}"]
    rest += [
        f"seed {value}" if name == "seed" else _show(value, words)
        for name, value in key.items()
        if name not in ("model", "dataset")
    ]
    small = [line for text in rest for line in _wrap(text, 24)[:2]]
    step = 0.155
    top = middle - step * (len(model) + len(small)) / 2
    for i, text in enumerate(model):
        sheet.text(sheet.MARGIN, top + i * step, text, size=9.5, bold=True)
    for i, text in enumerate(small, len(model)):
        sheet.text(sheet.MARGIN, top + i * step, text, color=_MUTED)


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
    sheet: _Sheet,
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
            spine.set_color(_RULE)
    heading, color = _heading(first, class_names), _WRONG if first["correct"] is False else _INK
    for i, text in enumerate(reversed(heading)):
        sheet.text(x, y - 0.18 - 0.16 * i, _fit(text, 24), size=8.5, color=color, bold=True)

    image = _picture(first["image"])
    undefined = first["status"] in ("flat_map", "error")
    salient = None if undefined else _mask(first["salient"])
    shape = next((picture.shape[:2] for picture in (image, salient) if picture is not None), (1, 1))
    extent = (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5)
    right.set_xlim(extent[:2])
    right.set_ylim(extent[2:])
    small = max(shape) <= _SMALL
    smoothing = "nearest" if small else "antialiased"
    if image is None:
        _write_across(left, "no image", _MUTED)
    else:
        left.imshow(image, interpolation=smoothing, aspect="auto")
        grey = image.astype(np.float64) @ np.array([0.299, 0.587, 0.114]) / 255
        # faded, so that what is drawn over it stands out
        right.imshow(
            0.5 + 0.5 * grey, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation=smoothing, aspect="auto"
        )
    if salient is not None:
        right.imshow(
            _fill(salient, _FILL if small else _FILL_PHOTO), extent=extent, interpolation="nearest", aspect="auto"
        )
    for row in decision:
        mask = _mask(row["annotation"])
        if mask is not None:
            colour = outlines[str(row["region"])]
            right.add_collection(
                LineCollection(_outline(mask, shape), colors=colour, linewidths=1.6, capstyle="projecting")
            )
    if salient is None:
        _write_across(right, _in_words(first["status"]) if undefined else "no map", _WRONG)


def _heading(row: Mapping[str, Any], class_names: Sequence[str] | None) -> list[str]:
    """The prediction, and where it is wrong the label: on one line if they fit."""
    prediction = _class(row["prediction"], class_names)
    if row["correct"] is not False:
        return [prediction]
    label = f"not {_class(row['label'], class_names)}"
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
        return f"{_fit(region, 12)}: {_in_words(row['status'])}"
    parts = []
    for metric in scored:
        value = row[metric]
        if METRICS[metric].binary:
            parts.append("-" if value is None else "hit" if value else "miss")
        else:
            parts.append(f"{metric_label(metric)} " + ("-" if value is None else f"{value:.2f}"))
    return f"{_fit(region, 12)}: {', '.join(parts)}"


def _class(index: int | None, names: Sequence[str] | None) -> str:
    if index is None:
        return "no prediction"
    return names[index] if names is not None and 0 <= index < len(names) else str(index)


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _picture(data: bytes | None) -> NDArray[np.uint8] | None:
    if data is None:
        return None
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def _mask(data: bytes | None) -> _Mask | None:
    if data is None:
        return None
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("L")) > 0


def _fill(mask: _Mask, opacity: float) -> NDArray[np.float64]:
    fill = np.zeros((*mask.shape, 4))
    fill[mask] = matplotlib.colors.to_rgba(_SALIENT, opacity)
    return fill


def _outline(mask: _Mask, shape: Sequence[int]) -> list[list[tuple[float, float]]]:
    """The mask's outline along the edges of its pixels, in the coordinates of an image of ``shape``."""
    sy, sx = shape[0] / mask.shape[0], shape[1] / mask.shape[1]
    padded = np.pad(mask, 1)
    segments: list[list[tuple[float, float]]] = []
    between_rows = padded[1:] != padded[:-1]
    for y in np.flatnonzero(between_rows.any(axis=1)):
        for start, stop in _spans(between_rows[y, 1:-1]):
            segments.append([(start * sx - 0.5, y * sy - 0.5), (stop * sx - 0.5, y * sy - 0.5)])
    between_columns = padded[:, 1:] != padded[:, :-1]
    for x in np.flatnonzero(between_columns.any(axis=0)):
        for start, stop in _spans(between_columns[1:-1, x]):
            segments.append([(x * sx - 0.5, start * sy - 0.5), (x * sx - 0.5, stop * sy - 0.5)])
    return segments


def _spans(flags: _Mask) -> list[tuple[int, int]]:
    """The runs of true values, as half-open ranges."""
    change = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in zip(change[::2], change[1::2], strict=True)]


# ---------------------------------------------------------------------------------------------------- saving


def figure_bytes(figure: Figure, kind: str = "svg", *, dpi: float = 150) -> bytes:
    """The figure as a file's content, the same bytes each time.

    Args:
        figure: any figure of this module.
        kind: ``"svg"`` or ``"png"``.
        dpi: pixels per inch of a PNG (and of the pictures within an SVG).

    Returns:
        The content of the file.
    """
    if kind not in ("svg", "png"):
        raise UsageError(f"kind must be 'svg' or 'png', got {kind!r}")
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "explanation-alignment", "svg.fonttype": "path"}):
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def save_figure(figure: Figure, folder: str | Path, name: str) -> tuple[Path, Path]:
    """Write ``<folder>/<name>.png`` and ``.svg``.

    Args:
        figure: any figure of this module.
        folder: made if it is not there.
        name: file name without extension.

    Returns:
        The paths of the PNG and of the SVG.
    """
    png, svg = Path(folder) / f"{name}.png", Path(folder) / f"{name}.svg"
    for path in (png, svg):
        content = figure_bytes(figure, path.suffix[1:])
        write_atomically(path, partial(_write, content=content))
    return png, svg


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
