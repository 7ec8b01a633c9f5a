"""Run folders written by hand, of any size and with any names, without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from explanation_alignment.metrics.registry import DEFAULT_METRICS
from explanation_alignment.runs.examples import Example, write_examples
from explanation_alignment.runs.reader import Run, open_run
from explanation_alignment.runs.schema import scores_schema

SIDE = 16


def made_run(
    folder: Path,
    *,
    models: Sequence[str] = ("honest", "cheating"),
    datasets: Sequence[str] = ("same",),
    regions: Sequence[str] = ("digit", "block"),
    evidence: Sequence[str] = ("digit",),
    methods: Sequence[tuple[str, str]] = (("vanilla_gradients", "std:1"),),
    metrics: Sequence[str] = DEFAULT_METRICS,
    seeds: Sequence[int] = (0,),
    target: str = "predicted",
    n: int = 40,
    class_names: Sequence[str] = ("nought", "one", "two", "three"),
    attributes: Mapping[str, Sequence[Any]] | None = None,
    undefined: float = 0.1,
    broken: Mapping[int, str] | None = None,
    unfinished: Sequence[str] = (),
    failures: Mapping[str, str] | None = None,
    families: Sequence[str] = ("cnn", "transformer"),
    examples: int = 8,
    toy: bool = False,
) -> Run:
    """A run whose models differ in accuracy and alignment: the first is the most aligned.

    Args:
        undefined: share of decisions without a score (flat maps); 1 for all.
        broken: which images could not be read, and why.
        unfinished: models whose evaluations were begun and not finished.
    """
    info: dict[str, Any] = {
        "format_version": 1,
        "created": "2025-01-02T03:04:05+00:00",
        "command": "ealign evaluate --out runs/made",
        "toy": toy,
        "experiment": None,
        "versions": {"python": "3.11.7", "explanation-alignment": "0.1.0"},
        "hardware": {"system": "Linux x86_64", "cpus": 2, "threads": 2, "gpus": []},
        "datasets": {
            name: {
                "fingerprint": f"{place:064x}",
                "samples": n,
                "class_names": list(class_names),
                "regions": list(regions),
                "evidence": list(evidence),
                "toy": toy,
            }
            for place, name in enumerate(datasets)
        },
        "evaluations": {},
    }
    if failures:
        info["failures"] = dict(failures)
    known = []
    for place, model in enumerate(models):
        for seed in seeds:
            known.append({"model": model, "seed": seed, "family": families[place % len(families)]})
            known[-1] |= {"spec": "made:up", "parameters": 1_000_000 * (place + 1), "input_height": SIDE}
            known[-1] |= {"input_width": SIDE, "resize": None, "crop": None, "interpolation": "bilinear"}
            for dataset in datasets:
                slug = f"evaluation-{len(info['evaluations'])}"
                item, rows = _evaluation(
                    model, place, seed, dataset, methods, metrics, regions, target, n, len(class_names),
                    attributes or {}, undefined, broken or {}, done=model not in unfinished,
                )  # fmt: skip
                info["evaluations"][slug] = item
                _write(folder / "scores" / slug, rows, metrics, attributes or {})
                if examples:
                    _show(folder / "examples" / slug, rows, examples, methods, regions)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(info))
    pl.DataFrame(known).write_parquet(folder / "models.parquet")
    return open_run(folder)


def _evaluation(
    model: str, place: int, seed: int, dataset: str, methods: Any, metrics: Any, regions: Any, target: str, n: int,
    classes: int, attributes: Mapping[str, Sequence[Any]], undefined: float, broken: Mapping[int, str], *, done: bool,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:  # fmt: skip
    rng = np.random.default_rng([place, seed, len(dataset)])
    right = rng.random(n) < 0.9 / (1 + 0.15 * (place % 7))
    flat = rng.random(n) < undefined
    rows: list[dict[str, Any]] = []
    for method, binarization in methods:
        for region in regions:
            for image in range(n):
                rows.append(
                    _row(
                        rng,
                        image,
                        right[image],
                        flat[image],
                        classes,
                        metrics,
                        broken.get(image),
                        1 + 0.3 * (place % 9),
                    )
                    | {"model": model, "seed": seed, "dataset": dataset, "sample_id": f"image-{image:04}"}
                    | {"target": target, "method": method, "binarization": binarization, "region": region}
                    | {f"attr_{name}": values[image % len(values)] for name, values in attributes.items()}
                )
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    question = {"model": model, "weights": f"{place:064x}", "dataset": dataset, "dataset_fingerprint": "0" * 64}
    question |= {"sample": None, "seed": seed, "target": target, "metrics": list(metrics)}
    item = {
        "identity": f"{place}-{seed}-{dataset}",
        "question": question,
        "methods": [{"method": method, "binarization": binarization} for method, binarization in methods],
        "details": {"unit_size": 1024, "batch_size": 8, "device": "cpu", "samples": n},
        "started": "2025-01-02T03:04:05+00:00",
        "finished": "2025-01-02T03:05:05+00:00" if done else None,
        "status_counts": counts if done else None,
    }
    return item, rows


def _row(
    rng: np.random.Generator,
    image: int,
    right: bool,
    flat: bool,
    classes: int,
    metrics: Any,
    message: Any,
    spread: float,
) -> dict[str, Any]:
    label = image % classes
    status = "error" if message is not None else "flat_map" if flat else "ok"
    read = status != "error"
    row: dict[str, Any] = {"label": label, "status": status, "message": message}
    row["prediction"] = (label if right else (label + 1) % classes) if read else None
    row |= {"confidence": 0.9 if read else None, "label_rank": (1 if right else 2) if read else None}
    row["correct"] = bool(right) if read else None
    # coverages that can be together: o pixels in common, g annotated, b salient
    annotated, salient = int(rng.integers(8, 120)), int(rng.integers(20, 60))
    common = int(min(annotated, salient) * min(1.0, rng.beta(3, 3 * spread) + 0.2 * bool(right)))
    values = {
        "iou_coverage": common / (annotated + salient - common),
        "ground_truth_coverage": common / annotated,
        "saliency_coverage": common / salient,
        "pointing_game": float(rng.random() < common / salient),
    }
    row |= {name: values.get(name, float(rng.random())) if status == "ok" else None for name in metrics}
    row |= {"annotation_area": annotated if read else None, "salient_area": salient if read else None}
    row |= {"map_height": SIDE if read else None, "map_width": SIDE if read else None}
    row["center_iou"] = 0.15 if status == "ok" else None
    return row


def _write(folder: Path, rows: list[dict[str, Any]], metrics: Sequence[str], attributes: Mapping[str, Any]) -> None:
    kinds = {name: pa.bool_() if isinstance(values[0], bool) else pa.string() for name, values in attributes.items()}
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=scores_schema(metrics, kinds)), folder / "unit-000000.parquet")


def _show(folder: Path, rows: list[dict[str, Any]], count: int, methods: Any, regions: Any) -> None:
    rng = np.random.default_rng(0)
    table = pl.DataFrame(rows, infer_schema_length=None)
    shown = []
    for name in table["sample_id"].unique(maintain_order=True).to_list()[:count]:
        masks = {}
        for place, region in enumerate(regions):
            mask = np.zeros((SIDE, SIDE), bool)
            mask[2 + place : 8 + place, 3:9] = True
            masks[region] = mask
        saliency = {method: rng.random((SIDE, SIDE)) for method in methods}
        salient = {(*method, region): saliency[method] > 0.8 for method in methods for region in regions}
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        shown.append(Example(name, pixels, masks, saliency, salient))
    write_examples(folder, shown, table)
