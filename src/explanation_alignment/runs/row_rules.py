"""What must hold for the rows of one evaluation, as expressions: each is true where a row breaks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from explanation_alignment.runs.schema import ATTRIBUTE_PREFIX, KEY_COLUMNS, STATUSES, scores_schema

__all__ = ["REQUIRED", "RowRule", "rules_of"]

#: Columns that came later and may be absent.
_LATER: Final = ("center_iou", "exchange_flip", "elsewhere_flip")
#: Columns every part has.
REQUIRED: Final = tuple(name for name in scores_schema((), {}).names if name not in _LATER)
#: How far beyond its range rounding to float32 may take a score.
_ROUNDING: Final = 1e-5
#: What a row's decision consists of: the same in all rows of a sample.
_DECISION: Final = ("label", "prediction", "confidence", "label_rank", "correct")


@dataclass(frozen=True, slots=True)
class RowRule:
    """One thing that must hold.

    Args:
        words: what is wrong where it does not, to follow a number of rows.
        broken: Boolean; true in the rows that break it, null counts as false.
    """

    words: str
    broken: pl.Expr


def rules_of(
    evaluation: Mapping[str, Any], regions: Sequence[str], columns: Sequence[str], metrics: Sequence[str]
) -> list[RowRule]:
    """The rules for an evaluation's rows, all its parts together, words as String.

    Args:
        evaluation: its entry in run.json.
        regions: of its dataset.
        columns: what its parts hold; at least ``REQUIRED``.
        metrics: which of these are metrics.
    """
    return [
        *_key_rules(evaluation, regions),
        *_decision_rules(evaluation),
        *_area_rules(),
        *(rule for metric in metrics for rule in _metric_rules(metric)),
        *_centre_rules(columns),
        *_flip_rules(evaluation, columns),
        *_attribute_rules(columns),
    ]


def _key_rules(evaluation: Mapping[str, Any], regions: Sequence[str]) -> Iterator[RowRule]:
    question = evaluation["question"]
    for name in ("model", "seed", "dataset", "target"):
        yield RowRule(
            f"whose {name} is not {question[name]!r}, which the evaluation is of", _is_not(name, question[name])
        )
    pairs = [f"{method['method']} {method['binarization']}" for method in evaluation["methods"]]
    named = pl.concat_str("method", "binarization", separator=" ")
    yield RowRule("of a method the evaluation does not have", ~named.is_in(pairs).fill_null(False))
    yield RowRule(f"of a region other than {', '.join(regions)}", ~pl.col("region").is_in(list(regions)))
    key = pl.struct(name for name in KEY_COLUMNS)
    yield RowRule("whose key another row has", key.is_duplicated())
    each = len(pairs) * len(regions)
    yield RowRule(f"of a sample that has not {each} rows, one a method and region", pl.len().over("sample_id") != each)


def _decision_rules(evaluation: Mapping[str, Any]) -> Iterator[RowRule]:
    external = "covers" in evaluation["question"]  # predictions of maps made elsewhere need not be known
    failed = pl.col("status") == "error"
    yield RowRule(f"with a status other than {', '.join(STATUSES)}", ~_in("status", STATUSES))
    yield RowRule("with a message and no error, or the other way round", failed != pl.col("message").is_not_null())
    yield RowRule("with an error and a prediction", failed & pl.col("prediction").is_not_null())
    if not external:
        yield RowRule("without a prediction though nothing failed", ~failed & pl.col("prediction").is_null())
    known = pl.col("label").is_not_null() & pl.col("prediction").is_not_null()
    yield RowRule("where `correct` is unknown though label and prediction are, or not", _is_null("correct") == known)
    if evaluation["question"]["target"] != "positives":  # there any class the image shows is correct
        right = pl.col("label") == pl.col("prediction")
        yield RowRule("where `correct` is not whether prediction is label", known & (pl.col("correct") != right))
        yield RowRule("correct, with a label that is not ranked first", pl.col("correct") & (pl.col("label_rank") != 1))
    yield RowRule("with a label's rank below 1", pl.col("label_rank") < 1)
    yield RowRule("with a confidence outside 0 to 1", ~_within("confidence", 0, 1))
    decision = pl.struct(_DECISION)
    yield RowRule("of a sample whose rows tell different decisions", decision.n_unique().over("sample_id") > 1)


def _area_rules() -> Iterator[RowRule]:
    pixels = pl.col("map_height").cast(pl.Int64) * pl.col("map_width")
    given, salient, status = pl.col("annotation_area"), pl.col("salient_area"), pl.col("status")
    yield RowRule("with an area below 0 or above the map's", (given < 0) | (given > pixels))
    yield RowRule("with a salient area below 0 or above the map's", (salient < 0) | (salient > pixels))
    unknown = _in("status", ("no_annotation", "error"))
    yield RowRule("whose annotation's area is null, or not, against its status", given.is_null() != unknown)
    cropped = status == "annotation_cropped"
    yield RowRule("whose annotation's area is 0, or not, against its status", (given == 0) != cropped)
    yield RowRule("scored, without a salient area", (status == "ok") & salient.is_null())
    yield RowRule(
        "of a flat map or an error, with a salient area",
        _in("status", ("flat_map", "error")) & ~_is_null("salient_area"),
    )


def _metric_rules(metric: str) -> Iterator[RowRule]:
    from explanation_alignment.statistics.chance import known_metric

    known, column, scored = known_metric(metric), pl.col(metric), pl.col("status") == "ok"
    yield RowRule(f"with {metric} though their status says that it is undefined", ~scored & column.is_not_null())
    yield RowRule(f"with {metric} not a finite number", ~column.is_finite())
    if known is None:
        return
    low, high = known.range
    yield RowRule(
        f"with {metric} outside {low:g} to {high:g}", (column < low - _ROUNDING) | (column > high + _ROUNDING)
    )
    if known.binary:
        yield RowRule(f"with {metric} neither 0 nor 1", ~column.is_in([low, high]))
    pixels = pl.col("map_height").cast(pl.Int64) * pl.col("map_width")
    reasons = {
        "empty_binarization": pl.col("salient_area") == 0,
        "full_annotation": pl.col("annotation_area") == pixels,
        "no_positive_mass": pl.lit(True),  # the map is not kept
    }
    possible = pl.any_horizontal(pl.lit(False), *(reasons[reason] for reason in known.undefined))
    yield RowRule(f"without {metric} though it is defined there", scored & column.is_null() & ~possible)


def _centre_rules(columns: Sequence[str]) -> Iterator[RowRule]:
    if "center_iou" in columns:
        scored = pl.col("status") == "ok"
        yield RowRule("with center_iou though nothing was scored", ~scored & pl.col("center_iou").is_not_null())
        yield RowRule("with center_iou outside 0 to 1", ~_within("center_iou", 0, 1))


def _flip_rules(evaluation: Mapping[str, Any], columns: Sequence[str]) -> Iterator[RowRule]:
    flips = [name for name in ("exchange_flip", "elsewhere_flip") if name in columns]
    if flips and not evaluation["question"].get("intervene", False):
        some = pl.any_horizontal(pl.col(name).is_not_null() for name in flips)
        yield RowRule("with an exchange's outcome though the evaluation did not intervene", some)


def _attribute_rules(columns: Sequence[str]) -> Iterator[RowRule]:
    attributes = [name for name in columns if name.startswith(ATTRIBUTE_PREFIX)]
    if attributes:
        told = pl.struct(attributes).n_unique().over("sample_id") > 1
        yield RowRule("of a sample whose rows tell different attributes", told)


def _is_not(name: str, value: object) -> pl.Expr:
    return pl.col(name).ne_missing(pl.lit(value))


def _is_null(name: str) -> pl.Expr:
    return pl.col(name).is_null()


def _in(name: str, words: Sequence[str]) -> pl.Expr:
    return pl.col(name).is_in(list(words)).fill_null(False)


def _within(name: str, low: float, high: float) -> pl.Expr:
    """Null counts as within; NaN does not."""
    column = pl.col(name)
    return column.is_null() | (column.is_finite() & (column >= low - _ROUNDING) & (column <= high + _ROUNDING))
