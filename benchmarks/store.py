"""Reading a large run: `Run.summary()` with its intervals and chance levels against the plain means of DuckDB.

Writes a synthetic run in the run format (images x models x methods x one region; statuses, areas, classes and scores
with the distributions of ImageNet's validation images and of gradient and CAM maps), then measures, each in a process
of its own, wall time, processor time (which holds on a busy machine) and peak memory (Linux) of

- ours: `open_run(RUN).summary()` with nothing kept, and again from what was kept;
- DuckDB: mean and count of every metric by model, method and region, without intervals and chance levels.

    python benchmarks/store.py [--models 200] [--samples 50000] [--folder DIR] [--threads 2] [--keep] [--profile]

The whole size is 20,000,000 rows in 200 files, about .5 GB; files are in the page cache for both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explanation_alignment.metrics.registry import DEFAULT_METRICS
from explanation_alignment.runs.identity import NUMERICS_VERSION
from explanation_alignment.runs.rows import Decisions, ScoredUnit, score_rows
from explanation_alignment.runs.schema import STATUSES
from explanation_alignment.runs.writer import RunWriter

UNIT_SIZE, SIDE, CLASSES = 1024, 224, 1000
PIXELS = SIDE * SIDE
METHODS = (("vanilla_gradients", "std:1"), ("gradcam", "threshold:0.5"))
#: Wall time in seconds and peak memory in bytes that the summary of the whole size is held against.
BOUNDS = (30.0, 2e9)

Floats = NDArray[np.float64]


class Images:
    """What the images are, the same for every model."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        self.ids = [f"ILSVRC2012_val_{number:08d}" for number in range(1, count + 1)]
        self.label = rng.integers(0, CLASSES, count)
        self.difficulty = rng.normal(size=count)
        self.area = np.clip(rng.beta(1.1, 2.2, count) * PIXELS, 1, PIXELS).astype(np.int64)
        chance = rng.random(count)
        self.status = np.full(count, STATUSES.index("ok"))
        for word, below in (("no_annotation", 0.004), ("annotation_cropped", 0.001), ("error", 0.0004)):
            self.status[chance < below] = STATUSES.index(word)
        self.area[self.status != STATUSES.index("ok")] = 0


def unit_of(images: Images, places: NDArray[np.int64], model: int, unit: int) -> ScoredUnit:
    """A unit's arrays for a model of its own accuracy and alignment."""
    rng = np.random.default_rng([model, unit])
    skill = np.random.default_rng([model, 7]).normal(0, 0.4)
    n = len(places)
    label, status, area = images.label[places], images.status[places], images.area[places]
    right = images.difficulty[places] + rng.normal(0, 0.7, n) < 0.9 + skill
    prediction = np.where(right, label, rng.integers(0, CLASSES, n))
    shares = np.stack([rng.normal(0.13, 0.025, n), rng.beta(2.2, 7, n)])
    salient = np.clip(shares * PIXELS, 1, PIXELS).astype(np.int64)
    flat = rng.random((2, n)) < [[0.0005], [0.002]]
    inside = np.clip(area / PIXELS * (1.35 + 0.25 * skill + rng.normal(0, 0.35, (2, n))), 0, 1)
    least, most = np.maximum(salient + area - PIXELS, 0), np.minimum(salient, area)
    overlap = np.clip((inside * salient).astype(np.int64), least, most)
    iou = overlap / np.maximum(salient + area - overlap, 1)
    scores = np.stack(
        [iou, overlap / np.maximum(area, 1), overlap / salient, rng.random((2, n)) < np.sqrt(inside)], axis=1
    )
    center = np.minimum(salient, area) / np.maximum(salient, area) * rng.beta(6, 2, (2, n))
    decisions = Decisions(
        ids=[images.ids[place] for place in places],
        messages=["OSError: broken data stream" if s == STATUSES.index("error") else None for s in status],
        label=np.where(status == STATUSES.index("error"), -1, label),
        prediction=prediction,
        correct=prediction == label,
        label_rank=np.where(prediction == label, 1, 1 + rng.geometric(0.3, n)),
        confidence=np.clip(rng.beta(4, 1.5, n), 1e-3, 1).astype(np.float32),
        exchange_flip=np.full((1, n), np.nan),
        elsewhere_flip=np.full((1, n), np.nan),
    )
    return ScoredUnit(
        decisions,
        annotation_status=status[None],
        flat=flat,
        scores=scores[:, None].astype(np.float32),
        annotation_area=np.broadcast_to(area, (2, 1, n)),
        salient_area=salient[:, None],
        map_size=(SIDE, SIDE),
        center_iou=center[:, None].astype(np.float32),
    )


