"""The table of results: accuracy, and each metric with interval, chance, adjusted value and denominators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from explanation_alignment.reporting.cells import Cell, cell, shown_as, span_of
from explanation_alignment.reporting.figures import metric_label
from explanation_alignment.statistics.tables import metric_columns

__all__ = ["MOST_LINES", "result_table"]

#: Lines a page has room for; the rest is told by a command.
MOST_LINES: Final = 1_000
#: Lines from which on the table scrolls in a box of its own.
_LONG: Final = 40

_KEYS: Final = ("model", "seed", "dataset", "method", "binarization", "region", "group")
_REASON_KEYS: Final = _KEYS[:-1]


def result_table(
    summary: pl.DataFrame,
    words: Mapping[str, str],
    level: float,
    *,
    grouped: bool = False,
    reasons: pl.DataFrame | None = None,
) -> Mapping[str, Any] | None:
    """Headings, rows and the words around a table of results.

    Args:
        summary: a table with the columns of ``SUMMARY_SCHEMA``.
        words: to show instead of names.
        level: nominal coverage of the intervals.
        grouped: whether the group is a column.
        reasons: from :func:`~explanation_alignment.statistics.undefined_reasons`; why scores are undefined.

    Returns:
        What the template shows; None where there is nothing to show.
    """
    if summary.is_empty():
        return None
    metrics = metric_columns(summary["metric"].unique().to_list())
    # a column that says the same on every line is said once, above the table
    seeds, methods, binarizations = (summary[c].n_unique() > 1 for c in ("seed", "method", "binarization"))
    names = ["Model", *(["Seed"] if seeds else []), "Data", *(["Method"] if methods or binarizations else [])]
    names += ["Region", *(["Group"] if grouped else [])]
    why = _reasons_by_line(reasons)
    lines = list(summary.group_by(_KEYS, maintain_order=True))
    rows: list[Mapping[str, Any]] = []
    previous: list[str] = []
    for key, part in lines[:MOST_LINES]:
        model, seed, dataset, method, binarization, region, group = key
        shown_method = shown_as(method, words) + (f" ({binarization})" if binarizations else "")
        described = [shown_as(model, words), *([str(seed)] if seeds else []), shown_as(dataset, words)]
        described += [shown_method] if methods or binarizations else []
        described += [shown_as(region, words), *([str(group)] if grouped else [])]
        by_metric = {row["metric"]: row for row in part.iter_rows(named=True)}
        rows.append(
            {
                "keys": _without_repeats(described, previous),
                "starts_model": bool(previous) and described[0] != previous[0],
                "accuracy": cell(part["accuracy"][0]),
                "scores": [_score_cells(by_metric.get(metric)) for metric in metrics],
                "n": span_of(part["n"]),
                "undefined": span_of(part["n_undefined"]),
                "reasons": why.get(key[:-1], []),
            }
        )
        previous = described
    fixed = [] if seeds else [f"seed {summary['seed'][0]}"]
    if not (methods or binarizations):
        fixed.append(f"method {shown_as(summary['method'][0], words)}")
    if not binarizations:
        fixed.append(f"maps binarized with {summary['binarization'][0]}")
    return {
        "names": names,
        "metrics": [{"label": metric_label(m), "name": m} for m in metrics],
        "rows": rows,
        "fixed": ", ".join(fixed),
        "level": f"{100 * level:g}\u00a0%",
        "uneven": any(len(set(part["n"].to_list())) > 1 for _, part in lines),
        "unreliable": bool(summary["unreliable"].any()),
        "long": len(rows) > _LONG,
        "left_out": max(0, len(lines) - MOST_LINES),
    }


def _reasons_by_line(reasons: pl.DataFrame | None) -> Mapping[tuple[object, ...], list[Mapping[str, Any]]]:
    """Line of the table -> each reason with how many scores it left undefined."""
    found: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    if reasons is None or reasons.is_empty():
        return found
    for (*key, reason), part in reasons.group_by([*_REASON_KEYS, "reason"], maintain_order=True):
        found.setdefault(tuple(key), []).append({"counts": span_of(part["n"]), "reason": str(reason).replace("_", " ")})
    return found


def _without_repeats(current: Sequence[str], previous: Sequence[str]) -> list[Mapping[str, Any]]:
    """Cells of the keys; one that repeats the line above, with all before it, is shown faintly."""
    cells: list[Mapping[str, Any]] = []
    same = bool(previous)
    for i, text in enumerate(current):
        same = same and text == previous[i]
        cells.append({"text": text, "repeat": same and i < len(current) - 1})
    return cells


def _score_cells(row: Mapping[str, Any] | None) -> Mapping[str, Cell | str | bool | None]:
    if row is None or row["ea"] is None:
        nothing = cell(None)
        empty: dict[str, Cell | str | bool | None] = dict.fromkeys(("ea", "low", "high", "chance", "adjusted"), nothing)
        return {**empty, "bar": None, "unreliable": False}
    bar = min(max(row["ea"], 0.0), 1.0)
    return {
        "ea": cell(row["ea"]),
        "low": cell(row["ci_low"]),
        "high": cell(row["ci_high"]),
        "chance": cell(row["chance"]),
        "adjusted": cell(row["adjusted"]),
        "bar": f"{bar:.4f}",
        "unreliable": bool(row["unreliable"]),
    }
