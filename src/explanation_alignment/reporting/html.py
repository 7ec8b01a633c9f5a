"""The report: one HTML file that holds everything it shows, made from plain tables.

It loads nothing: scripts are inlined and named by their digest in the page's own policy, so that no other can run and
nothing can be fetched. It follows the reader's light or dark setting, and prints. Every text that comes from a run is
escaped; every number keeps its full value in the ``value`` of its ``data`` element.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

import polars as pl
from jinja2 import Environment
from markupsafe import Markup

from explanation_alignment.errors import UsageError
from explanation_alignment.reporting.cells import cell
from explanation_alignment.reporting.charts import CONFIG, chart_library
from explanation_alignment.reporting.content import Card, Chart, Gallery, Picture, Section, Table
from explanation_alignment.reporting.headline import result_table
from explanation_alignment.reporting.record import (
    CITATION,
    facts,
    fingerprints,
    known,
    settings,
    software,
    warnings,
)
from explanation_alignment.reporting.templating import page_templates
from explanation_alignment.reporting.text import TOY_WARNING
from explanation_alignment.runs.schema import SUMMARY_SCHEMA

__all__ = ["Card", "Chart", "Gallery", "Picture", "Section", "Table", "render_report"]

#: Rows from which on a table is folded away, and up to which a folded one is unfolded for printing.
_FOLDED: Final = 12
_PRINTED: Final = 60


def render_report(
    *,
    title: str,
    info: Mapping[str, Any],
    summary: pl.DataFrame,
    sentences: Sequence[str] = (),
    sections: Sequence[Section] = (),
    further: Sequence[Section] = (),
    reasons: pl.DataFrame | None = None,
    subtitle: str | None = None,
    labels: Mapping[str, str] | None = None,
    level: float = 0.95,
) -> str:
    """The report as one self-contained HTML page.

    Args:
        title: heading of the page.
        info: the run's record (``run.json``); ``toy``, ``command``, ``created``, ``experiment``, ``datasets``,
            ``evaluations``, ``failures``, ``versions`` and ``hardware`` are shown where present.
        summary: a table with the columns of ``SUMMARY_SCHEMA``; its rows of the group ``all`` make the headline table,
            those of other groups a table of their own.
        sentences: what was found, in plain words; the first thing a reader sees.
        sections: what follows them, before the headline table, which can be long.
        further: what follows the headline table.
        reasons: from :func:`~explanation_alignment.statistics.undefined_reasons`; why scores are undefined.
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
    scripts = _scripts() if any(section.charts for section in (*sections, *further)) else []
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            subtitle=subtitle,
            policy=_policy(scripts),
            scripts=[Markup(script) for script in scripts],  # our own and the library's, nothing of the run
            config=_json(CONFIG),
            toy=TOY_WARNING if info.get("toy") else None,
            sentences=sentences,
            facts=facts(info, words),
            warnings=warnings(info),
            headline=result_table(whole, words, level, reasons=reasons),
            groups=result_table(groups, words, level, grouped=True),
            sections=sections,
            further=further,
            contents=_contents(sections, further, results=not whole.is_empty(), groups=not groups.is_empty()),
            command=info.get("command"),
            versions=known(info.get("versions")),
            hardware=known(info.get("hardware")),
            settings=settings(info),
            fingerprints=fingerprints(info),
            citation=[CITATION, software(info)],
            folded=_FOLDED,
            printed=_PRINTED,
        )
    )


@cache
def _environment() -> Environment:
    environment = page_templates("explanation_alignment.reporting")
    environment.filters["cell"] = cell
    environment.filters["json"] = _json
    environment.globals["picture_side"] = 176
    return environment


def _contents(
    sections: Sequence[Section], further: Sequence[Section], *, results: bool, groups: bool
) -> list[tuple[str, str]]:
    """Anchors and headings, in the page's order."""
    entries = [(f"section-{i}", section.title) for i, section in enumerate(sections, 1)]
    entries += [("results", "Results")] if results else []
    entries += [("results-by-group", "Results by group")] if groups else []
    return entries + [(f"further-{i}", section.title) for i, section in enumerate(further, 1)]


def _json(value: object) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


@cache
def _scripts() -> list[str]:
    """What runs in the page: the chart library, once, and what draws with it."""
    draw = files("explanation_alignment.reporting") / "templates" / "draw.js"
    return [chart_library(), draw.read_text(encoding="utf-8")]


def _policy(scripts: Iterable[str]) -> str:
    """The page's own Content-Security-Policy: nothing is fetched, and only these scripts run."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    named = " ".join(f"'sha256-{digest}'" for digest in digests)
    allowed = f"; script-src {named}" if digests else ""
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'{allowed}"
