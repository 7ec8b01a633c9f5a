"""The report: one HTML file that holds everything it shows, made from plain tables.

It loads nothing (no script, no font, no address), follows the reader's light or dark setting, and prints. Every text
that comes from a run is escaped; every number keeps its full value in the ``value`` of its ``data`` element.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from explanation_alignment.errors import UsageError
from explanation_alignment.reporting.figures import figure_bytes, metric_label
from explanation_alignment.reporting.text import TOY_WARNING
from explanation_alignment.runs.schema import SUMMARY_SCHEMA
from explanation_alignment.statistics.tables import metric_columns

__all__ = ["Picture", "Section", "Table", "render_report"]

_NOTHING: Final = "\u2013"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a section.

    Attributes:
        headers: column headings.
        rows: cells; numbers are right-aligned (floats with three decimals), None is a dash, booleans yes or no.
        caption: a line above the table.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str | None = None

    def __post_init__(self) -> None:
        """Refuse rows of another width than the headings."""
        for row in self.rows:
            if len(row) != len(self.headers):
                raise UsageError(f"a table row has {len(row)} cells, expected {len(self.headers)}: {list(row)!r}")


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of a section, held in the page itself.

    Attributes:
        data: content of an SVG or PNG file.
        alt: what it shows, for those who cannot see it.
        caption: a line below it.
    """

    data: bytes
    alt: str
    caption: str | None = None

    @classmethod
    def of(cls, figure: Figure, alt: str, caption: str | None = None) -> Picture:
        """A matplotlib figure as SVG."""
        return cls(figure_bytes(figure), alt, caption)

    @property
    def source(self) -> str:
        """The content as a data address."""
        kind = "image/png" if self.data.startswith(b"\x89PNG") else "image/svg+xml"
        return f"data:{kind};base64,{base64.b64encode(self.data).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report, in the order: paragraphs, pictures, tables, note.

    Attributes:
        title: heading.
        paragraphs: plain text.
        tables: tables.
        pictures: figures.
        note: small print below.
    """

    title: str
    paragraphs: Sequence[str] = field(default=())
    tables: Sequence[Table] = field(default=())
    pictures: Sequence[Picture] = field(default=())
    note: str | None = None


def render_report(
    *,
    title: str,
    info: Mapping[str, Any],
    summary: pl.DataFrame,
    sentences: Sequence[str] = (),
    sections: Sequence[Section] = (),
    subtitle: str | None = None,
    labels: Mapping[str, str] | None = None,
    level: float = 0.95,
) -> str:
    """The report as one self-contained HTML page.

    Args:
        title: heading of the page.
        info: the run's record (``run.json``); ``toy``, ``command``, ``created``, ``experiment``, ``datasets``,
            ``evaluations``, ``versions`` and ``hardware`` are shown where present.
        summary: a table with the columns of ``SUMMARY_SCHEMA``; its rows of the group ``all`` make the headline table,
            those of other groups a table of their own.
        sentences: what was found, in plain words; the first thing a reader sees.
        sections: what follows them, before the headline table, which can be long.
        subtitle: a line below the heading.
        labels: words to show instead of the names of models, datasets, regions and methods.
        level: nominal coverage of the summary's intervals.

    Returns:
        HTML text, without any reference outside itself.

    Raises:
        UsageError: the summary lacks a column.
    """
    missing = [name for name in SUMMARY_SCHEMA if name not in summary.columns]
    if missing:
        raise UsageError(f"the table given is no summary: column {missing[0]!r} is missing")
    words = labels or {}
    whole = summary.filter(pl.col("group") == "all")
    groups = summary.filter(pl.col("group") != "all")
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            subtitle=subtitle,
            toy=TOY_WARNING if info.get("toy") else None,
            sentences=sentences,
            facts=_facts(info, words),
            warnings=_warnings(info),
            headline=_result_table(whole, words, level, grouped=False),
            groups=_result_table(groups, words, level, grouped=True),
            sections=sections,
            command=info.get("command"),
            versions=_known(info.get("versions")),
            hardware=_known(info.get("hardware")),
            settings=_settings(info),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("explanation_alignment.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["cell"] = _cell
    return environment


@dataclass(frozen=True, slots=True)
class _Cell:
    """What one table cell shows; ``value`` is the exact number behind it, if it is one."""

    text: str
    value: str | None = None
    kind: str = "text"


def _cell(value: object, decimals: int = 3) -> _Cell:
    if value is None:
        return _Cell(_NOTHING, kind="none")
    if isinstance(value, bool):
        return _Cell("yes" if value else "no")
    if isinstance(value, int):
        return _Cell(f"{value:,}", str(value), "number")
    if isinstance(value, float):
        if math.isnan(value):
            return _Cell(_NOTHING, kind="none")
        return _Cell(f"{value:.{decimals}f}".replace("-", "\u2212"), repr(value), "number")
    return _Cell(str(value))


# ------------------------------------------------------------------------------------------------- result table


def _result_table(
    summary: pl.DataFrame, words: Mapping[str, str], level: float, *, grouped: bool
) -> Mapping[str, Any] | None:
    """Headings, rows and the words around a table of results; None where there is nothing to show."""
    if summary.is_empty():
        return None
    metrics = metric_columns(summary["metric"].unique().to_list())
    # a column that says the same on every line is said once, above the table
    seeds, methods, binarizations = (summary[c].n_unique() > 1 for c in ("seed", "method", "binarization"))
    names = ["Model", *(["Seed"] if seeds else []), "Data", *(["Method"] if methods or binarizations else [])]
    names += ["Region", *(["Group"] if grouped else [])]
    keys = ["model", "seed", "dataset", "method", "binarization", "region", "group"]
    rows: list[Mapping[str, Any]] = []
    previous: list[str] = []
    for key, part in summary.group_by(keys, maintain_order=True):
        model, seed, dataset, method, binarization, region, group = key
        shown_method = _show(method, words) + (f" ({binarization})" if binarizations else "")
        described = [_show(model, words), *([str(seed)] if seeds else []), _show(dataset, words)]
        described += [shown_method] if methods or binarizations else []
        described += [_show(region, words), *([str(group)] if grouped else [])]
        by_metric = {row["metric"]: row for row in part.iter_rows(named=True)}
        rows.append(
            {
                "keys": _without_repeats(described, previous),
                "starts_model": bool(previous) and described[0] != previous[0],
                "accuracy": _cell(part["accuracy"][0]),
                "scores": [_score_cells(by_metric.get(metric)) for metric in metrics],
                "n": _range(part["n"]),
                "undefined": _range(part["n_undefined"]),
            }
        )
        previous = described
    fixed = [] if seeds else [f"seed {summary['seed'][0]}"]
    if not (methods or binarizations):
        fixed.append(f"method {_show(summary['method'][0], words)}")
    if not binarizations:
        fixed.append(f"maps binarized with {summary['binarization'][0]}")
    return {
        "names": names,
        "metrics": [{"label": metric_label(m), "name": m} for m in metrics],
        "rows": rows,
        "fixed": ", ".join(fixed),
        "level": f"{100 * level:g}\u00a0%",
        "uneven": any(len(set(part["n"].to_list())) > 1 for _, part in summary.group_by(keys)),
    }


def _without_repeats(current: Sequence[str], previous: Sequence[str]) -> list[Mapping[str, Any]]:
    """Cells of the keys; one that repeats the line above, with all before it, is shown faintly."""
    cells: list[Mapping[str, Any]] = []
    same = bool(previous)
    for i, text in enumerate(current):
        same = same and text == previous[i]
        cells.append({"text": text, "repeat": same and i < len(current) - 1})
    return cells


def _score_cells(row: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if row is None or row["ea"] is None:
        return {"ea": _cell(None), "low": _cell(None), "high": _cell(None), "chance": _cell(None), "bar": None}
    bar = min(max(row["ea"], 0.0), 1.0)
    return {
        "ea": _cell(row["ea"]),
        "low": _cell(row["ci_low"]),
        "high": _cell(row["ci_high"]),
        "chance": _cell(row["chance"]),
        "bar": f"{bar:.4f}",
    }


def _range(counts: pl.Series) -> Sequence[_Cell]:
    """A number, or smallest and largest where the metrics differ."""
    values = sorted(set(counts.to_list()))
    return [_cell(v) for v in ([values[0], values[-1]] if len(values) > 1 else values)]


def _show(name: object, words: Mapping[str, str]) -> str:
    return words.get(str(name), str(name))


# ---------------------------------------------------------------------------------------------------- the record


def _facts(info: Mapping[str, Any], words: Mapping[str, str]) -> list[tuple[str, str]]:
    """What was asked and of what, as pairs of a word and its text; what the record lacks is left out."""
    evaluations = list((info.get("evaluations") or {}).values())
    questions = [e.get("question") or {} for e in evaluations]
    datasets = info.get("datasets") or {}
    experiment = info.get("experiment") or {}
    facts = [
        ("Experiment", str(experiment.get("name") or "")),
        ("Models", _listed(_show(q["model"], words) for q in questions if "model" in q)),
        ("Data", _listed(_dataset_fact(str(n), d, words) for n, d in datasets.items())),
        ("Evidence", _listed(r for d in datasets.values() for r in d.get("evidence") or ())),
        ("Methods", _listed(_method_fact(m, words) for e in evaluations for m in e.get("methods") or ())),
        ("Explained", _listed(f"{q['target']} class" for q in questions if "target" in q)),
        ("Seeds", _listed(str(q["seed"]) for q in questions if "seed" in q)),
        ("Score rows", _status_fact(evaluations)),
        ("Made", str(info.get("created") or "").replace("T", " ").replace("+00:00", " UTC")),
    ]
    return [(name, text) for name, text in facts if text]


def _listed(items: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(items))


def _dataset_fact(name: str, record: Mapping[str, Any], words: Mapping[str, str]) -> str:
    size = next((record[k] for k in ("n", "size", "samples", "length") if isinstance(record.get(k), int)), None)
    return _show(name, words) + ("" if size is None else f" ({size:,} images)")


def _method_fact(method: Mapping[str, Any], words: Mapping[str, str]) -> str:
    binarization = method.get("binarization")
    return _show(method.get("method"), words) + (f" ({binarization})" if binarization else "")


def _status_fact(evaluations: Sequence[Mapping[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for evaluation in evaluations:
        for status, n in (evaluation.get("status_counts") or {}).items():
            counts[status] = counts.get(status, 0) + n
    return ", ".join(f"{n:,} {status.replace('_', ' ')}" for status, n in counts.items() if n)


def _warnings(info: Mapping[str, Any]) -> list[str]:
    unfinished = [e for e in (info.get("evaluations") or {}).values() if "finished" in e and e["finished"] is None]
    if not unfinished:
        return []
    named = _listed(f"{e['question'].get('model')} on {e['question'].get('dataset')}" for e in unfinished)
    return [f"Not finished: {named}. The numbers below cover what was done; the same command again goes on."]


def _known(values: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    return [(str(k), _plain(v)) for k, v in (values or {}).items() if v not in (None, [], "")]


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _settings(info: Mapping[str, Any]) -> str | None:
    experiment = info.get("experiment")
    return json.dumps(experiment, indent=2, ensure_ascii=False, default=str) if experiment else None
