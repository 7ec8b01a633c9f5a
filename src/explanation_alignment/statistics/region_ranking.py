"""Which region do a model's maps lie on most: regions ranked by four statistics, with what the ranks are worth.

Raw means favour some regions whatever the model does: IoU those as large as the salient area, lift small ones, hits
large ones. ``excess``, the IoU minus that of a centred map of the same size, is the default for that reason; the
others stand beside it.

A rank has an interval as a mean has one. It is the confidence set of Mogstad, Romano, Shaikh and Wilhelm (Inference
for ranks with applications to mobility across neighbourhoods and academic achievement across countries, Review of
Economic Studies 2024, doi:10.1093/restud/rdad006): a region's rank cannot be better than 1 + the number of regions
that are significantly above it, nor worse than their number minus those significantly below it, where the differences
to all others are tested together. Unlike percentiles of resampled ranks it holds where regions are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.statistics.inputs import RunOrScores, score_rows, without_nulls
from explanation_alignment.statistics.intervals import MeanEstimator, resample_weights
from explanation_alignment.statistics.summary import summarise
from explanation_alignment.statistics.tables import ScoreTable, areas_of, group_columns, group_label, main_rows

__all__ = [
    "RANKINGS",
    "REGION_RANKING_SCHEMA",
    "SEED_RANKING_SCHEMA",
    "rank_regions",
    "ranks_and_intervals",
    "ranks_over_seeds",
]

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

#: What regions are ranked by; the first is the default of whoever wants one.
RANKINGS: Final = ("excess", "lift", "iou", "hits")

_WITHIN: Final = ("model", "seed", "dataset", "method", "binarization", "group", "statistic")

#: Columns of the table of :func:`rank_regions`.
REGION_RANKING_SCHEMA: Final = pl.Schema(
    {
        **{name: pl.Int64() if name == "seed" else pl.String() for name in _WITHIN},
        "region": pl.String(),
        "rank": pl.Int64(),
        "rank_low": pl.Int64(),
        "rank_high": pl.Int64(),
        "first": pl.Float64(),
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "chance": pl.Float64(),
        "n": pl.Int64(),
        "n_undefined": pl.Int64(),
        "unreliable": pl.Boolean(),
    }
)
#: Columns of the table of :func:`ranks_over_seeds`.
SEED_RANKING_SCHEMA: Final = pl.Schema(
    {
        **{name: pl.String() for name in _WITHIN if name != "seed"},
        "region": pl.String(),
        "seeds": pl.Int64(),
        "rank_mean": pl.Float64(),
        "rank_best": pl.Int64(),
        "rank_worst": pl.Int64(),
        "times_first": pl.Int64(),
        "value_mean": pl.Float64(),
        "value_sd": pl.Float64(),
        "tau_mean": pl.Float64(),
        "tau_min": pl.Float64(),
    }
)

#: Fewer images than this behind a region make its rank unreliable: a bootstrap of so few varies too little.
_FEW_IMAGES: Final = 20
#: Differences of means that are rounding.
_ROUNDING: Final = 1e-12
_CENTRE: Final = "center_iou"


@dataclass(frozen=True, slots=True)
class _Statistic:
    """A ratio of two sums over images, and where the summary has it.

    Args:
        metric: the column it is made of.
        low: the summary's lower bound of it, in the row of the metric; None where it has none.
        high: likewise.
        numerator: what is summed over the rows.
        denominator: what that is divided by.
        chance: its level for a map that knows nothing; a number, or a column of the summary.
        needs: a further column of the scores.
    """

    metric: str
    low: str | None
    high: str | None
    numerator: Callable[[pl.DataFrame], _Floats]
    denominator: Callable[[pl.DataFrame], _Floats]
    chance: str | float
    needs: str | None = None


def _column(name: str) -> Callable[[pl.DataFrame], _Floats]:
    return lambda rows: rows[name].cast(pl.Float64).to_numpy()


def _ones(rows: pl.DataFrame) -> _Floats:
    return np.ones(rows.height)


def _over_centre(rows: pl.DataFrame) -> _Floats:
    excess: _Floats = _column("iou_coverage")(rows) - _column(_CENTRE)(rows)
    return excess


def _annotated_share(rows: pl.DataFrame) -> _Floats:
    _, annotated, pixels = areas_of(rows)
    share: _Floats = annotated / pixels
    return share


_STATISTICS: Final[Mapping[str, _Statistic]] = {
    "excess": _Statistic("iou_coverage", "excess_low", "excess_high", _over_centre, _ones, chance=0.0, needs=_CENTRE),
    "lift": _Statistic("saliency_coverage", None, None, _column("saliency_coverage"), _annotated_share, chance=1.0),
    "iou": _Statistic("iou_coverage", "ci_low", "ci_high", _column("iou_coverage"), _ones, chance="chance"),
    "hits": _Statistic("pointing_game", "ci_low", "ci_high", _column("pointing_game"), _ones, chance="chance"),
}


def rank_regions(
    run_or_scores: RunOrScores,
    *,
    statistics: Sequence[str] | None = None,
    by: Sequence[str] = (),
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pl.DataFrame:
    """Rank the regions of each model's images by how much its maps lie there, by several statistics side by side.

    ``excess``: mean over decisions of the IoU minus that of a Gaussian at the image's centre with as many salient
    pixels; ``lift``: mean saliency coverage over the mean share of the image that is annotated; ``iou``: mean IoU;
    ``hits``: mean pointing game. Each is taken over the decisions where it is defined, those without the region left
    out. Methods that explain no model (``random``, ``center``, ``sobel``) are not ranked.

    Images are what is drawn anew, with all their regions, so that differences between regions keep their pairing. Those
    of a class-balanced sample are taken as they come: ranks, values, intervals and chance are for the images drawn, not
    for the whole dataset.

    Args:
        run_or_scores: a run, its folder, or rows of its ``scores``.
        statistics: of ``RANKINGS``, in the order wanted; all the scores allow by default.
        by: attributes or columns (``"correct"``, ``"label"``) whose values form groups beside ``all``.
        level: nominal coverage of the intervals, of values and of ranks.
        n_resamples: resamples of the images.
        seed: of the resampling.

    Returns:
        A row per model, seed, dataset, method, binarization, group, statistic and region, with the columns of
        ``REGION_RANKING_SCHEMA``, regions by rank: ``rank`` (1 is the largest value; equal values share the better
        rank), ``rank_low`` to ``rank_high``, the ranks that the images allow; ``first``, the share of resamples in
        which the region has the largest value (regions that tie there share it); ``value`` with its interval ``low``
        to ``high`` (the summary's; of a lift the resamples' percentiles); ``chance``, what a map that knows nothing
        would get (of excess: the centred map, 0); ``n`` decisions with a score and ``n_undefined`` without one;
        ``unreliable`` where n is below 20. A region without any score has no value and no rank, and is in no other
        region's way.

    Raises:
        UnknownNameError: a statistic or group is unknown.
        UsageError: the scores lack what a statistic asked for is made of, or hold none of it; or level, n_resamples
            or seed mean nothing.
        RunError: the run cannot be read, or the table lacks a column that every run has.

    Example:
        >>> import polars as pl
        >>> def row(image, region, iou):
        ...     return {"model": "m", "seed": 0, "dataset": "d", "sample_id": image, "target": "predicted",
        ...             "method": "gradcam", "binarization": "threshold:0.5", "region": region, "correct": True,
        ...             "status": "ok", "iou_coverage": iou, "annotation_area": 4, "salient_area": 4,
        ...             "map_height": 4, "map_width": 4}
        >>> scores = pl.DataFrame([row(f"s{i}", r, v) for i in range(30) for r, v in (("hair", 0.1), ("mouth", 0.4))])
        >>> rank_regions(scores).select("statistic", "region", "rank", "rank_low", "rank_high", "first").rows()
        [('iou', 'mouth', 1, 1, 1, 1.0), ('iou', 'hair', 2, 2, 2, 0.0)]
    """
    MeanEstimator(level=level, n_resamples=n_resamples, seed=seed)  # refuses what means nothing
    scores = score_rows(run_or_scores)
    columns = scores.lazy().collect_schema().names()
    names = _chosen(statistics, columns)
    groups = group_columns(by, columns)
    metrics = list(dict.fromkeys(_STATISTICS[name].metric for name in names))
    further = [_CENTRE] if _CENTRE in columns else []
    table = ScoreTable(scores, metrics=metrics, extra=[*groups, *further])
    rows = without_nulls(main_rows(table.rows))
    if rows.is_empty():
        return pl.DataFrame(schema=REGION_RANKING_SCHEMA)
    # not the run's own summary: of a sample that speaks of the whole dataset, and the ranks of the images drawn
    summary = summarise(scores, by=by, level=level, metrics=metrics, n_resamples=n_resamples, seed=seed)
    records: list[dict[str, Any]] = []
    for column in (None, *groups):
        part = rows.with_columns(group_label(column))
        for cell in _cells(part):
            for images, drawn in _resampled(cell, names, n_resamples, seed):
                records += _ranked(images, drawn, summary, level)
    place = {name: number for number, name in enumerate(names)}
    order = {group: number for number, group in enumerate(summary["group"].unique(maintain_order=True))}
    return (
        pl.DataFrame(records, schema=REGION_RANKING_SCHEMA)
        .with_columns(
            _statistic=pl.col("statistic").replace_strict(place, return_dtype=pl.Int64),
            _group=pl.col("group").replace_strict(order, default=None, return_dtype=pl.Int64),
        )
        .sort(*_WITHIN[:5], "_group", "_statistic", "rank", "region", nulls_last=True)
        .select(REGION_RANKING_SCHEMA.names())
    )


def _chosen(statistics: Sequence[str] | None, columns: Sequence[str]) -> list[str]:
    """The statistics asked for, or all that can be had."""
    lacking = {
        name: missing
        for name, what in _STATISTICS.items()
        if (missing := next((c for c in (what.metric, what.needs) if c is not None and c not in columns), None))
    }
    if statistics is None:
        names = [name for name in RANKINGS if name not in lacking]
        if not names:
            raise UsageError(
                "ranking regions needs one of the metrics iou_coverage, saliency_coverage and pointing_game"
            )
        return names
    for name in statistics:
        if name not in RANKINGS:
            raise UnknownNameError("ranking of regions", name, RANKINGS)
        if name in lacking:
            raise UsageError(f"ranking regions by {name} needs the column {lacking[name]!r}, which these scores lack")
    if not statistics:
        raise UsageError(f"statistics: expected at least one of {', '.join(RANKINGS)}")
    return list(dict.fromkeys(statistics))


def _cells(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows of each dataset and group: what has the same images, so that it is resampled together."""
    yield from rows.partition_by("dataset", "group", maintain_order=True)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """One ranking: its regions' values over the images and over each resample."""

    regions: Sequence[str]
    values: _Floats  # (R,), NaN where undefined
    draws: _Floats  # (resamples, R)


