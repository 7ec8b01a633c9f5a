"""The tables of a CIFAR-100 transfer: accuracies of the draws, and a row a model with its alignment beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from scipy.stats import t

from explanation_alignment.errors import RunError
from explanation_alignment.experiments.cifar100_transfer.protocol import METRICS, REGION
from explanation_alignment.experiments.imagenet.results import methods_named
from explanation_alignment.experiments.model_kinds import kind_of
from explanation_alignment.statistics.leaderboards import leaderboard

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = [
    "METHODS",
    "SCORES",
    "TRANSFER_FAILURES",
    "TRANSFER_SCHEMA",
    "alignments",
    "features_of",
    "one_shots",
    "results",
    "transfer_scores",
]

#: Below a run folder, the accuracies of every model's regressions.
SCORES: Final = "transfer/scores"
#: Key of run.json for models whose transfer could not be measured.
TRANSFER_FAILURES: Final = "transfer_failures"
#: Of these files: a row a draw of the training images.
TRANSFER_SCHEMA: Final = pl.Schema(
    {
        "model": pl.String,
        "spec": pl.String,
        "weights_digest": pl.String,
        "kind": pl.String,
        "features": pl.String,
        "n_features": pl.Int64,
        "input_size": pl.Int64,
        "own_size": pl.Boolean,
        "draw": pl.Int64,
        "accuracy": pl.Float64,
        "n_classes": pl.Int64,
        "n_train": pl.Int64,
        "n_test": pl.Int64,
        "iterations": pl.Int64,
        "converged": pl.Boolean,
    }
)
#: Saliency method -> its word in the names of columns.
METHODS: Final = {"vanilla_gradients": "gradients", "gradcam": "gradcam"}
_LEVEL: Final = 0.95


def transfer_scores(run: Run) -> pl.DataFrame:
    """The accuracy of every regression, with the columns of ``TRANSFER_SCHEMA``.

    Of a model that has been explained, only those of the very weights that were.

    Raises:
        RunError: a file cannot be read.
    """
    files = sorted((run.path / SCORES).glob("*.parquet"))
    try:
        table = pl.concat(
            [pl.DataFrame(schema=TRANSFER_SCHEMA), *(pl.read_parquet(file, glob=False) for file in files)]
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{run.path / SCORES}: cannot be read ({error}); the same command again mends it") from error
    if (run.path / "models.parquet").is_file():
        explained = run.models().select("model", explained="weights_digest").unique("model")
        table = table.join(explained, on="model", how="left")
        table = table.filter((pl.col("weights_digest") == pl.col("explained")).fill_null(True)).drop("explained")
    return table.sort("features", "model", "draw").unique(
        ["features", "model", "draw"], keep="first", maintain_order=True
    )


def features_of(run: Run) -> list[str]:
    """The kinds of features there are accuracies for; the published one first."""
    return transfer_scores(run)["features"].unique().sort().to_list()


def one_shots(run: Run, features: str = "logits") -> pl.DataFrame:
    """One-shot accuracy of every model, over the draws that all of them have.

    Returns:
        ``model``, ``kind``, ``transfer_size`` (pixels), ``own_size``, ``n_features``, ``one_shot``
        (the mean), ``one_shot_sd``, ``one_shot_low`` and ``one_shot_high`` (95 % interval of the mean over draws,
        Student's; null with one draw), ``draws``, ``n_test``, ``n_classes`` and ``not_converged`` draws.
    """
    scores = transfer_scores(run).filter(features=features)
    models = scores["model"].n_unique()
    shared = scores.group_by("draw").agg(pl.col("model").n_unique()).filter(pl.col("model") == models)["draw"]
    table = (
        scores.filter(pl.col("draw").is_in(shared.implode()))
        .group_by("model", maintain_order=True)
        .agg(
            transfer_size=pl.col("input_size").first(),
            own_size=pl.col("own_size").first(),
            kind=pl.col("kind").first(),
            n_features=pl.col("n_features").first(),
            one_shot=pl.col("accuracy").mean(),
            one_shot_sd=pl.col("accuracy").std(),
            draws=pl.len().cast(pl.Int64),
            n_test=pl.col("n_test").first(),
            n_classes=pl.col("n_classes").first(),
            not_converged=(~pl.col("converged")).sum().cast(pl.Int64),
        )
    )
    n = table["draws"].to_numpy().astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        quantile = t.ppf(0.5 + _LEVEL / 2, n - 1)
    half = pl.col("one_shot_sd") * pl.Series(quantile / np.sqrt(n)).fill_nan(None)
    return table.with_columns(
        one_shot_low=(pl.col("one_shot") - half).clip(0, 1), one_shot_high=(pl.col("one_shot") + half).clip(0, 1)
    )


def alignments(run: Run) -> dict[str, pl.DataFrame]:
    """For each of ``METHODS`` its leaderboard, ``family`` as one of the three kinds; no row where it was not used."""
    table = leaderboard(run, regions=[REGION], metrics=METRICS, all_keys=True)
    table = table.with_columns(pl.Series("family", [kind_of(family) for family in table["family"]], pl.String))
    return {method: table.filter(pl.col("method").is_in(methods_named(run, method))) for method in METHODS}


def results(run: Run, features: str = "logits", boards: Mapping[str, pl.DataFrame] | None = None) -> pl.DataFrame:
    """A row a model: what it transfers, how accurate it is on ImageNet, and how well aligned.

    Args:
        run: of this experiment.
        features: what the regressions were trained on.
        boards: what :func:`alignments` gave, if it is at hand.

    Returns:
        ``model``, ``family``, ``parameters``, ``img_size``, ``accuracy`` (ImageNet, share), the columns of
        :func:`one_shots`, and for each method (``gradients``, ``gradcam``) and metric ``<metric>_<method>`` with
        ``_low``, ``_high`` and ``_chance``. Best transfer first; null where a model failed in one half or, for
        Grad-CAM, is no convolutional network.
    """
    boards = boards or alignments(run)
    gradients = boards["vanilla_gradients"]
    table = gradients.select("model", "family", "img_size", accuracy=pl.col("top1") / 100)
    table = table.join(run.models().select("model", "parameters").unique("model"), on="model", how="left")
    table = table.join(one_shots(run, features), on="model", how="full", coalesce=True)
    table = table.with_columns(family=pl.coalesce("family", "kind")).drop("kind")
    for method, word in METHODS.items():
        part = boards[method]
        columns = {
            f"{metric}_{word}{end}": pl.col(f"ea_{metric}{end}")
            for metric in METRICS
            for end in ("", "_low", "_high", "_chance")
        }
        table = table.join(part.select("model", **columns), on="model", how="left", maintain_order="left")
    return table.sort("one_shot", "model", descending=[True, False], nulls_last=True)
