"""Run folders of several models, an evaluation each, with scores written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from statistics_tables import rows


def model_scores(
    model: str,
    correct: Sequence[bool] | np.ndarray,
    iou: Sequence[float] | np.ndarray,
    *,
    classes: int = 10,
    **common: Any,
) -> pl.DataFrame:
    """One model's rows: whether it is right, and its IoU (NaN: a flat map); the rank of a missed label cycles."""
    decisions = []
    for i, (right, value) in enumerate(zip(correct, iou, strict=True)):
        flat = bool(np.isnan(value))
        decisions.append(
            {
                "label": i % classes,
                "prediction": i % classes if right else (i + 1) % classes,
                "label_rank": 1 if right else 2 + i % (classes - 1),
                "correct": bool(right),
                "status": "flat_map" if flat else "ok",
                "iou_coverage": None if flat else float(value),
                "pointing_game": None if flat else float(value > 0.3),
                **common,
            }
        )
    number = pl.Float32
    return rows(*decisions, model=model).with_columns(pl.col("iou_coverage", "pointing_game").cast(number))


def write_models(
    path: Path,
    scores: Sequence[pl.DataFrame],
    *,
    models: Sequence[Mapping[str, Any]] | None = None,
    class_names: Sequence[str] | None = None,
    toy: bool = False,
) -> Path:
    """A run with an evaluation for each table; ``models`` are rows of models.parquet, none if not given."""
    evaluations: dict[str, Any] = {}
    names: set[str] = set()
    for number, table in enumerate(scores):
        first = table.row(0, named=True)
        names.add(first["dataset"])
        evaluations[f"e{number}"] = {
            "identity": str(number),
            "question": {key: first[key] for key in ("model", "dataset", "seed", "target")},
            "methods": [],
            "details": {"samples": table.height},
            "finished": "2024-01-01T00:00:00+00:00",
            "status_counts": {},
        }
        folder = path / "scores" / f"e{number}"
        folder.mkdir(parents=True)
        table.write_parquet(folder / "unit-00000.parquet")
    dataset: dict[str, Any] = {"fingerprint": "f", "evidence": ["object"], "regions": ["object"], "toy": toy}
    dataset["class_names"] = class_names
    info = {
        "format_version": 1,
        "experiment": None,
        "toy": toy,
        "evaluations": evaluations,
        "datasets": dict.fromkeys(sorted(names), dataset),
    }
    (path / "run.json").write_text(json.dumps(info))
    if models is not None:
        pl.DataFrame(list(models), infer_schema_length=None).write_parquet(path / "models.parquet")
    return path


def model_row(model: str, **changed: Any) -> dict[str, Any]:
    """A row of models.parquet."""
    return {
        "model": model,
        "seed": 0,
        "spec": f"timm:{model}",
        "family": "cnn",
        "parameters": 25_557_032,
        "input_channels": 3,
        "input_height": 224,
        "input_width": 224,
        "resize": "248",
        "crop": "224x224",
        "interpolation": "bicubic",
        "fit": "cover",
    } | changed
