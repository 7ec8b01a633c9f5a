"""What the table of :func:`~explanation_alignment.statistics.relying.region_reliance.reliance` says, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from explanation_alignment.statistics.chance import metric_label
from explanation_alignment.statistics.counted import counted

__all__ = ["MARGIN", "MIN_FLIP", "evidence_text", "only_evidence", "rule", "sentences"]

#: How far above the null a map must lie to count, in units of the metric. Both thresholds are the smallest of those
#: tried that flagged none of the calibration's clean classifiers (``simulations/shortcut_flags.py``).
MARGIN: Final = 0.02
#: By how much changing the region must change more predictions than changing as much elsewhere, as a share of images.
MIN_FLIP: Final = 0.02

#: Differences that three decimals show as 0 are told as none.
_SHOWN: Final = 0.0005


def rule(
    *, metric: str = "iou_coverage", margin: float = MARGIN, min_flip: float = MIN_FLIP, level: float = 0.95
) -> str:
    """The rule behind the verdicts, in words, with the thresholds used.

    Args:
        metric: as given to ``reliance``; so are the others.
        margin: excess over the null.
        min_flip: difference between the shares of changed predictions.
        level: coverage of the intervals.

    Returns:
        A paragraph.
    """
    center = "that of a centred map of the same size (or its chance level, where a run lacks that)"
    null = center if metric == "iou_coverage" else "its chance level"
    return (
        "A region outside the declared evidence is a confirmed shortcut when two things hold together. Maps: "
        f"{metric_label(metric)} minus {null} exceeds {margin:g}. Intervention: changing the region's content changes "
        f"predictions, in {100 * min_flip:g} % of the images more than changing as many pixels elsewhere does, or "
        "between paired datasets that differ in it alone. Each is a one-sided test at "
        f"{(1 - level) / 2:g}, with Holm's correction over the regions and groups of a model, seed, dataset and "
        "method. One of the two without the other makes it suspected; but maps that say so while the intervention's "
        f"{100 * level:g} % interval lies below its threshold make it not confirmed. It is not relied on when both "
        "intervals lie below their thresholds, and else unknown: maps that miss a shortcut do not clear it."
    )


_HEADLINES: Final = {
    "confirmed": "{model} relies on {region}, which is not part of the evidence",
    "suspected": "{model} is suspected to rely on {region}, which is not part of the evidence",
    "not confirmed": "{model}'s maps lie on {region}, which is not part of the evidence, but changing it changes "
    "hardly any prediction",
    "not relied on": "{model} shows no reliance on {region} beyond the thresholds",
    "unknown": "Whether {model} relies on {region} is unknown",
}


def only_evidence(table: pl.DataFrame) -> str | None:
    """What to do where no region but the evidence is annotated, so that nothing else can be suspected; else None.

    Args:
        table: from ``reliance``.
    """
    if table.is_empty() or not table["is_evidence"].all():
        return None
    named = ", ".join(table["region"].unique(maintain_order=True))
    return (
        f"Only the evidence ({named}) is annotated: whether a model relies on something else cannot be told. Annotate "
        "what you suspect as a region of its own, and evaluate with --intervene."
    )


def sentences(table: pl.DataFrame, *, name_method: bool = False) -> list[str]:
    """The table in plain words, one sentence per row; only what its numbers support.

    Args:
        table: from ``reliance``; any of its rows, in any order.
        name_method: whether to name the saliency method even where the table has only one.

    Returns:
        Sentences in the table's order.
    """
    several = {
        name: table[name].n_unique() > 1
        for name in ("seed", "dataset", "method", "binarization", "group")
        if len(table)
    }
    if name_method:
        several["method"] = True
    return [_sentence(row, several) for row in table.iter_rows(named=True)]


def _sentence(row: Mapping[str, Any], several: Mapping[str, bool]) -> str:
    place = [
        *([f"seed {row['seed']}"] if several["seed"] else []),
        *([f"on {row['dataset'] or row['pooled']}"] if several["dataset"] else []),
        *([str(row["group"])] if row["group"] != "all" else []),
        *([f"{row['method']} maps"] if several["method"] else []),
        *([f"at {row['binarization']}"] if several["binarization"] else []),
    ]
    subject = f"{row['model']}" + (f" ({', '.join(place)})" if place else "")
    if row["verdict"] == "evidence":
        return f"{_evidence_sentence(row, subject)}."
    if row["verdict"] == "unknown" and row["intervention"] is None and row["excess"] is not None:
        headline = "The maps of {model} give no clear sign of reliance on {region}, which does not clear it"
    else:
        headline = _HEADLINES[str(row["verdict"])]
    return f"{headline.format(model=subject, region=row['region'])}: {row['evidence_text']}."


def _evidence_sentence(row: Mapping[str, Any], subject: str) -> str:
    where, numbers = _lying(row)
    if not where:
        return f"Whether {subject} looks at {row['region']}, the evidence, is unknown: {numbers}"
    intervention = _intervention_text(row)
    return f"{subject} looks at {row['region']}, the evidence, {where} ({numbers})" + (
        f"; {intervention}" if intervention else ""
    )


def evidence_text(row: Mapping[str, Any]) -> str:
    """What speaks for the verdict of one row of the table.

    Args:
        row: the row's columns, ``evidence_text`` not needed.

    Returns:
        Clauses joined by semicolons, without a full stop.
    """
    parts = [_maps_text(row), _intervention_text(row)]
    if not row["is_evidence"] and row.get("p_joint_adjusted") is not None:
        parts.append(f"both together, corrected for {counted(row['n_tests'], 'test')}: {_p(row['p_joint_adjusted'])}")
    elif not row["is_evidence"] and row.get("p_maps_adjusted") is not None:
        parts.append(f"corrected for {counted(row['n_tests'], 'test')}: {_p(row['p_maps_adjusted'])}")
    elif not row["is_evidence"] and row.get("p_intervention_adjusted") is not None:
        parts.append(f"corrected for {counted(row['n_tests'], 'test')}: {_p(row['p_intervention_adjusted'])}")
    return "; ".join(part for part in parts if part)


def _maps_text(row: Mapping[str, Any]) -> str:
    where, numbers = _lying(row)
    return f"its maps lie there {where} ({numbers})" if where else numbers


def _lying(row: Mapping[str, Any]) -> tuple[str, str]:
    """How much the maps lie on the region, in words and in numbers; no words where no score is defined."""
    low, high = row["excess_low"], row["excess_high"]
    if not (isinstance(low, float) and isinstance(high, float)):
        return "", "none of its scores there is defined"
    center = row["null"] == "center"
    null = "a map at the centre" if center else "chance"
    more, less = low > _SHOWN, high < -_SHOWN
    where = f"more than {null}" if more else f"less than {null}" if less else f"about as much as {null}"
    minus = "that map's" if center else "its chance level"
    return where, (
        f"{metric_label(str(row['metric']))} minus {minus} {_signed(row['excess'])}, "
        f"{_signed(low)} to {_signed(high)}, {row['n']:,} decisions"
    )


def _intervention_text(row: Mapping[str, Any]) -> str:
    if row["intervention"] is None:
        return "" if row["is_evidence"] else "no intervention was done"
    low, high = row["flip_low"], row["flip_high"]
    if row["intervention"] == "paired datasets":
        return (
            f"changing only that region changes {_percent(row['flips'])} of its predictions ({_percent(low)} to "
            f"{_percent(high)}, {row['n_images']:,} images)"
        )
    return (
        f"exchanging its content with another label's changes {_percent(row['flips'])} of its predictions, as many "
        f"pixels elsewhere {_percent(row['elsewhere_flips'])} (difference {_percent(row['flip_difference'])}, "
        f"{_percent(low)} to {_percent(high)}, {row['n_images']:,} images)"
    )


def _p(value: object) -> str:
    assert isinstance(value, float)
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _percent(share: object) -> str:
    assert isinstance(share, float)
    return f"{100 * share:.1f} %".replace("-", "\u2212")


def _signed(value: object) -> str:
    return f"{value:+.3f}".replace("-", "\u2212")
