"""Which regions does a model rely on: what its maps show, and what happens when a region's content changes.

The rule, in short (:func:`~explanation_alignment.statistics.relying.words.rule` states it in full): a region outside
the declared evidence is a *confirmed* shortcut when the maps lie there clearly more than a map of the same size at the
centre would, and changing its content clearly changes predictions, both after correction for all regions and groups.
One alone makes it *suspected*: maps can lie on a region that decides nothing, and can miss one that does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.statistics.chance import (
    adjusted_for_chance,
    ceiling_levels,
    chance_levels,
    known_metric,
)
from explanation_alignment.statistics.inputs import RunOrScores, as_run, score_rows, without_nulls
from explanation_alignment.statistics.intervals import Estimate, MeanEstimator, Scale
from explanation_alignment.statistics.multiplicity import holm
from explanation_alignment.statistics.relying.flips import EXCHANGE, NOT_TRIED, exchanged_regions, paired_datasets
from explanation_alignment.statistics.relying.words import MARGIN, MIN_FLIP, evidence_text
from explanation_alignment.statistics.tables import (
    ScoreTable,
    areas_of,
    cells_of,
    estimate_cells,
    group_columns,
    main_rows,
    scale_of,
)

__all__ = ["MARGIN", "MIN_FLIP", "RELIANCE_SCHEMA", "VERDICTS", "reliance"]

_Floats = NDArray[np.float64]
_Record: TypeAlias = dict[str, Any]

#: What is said of a region; :func:`reliance` tells when.
VERDICTS: Final = ("evidence", "confirmed", "suspected", "not confirmed", "not relied on", "unknown")

#: Columns of the table of :func:`reliance`.
RELIANCE_SCHEMA: Final = pl.Schema(
    {
        "model": pl.String,
        "seed": pl.Int64,
        "dataset": pl.String,
        "pooled": pl.String,
        "method": pl.String,
        "binarization": pl.String,
        "group": pl.String,
        "region": pl.String,
        "rank": pl.Int64,
        "is_evidence": pl.Boolean,
        "verdict": pl.String,
        "shortcut_score": pl.Float64,
        "metric": pl.String,
        "null": pl.String,
        "excess": pl.Float64,
        "excess_low": pl.Float64,
        "excess_high": pl.Float64,
        "n": pl.Int64,
        "n_undefined": pl.Int64,
        "ea": pl.Float64,
        "ea_low": pl.Float64,
        "ea_high": pl.Float64,
        "adjusted": pl.Float64,
        "lift": pl.Float64,
        "iou": pl.Float64,
        "hits": pl.Float64,
        "intervention": pl.String,
        "flips": pl.Float64,
        "elsewhere_flips": pl.Float64,
        "flip_difference": pl.Float64,
        "flip_low": pl.Float64,
        "flip_high": pl.Float64,
        "n_images": pl.Int64,
        "p_maps": pl.Float64,
        "p_intervention": pl.Float64,
        "p_joint": pl.Float64,
        "p_maps_adjusted": pl.Float64,
        "p_intervention_adjusted": pl.Float64,
        "p_joint_adjusted": pl.Float64,
        "n_tests": pl.Int64,
        "accuracy": pl.Float64,
        "evidence_text": pl.String,
    }
)

_MODEL: Final = ("model", "seed", "dataset")
_KEYS: Final = (*_MODEL, "method", "binarization")
_POOLABLE: Final = ("seed", "dataset")
_CENTER: Final = "center_iou"
#: A distance of the lower bound from the mean that is rounding.
_ROUNDING: Final = 1e-9
#: Beside the metric asked for, where a run has them.
_BESIDE: Final = ("iou_coverage", "saliency_coverage", "pointing_game")


@dataclass(frozen=True, slots=True)
class _Question:
    """What was asked, checked."""

    metric: str
    margin: float
    min_flip: float
    estimator: MeanEstimator
    pairs: Mapping[str, Sequence[tuple[str, str]]]
    pool: tuple[str, ...]

    @property
    def alpha(self) -> float:
        """The level of the one-sided tests: that of the intervals' lower bounds."""
        return (1 - self.estimator.level) / 2


