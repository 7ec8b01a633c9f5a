"""The tables of a run of coloured MNIST, permutations and seeds as replicates."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import polars as pl

from explanation_alignment.experiments.mnist.protocol import METHODS, MODELS, REPORTED

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["is_compared", "results"]


def results(run: Run) -> pl.DataFrame:
    """The run's table as the study prints it: the permutations and the seeds as replicates.

    Args:
        run: of this experiment.

    Returns:
        One row a model, kind of test data (``test``), method, region and metric: ``ea``, the mean over
        test sets and seeds; ``ci_low`` and ``ci_high``, the 95 % interval over images where there is
        one test set and one seed; ``sd_permutations``, the standard deviation over the permutations
        (mean over seeds); ``sd_seeds``, that of the seeds' means; ``chance``; the same for
        ``accuracy``; ``n`` decisions, ``n_undefined`` scores; ``reported``, the study's number where
        the images are MNIST's and the study has one.
    """
    summary = run.summary().filter(pl.col("group") == "all")
    key = ["model", "test", "method", "region", "metric"]
    per_seed = (
        summary.with_columns(
            test=pl.when(pl.col("dataset").str.contains("-uncorrelated-", literal=True))
            .then(pl.lit("uncorrelated"))
            .otherwise(pl.lit("correlated"))
        )
        .group_by(*key, "seed")
        .agg(
            pl.col("ea", "accuracy", "chance").mean(),
            pl.col("ci_low", "ci_high").first(),
            pl.col("n", "n_undefined").sum(),
            sets=pl.len(),
            sd_permutations=pl.col("ea").std(),
            accuracy_sd_permutations=pl.col("accuracy").std(),
        )
    )
    single = (pl.len() == 1) & (pl.col("sets").first() == 1)
    table = per_seed.group_by(key).agg(
        pl.col("ea", "accuracy", "chance", "sd_permutations", "accuracy_sd_permutations").mean(),
        sd_seeds=pl.col("ea").std(),
        accuracy_sd_seeds=pl.col("accuracy").std(),
        ci_low=pl.when(single).then(pl.col("ci_low").first()),
        ci_high=pl.when(single).then(pl.col("ci_high").first()),
        n=pl.col("n").sum(),
        n_undefined=pl.col("n_undefined").sum(),
    )
    known = is_compared(run)
    reported = pl.DataFrame(
        [
            {"model": model, "test": test, "region": region, "method": METHODS[0], "metric": metric, "reported": value}
            | {"accuracy_reported": numbers.accuracy}
            for (model, test, region), numbers in REPORTED.items()
            for metric, value in asdict(numbers).items()
            if metric != "accuracy" and known
        ],
        schema=dict.fromkeys(key, pl.String) | {"reported": pl.Float64, "accuracy_reported": pl.Float64},
    )
    order = {name: place for place, name in enumerate((*MODELS, *METHODS, *run.evidence, "block"))}
    ranks = [pl.col(name).replace_strict(order, default=99) for name in ("model", "method", "region")]
    table = table.join(reported, on=key, how="left").with_columns(
        pl.col("accuracy_reported").max().over("model", "test", "method", "region")  # whatever the metric
    )
    return table.sort(ranks[1], ranks[0], "test", ranks[2], "metric")


def is_compared(run: Run) -> bool:
    """Whether the reported numbers may stand beside the run's: only for the images they were measured on."""
    source: str = run.info["experiment"]["settings"]["data"]["source"]
    return source == "mnist"
