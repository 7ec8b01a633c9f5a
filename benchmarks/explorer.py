"""The explorer over a large run: how long a page takes, and what memory its server takes.

Writes the synthetic run of `store.py` (images x models x two methods; 2,000,000 rows in 980 files at the usual size),
starts `ealign explore` in a process of its own on two cores, and asks for pages as a browser would: the first page with
nothing kept, every kind of filter, order and page of the gallery, one decision, two models, a download. Bounds: first
page 3 s, anything else 1 s (pages asked for the first time; a download is not held to it), 1.5 GB. Processor time
holds on a busy machine.

    python benchmarks/explorer.py [--models 20] [--samples 50000] [--folder DIR] [--threads 2] [--keep]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote

from store import write_store

FIRST, PAGE, MEMORY = 3.0, 1.0, 1.5e9

GALLERY = "/gallery?method=gradcam&region=object"
#: What a page is called -> its address; {sample} is an id in the middle.
PAGES = {
    "leaderboard, sorted": "/?sort=ea_iou_coverage&order=desc",
    "leaderboard, filtered": "/?find=_01&method=gradcam",
    "scatter": "/scatter",
    "gallery, a model": GALLERY + "&model=model_003",
    "gallery, all models": GALLERY,
    "sorted by IoU": GALLERY + "&sort=iou_coverage",
    "sorted by confidence, wrong": GALLERY + "&correct=no&sort=confidence",
    "score range": GALLERY + "&metric=iou_coverage&min=0.3&max=0.5",
    "a class": GALLERY + "&class=17",
    "a case": GALLERY + "&case=confuser",
    "a status": GALLERY + "&status=flat_map",
    "part of an id": GALLERY + "&sample=0001234",
    "everything, sorted": "/gallery?region=object&sort=saliency_coverage&order=asc",
    "its page 40,000": "/gallery?region=object&sort=saliency_coverage&order=asc&page=40000",
    "wrong but aligned": "/gallery?correct=no&metric=iou_coverage&min=0.2&sort=iou_coverage",
    "one decision": "/decision?dataset=synthetic&sample={sample}",
    "two models": "/compare?a_model=model_002&b_model=model_011&b_run=a",
    "two models, a cell": "/compare?a_model=model_002&b_model=model_011&b_run=a"
    "&a_outcome=right_aligned&b_outcome=right_elsewhere&sort=difference",
}


def fetch(address: str) -> tuple[float, int]:
    """Seconds and bytes of an answer."""
    start = time.perf_counter()
    with urllib.request.urlopen(address, timeout=120) as answer:
        size = sum(len(piece) for piece in iter(lambda: answer.read(1 << 20), b""))
    return time.perf_counter() - start, size


def processor(pid: int) -> float:
    """Seconds of processor time a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> tuple[float, float]:
    """Bytes a process holds now, and the most it held."""
    text = Path(f"/proc/{pid}/status").read_text()
    now, peak = (int(text.split(f"{name}:")[1].split()[0]) * 1024.0 for name in ("VmRSS", "VmHWM"))
    return now, peak


def serve(folder: Path, threads: int) -> tuple[subprocess.Popen[str], str]:
    """A server on so many cores, and its address."""
    environment = dict(os.environ) | {
        name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    }
    command = [sys.executable, "-m", "explanation_alignment", "explore", str(folder), "--no-browser", "--port", "0"]
    if hasattr(os, "sched_setaffinity") and shutil.which("taskset"):
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
        command = ["taskset", "-c", cores, *command]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return server, server.stdout.readline().strip().rstrip("/")


def measure(folder: Path, threads: int, samples: int) -> bool:
    """Print what pages take; whether all bounds hold."""
    (folder / "summary.parquet").unlink(missing_ok=True)
    start = time.perf_counter()
    server, address = serve(folder, threads)
    try:
        started = time.perf_counter() - start
        first, _ = fetch(address + "/")
        print(f"{'started':<30} {started:7.2f} s")
        taken = processor(server.pid)
        print(f"{'first page':<30} {first:7.2f} s   processor {taken:5.2f} s, since the start   bound {FIRST:g} s")
        while b"being computed" in urllib.request.urlopen(address + "/").read():
            time.sleep(0.2)
        whole = time.perf_counter() - start - started
        print(f"{'intervals and chance levels':<30} {whole:7.2f} s after the first request, in the background")
        slowest = 0.0
        for name, page in PAGES.items():
            asked = address + page.format(sample=quote(f"ILSVRC2012_val_{samples // 2:08d}"))
            before = processor(server.pid)
            seconds, _ = fetch(asked)
            taken = processor(server.pid) - before
            again, _ = fetch(asked)
            slowest = max(slowest, seconds)
            print(f"{name:<30} {seconds:7.2f} s   processor {taken:5.2f} s   again {again:5.2f} s   bound {PAGE:g} s")
        now, peak = memory(server.pid)
        print(
            f"{'memory of the server':<30} {now / 1e9:7.2f} GB  at most {peak / 1e9:.2f} GB   bound {MEMORY / 1e9:g} GB"
        )
        seconds, size = fetch(address + "/gallery.csv" + GALLERY.removeprefix("/gallery") + "&sort=iou_coverage")
        now, peak = memory(server.pid)
        print(f"{'download':<30} {seconds:7.2f} s   {size / 1e6:.0f} MB; memory at most {peak / 1e9:.2f} GB")
    finally:
        server.terminate()
        server.wait(timeout=20)
    held = first <= FIRST and slowest <= PAGE and peak <= MEMORY
    print(
        f"slowest page {slowest:.2f} s; all bounds {'hold' if held else 'DO NOT HOLD'}; load {os.getloadavg()[0]:.1f}"
    )
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the run is, or is written; default a temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the run that was written")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="explorer-"))
    try:
        if not (folder / "run.json").is_file():
            start = time.perf_counter()
            write_store(folder, asked.models, asked.samples)
            print(f"written in {time.perf_counter() - start:.0f} s: {folder}")
        held = measure(folder, asked.threads, asked.samples)
    finally:
        if not asked.keep:
            shutil.rmtree(folder)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