def reliance(
    run_or_scores: RunOrScores,
    *,
    evidence: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    pairs: Mapping[str, Sequence[tuple[str, str]]] | None = None,
    by: Sequence[str] = (),
    pool: Sequence[str] = (),
    metric: str = "iou_coverage",
    margin: float = MARGIN,
    min_flip: float = MIN_FLIP,
    level: float = 0.95,
) -> pl.DataFrame:
    """Rank the regions of a model's images, and tell which of them it seems to rely on.

    *Maps.* ``excess`` is the mean over decisions of score minus null. For IoU the null is the area-matched centre: the
    IoU of a Gaussian at the image's centre, binarized to as many pixels (``center_iou`` of the run; ``null`` says
    ``"center"``). Other metrics, and runs without that column, take the analytic chance level (``"chance"``). Its
    interval is the estimator's for scores within [-1, 1], with the image and all its rows as the unit, and ``p_maps``
    is the same score test of ``excess <= margin``, so that p <= (1 - level) / 2 just where ``excess_low >= margin``.

    *Intervention.* ``"exchange"``: the run holds for each image whether its prediction changed when the region's
    content was exchanged with that of an image of another label (``flips``), and when as many pixels elsewhere were
    (``elsewhere_flips``); ``flip_difference`` is the paired difference, its interval and ``p_intervention`` (of a
    difference of at most ``min_flip``) are Tango's. ``"paired datasets"``, the stronger one: ``pairs`` names datasets
    with the same images that differ only in what the region shows; ``flips`` is the share of predictions that differ,
    with Wilson's interval and test, and no second arm. It is taken where both are there. Images of the same id are one
    trial, also where several pairs, datasets or seeds use them, which makes the interval wider than it need be.

    *Verdict*, for regions outside the evidence. A statistic *exceeds* its threshold when its one-sided p, adjusted by
    Holm over the regions and groups of one model, seed, dataset, method and binarization, is at most
    ``(1 - level) / 2``; ``p_joint`` of both together is the larger p of the two (intersection-union).

    ==================  ==============================================================================================
    ``evidence``        declared as the reason a person would accept; no verdict
    ``confirmed``       both exceed, jointly
    ``suspected``       the maps exceed and no intervention was done, or it leaves the matter open; or the intervention
                        alone exceeds (a map that misses a shortcut does not clear it)
    ``not confirmed``   the maps exceed, but the interval of the intervention lies below ``min_flip``: what the maps
                        mark does not decide
    ``not relied on``   nothing exceeds, and the intervals of the intervention and of the maps (where any score is
                        defined) lie at or below their thresholds
    ``unknown``         too few images to tell; or nothing was tried but maps that show nothing
    ==================  ==============================================================================================

    Args:
        run_or_scores: a run, its folder, or rows of its ``scores``.
        evidence: regions a person would accept as the reason, for all datasets or by dataset; a run's own by default.
        pairs: region -> pairs of dataset names.
        by: attributes or columns (``"correct"``, ``"label"``) whose values form groups beside ``all``.
        pool: ``"dataset"``, ``"seed"`` or both: take their rows together instead of apart.
        metric: any bounded metric with an analytic chance level.
        margin: how far above the null a map must lie to count, in units of the metric.
        min_flip: by how much the share of changed predictions must exceed that elsewhere.
        level: nominal coverage of all intervals.

    Returns:
        A row per model, seed, dataset, method, binarization, group and region, with the columns of
        ``RELIANCE_SCHEMA``; regions of a group by ``rank`` (1 has the largest excess). Where ``pool`` took several
        values together the key is null and ``pooled`` tells how many. ``ea`` is the mean of the metric, ``adjusted``
        its place between chance and what the areas allow; ``lift`` mean saliency coverage over the mean share of the
        image that is annotated; ``iou`` and ``hits`` mean IoU and pointing game, null where the run lacks the metric.
        ``n`` decisions have a score and ``n_undefined`` have none; ``n_images`` images were intervened on; ``n_tests``
        is the size of the family of the correction. ``accuracy`` is that of the group, each image once.
        ``shortcut_score`` is the smaller of ``excess_low - margin`` and ``flip_low - min_flip``, of what was tried: a
        score to set a threshold on, since above t it is the rule, uncorrected, with both thresholds raised by t.

    Raises:
        UsageError: the metric has no chance level, a threshold means nothing, a table came without its evidence,
            datasets pooled disagree on it, or evidence or pairs have another shape.
        UnknownNameError: evidence, a region of ``pairs``, a group or the metric is not in the scores.
        RunError: the run cannot be read, or the table lacks a column that every run has.
    """
    known = known_metric(metric)
    if known is None or known.chance is None:
        raise UsageError(f"{metric!r} has no analytic chance level; use one that has, such as iou_coverage")
    if not scale_of(metric).bounded:
        raise UsageError(f"{metric!r} has no finite range; use a metric that has, such as iou_coverage")
    if not (0 <= margin < 1 and 0 <= min_flip < 1):
        raise UsageError(f"margin and min_flip must lie in [0, 1), got {margin} and {min_flip}")
    for name in pool:
        if name not in _POOLABLE:
            raise UnknownNameError("thing to pool", name, _POOLABLE)
    question = _Question(metric, margin, min_flip, MeanEstimator(level=level), pairs or {}, tuple(pool))
    scores, declared = _given(run_or_scores, evidence)
    columns = scores.lazy().collect_schema().names()
    groups = group_columns(by, columns)
    present = [name for name in _BESIDE if name in columns]
    further = [name for name in (_CENTER, *EXCHANGE, "prediction") if name in columns]
    table = ScoreTable(scores, metrics=list(dict.fromkeys([metric, *present])), extra=[*groups, *further])
    rows = main_rows(table.rows)
    if rows.is_empty():
        return pl.DataFrame(schema=RELIANCE_SCHEMA)
    regions = rows["region"].unique().to_list()
    _check_pairs(question.pairs, regions)
    if evidence is not None:
        _check_evidence(evidence, regions, rows["dataset"].unique().to_list())
    rows = _pooled(_with_levels(rows, metric), declared, question)
    records: list[_Record] = []
    for place, column in enumerate([None, *groups]):
        records += _records(rows, column, place, question)
    return _judged(records, question)


