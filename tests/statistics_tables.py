"""Small score tables for the tests of statistics and report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

WORDS = ("model", "dataset", "target", "method", "binarization", "region", "status")


def rows(*decisions: Mapping[str, Any], **common: Any) -> pl.DataFrame:
    """Score rows with the given values; the rest is a plain decision on a map of 4 x 4 pixels."""
    plain = {
        "model": "m",
        "seed": 0,
        "dataset": "d",
        "sample_id": None,
        "target": "predicted",
        "method": "gradcam",
        "binarization": "threshold:0.5",
        "region": "object",
        "label": 0,
        "prediction": 0,
        "confidence": 0.9,
        "label_rank": 0,
        "correct": True,
        "status": "ok",
        "message": None,
        "annotation_area": 4,
        "salient_area": 4,
        "map_height": 4,
        "map_width": 4,
    }
    records = [{**plain, "sample_id": f"s{i}", **common, **d} for i, d in enumerate(decisions)]
    return pl.DataFrame(records, infer_schema_length=None)


def random_scores(
    images: int = 40,
    *,
    models: tuple[str, ...] = ("a", "b"),
    seeds: tuple[int, ...] = (0,),
    datasets: tuple[str, ...] = ("d",),
    regions: tuple[str, ...] = ("object", "block"),
) -> pl.DataFrame:
    """Scores of the four usual metrics, a tenth of the maps flat, words as Categorical like those a run is read as."""
    rng = np.random.default_rng(7)
    parts = []
    for model in models:
        for seed in seeds:
            for dataset in datasets:
                correct = rng.random(images) < 0.8
                hair = rng.choice(["dark", "fair"], images)
                for region in regions:
                    flat = rng.random(images) < 0.1
                    empty = rng.random(images) < 0.1
                    iou = np.where(flat, np.nan, rng.beta(2, 5, images))
                    part = pl.DataFrame(
                        {
                            "model": model,
                            "seed": seed,
                            "dataset": dataset,
                            "sample_id": [f"image-{i}" for i in range(images)],
                            "target": "predicted",
                            "method": "vanilla_gradients",
                            "binarization": "std:1",
                            "region": region,
                            "label": 0,
                            "prediction": np.where(correct, 0, 1),
                            "confidence": 0.5,
                            "label_rank": 0,
                            "correct": correct,
                            "status": np.where(flat, "flat_map", "ok"),
                            "message": None,
                            "iou_coverage": pl.Series(iou, dtype=pl.Float32).fill_nan(None),
                            "saliency_coverage": pl.Series(np.where(empty, np.nan, iou), dtype=pl.Float32).fill_nan(
                                None
                            ),
                            "pointing_game": pl.Series(
                                np.where(flat, np.nan, rng.random(images) < 0.4), dtype=pl.Float32
                            ).fill_nan(None),
                            "annotation_area": rng.integers(1, 60, images),
                            "salient_area": np.where(empty, 0, rng.integers(1, 60, images)),
                            "map_height": 8,
                            "map_width": 8,
                            "attr_hair": hair,
                        }
                    )
                    parts.append(part)
    return pl.concat(parts).with_columns(pl.col(*WORDS).cast(pl.Categorical))
