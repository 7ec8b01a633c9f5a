"""The eight cases of Shared Interest: what agreement and correctness together say of a decision.

Source: Boggust, Hoover, Satyanarayan, Strobelt (CHI 2022, doi:10.1145/3491102.3501965), section 4: from the coverage of
IoU, ground truth and saliency, and from whether the prediction is right. *High* is at or above one threshold, *low* at
or below another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

from explanation_alignment.errors import RunError, UnknownNameError, UsageError
from explanation_alignment.runs.schema import KEY_COLUMNS
from explanation_alignment.statistics.inputs import RunOrScores, score_rows, without_nulls
from explanation_alignment.statistics.intervals import wilson_interval
from explanation_alignment.statistics.tables import group_columns

__all__ = [
    "CASES",
    "CASES_SCHEMA",
    "CASE_COLUMNS",
    "HIGH",
    "LOW",
    "UNCLASSIFIED",
    "case_name",
    "case_of",
    "cases",
    "with_cases",
]

#: At or below this a metric is low.
LOW: Final = 0.2
#: At or above this a metric is high.
HIGH: Final = 0.65

#: Rule, by precedence -> its case where the prediction is right, and where it is wrong.
_RULES: Final[Mapping[str, tuple[str, str]]] = {
    "IoU high": ("human aligned", "confuser"),
    "SC high, GTC low": ("sufficient subset", "insufficient subset"),
    "GTC high, SC low": ("context dependent", "context confusion"),
    "IoU low": ("sufficient context", "distractor"),
}
UNCLASSIFIED: Final = "unclassified"

#: The eight cases by precedence, right before wrong, and what is none of them.
CASES: Final = (*(case for pair in _RULES.values() for case in pair), UNCLASSIFIED)

_METRICS: Final = ("iou_coverage", "ground_truth_coverage", "saliency_coverage")
#: What the case of a row follows from.
CASE_COLUMNS: Final = ("correct", "status", "salient_area", *_METRICS)
_CELL: Final = tuple(name for name in KEY_COLUMNS if name != "sample_id")

#: Columns of the table of :func:`cases`.
CASES_SCHEMA: Final = pl.Schema(
    {
        **{name: pl.Int64() if name == "seed" else pl.String() for name in _CELL},
        "group": pl.String(),
        "case": pl.Enum(CASES),
        "count": pl.Int64(),
        "share": pl.Float64(),
        "share_low": pl.Float64(),
        "share_high": pl.Float64(),
        "n": pl.Int64(),
        "n_undefined": pl.Int64(),
    }
)


def with_cases(scores: pl.DataFrame, *, low: float = LOW, high: float = HIGH) -> pl.DataFrame:
    """The same rows with a column ``case``.

    With IoU, GTC (ground truth coverage) and SC (saliency coverage) of a decision, the first rule that holds:

    ================  ==================  ===================
    rule              right prediction    wrong prediction
    ================  ==================  ===================
    IoU high          human aligned       confuser
    SC high, GTC low  sufficient subset   insufficient subset
    GTC high, SC low  context dependent   context confusion
    IoU low           sufficient context  distractor
    none              unclassified        unclassified
    ================  ==================  ===================

    A decision without any salient pixel counts as IoU 0, though its SC is undefined. Where the status is not ``ok``,
    the IoU is undefined or it is unknown whether the prediction is right, there is no case. Values are compared as
    float32, the precision scores are stored in, so that 13/20 is at the threshold .65.

    Args:
        scores: rows of a run's ``scores``, with the three metrics.
        low: at or below it a metric is low.
        high: at or above it a metric is high.

    Returns:
        The rows in the same order, with ``case`` (Enum of ``CASES``; null where there is none) as the last column.

    Raises:
        UsageError: not 0 <= low < high <= 1.
        RunError: a column is missing.
    """
    if not 0 <= low < high <= 1:
        raise UsageError(f"the thresholds must be 0 <= low < high <= 1, got low={low:g} and high={high:g}")
    for name in CASE_COLUMNS:
        if name not in scores.columns:
            what = "the cases need the metrics " + ", ".join(_METRICS) if name in _METRICS else "it is in every run"
            raise RunError(f"these scores have no column {name!r}; {what}")
    return scores.with_columns(case=case_of(low, high))


def case_of(low: float = LOW, high: float = HIGH) -> pl.Expr:
    """The case of each row, as :func:`with_cases` gives it, of a table with ``CASE_COLUMNS``."""
    empty = (pl.col("salient_area") == 0).fill_null(False)
    iou, covered, precise = (pl.col(name).cast(pl.Float32).fill_nan(None) for name in _METRICS)
    iou = pl.when(empty).then(iou.fill_null(0)).otherwise(iou)
    correct = pl.col("correct").cast(pl.Boolean)
    bottom, top = pl.lit(low, pl.Float32), pl.lit(high, pl.Float32)
    holds = {
        "IoU high": iou >= top,
        "SC high, GTC low": (precise >= top) & (covered <= bottom),
        "GTC high, SC low": (covered >= top) & (precise <= bottom),
        "IoU low": iou <= bottom,
    }
    case = pl.lit(UNCLASSIFIED)
    for rule, (right, wrong) in reversed(list(_RULES.items())):  # the first rule that holds is asked last
        named = pl.when(correct).then(pl.lit(right)).otherwise(pl.lit(wrong))
        case = pl.when(holds[rule].fill_null(False)).then(named).otherwise(case)
    decided = (pl.col("status").cast(pl.String) == "ok") & iou.is_not_null() & correct.is_not_null()
    return pl.when(decided).then(case).cast(pl.Enum(CASES))


def case_name(text: str) -> str:
    """The case that a user's words stand for: any capitals, with spaces, hyphens or underscores.

    Raises:
        UnknownNameError: there is no such case.
    """
    name = " ".join(text.lower().replace("-", " ").replace("_", " ").split())
    if name not in CASES:
        raise UnknownNameError("case", text, CASES)
    return name


def cases(
    run_or_scores: RunOrScores,
    *,
    low: float = LOW,
    high: float = HIGH,
    by: Sequence[str] = (),
    level: float = 0.95,
) -> pl.DataFrame:
    """How often each case occurs.

    Args:
        run_or_scores: a run, its folder, or rows of its ``scores``.
        low: at or below it a metric is low.
        high: at or above it a metric is high.
        by: attributes (``"hair"`` or ``"attr_hair"``) or columns (``"label"``) whose values form groups beside ``all``.
        level: nominal coverage of the Wilson intervals.

    Returns:
        The columns of ``CASES_SCHEMA``: for each model, seed, dataset, target, method, binarization, region and group
        nine rows, the eight cases and ``unclassified``, those that never occur included. ``count`` of ``n`` decisions
        (images) have the case, ``share`` of them, with its interval; null where no decision has any.
        ``n_undefined`` decisions have none and are not in ``n``.

    Raises:
        UsageError: the thresholds or the level mean nothing.
        UnknownNameError: there is no such group.
        RunError: a column is missing.

    Example:
        >>> scores = pl.DataFrame({
        ...     "model": "m", "seed": 0, "dataset": "d", "sample_id": ["a", "b"], "target": "predicted",
        ...     "method": "gradcam", "binarization": "threshold:0.5", "region": "object", "correct": [True, False],
        ...     "status": "ok", "iou_coverage": [0.7, 0.1], "ground_truth_coverage": [0.8, 0.15],
        ...     "saliency_coverage": [0.9, 0.2], "salient_area": 4,
        ... })
        >>> cases(scores).filter(pl.col("count") > 0).select("case", "count", "n").rows()
        [('human aligned', 1, 2), ('distractor', 1, 2)]
    """
    rows = without_nulls(score_rows(run_or_scores).lazy().collect())
    for name in KEY_COLUMNS:
        if name not in rows.columns:
            raise RunError(f"these are not the scores of a run: column {name!r} is missing")
    groups = group_columns(by, rows.columns)
    marked = with_cases(rows, low=low, high=high).with_columns(
        *(pl.col(name).cast(CASES_SCHEMA[name]) for name in _CELL)
    )
    parts = [
        _counted(marked, column).with_columns(_place=pl.lit(place)) for place, column in enumerate([None, *groups])
    ]
    table = pl.concat(parts).sort(*_CELL, "_place", "group", "case")
    lower, upper = wilson_interval(table["count"].to_numpy(), table["n"].to_numpy(), level)
    return table.with_columns(
        share=pl.when(pl.col("n") > 0).then(pl.col("count") / pl.col("n")),
        share_low=pl.Series(lower, dtype=pl.Float64).fill_nan(None),
        share_high=pl.Series(upper, dtype=pl.Float64).fill_nan(None),
    ).select(*(pl.col(name).cast(kind) for name, kind in CASES_SCHEMA.items()))


def _counted(marked: pl.DataFrame, column: str | None) -> pl.DataFrame:
    """Counts of every case in every cell of one grouping."""
    label = "all" if column is None else pl.format(f"{column}={{}}", pl.col(column).cast(pl.String).fill_null("null"))
    label = pl.lit(label) if isinstance(label, str) else label
    keys = [*_CELL, "group"]
    grouped = marked.with_columns(group=label)
    totals = grouped.group_by(keys).agg(n=pl.col("case").count(), n_undefined=pl.col("case").null_count())
    found = grouped.drop_nulls("case").group_by(*keys, "case").agg(count=pl.len())
    every = totals.join(pl.DataFrame({"case": pl.Series(CASES, dtype=pl.Enum(CASES))}), how="cross")
    return every.join(found, on=[*keys, "case"], how="left", nulls_equal=True).with_columns(
        pl.col("count").fill_null(0).cast(pl.Int64)
    )