def _check_evidence(
    evidence: Sequence[str] | Mapping[str, Sequence[str]], regions: Sequence[str], datasets: Sequence[str]
) -> None:
    """Refuse evidence that names what is not there, or is silent on a dataset that is."""
    lists = evidence if isinstance(evidence, Mapping) else {None: evidence}
    for dataset, given in lists.items():
        if isinstance(given, str) or not isinstance(given, Collection):
            whose = "evidence" if dataset is None else f"evidence of {dataset!r}"
            example = given if isinstance(given, str) else regions[0]
            raise UsageError(f"{whose} is a list of regions, such as [{example!r}]; got {given!r}")
    named = [region for part in evidence.values() for region in part] if isinstance(evidence, Mapping) else evidence
    for region in named:
        if region not in regions:
            raise UnknownNameError("region of these scores", region, regions)
    if isinstance(evidence, Mapping):
        for dataset in evidence:
            if dataset not in datasets:
                raise UnknownNameError("dataset of these scores", dataset, datasets)
        for dataset in datasets:
            if dataset not in evidence:
                raise UsageError(f"no evidence is given for dataset {dataset!r}; an empty list says that it has none")


def _check_pairs(pairs: object, regions: Sequence[str]) -> None:
    """Refuse pairs of another shape, or of a region that is not there."""
    if not isinstance(pairs, Mapping):
        example = '{"block": [("first", "second")]}'
        raise UsageError(f"pairs: expected region -> list of pairs of dataset names, such as {example}; got {pairs!r}")
    for region, named in pairs.items():
        if region not in regions:
            raise UnknownNameError("region of these scores", region, regions)
        if isinstance(named, str) or not isinstance(named, Sequence) or not all(map(_is_pair, named)):
            example = '[("first", "second")]'
            raise UsageError(
                f"pairs of {region!r}: expected a list of two datasets each, such as {example}; got {named!r}"
            )


