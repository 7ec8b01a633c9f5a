"""A partial relation over models: what is left of two columns once others are held fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Final

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from explanation_alignment.errors import UsageError
from explanation_alignment.reporting.figures.labels import place_labels
from explanation_alignment.reporting.figures.scatter import families_of, family_handles, look_of, open_axes
from explanation_alignment.reporting.figures.sheet import LEGEND, MUTED, NOTE, RULE, Sheet, as_written, show, toy_note
from explanation_alignment.statistics.relations import relate, relation_residuals, relation_sentence

__all__ = ["relation_plot"]

#: Up to so many models every point gets its name; beyond it only the most influential one.
_NAMED: Final = 40


@as_written
def relation_plot(
    models: pl.DataFrame,
    *,
    outcome: str = "accuracy",
    predictor: str = "iou_coverage",
    controls: Sequence[str] = (),
    group: str | None = None,
    family: str | None = "family",
    labels: Mapping[str, str] | None = None,
    title: str | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
    toy: bool = False,
) -> Figure:
    """An added-variable plot: whether alignment goes with an outcome beyond accuracy, size or whatever is held fixed.

    Both axes are ranks less what the controls explain of them, so that the points' correlation is the coefficient of
    :func:`~explanation_alignment.statistics.relations.relate` (partial Spearman, or Spearman where nothing is held
    fixed), which stands below with its interval and permutation test. The line is least squares.

    Args:
        models: a row a model of one dataset, method, binarization and region, with a column ``model``; such as from
            :func:`~explanation_alignment.statistics.relations.model_table`.
        outcome: up the side: a column of numbers.
        predictor: along the bottom: another.
        controls: columns of numbers held fixed.
        group: a column of words held fixed.
        family: the column that tells colour and shape; left out where the table lacks it.
        labels: words to show instead of the names of models, columns and families.
        title: heading.
        level: nominal coverage of the interval.
        n_resamples: bootstrap resamples and permutations.
        seed: seed of both.
        toy: whether the data are generated; the figure then says so.

    Returns:
        The figure.

    Raises:
        UnknownNameError: there is no such column.
        UsageError: too few models, columns that cannot be related, or several rows a model.
    """
    words = labels or {}
    points = relation_residuals(models, outcome=outcome, predictor=predictor, controls=controls, group=group)
    statistic = "partial spearman" if controls or group else "spearman"
    found = relate(
        models, outcome=outcome, predictor=predictor, controls=controls, group=group,
        level=level, n_resamples=n_resamples, seed=seed,
    )  # fmt: skip
    [row] = found.filter(statistic=statistic).rows(named=True)
    if row["coefficient"] is None:
        raise UsageError(f"nothing to draw: {row['caution']}")
    whole = points.select("model").join(models, on="model", how="left", maintain_order="left")
    families, order = [""] * points.height, list[str]()
    if family is not None and family in whole.columns:
        families, order = families_of(whole[family])

    width, side, left = 6.6, 5.5, 0.75
    notes = [*toy_note(toy), *((line, MUTED) for line in wrap(relation_sentence(row), 104))]
    if row["n_dropped"]:
        notes.append((f"{row['n_dropped']} models lack a value and are left out.", MUTED))
    handles = family_handles(order, words)
    per_line = max(1, int((width - 0.3) // (0.5 + 0.075 * max((len(show(name, words)) for name in order), default=1))))
    top = 0.5 + LEGEND * -(-len(handles) // per_line) + 0.05
    sheet = Sheet(width, top + side * 0.78 + 0.6 + NOTE * len(notes))
    held = ", ".join(show(name, words) for name in (*controls, *([group] if group else [])))
    heading = f"{show(outcome, words)} and {show(predictor, words)}" + (f" at equal {held}" if held else "")
    sheet.text(sheet.MARGIN, 0.14, title or heading, size=11.5, bold=True)
    if handles:
        sheet.legend(0.46, handles, min(per_line, len(handles)))
    ax = sheet.axes(left, top, side, side * 0.78)
    beyond = f", beyond {held}" if held else ""
    open_axes(ax, f"rank of {show(predictor, words)}{beyond}", f"rank of {show(outcome, words)}{beyond}")
    x, y = points["predictor"].to_numpy(), points["outcome"].to_numpy()
    for values, limits in ((x, ax.set_xlim), (y, ax.set_ylim)):
        room = 0.08 * ((values.max() - values.min()) or 1.0)
        limits(values.min() - room, values.max() + room)
    ax.axhline(0, color=RULE, linewidth=0.9, zorder=0.6)
    ax.axvline(0, color=RULE, linewidth=0.9, zorder=0.6)
    # residuals have mean 0, so that the line goes through the middle
    ends = np.array([x.min(), x.max()])
    ax.plot(ends, ends * float(x @ y / (x @ x)), color=MUTED, linewidth=1.2, zorder=1.5)
    size = 26.0 if points.height <= _NAMED else 14.0
    for i, name in enumerate(order or [""]):
        chosen = np.array([own == name for own in families])
        colour, marker = look_of(i)
        ax.scatter(
            x[chosen],
            y[chosen],
            s=size,
            alpha=0.85,
            linewidths=0.4,
            edgecolors="white",
            zorder=3,
            color=colour,
            marker=marker,
        )
    named = [
        show(model, words) if points.height <= _NAMED or model == row["influential_model"] else None
        for model in points["model"]
    ]
    unplaced = place_labels(ax, np.column_stack([x, y]), np.full(x.size, np.sqrt(size) / 2), named)
    if unplaced:
        notes[-1] = (f"{notes[-1][0]} No room for the names of {len(unplaced)} models.", MUTED)
    sheet.notes(notes)
    return sheet.figure