def write_store(folder: Path, models: int, samples: int) -> None:
    """The run, as `ealign evaluate` would have written it."""
    images = Images(samples)
    fingerprint = f"{samples:064x}"
    writer = RunWriter(folder)
    names = [f"class {place}" for place in range(CLASSES)]
    record = {"fingerprint": fingerprint, "samples": samples, "class_names": names, "regions": ["object"]}
    writer.record_dataset("synthetic", {**record, "evidence": ["object"], "toy": False})
    methods = [{"method": m, "binarization": b, "layer": None, "layer_shape": None} for m, b in METHODS]
    units = [np.arange(start, min(start + UNIT_SIZE, samples)) for start in range(0, samples, UNIT_SIZE)]
    for model in range(models):
        name = f"model_{model:03d}"
        question = {
            "model": name,
            "weights": f"{model:064x}",
            "dataset": "synthetic",
            "dataset_fingerprint": fingerprint,
            "sample": None,
            "seed": 0,
            "target": "predicted",
            "metrics": list(DEFAULT_METRICS),
            "numerics_version": NUMERICS_VERSION,
        }
        key = {part: question[part] for part in ("model", "seed", "dataset", "target")}
        details = {"unit_size": UNIT_SIZE, "batch_size": 32, "device": "cpu", "samples": samples}
        (evaluation,) = writer.begin(question, methods, details)
        counts = dict.fromkeys(STATUSES, 0)
        for unit, places in enumerate(units):
            table = score_rows(
                unit_of(images, places, model, unit),
                key=key,
                methods=METHODS,
                regions=["object"],
                metrics=DEFAULT_METRICS,
                attributes={},
            )
            for item in table["status"].combine_chunks().value_counts().to_pylist():
                counts[item["values"]] += item["counts"]
            evaluation.write(unit, table)
        evaluation.finish({word: count for word, count in counts.items() if count})
        writer.record_model(
            {"model": name, "seed": 0, "spec": "synthetic", "weights_digest": f"{model:064x}"} | _UNKNOWN
        )


_UNKNOWN = dict.fromkeys(
    ("family", "parameters", "input_channels", "input_height", "input_width", "resize", "crop", "interpolation")
) | {"fit": None, "layer": None}

_OURS = """
from explanation_alignment.runs.reader import open_run
from explanation_alignment.statistics.summary import summarise
start, processor = time.perf_counter(), time.process_time()
rows = open_run(folder).summary().height
"""

_DUCKDB = """
import duckdb
duckdb.sql(f"SET threads = {threads}; SET enable_progress_bar = false")
start, processor = time.perf_counter(), time.process_time()
means = ", ".join(f'avg("{name}"), count("{name}")' for name in metrics)
keys = "model, seed, dataset, method, binarization, region"
query = f"SELECT {keys}, {means}, avg(correct::INT), count(*) FROM '{folder}/scores/*/*.parquet' GROUP BY {keys}"
rows = len(duckdb.sql(query).fetchall())
"""

_MEASURE = """
import json, sys, time
folder, threads, metrics = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
{body}
wall, processor = time.perf_counter() - start, time.process_time() - processor
peak = 1024 * next(int(row.split()[1]) for row in open("/proc/self/status") if row.startswith("VmHWM"))
print(json.dumps(dict(wall=wall, processor=processor, peak=peak, rows=rows)))
"""


def measured(body: str, folder: Path, threads: int) -> dict[str, float]:
    """Seconds, peak bytes and rows of the answer, in a process of its own; imports are not timed."""
    code = _MEASURE.replace("{body}", body)
    environment = dict(os.environ) | {
        name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    }
    command = [sys.executable, "-c", code, str(folder), str(threads), ",".join(DEFAULT_METRICS)]
    if hasattr(os, "sched_setaffinity"):
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
        command = ["taskset", "-c", cores, *command] if shutil.which("taskset") else command
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def line(name: str, found: dict[str, float]) -> str:
    """One line for people."""
    return (
        f"{name:<26} {found['wall']:7.2f} s   processor {found['processor']:7.2f} s   "
        f"peak {found['peak'] / 1e9:5.2f} GB   {found['rows']:,.0f} rows"
    )


def profile(folder: Path) -> None:
    """Where the summary's time goes: one evaluation after another, in this thread."""
    import cProfile
    import pstats

    from explanation_alignment.runs.reader import open_run
    from explanation_alignment.statistics.summary import summarise

    run = open_run(folder)
    watch = cProfile.Profile()
    for slug in run.evaluations:
        watch.runcall(lambda slug=slug: summarise(run.scan_scores([slug])))
    pstats.Stats(watch).sort_stats("tottime").print_stats(40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the run is, or is written; default a temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the run that was written")
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="store-"))
    try:
        if not (folder / "run.json").is_file():
            start = time.perf_counter()
            write_store(folder, asked.models, asked.samples)
            print(f"written in {time.perf_counter() - start:.0f} s: {folder}")
        parts = list(folder.glob("scores/*/*.parquet"))
        size = sum(part.stat().st_size for part in parts)
        print(
            f"{len(parts):,} files, {size / 1e9:.2f} GB, load {os.getloadavg()[0]:.1f} before, {asked.threads} threads"
        )
        for _ in range(asked.repetitions):
            (folder / "summary.parquet").unlink(missing_ok=True)
            plain = measured(_DUCKDB, folder, asked.threads)
            ours = measured(_OURS, folder, asked.threads)
            kept = measured(_OURS, folder, asked.threads)
            print(line("DuckDB, means and counts", plain))
            print(line("Run.summary()", ours) + f"   bounds {BOUNDS[0]:g} s, {BOUNDS[1] / 1e9:g} GB (whole size)")
            print(line("Run.summary(), kept", kept) + f"   ratio to DuckDB {ours['wall'] / plain['wall']:.1f}")
        if asked.profile:
            (folder / "summary.parquet").unlink(missing_ok=True)
            profile(folder)
    finally:
        if not asked.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