def _is_pair(given: object) -> bool:
    if isinstance(given, str) or not isinstance(given, Sequence):
        return False
    return len(given) == 2 and all(isinstance(name, str) for name in given)


def _given(
    run_or_scores: RunOrScores, evidence: Sequence[str] | Mapping[str, Sequence[str]] | None
) -> tuple[pl.DataFrame | pl.LazyFrame, Mapping[str, Sequence[str]] | Sequence[str]]:
    """The rows, and the evidence: of all datasets, or by dataset."""
    run = as_run(run_or_scores)
    if evidence is None:
        if run is None:
            raise UsageError("a table of scores does not say which regions are the evidence; give evidence=[...]")
        evidence = {name: item["evidence"] for name, item in run.info["datasets"].items()}
    return without_nulls(score_rows(run_or_scores if run is None else run).lazy().collect()), evidence


def _with_levels(rows: pl.DataFrame, metric: str) -> pl.DataFrame:
    """The rows with chance, ceiling, and ``_null`` and ``_excess`` of the null that serves the row's whole ranking."""
    areas = areas_of(rows)
    chance, ceiling = chance_levels(metric, *areas), ceiling_levels(metric, *areas)
    # regions are ranked against each other, so all of a model's take the same null; no salient pixel, no overlap
    center = pl.lit(None, pl.Float64)
    if metric == "iou_coverage" and _CENTER in rows.columns:
        center = pl.when(pl.col("salient_area") == 0).then(pl.lit(0.0)).otherwise(pl.col(_CENTER).cast(pl.Float64))
    known = (center.fill_nan(None).is_not_null() | pl.col(metric).is_null()).all().over(*_KEYS)
    rows = rows.with_columns(
        _chance=pl.Series(chance).fill_nan(None), _ceiling=pl.Series(ceiling).fill_nan(None), _center=center
    ).with_columns(_null=pl.when(known).then(pl.lit("center")).otherwise(pl.lit("chance")))
    level = pl.when(pl.col("_null") == "center").then(pl.col("_center")).otherwise(pl.col("_chance"))
    annotated = pl.col("annotation_area") / (pl.col("map_height") * pl.col("map_width"))
    return rows.with_columns(_excess=pl.col(metric) - level, _annotated=annotated)


def _pooled(
    rows: pl.DataFrame, declared: Mapping[str, Sequence[str]] | Sequence[str], question: _Question
) -> pl.DataFrame:
    """The rows with ``is_evidence``, their own seed and dataset kept aside, and what is pooled made one."""
    if isinstance(declared, Mapping):
        members = [f"{dataset}\x00{region}" for dataset, named in declared.items() for region in named]
        is_evidence = pl.concat_str("dataset", "region", separator="\x00").is_in(members)
    else:
        is_evidence = pl.col("region").is_in(list(declared))
    rows = rows.with_columns(is_evidence=is_evidence, _seed=pl.col("seed"), _dataset=pl.col("dataset"))
    rows = rows.with_columns(pooled=pl.lit(None, pl.String))
    if not question.pool:
        return rows
    key = [name for name in _KEYS if name not in question.pool]
    if "dataset" in question.pool:
        mixed = rows.group_by("region").agg(pl.col("is_evidence").n_unique()).filter(pl.col("is_evidence") > 1)
        if mixed.height:
            raise UsageError(
                f"the datasets disagree on whether {mixed['region'][0]!r} is evidence; do not pool them, or name the "
                "evidence of all of them"
            )
    if rows.group_by(key).agg(pl.col("_null").n_unique()).filter(pl.col("_null") > 1).height:
        level = pl.col(question.metric) - pl.col("_chance")  # some parts lack the centre: chance for all
        rows = rows.with_columns(_null=pl.lit("chance"), _excess=level)
    counts = [pl.col(name).n_unique().over(key) for name in question.pool]
    words = [
        pl.when(count > 1).then(pl.format(f"{{}} {name}s", count))
        for name, count in zip(question.pool, counts, strict=True)
    ]
    ones = [
        pl.when(count == 1).then(pl.col(name)).alias(name) for name, count in zip(question.pool, counts, strict=True)
    ]
    text = pl.concat_str(words, separator=", ", ignore_nulls=True)
    return rows.with_columns(pooled=pl.when(text != "").then(text)).with_columns(ones)


