"""The table of an ImageNet comparison: a row a model, the study's values beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from explanation_alignment.experiments.imagenet.protocol import METRICS, REGION, Reported, reported_values
from explanation_alignment.experiments.model_kinds import kind_of
from explanation_alignment.runs.schema import STATUSES
from explanation_alignment.statistics.leaderboards import leaderboard

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["is_compared", "methods_named", "reported_beside", "results", "status_counts"]


def results(run: Run, method: str = "gradcam") -> pl.DataFrame:
    """The run's models, the most accurate first.

    Args:
        run: of this experiment.
        method: which saliency method, whatever its arguments.

    Returns:
        The columns of :func:`~explanation_alignment.statistics.leaderboards.leaderboard` with all keys, ``family`` as
        one of the three kinds; ``layer``; the number of images by status (``ok``, ``no_annotation``,
        ``annotation_cropped``, ``flat_map``, ``error``); ``reported_accuracy``, ``reported_iou_coverage`` and
        ``reported_pointing_game``, the study's values where it has some and the images are ImageNet's.
    """
    table = leaderboard(run, methods=methods_named(run, method), regions=[REGION], metrics=METRICS, all_keys=True)
    layers = [
        {
            "model": item["question"]["model"],
            "seed": item["question"]["seed"],
            "method": one["method"],
            "layer": one["layer"],
        }
        for item in run.evaluations.values()
        for one in item["methods"]
    ]
    keys = ["model", "seed", "method"]
    layer_table = pl.DataFrame(
        layers, schema={"model": pl.String, "seed": pl.Int64, "method": pl.String, "layer": pl.String}
    )
    table = table.join(layer_table.unique(keys), on=keys, how="left", maintain_order="left")
    table = table.join(status_counts(run), on=keys, how="left", maintain_order="left")
    known = reported_values() if is_compared(run) else {}
    columns = {
        f"reported_{name}": [getattr(known.get(model), name, None) for model in table["model"]]
        for name in Reported.__dataclass_fields__
    }
    return table.with_columns(
        pl.Series("family", [kind_of(family) for family in table["family"]], pl.String),
        *(pl.Series(name, values, pl.Float64) for name, values in columns.items()),
    )


def reported_beside(table: pl.DataFrame, metric: str) -> pl.DataFrame | None:
    """What the study reported of these models as a figure takes it: model, accuracy, ea; None where it is nothing."""
    name = f"reported_{metric}"
    if name not in table.columns:
        return None
    found = table.select("model", accuracy="reported_accuracy", ea=name).drop_nulls()
    return None if found.is_empty() else found


def is_compared(run: Run) -> bool:
    """Whether the study's values may stand beside the run's: real images, under the published crop."""
    settings = run.info["experiment"]["settings"]
    return not run.info["toy"] and settings["resize"] == 256 and settings["crop"] == 224


def methods_named(run: Run, method: str) -> list[str]:
    """The run's methods of that name, whatever their arguments."""
    found = {one["method"] for item in run.evaluations.values() for one in item["methods"]}
    return sorted(name for name in found if name.partition("(")[0] == method)


def status_counts(run: Run) -> pl.DataFrame:
    """model, seed, method and the number of images of each status, on the annotated objects."""
    rows = run.scan_scores().select(
        pl.col("model", "method", "region", "status").cast(pl.String), pl.col("seed").cast(pl.Int64)
    )
    counts = [(pl.col("status") == status).sum().cast(pl.Int64).alias(status) for status in STATUSES]
    return rows.filter(region=REGION).group_by("model", "seed", "method").agg(counts).collect()