def _resampled(
    rows: pl.DataFrame, names: Sequence[str], n_resamples: int, seed: int
) -> Iterator[tuple[dict[str, Any], _Drawn]]:
    """The key of each ranking of one dataset and group, and its values over images drawn anew."""
    by_images: dict[tuple[str, ...], list[pl.DataFrame]] = {}
    for part in rows.partition_by("model", "seed", "method", "binarization", maintain_order=True):
        by_images.setdefault(tuple(part["sample_id"].unique().sort()), []).append(part)
    for ids, parts in by_images.items():
        place = {name: number for number, name in enumerate(ids)}
        keys: list[dict[str, Any]] = []
        regions_of: list[list[str]] = []
        sums: list[_Floats] = []
        for part in parts:
            image = part["sample_id"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
            regions = part["region"].unique(maintain_order=True).sort().to_list()
            region = part["region"].replace_strict({name: i for i, name in enumerate(regions)}, return_dtype=pl.Int64)
            for name in names:
                key = {column: part[column][0] for column in _WITHIN if column != "statistic"}
                keys.append(key | {"statistic": name})
                regions_of.append(regions)
                sums.append(_sums(part, _STATISTICS[name], image, region.to_numpy(), len(ids), len(regions)))
        matrix = np.concatenate(sums, axis=1)  # (images, rankings x (numerators, denominators))
        drawn = np.concatenate([w @ matrix for w in resample_weights(ids, n_resamples=n_resamples, seed=seed)])
        whole = matrix.sum(axis=0)
        start = 0
        for key, regions in zip(keys, regions_of, strict=True):
            middle, stop = start + len(regions), start + 2 * len(regions)
            values = _ratio(whole[start:middle], whole[middle:stop])
            yield key, _Drawn(regions, values, _ratio(drawn[:, start:middle], drawn[:, middle:stop]))
            start = stop


def _sums(rows: pl.DataFrame, what: _Statistic, image: _Ints, region: _Ints, images: int, regions: int) -> _Floats:
    """(images, 2 x regions): numerators, then denominators, 0 where undefined."""
    numerator = what.numerator(rows)
    defined = ~np.isnan(numerator)
    where = (image * regions + region)[defined]
    shape = (images, regions)
    tops, bottoms = (
        np.bincount(where, weights=values[defined], minlength=images * regions).reshape(shape)
        for values in (numerator, what.denominator(rows))
    )
    return np.concatenate([tops, bottoms], axis=1)


def _ratio(top: _Floats, bottom: _Floats) -> _Floats:
    result: _Floats = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
    return result


def _ranked(key: dict[str, Any], drawn: _Drawn, summary: pl.DataFrame, level: float) -> Iterator[dict[str, Any]]:
    """The rows of one ranking."""
    what = _STATISTICS[key["statistic"]]
    same = [pl.col(name).eq_missing(pl.lit(key[name])) for name in _WITHIN if name != "statistic"]
    of_regions = summary.filter(pl.col("metric") == what.metric, *same)
    told = {row["region"]: row for row in of_regions.iter_rows(named=True)}
    there = ~np.isnan(drawn.values)
    ranks, low, high, first = ranks_and_intervals(drawn.values[there], drawn.draws[:, there], level)
    place = {region: number for number, region in enumerate(np.array(drawn.regions)[there].tolist())}
    tails = [(1 - level) / 2, (1 + level) / 2]
    for region, value, draws in zip(drawn.regions, drawn.values, drawn.draws.T, strict=True):
        known = told[region]
        at = place.get(region)
        if what.low is None or what.high is None:
            ends = [None, None] if at is None else np.nanquantile(draws, tails).tolist()
        else:
            ends = [known[what.low], known[what.high]]
        yield key | {
            "region": region,
            "rank": None if at is None else int(ranks[at]),
            "rank_low": None if at is None else int(low[at]),
            "rank_high": None if at is None else int(high[at]),
            "first": None if at is None else float(first[at]),
            "value": None if at is None else float(value),
            "low": ends[0],
            "high": ends[1],
            "chance": known[what.chance] if isinstance(what.chance, str) else what.chance,
            "n": known["n"],
            "n_undefined": known["n_undefined"],
            "unreliable": known["n"] < _FEW_IMAGES,
        }


def ranks_and_intervals(values: _Floats, draws: _Floats, level: float) -> tuple[_Ints, _Ints, _Ints, _Floats]:
    """Ranks of the values, from the largest, with their confidence sets.

    Args:
        values: (R,) finite.
        draws: (resamples, R) the same over resamples; NaN where one drew nothing of it.
        level: nominal coverage of each set.

    Returns:
        Rank (equal values share the better one), lowest and highest rank, and the share of resamples in which the value
        is the largest (NaN counts as the smallest; ties share it): (R,) each.
    """
    ranks = rankdata(np.round(-values, 12), method="min").astype(np.int64)
    if values.size == 0:
        return ranks, ranks, ranks, np.empty(0)
    rounded = np.round(np.where(np.isnan(draws), -np.inf, draws), 12)
    largest = rounded == rounded.max(axis=1, keepdims=True)
    first: _Floats = (largest / largest.sum(axis=1, keepdims=True)).mean(axis=0)
    low, high = np.ones_like(ranks), np.full_like(ranks, values.size)
    for j in range(values.size):
        ahead = values - values[j]  # (R,) how far each other region is above this one
        of_draws = draws - draws[:, [j]]
        known = ~np.isnan(of_draws).all(axis=0)
        error = np.zeros(values.size)
        error[known] = np.nanstd(of_draws[:, known], axis=0)
        vary = error > _ROUNDING
        distance = np.abs(of_draws[:, vary] - ahead[vary]) / error[vary]
        quantile = np.quantile(np.nan_to_num(distance).max(axis=1, initial=0.0), level)
        reach = np.maximum(quantile * error, _ROUNDING)
        low[j] += (ahead > reach).sum()
        high[j] -= (ahead < -reach).sum()
    return ranks, low, high, first


def ranks_over_seeds(ranking: pl.DataFrame) -> pl.DataFrame:
    """Whether training anew ranks the regions alike.

    Args:
        ranking: a table of :func:`rank_regions`.

    Returns:
        A row per model, dataset, method, binarization, group, statistic and region, with the columns of
        ``SEED_RANKING_SCHEMA``, regions by mean rank: ``seeds`` in which the region has a rank, the mean, best and
        worst of it, in how many seeds it is first (alone or with others); mean and sample standard deviation of the
        value (null for one seed); Kendall's tau (b) between the rankings of two seeds, its mean and smallest over all
        pairs (the same for all regions of a ranking; null for one seed or where all regions tie).
    """
    within = [name for name in _WITHIN if name != "seed"]
    records: list[dict[str, Any]] = []
    for key, part in ranking.group_by(within, maintain_order=True):
        taus = _taus(part)
        agreement = {"tau_mean": float(np.mean(taus)), "tau_min": min(taus)} if taus else {}
        of_ranking = part.group_by("region", maintain_order=True).agg(
            seeds=pl.col("rank").count(),
            rank_mean=pl.col("rank").mean(),
            rank_best=pl.col("rank").min(),
            rank_worst=pl.col("rank").max(),
            times_first=(pl.col("rank") == 1).sum(),
            value_mean=pl.col("value").mean(),
            value_sd=pl.col("value").std(),
        )
        rows = of_ranking.sort("rank_mean", "region", nulls_last=True).iter_rows(named=True)
        records += [dict(zip(within, key, strict=True)) | agreement | row for row in rows]
    return pl.DataFrame(records, schema=SEED_RANKING_SCHEMA)


def _taus(ranking: pl.DataFrame) -> list[float]:
    """Kendall's tau between each two seeds, over the regions that have a value in both."""
    wide = ranking.pivot(on="seed", index="region", values="value")
    taus = []
    for one, two in combinations([name for name in wide.columns if name != "region"], 2):
        both = wide.select(one, two).drop_nulls()
        if both.height > 1 and both[one].n_unique() > 1 and both[two].n_unique() > 1:
            taus.append(float(kendalltau(both[one], both[two]).statistic))
    return taus