def _records(rows: pl.DataFrame, column: str | None, place: int, question: _Question) -> list[_Record]:
    """What was measured, for each model, region and value of one column."""
    value = pl.lit("all") if column is None else pl.col(column).cast(pl.String).fill_null("null")
    label = value if column is None else pl.format(f"{column}={{}}", value)
    rows = rows.with_columns(label.alias("group"))
    keys = [*_KEYS, "group", "region"]
    cells, cell = cells_of(rows, keys)
    excess, scores = rows["_excess"].to_numpy(), rows[question.metric].to_numpy()
    scales = [Scale(-1, 1), scale_of(question.metric)]
    estimates = estimate_cells(rows["sample_id"], cell, cells.height, [excess, scores], scales, question.estimator)
    beside = _beside(rows, keys, question.metric)
    accuracy = _accuracy(rows)
    thresholds = (question.min_flip, question.estimator.level)
    changed = exchanged_regions(rows, *thresholds) | paired_datasets(rows, question.pairs, *thresholds)
    records = []
    for i, key in enumerate(cells.iter_rows(named=True)):
        means = beside[tuple(key.values())]
        whose = tuple(key[name] for name in (*_MODEL, "group"))
        of_maps, ea = estimates[0][i], estimates[1][i]
        record: _Record = {
            **key,
            "_place": place,
            **{name: means[name] for name in ("pooled", "is_evidence", "null", "lift", "iou", "hits")},
            "metric": question.metric,
            "excess": of_maps.mean,
            "excess_low": of_maps.low,
            "excess_high": of_maps.high,
            "n": of_maps.n,
            "n_undefined": of_maps.n_undefined,
            "ea": ea.mean,
            "ea_low": ea.low,
            "ea_high": ea.high,
            "adjusted": adjusted_for_chance(ea.mean, means["chance"], means["ceiling"]),
            "p_maps": _p_above(of_maps, means["images"], question),
            "accuracy": accuracy[whose],
        }
        record |= changed.get((*whose, key["region"]), NOT_TRIED)
        records.append(record)
    return records


def _beside(rows: pl.DataFrame, keys: Sequence[str], metric: str) -> Mapping[tuple[object, ...], _Record]:
    """Means that need no interval, of each cell."""
    defined = pl.col(metric).is_not_null()

    def mean(name: str) -> pl.Expr:
        return pl.col(name).mean() if name in rows.columns else pl.lit(None, pl.Float64)

    if "saliency_coverage" in rows.columns:
        precise = pl.col("saliency_coverage")
        lift = precise.mean() / pl.col("_annotated").filter(precise.is_not_null()).mean()
    else:
        lift = pl.lit(None, pl.Float64)
    table = rows.group_by(keys).agg(
        pl.col("pooled", "is_evidence").first(),
        null=pl.col("_null").first(),
        lift=lift,
        iou=mean("iou_coverage"),
        hits=mean("pointing_game"),
        chance=pl.col("_chance").filter(defined).mean(),
        ceiling=pl.col("_ceiling").filter(defined).mean(),
        images=pl.col("sample_id").filter(pl.col("_excess").is_not_null()).n_unique(),
    )
    return {tuple(row[name] for name in keys): row for row in table.iter_rows(named=True)}


