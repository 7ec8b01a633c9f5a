"""Models as points: accuracy against explanation alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.reporting.figures.labels import place_labels
from explanation_alignment.reporting.figures.sheet import (
    INK,
    LEGEND,
    MUTED,
    NOTE,
    PALETTE,
    RULE,
    Sheet,
    as_written,
    metric_label,
    show,
    spelled,
    toy_note,
)
from explanation_alignment.statistics.leaderboards import leaderboard_metrics

__all__ = ["accuracy_scatter", "families_of", "family_handles", "look_of", "open_axes"]

_Floats = NDArray[np.float64]

#: A shape beside each colour, so that families differ without colour too.
_MARKERS: Final = ("o", "s", "^", "D", "v", "P")
#: Up to so many models every point gets its name.
_NAMED: Final = 40
#: Marker area in square points is this times sqrt(parameters) / 500: the published areas, enlarged for paper.
_ENLARGED: Final = 3.0
_MOST_FAMILIES: Final = 12
_UNKNOWN_AREA: Final = 20.0
#: Below four million parameters: a smaller marker would vanish behind its bars.
_SMALLEST_AREA: Final = 12.0
_SIZES: Final = (5e6, 25e6, 100e6, 300e6)


@as_written
def accuracy_scatter(
    table: pl.DataFrame,
    metric: str = "iou_coverage",
    *,
    names: Sequence[str] | None = None,
    reported: pl.DataFrame | None = None,
    labels: Mapping[str, str] | None = None,
    title: str | None = None,
    level: float = 0.95,
    toy: bool = False,
) -> Figure:
    """Accuracy against explanation alignment, a point a model: who is right, and who for the right reason.

    Bars are the intervals of both. Colour and shape tell the family; the marker's area grows with sqrt(parameters), in
    the published proportion. The dashed line is the mean chance level of the models, the band around it goes from
    the lowest to the highest; where that lies so far off that the points would be crowded, it is told in words.

    Args:
        table: from :func:`~explanation_alignment.statistics.leaderboards.leaderboard`, a row a model.
        metric: the metric up the side.
        names: the models to name; by default all of up to 40 models, else none. Where there is no room for a name the
            figure says so.
        reported: published values to show beside ours as hollow markers, joined by a line: columns ``model``,
            ``accuracy`` and ``ea``, shares.
        labels: words to show instead of the names of models and families.
        title: heading; made from the metric by default.
        level: nominal coverage of the intervals, for the caption.
        toy: whether the data are generated; the figure then says so. Set where the table says it.

    Returns:
        The figure.

    Raises:
        UnknownNameError: the table has no such metric or model.
        UsageError: a model has several rows, no model has both values, or reported values go beside toy data.
    """
    words = labels or {}
    toy = toy or "toy" in table.columns
    known = leaderboard_metrics(table)
    if metric not in known:
        raise UnknownNameError("metric of this leaderboard", metric, known)
    column = f"ea_{metric}"
    if table["model"].is_duplicated().any():
        several = table.filter(pl.col("model").is_duplicated())["model"][0]
        varying = [name for name in ("seed", "dataset", "method", "binarization", "region") if name in table.columns]
        raise UsageError(
            f"{several!r} has several rows, which differ in {', '.join(varying) or 'nothing'}: make the leaderboard of "
            "one of each (methods=, regions=, datasets=, pool_seeds=)"
        )
    if reported is not None and toy:
        raise UsageError("reported values are not shown beside toy (generated) data: the numbers say nothing of them")
    models = table.drop_nulls(["top1", column]).sort("model")
    if models.is_empty():
        raise UsageError("nothing to draw: no model has both an accuracy and a value of this metric")
    for name in names or ():
        if name not in models["model"]:
            raise UnknownNameError("model of this leaderboard", name, models["model"].to_list())
    named = set(names if names is not None else models["model"] if models.height <= _NAMED else ())

    points = models.select(pl.col("top1") / 100, column).to_numpy()
    bounds = models.select(
        pl.col("top1_low", "top1_high") / 100, f"{column}_low", f"{column}_high"
    ).to_numpy()  # NaN where unknown
    families, order = families_of(models["family"])
    areas = _areas(models["param_count"].cast(pl.Float64).to_numpy() * 1e6)
    chance = models[f"{column}_chance"].drop_nulls().to_numpy()

    drawn = _reported_points(models, reported)
    far_chance = _is_far(chance, np.concatenate([points[:, 1], bounds[:, 2], bounds[:, 3], drawn[:, 1]]))

    side = 5.2 if len(named) <= 8 else 6.4
    handles = _handles(order, words, reported, chance=bool(chance.size) and not far_chance)
    sizes = _size_handles() if models["param_count"].drop_nulls().len() else []
    notes = [*toy_note(toy), (_note(models, column, level, len(named)), MUTED)]
    if far_chance:
        notes.append(
            (f"Chance level: {chance.mean():.3f} ({chance.min():.3f} to {chance.max():.3f}), off the axis.", MUTED)
        )
    width, left = side + 1.15, 0.75
    per_line = max(1, int((width - 0.3) // (0.5 + 0.075 * max(len(str(h.get_label())) for h in handles))))
    top = 0.43 + LEGEND * -(-len(handles) // per_line) + (0.3 if sizes else 0.1)
    unplaced_room = NOTE if named else 0
    sheet = Sheet(width, top + side * 0.78 + 0.62 + NOTE * len(notes) + unplaced_room)
    sheet.text(
        sheet.MARGIN, 0.14, title or f"Accuracy and explanation alignment: {spelled(metric)}", size=11.5, bold=True
    )
    sheet.legend(0.43, handles, min(per_line, len(handles)))
    if sizes:
        sheet.legend(0.43 + LEGEND * -(-len(handles) // per_line), sizes, len(sizes))
    ax = sheet.axes(left, top, side, side * 0.78)
    open_axes(ax, "accuracy", f"EA ({metric_label(metric)})")
    _limits(ax, points, bounds, chance[:0] if far_chance else chance, drawn)
    if chance.size and not far_chance:
        ax.axhspan(float(chance.min()), float(chance.max()), color=RULE, alpha=0.5, linewidth=0, zorder=0.5)
        ax.axhline(float(chance.mean()), color=MUTED, linewidth=1, linestyle=(0, (5, 3)), zorder=0.7)
    for place, family in enumerate(order):
        chosen = np.array([own == family for own in families])
        colour, marker = look_of(place)
        _draw(ax, points[chosen], bounds[chosen], areas[chosen], colour, marker, models.height)
        at = drawn[chosen]
        there = ~np.isnan(at).any(axis=1)
        for ours, theirs in zip(points[chosen][there], at[there], strict=True):
            ax.plot(*np.stack([ours, theirs]).T, color=colour, linewidth=0.6, alpha=0.7, zorder=2)
        if there.any():
            _hollow(ax, at[there], areas[chosen][there], colour, marker)
    shown = [show(name, words) if name in named else None for name in models["model"]]
    occupied = np.concatenate([points, drawn[~np.isnan(drawn).any(axis=1)]])
    radii = np.sqrt(np.concatenate([areas, areas[~np.isnan(drawn).any(axis=1)]])) / 2
    across = np.column_stack([bounds[:, 0], points[:, 1], bounds[:, 1], points[:, 1]])
    upright = np.column_stack([points[:, 0], bounds[:, 2], points[:, 0], bounds[:, 3]])
    bars = np.concatenate([across, upright])
    names_of_all = [*shown, *[None] * (len(occupied) - len(points))]
    unplaced = place_labels(ax, occupied, radii, names_of_all, bars=bars[~np.isnan(bars).any(axis=1)])
    if unplaced:
        text = f"No room for the names of {len(unplaced)}: {', '.join(unplaced)}."
        notes.append((text if len(text) < 110 else f"No room for the names of {len(unplaced)} models.", MUTED))
    sheet.notes(notes)
    return sheet.figure


def families_of(families: pl.Series) -> tuple[list[str], list[str]]:
    """The family of each model, and the families in the order of their looks.

    Where there are more than can be told apart, the rarest are taken together.
    """
    named = families.fill_null(_UNKNOWN)
    counts = named.value_counts(sort=True).sort("count", named.name, descending=[True, False])
    if counts.height > _MOST_FAMILIES:
        kept = counts[named.name][: _MOST_FAMILIES - 1].to_list()
        named = pl.Series([name if name in kept else _OTHERS for name in named])
    order = sorted(set(named), key=lambda family: (family in (_UNKNOWN, _OTHERS), family))
    return named.to_list(), order


_UNKNOWN: Final = "unknown family"
_OTHERS: Final = "other families"


def look_of(place: int) -> tuple[str, str]:
    """Colour and shape of the family at this place; each differs from the next in both."""
    return PALETTE[place % len(PALETTE)], _MARKERS[(place + place // len(PALETTE)) % len(_MARKERS)]


def family_handles(families: Sequence[str], words: Mapping[str, str]) -> list[Artist]:
    """A legend's entries."""
    handles: list[Artist] = []
    for place, family in enumerate(families):
        colour, marker = look_of(place)
        label = show(family, words)
        handles.append(Line2D([], [], color=colour, marker=marker, ms=5.5, linestyle="none", label=label))
    return handles


