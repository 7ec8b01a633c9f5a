"""Which regions does a model rely on: what its maps show, and what happens when the region changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.statistics.chance import chance_levels, known_metric
from explanation_alignment.statistics.intervals import MeanEstimator, Scale, wilson_interval
from explanation_alignment.statistics.summary import ScoreTable, areas_of, cells_of, estimate_cells, main_target

__all__ = ["RELIANCE_SCHEMA", "reliance", "rule", "sentences"]

#: Columns of the table of :func:`reliance`.
RELIANCE_SCHEMA: Final = pl.Schema(
    {
        "model": pl.String,
        "seed": pl.Int64,
        "method": pl.String,
        "binarization": pl.String,
        "region": pl.String,
        "is_evidence": pl.Boolean,
        "metric": pl.String,
        "excess": pl.Float64,
        "excess_low": pl.Float64,
        "excess_high": pl.Float64,
        "n": pl.Int64,
        "n_undefined": pl.Int64,
        "flips": pl.Float64,
        "flips_low": pl.Float64,
        "flips_high": pl.Float64,
        "n_images": pl.Int64,
        "verdict": pl.String,
    }
)

_KEYS: Final = ("model", "seed", "method", "binarization", "region")


def reliance(
    scores: pl.DataFrame | pl.LazyFrame,
    *,
    evidence: Sequence[str],
    pairs: Mapping[str, Sequence[tuple[str, str]]] | None = None,
    metric: str = "iou_coverage",
    margin: float = 0.05,
    min_flip: float = 0.05,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pl.DataFrame:
    """For each model, method and region: do its maps lie there more than chance, and does the region decide?

    *Observation*: ``excess`` is the mean over decisions, of all datasets together, of score minus the analytic chance
    level of that decision; its interval draws images anew, each with all its rows. *Intervention*: where pairs of
    datasets are given that hold the same images and differ only in what a region shows, ``flips`` is the share of
    decisions that differ between the two, with a Wilson interval whose number of trials is the number of images (also
    where several pairs use the same image, which makes it wider than it need be). See :func:`rule` for the verdicts.

    Args:
        scores: rows of a run's ``scores``.
        evidence: regions a person would accept as the reason.
        pairs: region -> pairs of dataset names; none by default.
        metric: any metric with an analytic chance level.
        margin: how far above chance a map must lie to count, in units of the metric.
        min_flip: share of predictions that must change to count.
        level: nominal coverage of both intervals.
        n_resamples: bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        A row per model, seed, method, binarization and region, sorted, with the columns of ``RELIANCE_SCHEMA``:
        ``excess`` null where no score is defined, ``flips`` null where no pair was given or evaluated, ``n`` and
        ``n_undefined`` counting decisions, ``n_images`` the images compared; ``verdict`` one of ``evidence``,
        ``confirmed``, ``suspected``, ``not relied on`` and ``unknown`` (neither a score nor a pair).

    Raises:
        UsageError: the metric has no chance level, or a threshold means nothing.
        UnknownNameError: evidence, a region of ``pairs`` or the metric is not in the scores.
        RunError: the table lacks a column that every run has.
    """
    known = known_metric(metric)
    if known is None or known.chance is None:
        raise UsageError(f"{metric!r} has no analytic chance level; use one that has, such as iou_coverage")
    if not (0 <= margin < 1 and 0 <= min_flip < 1):
        raise UsageError(f"margin and min_flip must lie in [0, 1), got {margin} and {min_flip}")
    estimator = MeanEstimator(level=level, n_resamples=n_resamples, seed=seed)
    table = ScoreTable(scores, metrics=[metric], extra=["prediction"])
    rows = table.rows.filter(pl.col("target").eq_missing(pl.lit(main_target(table.rows))))
    regions = [str(region) for region in rows["region"].unique().to_list()]
    for region in (*evidence, *(pairs or {})):
        if region not in regions:
            raise UnknownNameError("region of these scores", region, regions)

    cells, cell = cells_of(rows, _KEYS)
    excess = rows[metric].to_numpy() - chance_levels(metric, *areas_of(rows))
    [estimates] = estimate_cells(rows["sample_id"], cell, cells.height, [excess], [Scale()], estimator)
    changed = {region: _flips(rows, given, level) for region, given in (pairs or {}).items()}
    records = []
    for key, estimate in zip(cells.iter_rows(named=True), estimates, strict=True):
        flips = changed.get(key["region"], {}).get((key["model"], key["seed"]), _NO_FLIPS)
        is_evidence = key["region"] in evidence
        records.append(
            {
                **key,
                "is_evidence": is_evidence,
                "metric": metric,
                "excess": estimate.mean,
                "excess_low": estimate.low,
                "excess_high": estimate.high,
                "n": estimate.n,
                "n_undefined": estimate.n_undefined,
                **flips,
                "verdict": _verdict(is_evidence, estimate.low, flips["flips_low"], margin, min_flip),
            }
        )
    return pl.DataFrame(records, schema=RELIANCE_SCHEMA)


_NO_FLIPS: Final[Mapping[str, float | None]] = {
    "flips": None,
    "flips_low": None,
    "flips_high": None,
    "n_images": 0,
}


def _flips(
    rows: pl.DataFrame, pairs: Sequence[tuple[str, str]], level: float
) -> Mapping[tuple[str, int], Mapping[str, float | None]]:
    """(model, seed) -> share of predictions that differ within the pairs, its interval and the number of images."""
    image = ["model", "seed", "sample_id"]
    predictions = rows.group_by(*image, "dataset").agg(pl.col("prediction").max())
    compared = [
        predictions.filter(pl.col("dataset") == first)
        .join(predictions.filter(pl.col("dataset") == second), on=image)
        .drop_nulls(["prediction", "prediction_right"])
        .select(*image, flip=pl.col("prediction") != pl.col("prediction_right"))
        for first, second in pairs
    ]
    if not compared:
        return {}
    per_model = (
        pl.concat(compared)
        .group_by("model", "seed")
        .agg(share=pl.col("flip").mean(), images=pl.col("sample_id").n_unique())
    )
    result: dict[tuple[str, int], Mapping[str, float | None]] = {}
    for model, seed, share, images in per_model.iter_rows():
        low, high = wilson_interval(share * images, images, level)
        result[model, seed] = {
            "flips": share,
            "flips_low": float(low),
            "flips_high": float(high),
            "n_images": images,
        }
    return result


def _verdict(
    is_evidence: bool, excess_low: float | None, flips_low: float | None, margin: float, min_flip: float
) -> str:
    if is_evidence:
        return "evidence"
    if flips_low is not None and flips_low > min_flip:
        return "confirmed"
    if excess_low is not None and excess_low > margin:
        return "suspected"
    return "unknown" if excess_low is None and flips_low is None else "not relied on"


def rule(*, metric: str = "iou_coverage", margin: float = 0.05, min_flip: float = 0.05, level: float = 0.95) -> str:
    """The rule behind the verdicts, in words, with the thresholds used.

    Args:
        metric: as given to :func:`reliance`; so are the others.
        margin: excess over chance.
        min_flip: share of changed predictions.
        level: coverage of the intervals.

    Returns:
        Two sentences.
    """
    known = known_metric(metric)
    name = known.label if known else metric
    return (
        "A region outside the declared evidence is suspected when the maps lie on it more than chance: the lower bound "
        f"of the {100 * level:g} % interval of {name} minus its chance level exceeds {margin:g}. It is confirmed, "
        "whatever the maps show, when changing only that region changes predictions: the lower bound of the "
        f"{100 * level:g} % interval of the share that changes exceeds {100 * min_flip:g} %."
    )


def sentences(table: pl.DataFrame) -> list[str]:
    """The table in plain words, one sentence per model, method and region; only what its numbers support.

    Args:
        table: from :func:`reliance`.

    Returns:
        Sentences in the table's order.
    """
    seeds = table["seed"].n_unique() > 1
    methods = table.select("method", "binarization").unique().height > 1
    return [_sentence(row, seeds=seeds, methods=methods) for row in table.iter_rows(named=True)]


_HEADLINES: Final = {
    "confirmed": "{model} relies on {region}, which is not part of the evidence",
    "suspected": "{model} is suspected to rely on {region}, which is not part of the evidence",
    "not relied on": "{model} shows no reliance on {region} beyond the thresholds",
    "unknown": "Whether {model} relies on {region} is unknown",
}


def _sentence(row: Mapping[str, object], *, seeds: bool, methods: bool) -> str:
    subject = f"{row['model']}" + (f" (seed {row['seed']})" if seeds else "")
    parts = []
    low, high = row["excess_low"], row["excess_high"]
    if isinstance(low, float) and isinstance(high, float):
        known = known_metric(str(row["metric"]))
        name = known.label if known else str(row["metric"])
        where = "above chance" if low > 0 else "below chance" if high < 0 else "within chance"
        maps = f"its {row['method']} maps ({row['binarization']})" if methods else "its maps"
        parts.append(
            f"{maps} lie there {where} ({name} minus chance {_signed(row['excess'])}, {_signed(low)} to "
            f"{_signed(high)}, {row['n']:,} decisions)"
        )
    else:
        parts.append("none of its scores there is defined")
    if row["flips"] is not None:
        parts.append(
            f"changing only that region changes {_percent(row['flips'])} of its predictions "
            f"({_percent(row['flips_low'])} to {_percent(row['flips_high'])}, {row['n_images']:,} images)"
        )
    if row["verdict"] == "evidence":
        headline = _evidence_headline(low, high).format(model=subject, region=row["region"])
    else:
        headline = _HEADLINES[str(row["verdict"])].format(model=subject, region=row["region"])
    return f"{headline}: {'; '.join(parts)}."


def _evidence_headline(low: object, high: object) -> str:
    if not (isinstance(low, float) and isinstance(high, float)):
        return "Whether {model} looks at {region}, the evidence, is unknown"
    if low > 0:
        return "{model} looks at {region}, the evidence, more than chance"
    if high < 0:
        return "{model} looks at {region}, the evidence, less than chance"
    return "{model} looks at {region}, the evidence, no more than chance"


def _percent(share: object) -> str:
    assert isinstance(share, float)
    return f"{100 * share:.1f} %"


def _signed(value: object) -> str:
    return f"{value:+.3f}".replace("-", "\u2212")
