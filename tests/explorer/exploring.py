"""Small run folders to explore, with names that try to be more than names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from explanation_alignment.runs.examples import Example, write_examples
from model_runs import write_models
from statistics_tables import random_scores

EVIL = "<script>document.title='taken'</script>"
MODELS = ("good", EVIL)
CLASSES = ("cat", EVIL, "dog")
ATTRIBUTE = 'hue"><img src=x onerror=alert(1)>'
IMAGES = 40
PICTURED = ("image-0", "image-1", "image-2", "image-3", "../../etc/passwd")


def scores(models: Sequence[str] = MODELS, images: int = IMAGES) -> pl.DataFrame:
    """Rows of all models; the last image's id is a path, one attribute's name is markup."""
    table = random_scores(images, models=tuple(models))
    number = pl.col("sample_id").str.replace("image-", "").cast(pl.Int64)
    rng = np.random.default_rng(3)
    last = pl.col("sample_id") == f"image-{images - 1}"
    return table.with_columns(
        label=(number % 3).cast(pl.Int32),
        prediction=pl.when("correct").then(number % 3).otherwise((number + 1) % 3).cast(pl.Int32),
        confidence=pl.Series(rng.random(table.height), dtype=pl.Float32),
        label_rank=pl.when("correct").then(1).otherwise(2).cast(pl.Int32),
        message=pl.lit(None, pl.String),
        ground_truth_coverage=pl.Series(rng.random(table.height), dtype=pl.Float32),
        **{f"attr_{ATTRIBUTE}": pl.when(number % 5 == 0).then(pl.lit("=1+1")).otherwise(pl.lit("plain"))},
    ).with_columns(
        sample_id=pl.when(last).then(pl.lit("../../etc/passwd")).otherwise("sample_id"),
        ground_truth_coverage=pl.when(pl.col("status").cast(pl.String) == "ok").then("ground_truth_coverage"),
    )


def example(name: str) -> Example:
    """A grey image of 8 x 8, annotated in its upper left quarter, salient in its left half."""
    annotation, salient = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    annotation[:4, :4], salient[:, :4] = True, True
    key = ("vanilla_gradients", "std:1")
    return Example(
        sample_id=name,
        image=np.full((8, 8, 3), 100, np.uint8),
        annotations={"object": annotation, "block": None},
        saliency={key: salient.astype(np.uint8) * 255},
        salient={(*key, "object"): salient, (*key, "block"): salient},
    )


def explored(
    path: Path,
    models: Sequence[str] = MODELS,
    *,
    targets: Sequence[str] = (),
    toy: bool = False,
    images: int = IMAGES,
) -> Path:
    """A run of these models on the same images, each explained for its target; five of the images have pictures."""
    table = scores(models, images)
    tables = [table.filter(pl.col("model").cast(pl.String) == model) for model in models]
    kind = table.schema["target"]
    for place, target in enumerate(targets):
        tables[place] = tables[place].with_columns(target=pl.lit(target).cast(kind))
    write_models(path, tables, class_names=CLASSES, toy=toy)
    for place, rows in enumerate(tables):
        shown = [name for name in PICTURED if name in rows["sample_id"].cast(pl.String).to_list()]
        write_examples(path / "examples" / f"e{place}", map(example, shown), rows)
    info = json.loads((path / "run.json").read_text())
    for item in info["evaluations"].values():
        item["methods"] = [{"method": "vanilla_gradients", "binarization": "std:1"}]
    for item in info["datasets"].values():
        item["regions"] = ["object", "block"]
    (path / "run.json").write_text(json.dumps(info))
    return path