def open_axes(ax: Axes, below: str, beside: str) -> None:
    """Two plain axes with a faint grid, for points."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(RULE)
    ax.grid(color=RULE, linewidth=0.5, alpha=0.7, zorder=0)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8, labelcolor=MUTED, color=RULE, length=0)
    ax.set_xlabel(below, fontsize=9, color=INK)
    ax.set_ylabel(beside, fontsize=9, color=INK)
    ax.locator_params(nbins=6)


def _areas(parameters: _Floats) -> _Floats:
    areas: _Floats = np.maximum(_ENLARGED * np.sqrt(parameters) / 500, _SMALLEST_AREA)
    return np.where(np.isnan(areas), _UNKNOWN_AREA, areas)


def _handles(
    families: Sequence[str], words: Mapping[str, str], reported: pl.DataFrame | None, *, chance: bool
) -> list[Artist]:
    handles = family_handles(families, words)
    if chance:
        handles.append(Line2D([], [], color=MUTED, linewidth=1, linestyle=(0, (5, 3)), label="chance"))
    if reported is not None:
        handles.append(
            Line2D([], [], color=MUTED, marker="o", markerfacecolor="none", ms=5.5, linestyle="none", label="reported")
        )
    return handles


def _size_handles() -> list[Artist]:
    return [
        Line2D([], [], color=MUTED, marker="o", linestyle="none", alpha=0.7, markeredgewidth=0,
               ms=float(np.sqrt(_areas(np.array([size]))[0])), label=f"{size / 1e6:.0f} M parameters")
        for size in _SIZES
    ]  # fmt: skip


def _reported_points(models: pl.DataFrame, reported: pl.DataFrame | None) -> _Floats:
    """(models, 2) what was reported of each; NaN where nothing was."""
    if reported is None:
        return np.full((models.height, 2), np.nan)
    beside = models.select("model").join(
        reported.select("model", "accuracy", "ea").unique("model"), on="model", how="left", maintain_order="left"
    )
    values: _Floats = beside.select(pl.col("accuracy", "ea").cast(pl.Float64)).to_numpy()
    return values


def _is_far(chance: _Floats, values: _Floats) -> bool:
    """Whether showing the chance levels would leave the points less than half of the axis."""
    if not chance.size:
        return False
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return max(low - float(chance.min()), float(chance.max()) - high) > max(high - low, 0.02)


def _limits(ax: Axes, points: _Floats, bounds: _Floats, chance: _Floats, reported: _Floats) -> None:
    """Around all that is drawn, with room for names."""
    for axis, (low, high) in enumerate(((0, 1), (2, 3))):
        values = [points[:, axis], reported[:, axis], bounds[:, low], bounds[:, high]]
        values += [chance] if axis else []
        together = np.concatenate(values)
        smallest, largest = np.nanmin(together), np.nanmax(together)
        room = 0.07 * ((largest - smallest) or 0.1)
        (ax.set_ylim if axis else ax.set_xlim)(smallest - room, largest + room)


def _draw(ax: Axes, points: _Floats, bounds: _Floats, areas: _Floats, colour: str, marker: str, models: int) -> None:
    faint = 0.55 if models <= _NAMED else 0.22
    for (x, y), (left, right, low, high) in zip(points, bounds, strict=True):
        ax.plot([left, right], [y, y], color=colour, linewidth=0.9, alpha=faint, zorder=1.5, solid_capstyle="butt")
        ax.plot([x, x], [low, high], color=colour, linewidth=0.9, alpha=faint, zorder=1.5, solid_capstyle="butt")
    looks = {"color": colour, "marker": marker, "alpha": 0.85, "linewidths": 0.4, "edgecolors": "white"}
    ax.scatter(points[:, 0], points[:, 1], s=areas, zorder=3, **looks)  # type: ignore[arg-type]


def _hollow(ax: Axes, points: _Floats, areas: _Floats, colour: str, marker: str) -> None:
    looks = {"facecolors": "none", "edgecolors": colour, "linewidths": 0.9, "marker": marker}
    ax.scatter(points[:, 0], points[:, 1], s=areas, zorder=2.4, **looks)  # type: ignore[arg-type]


def _note(models: pl.DataFrame, column: str, level: float, named: int) -> str:
    n = models["n_images"]
    low, high = int(n.min() or 0), int(n.max() or 0)  # type: ignore[arg-type]
    images = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    undefined = int(models[f"{column}_undefined"].max() or 0)  # type: ignore[arg-type]
    left_out = f", up to {undefined:,} of them without a score" if undefined else ""
    which = "" if named else " None is named."
    return f"{models.height} models, {images} images{left_out}. Bars: {100 * level:g} % intervals.{which}"
