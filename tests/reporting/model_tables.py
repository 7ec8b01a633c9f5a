"""Leaderboards and tables of models, as large as they get."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl


def board(
    models: int | Sequence[str] = 5,
    *,
    metrics: Sequence[str] = ("iou_coverage", "pointing_game"),
    families: Sequence[str | None] = ("cnn", "transformer", "other"),
    chance: float = 0.2,
) -> pl.DataFrame:
    """A leaderboard in the form of ``ea.leaderboard``'s, of made-up models."""
    rng = np.random.default_rng(0)
    names = [f"resnet_{i:03}.a1_in1k" for i in range(models)] if isinstance(models, int) else list(models)
    records = []
    for i, name in enumerate(names):
        top1 = float(rng.uniform(70, 88))
        record = {
            "model": name,
            "img_size": 224,
            "top1": top1,
            "top1_err": 100 - top1,
            "top5": 95.0,
            "top5_err": 5.0,
            "param_count": round(float(rng.uniform(3, 300)), 2),
            "crop_pct": 0.875,
            "interpolation": "bicubic",
            "top1_low": top1 - 0.4,
            "top1_high": top1 + 0.3,
            "top5_low": 94.0,
            "top5_high": 96.0,
            "n_images": 50_000,
            "family": families[i % len(families)],
        }
        for metric in metrics:
            ea = float(rng.uniform(0.25, 0.6))
            record |= {
                f"ea_{metric}": ea,
                f"ea_{metric}_low": ea - 0.004,
                f"ea_{metric}_high": ea + 0.005,
                f"ea_{metric}_chance": chance + float(rng.uniform(-0.01, 0.01)),
                f"ea_{metric}_adjusted": 0.3,
                f"ea_{metric}_n": 49_815,
                f"ea_{metric}_undefined": 185,
                f"ea_{metric}_unreliable": False,
            }
        records.append(record)
    return pl.DataFrame(records)
