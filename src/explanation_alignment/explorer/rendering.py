"""Templates of the pages, and how they write numbers. Every text is escaped; nothing is loaded from elsewhere."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Final

from jinja2 import Environment

from explanation_alignment.errors import UsageError
from explanation_alignment.metrics.registry import get_metric
from explanation_alignment.reporting.templating import page_templates

__all__ = ["environment", "metric_name", "metric_words", "share"]

_NOTHING: Final = "\u2013"


@cache
def environment() -> Environment:
    """The templates."""
    made = page_templates("explanation_alignment.explorer")
    made.filters |= {
        "score": score,
        "share": share,
        "count": count,
        "metric": metric_name,
        "metric_words": metric_words,
        "words": words,
    }
    return made


def score(value: float | None) -> str:
    """Three places, without a leading zero; a dash for nothing."""
    if value is None or math.isnan(value):
        return _NOTHING
    text = f"{value:.3f}"
    if abs(value) < 0.9995:
        text = text.replace("0.", ".", 1)
    return text.replace("-", "\u2212")


def share(value: float | None) -> str:
    """Percent with a place; a dash for nothing."""
    return _NOTHING if value is None or math.isnan(value) else f"{value:.1f}\u00a0%"


def count(value: int | None) -> str:
    """A whole number with its thousands apart."""
    return _NOTHING if value is None else f"{value:,}"


def words(name: Any) -> str:
    """A status or other word of a table, as people write it."""
    return _NOTHING if name is None else str(name).replace("_", " ")


def metric_name(name: str) -> str:
    """A metric's short heading; its own name where it is not registered."""
    try:
        return get_metric(name).label
    except UsageError:
        return name


def metric_words(name: str) -> str:
    """What a metric's number means."""
    try:
        found = get_metric(name)
    except UsageError:
        return "a metric of somebody's own"
    return f"{name.replace('_', ' ')}: {found.summary}"