def _p_above(estimate: Estimate, images: int, question: _Question) -> float | None:
    """One-sided p of a mean excess of at most the margin.

    The interval holds what a score test does not reject; its lower bound tells how many hits and misses the scores
    amount to, and with that the same test is done at the margin.
    """
    if estimate.mean is None or estimate.low is None:
        return None
    share, low, tested = ((value + 1) / 2 for value in (estimate.mean, estimate.low, question.margin))
    freedom = max(images - 1, 1)
    if share - low > _ROUNDING:
        quantile = float(stdtrit(freedom, 0.5 + question.estimator.level / 2))
        trials = low * (1 - low) * (quantile / (share - low)) ** 2
    else:
        trials = images  # scores that do not vary tell nothing of the variance: the fewest trials there are
    statistic = (share - tested) * np.sqrt(trials / (tested * (1 - tested)))
    return float(stdtr(freedom, -statistic))


def _accuracy(rows: pl.DataFrame) -> Mapping[tuple[object, ...], float | None]:
    """Share of right decisions per (model, seed, dataset, group), each image once."""
    place = [*_MODEL, "group"]
    shares = (
        rows.group_by(*place, "_seed", "_dataset", "sample_id")
        .agg(pl.col("correct").max())
        .group_by(place)
        .agg(pl.col("correct").mean())
    )
    return {tuple(key): share for *key, share in shares.iter_rows()}


def _judged(records: list[_Record], question: _Question) -> pl.DataFrame:
    """The table: corrected, judged, ranked and put into words."""
    families: dict[tuple[object, ...], list[_Record]] = {}
    for record in records:
        maps, flips = record["p_maps"], record["p_intervention"]
        record["p_joint"] = None if maps is None or flips is None else max(maps, flips)
        record["n_tests"] = 0
        if not record["is_evidence"]:
            families.setdefault(tuple(record[name] for name in _KEYS), []).append(record)
    for family in families.values():
        tested = [r for r in family if not (r["p_maps"] is None and r["p_intervention"] is None)]
        for record in family:
            record["n_tests"] = len(tested)
        for name in ("p_maps", "p_intervention", "p_joint"):
            _adjust(tested, name)
    for record in records:
        record["shortcut_score"] = _shortcut_score(record, question)
        record["verdict"] = _verdict(record, question)
        record["evidence_text"] = evidence_text(record)
    table = pl.DataFrame(records, schema={**RELIANCE_SCHEMA, "_place": pl.Int64()}, infer_schema_length=None)
    one = [*_KEYS, "group"]
    return (
        table.with_columns(rank=pl.col("excess").rank("ordinal", descending=True).over(one).cast(pl.Int64))
        .sort(*_KEYS, "_place", "group", "rank", "region", nulls_last=True)
        .select(RELIANCE_SCHEMA.names())
    )


def _adjust(tested: Sequence[_Record], name: str) -> None:
    """Write the adjusted p-values of one family; what was not tested counts as a test that found nothing."""
    adjusted = holm([1.0 if record[name] is None else record[name] for record in tested])
    for record, value in zip(tested, adjusted, strict=True):
        record[f"{name}_adjusted"] = None if record[name] is None else float(value)


def _shortcut_score(record: _Record, question: _Question) -> float | None:
    above = [
        record[bound] - threshold
        for bound, threshold in (("excess_low", question.margin), ("flip_low", question.min_flip))
        if record[bound] is not None
    ]
    return min(above, default=None)


def _verdict(record: _Record, question: _Question) -> str:
    if record["is_evidence"]:
        return "evidence"
    joint, maps, flips = (
        record.get(f"{name}_adjusted") is not None and record[f"{name}_adjusted"] <= question.alpha
        for name in ("p_joint", "p_maps", "p_intervention")
    )
    intervened = record["intervention"] is not None
    clears = intervened and record["flip_high"] <= question.min_flip
    if joint:
        return "confirmed"
    if flips or (maps and not clears):
        return "suspected"
    if maps:
        return "not confirmed"
    within = record["excess_high"] is None or record["excess_high"] <= question.margin
    return "not relied on" if clears and within else "unknown"
