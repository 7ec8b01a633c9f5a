"""Ranking stability: whether models keep their order when the maps are binarized otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import kendalltau

from explanation_alignment.errors import UsageError
from explanation_alignment.statistics.chance import known_metric
from explanation_alignment.statistics.tables import metric_columns

__all__ = ["RANKING_SCHEMA", "ranking_agreement", "ranking_stability", "ranking_swaps"]

_Floats = NDArray[np.float64]

#: What a ranking is within.
_WITHIN: Final = ("dataset", "seed", "method", "region", "group", "metric")
_KEY_TYPES: Final = {name: pl.Int64 if name == "seed" else pl.String for name in _WITHIN}

#: Columns of the table of :func:`ranking_stability`.
RANKING_SCHEMA: Final = pl.Schema(
    {
        **_KEY_TYPES,
        "models": pl.Int64,
        "binarizations": pl.Int64,
        "tau_mean": pl.Float64,
        "tau_min": pl.Float64,
        "pairs_that_swap": pl.Float64,
        "swaps": pl.Float64,
    }
)
_AGREEMENT_SCHEMA: Final = pl.Schema(
    {
        **_KEY_TYPES,
        "binarization_a": pl.String,
        "binarization_b": pl.String,
        "models": pl.Int64,
        "tau": pl.Float64,
    }
)
_SWAPS_SCHEMA: Final = pl.Schema(
    {
        **_KEY_TYPES,
        "model_a": pl.String,
        "model_b": pl.String,
        "binarizations": pl.Int64,
        "a_ahead": pl.Int64,
        "b_ahead": pl.Int64,
        "tied": pl.Int64,
        "swaps": pl.Float64,
    }
)


def ranking_stability(summary: pl.DataFrame) -> pl.DataFrame:
    """How far the ranking of models by explanation alignment depends on how the maps were binarized.

    Only metrics of binarized maps depend on it; the others are left out, as are undefined means.

    Args:
        summary: a table of :func:`~explanation_alignment.statistics.summary.summarise` in which a method has several
            binarizations and is told of several models.

    Returns:
        A row per dataset, seed, method, region, group and metric, sorted, with the columns of ``RANKING_SCHEMA``:
        how many ``models`` and ``binarizations``; Kendall's tau between the rankings of two binarizations, its mean and
        smallest over all pairs of them (null where all models tie); ``pairs_that_swap``, the share of pairs of models
        that swap order at least once; ``swaps``, the share of (pair of models, pair of binarizations) in which the one
        is ahead under the first and the other under the second.

    Raises:
        UsageError: no method has two binarizations, or no two models share one.
    """
    # both tables hold every ranking, in the same order
    of_swaps = (
        ranking_swaps(summary)
        .group_by(_WITHIN, maintain_order=True)
        .agg(
            binarizations=pl.col("binarizations").max(),
            pairs_that_swap=(pl.col("swaps") > 0).mean(),
            swaps=pl.col("swaps").mean(),
        )
        .drop(_WITHIN)
    )
    of_binarizations = (
        ranking_agreement(summary)
        .group_by(_WITHIN, maintain_order=True)
        .agg(models=pl.col("models").max(), tau_mean=pl.col("tau").mean(), tau_min=pl.col("tau").min())
    )
    return pl.concat([of_binarizations, of_swaps], how="horizontal").select(RANKING_SCHEMA.names())


def ranking_agreement(summary: pl.DataFrame) -> pl.DataFrame:
    """Kendall's tau (b) between the rankings of models under each pair of binarizations.

    Args:
        summary: as in :func:`ranking_stability`; so are the errors.

    Returns:
        A row per dataset, seed, method, region, group, metric and pair of binarizations: ``models`` (those with a mean
        under both) and ``tau``, null where all of them tie under one of the two.
    """
    records = []
    for key, names, _, table in _rankings(summary):
        for first, second in combinations(range(len(names)), 2):
            both = ~np.isnan(table[:, first]) & ~np.isnan(table[:, second])
            one, two = table[both, first], table[both, second]
            distinct = min(np.unique(one).size, np.unique(two).size)
            tau = float(kendalltau(one, two).statistic) if distinct > 1 else None
            records.append(
                {
                    **key,
                    "binarization_a": names[first],
                    "binarization_b": names[second],
                    "models": int(both.sum()),
                    "tau": tau,
                }
            )
    return _sorted(pl.DataFrame(records, schema=_AGREEMENT_SCHEMA))


def ranking_swaps(summary: pl.DataFrame) -> pl.DataFrame:
    """How often two models swap order over the binarizations.

    Args:
        summary: as in :func:`ranking_stability`; so are the errors.

    Returns:
        A row per dataset, seed, method, region, group, metric and pair of models: ``binarizations`` (under which both
        have a mean), in how many ``a_ahead``, ``b_ahead`` or ``tied`` (ahead is nearer to agreement, whichever way the
        metric points), and ``swaps``, the share of pairs of binarizations that order them oppositely; null for fewer
        than two.
    """
    records = []
    for key, _, models, table in _rankings(summary):
        known = known_metric(key["metric"])
        sign = 1 if known is None or known.higher_is_better else -1
        for first, second in combinations(range(len(models)), 2):
            ahead = np.sign(sign * (table[first] - table[second]))
            a, b = int((ahead == 1).sum()), int((ahead == -1).sum())
            number = int((~np.isnan(ahead)).sum())
            records.append(
                {
                    **key,
                    "model_a": models[first],
                    "model_b": models[second],
                    "binarizations": number,
                    "a_ahead": a,
                    "b_ahead": b,
                    "tied": number - a - b,
                    "swaps": a * b / (number * (number - 1) / 2) if number > 1 else None,
                }
            )
    return _sorted(pl.DataFrame(records, schema=_SWAPS_SCHEMA))


def _rankings(summary: pl.DataFrame) -> Iterator[tuple[dict[str, Any], list[str], list[str], _Floats]]:
    """Key, binarizations, models, and their means (models, binarizations), NaN where undefined, of each ranking."""
    known = {name: known_metric(name) for name in summary["metric"].unique().to_list()}
    binarized = [name for name, metric in known.items() if metric is None or metric.needs == "mask"]
    rows = summary.filter(pl.col("metric").is_in(binarized), pl.col("ea").is_not_null())
    several = [part for part in rows.partition_by(_WITHIN) if part["binarization"].n_unique() > 1]
    if not several:
        raise UsageError(
            "ranking stability needs one method with several binarizations; evaluate with, for example, "
            '--method "gradcam(binarize=threshold:0.4)" --method "gradcam(binarize=threshold:0.6)"'
        )
    several = [part for part in several if part["model"].n_unique() > 1]
    if not several:
        raise UsageError("ranking stability needs several models; this run holds one for each method and binarization")
    for part in several:
        key = {name: part[name][0] for name in _WITHIN}
        wide = part.pivot(on="binarization", index="model", values="ea", sort_columns=True).sort("model")
        table = wide.drop("model")
        yield key, table.columns, wide["model"].to_list(), table.fill_null(np.nan).to_numpy()


def _sorted(table: pl.DataFrame) -> pl.DataFrame:
    order = {name: i for i, name in enumerate(metric_columns(table["metric"].unique().to_list()))}
    place = pl.col("metric").replace_strict(order, default=None, return_dtype=pl.Int64)
    names = [*_WITHIN[:-1], "_metric", *(n for n in table.columns if n.startswith(("model_", "binarization_")))]
    return table.with_columns(_metric=place).sort(names).drop("_metric")
