"""Summaries and examples with pictures, small enough to look at."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from explanation_alignment.runs.schema import SUMMARY_SCHEMA


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def summary(
    *,
    models: tuple[str, ...] = ("honest", "cheating"),
    datasets: tuple[str, ...] = ("same", "other"),
    regions: tuple[str, ...] = ("digit", "block"),
    methods: tuple[str, ...] = ("vanilla_gradients",),
    metrics: tuple[str, ...] = ("iou_coverage", "pointing_game"),
    seeds: tuple[int, ...] = (0,),
    groups: tuple[str, ...] = ("all",),
    **changed: Any,
) -> pl.DataFrame:
    """A summary whose every number is different, so that a misplaced one shows."""
    records = []
    for model in models:
        for seed in seeds:
            for dataset in datasets:
                for method in methods:
                    for region in regions:
                        for group in groups:
                            for metric in metrics:
                                ea = 0.1 + 0.0061 * len(records)
                                record = {
                                    "model": model,
                                    "seed": seed,
                                    "dataset": dataset,
                                    "method": method,
                                    "binarization": "std:1",
                                    "region": region,
                                    "group": group,
                                    "metric": metric,
                                    "ea": ea,
                                    "ci_low": ea - 0.0123,
                                    "ci_high": ea + 0.0234,
                                    "chance": ea / 3,
                                    "ceiling": 0.9,
                                    "adjusted": 0.5,
                                    "n": 1000 + len(records),
                                    "n_undefined": len(records),
                                    "accuracy": 0.9 - ea / 10,
                                }
                                records.append(record | changed)
    return pl.DataFrame(records, schema=SUMMARY_SCHEMA)


def examples(*, lines: tuple[str, ...] = ("honest", "cheating"), images: int = 3, size: int = 12) -> pl.DataFrame:
    """Examples in the form of a run's; the last image of ``cheating`` has a flat map."""
    rng = np.random.default_rng(0)
    records = []
    for model in lines:
        for i in range(images):
            flat = model == "cheating" and i == images - 1
            picture = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
            looked = rng.random((size, size)) > 0.7
            for region in ("digit", "block"):
                annotation = np.zeros((size, size), bool)
                annotation[: size // 3, : size // 3] = True
                missing = region == "digit" and i == 1
                status = "flat_map" if flat else "no_annotation" if missing else "ok"
                records.append(
                    {
                        "model": model,
                        "seed": 0,
                        "dataset": "same",
                        "sample_id": f"image-{i}",
                        "target": "predicted",
                        "method": "vanilla_gradients",
                        "binarization": "std:1",
                        "region": region,
                        "label": i,
                        "prediction": i if model == "honest" else 0,
                        "correct": model == "honest" or i == 0,
                        "confidence": 0.9,
                        "status": status,
                        "iou_coverage": 0.25 if status == "ok" else None,
                        "pointing_game": 1.0 if status == "ok" else None,
                        "image": png(picture),
                        "annotation": None if missing else png(annotation),
                        "saliency": None if flat else png((looked * 255).astype(np.uint8)),
                        "salient": png(looked & (not flat)),
                    }
                )
    return pl.DataFrame(records, infer_schema_length=None)
