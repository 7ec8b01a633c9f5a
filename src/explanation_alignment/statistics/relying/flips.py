"""What interventions on a region did to the predictions, as a run holds it: shares, intervals and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl

from explanation_alignment.errors import UsageError
from explanation_alignment.statistics.intervals import wilson_interval
from explanation_alignment.statistics.paired_proportions import difference_interval, difference_statistic, one_sided_p

__all__ = ["EXCHANGE", "NOT_TRIED", "exchanged_regions", "paired_datasets"]

#: Whether a prediction changed: by the exchange of the region's content, and of as many pixels elsewhere.
EXCHANGE: Final = ("exchange_flip", "elsewhere_flip")

#: The columns of an intervention where there was none.
NOT_TRIED: Final[Mapping[str, Any]] = {
    "intervention": None,
    "flips": None,
    "elsewhere_flips": None,
    "flip_difference": None,
    "flip_low": None,
    "flip_high": None,
    "n_images": 0,
    "p_intervention": None,
}

#: What a table of flips is about: (model, seed, dataset, group, region).
_Place: TypeAlias = tuple[object, ...]
_MODEL: Final = ("model", "seed", "dataset")


def exchanged_regions(rows: pl.DataFrame, min_flip: float, level: float) -> dict[_Place, Mapping[str, Any]]:
    """The exchange of a region's content, with its control, where both were tried.

    Args:
        rows: score rows with ``group``, and the ``_seed`` and ``_dataset`` they had before pooling.
        min_flip: the difference of the two shares that is tested.
        level: nominal coverage of the interval.

    Returns:
        (model, seed, dataset, group, region) -> the columns of ``NOT_TRIED``, filled.
    """
    if any(name not in rows.columns for name in EXCHANGE):
        return {}
    place = [*_MODEL, "group", "region"]
    here, there = (pl.col(name) for name in EXCHANGE)
    images = (
        rows.drop_nulls(list(EXCHANGE))
        .group_by(*place, "_seed", "_dataset", "sample_id")  # the same for all methods
        .agg(*(pl.col(name).cast(pl.Boolean).max() for name in EXCHANGE))
    )
    table = images.group_by(place).agg(
        here.mean().alias("here"),
        there.mean().alias("there"),
        (here & ~there).mean().alias("first_only"),
        (there & ~here).mean().alias("second_only"),
        pl.col("sample_id").n_unique().alias("images"),
    )
    found: dict[_Place, Mapping[str, Any]] = {}
    for *key, flips, elsewhere, first_only, second_only, trials in table.iter_rows():
        counts = (first_only * trials, second_only * trials, trials)
        low, high = difference_interval(*counts, level)
        found[tuple(key)] = {
            "intervention": "exchange",
            "flips": flips,
            "elsewhere_flips": elsewhere,
            "flip_difference": flips - elsewhere,
            "flip_low": float(low),
            "flip_high": float(high),
            "n_images": trials,
            "p_intervention": float(one_sided_p(difference_statistic(*counts, min_flip))),
        }
    return found


def paired_datasets(
    rows: pl.DataFrame, pairs: Mapping[str, Sequence[tuple[str, str]]], min_flip: float, level: float
) -> dict[_Place, Mapping[str, Any]]:
    """The predictions that differ within pairs of datasets that differ only in what a region shows.

    A pair counts for both datasets it holds, or once where datasets are pooled; an image is in the group that it has in
    the row's dataset, and where they are pooled in the first of the pair.

    Args:
        rows: as in :func:`exchanged_regions`; so are the thresholds and the result.
        pairs: region -> pairs of dataset names; those that were not evaluated say nothing.
        min_flip: the share that is tested.
        level: nominal coverage of the interval.

    Raises:
        UsageError: the rows have no predictions.
    """
    found: dict[_Place, Mapping[str, Any]] = {}
    if not pairs:
        return found
    if "prediction" not in rows.columns:
        raise UsageError("pairs of datasets are compared by their predictions, and the table has no such column")
    predictions = rows.group_by(*_MODEL, "_seed", "_dataset", "sample_id", "group").agg(pl.col("prediction").max())
    image = ["model", "_seed", "sample_id"]
    others = predictions.group_by(*image, "_dataset").agg(other=pl.col("prediction").max())
    apart = rows["dataset"].equals(rows["_dataset"], null_equal=True)
    for region, named in pairs.items():
        compared = [
            predictions.filter(pl.col("_dataset") == first).join(others.filter(pl.col("_dataset") == second), on=image)
            for first, second in [*named, *((second, first) for first, second in named if apart)]
        ]
        if not compared:
            continue
        shares = (
            pl.concat(compared)
            .drop_nulls(["prediction", "other"])
            .group_by(*_MODEL, "group")
            .agg((pl.col("prediction") != pl.col("other")).mean(), pl.col("sample_id").n_unique())
        )
        for *key, share, trials in shares.iter_rows():
            found[*key, region] = _paired(share, trials, min_flip, level)
    return found


def _paired(share: float, images: int, min_flip: float, level: float) -> Mapping[str, Any]:
    low, high = wilson_interval(share * images, images, level)
    spread = np.sqrt(min_flip * (1 - min_flip) / images)
    # at a threshold of zero nothing can be said of no flip at all, and any flip refutes it
    statistic = (share - min_flip) / spread if spread > 0 else (np.inf if share > 0 else 0.0)
    return {
        "intervention": "paired datasets",
        "flips": share,
        "elsewhere_flips": None,
        "flip_difference": share,
        "flip_low": float(low),
        "flip_high": float(high),
        "n_images": images,
        "p_intervention": float(one_sided_p(statistic)),
    }
