"""The tables of a run that ranks the regions of a face."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from explanation_alignment.experiments.celeba.protocol import METHODS, MODELS
from explanation_alignment.experiments.celeba.regions_protocol import TEST_SETS, kind_of_test
from explanation_alignment.statistics.region_ranking import RANKINGS, rank_regions, ranks_over_seeds

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["accuracies", "first_regions", "models_of", "region_results"]


def models_of(run: Run) -> list[str]:
    """The run's models: the experiment's own first, in its order, then others by name."""
    found = sorted({str(item["question"]["model"]) for item in run.evaluations.values()})
    return [*(name for name in MODELS if name in found), *(name for name in found if name not in MODELS)]


def region_results(run: Run) -> pl.DataFrame:
    """The regions of each model, seed, test set and method by four rankings.

    Args:
        run: of this experiment.

    Returns:
        The table of :func:`~explanation_alignment.statistics.region_ranking.rank_regions` with a column ``test``
        (``unbiased`` or ``biased``), models, test sets and methods in the experiment's order.
    """
    table = rank_regions(run)
    table = table.with_columns(test=pl.col("dataset").map_elements(kind_of_test, return_dtype=pl.String))
    orders = {"model": models_of(run), "test": TEST_SETS, "method": METHODS, "statistic": RANKINGS}
    places = [
        pl.col(name).replace_strict({word: i for i, word in enumerate(words)}, default=99, return_dtype=pl.Int64)
        for name, words in orders.items()
    ]
    return table.sort(places[1], places[2], "method", places[0], "seed", places[3], "rank", "region", nulls_last=True)


def first_regions(run: Run, results: pl.DataFrame | None = None) -> pl.DataFrame:
    """Which region is first, by ranking.

    Args:
        run: of this experiment.
        results: its :func:`region_results`, if they are at hand.

    Returns:
        A row a test set, method, model and statistic: ``region``, the one with the best mean rank over seeds (of those
        that tie the first by name); in how many (``times_first``) of the ``seeds`` it is first; ``first``, the mean
        share of resamples in which it is; ``rank_low`` to ``rank_high``, the ranks that the images allow in any seed;
        ``tau_mean`` and ``tau_min``, Kendall's tau between the rankings of two seeds (null for one seed).
    """
    table = region_results(run) if results is None else results
    key = ["test", "method", "binarization", "model", "statistic"]
    over = ranks_over_seeds(table).join(table.select("dataset", "test").unique(), on="dataset", how="left")
    best = over.filter(pl.col("rank_mean").is_not_null()).unique([*key, "dataset"], keep="first", maintain_order=True)
    shares = table.group_by(*key, "region").agg(
        pl.col("first").mean(), pl.col("rank_low").min(), pl.col("rank_high").max()
    )
    order = table.select(key).unique(maintain_order=True)
    told = best.join(shares, on=[*key, "region"], how="left")
    columns = ["region", "times_first", "seeds", "first", "rank_low", "rank_high", "tau_mean", "tau_min"]
    return order.join(told, on=key, how="inner", maintain_order="left").select(*key, *columns)


def accuracies(run: Run) -> pl.DataFrame:
    """Accuracy by model and test set.

    Args:
        run: of this experiment.

    Returns:
        ``model``, ``test``, ``accuracy`` (mean over seeds), ``accuracy_sd`` (sample standard deviation over seeds,
        null for one), ``seeds`` and ``images`` (of one seed), in the experiment's order.
    """
    decisions = (
        run.scan_scores()
        .select(pl.col("model", "dataset", "sample_id").cast(pl.String), "seed", "correct")
        .group_by("model", "dataset", "seed", "sample_id")
        .agg(pl.col("correct").max())
        .group_by("model", "dataset", "seed")
        .agg(accuracy=pl.col("correct").mean(), images=pl.len())
        .group_by("model", "dataset")
        .agg(
            accuracy_sd=pl.col("accuracy").std(),
            accuracy=pl.col("accuracy").mean(),
            seeds=pl.len(),
            images=pl.col("images").max(),
        )
        .collect()
    )
    table = decisions.with_columns(test=pl.col("dataset").map_elements(kind_of_test, return_dtype=pl.String))
    places = {
        "model": {word: i for i, word in enumerate(models_of(run))},
        "test": {word: i for i, word in enumerate(TEST_SETS)},
    }
    order = [pl.col(name).replace_strict(of, default=99, return_dtype=pl.Int64) for name, of in places.items()]
    return table.sort(*order).select("model", "test", "accuracy", "accuracy_sd", "seeds", "images")
