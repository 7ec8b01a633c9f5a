"""What Ray adds to a unit of work: the same sweep by the local executor and by a Ray cluster of one process, in turns.

Both have one thread and do everything an evaluation does: building, reading, explaining, scoring, writing, examples.
The cluster is there before, and its process warm, as in a long sweep; what starting it takes is printed beside. The
digit network is the hardest case there is, since its units take a second each; those of larger networks take minutes,
and what Ray adds is the same. A second or so is added once a sweep (the actor that counts is a process of its own),
whatever its length: with few units that is most of what is seen.

Wall time means something on a quiet machine only; processor time, of Ray's own processes and all, also beside other
load.

    python benchmarks/executors.py [--models 1] [--units 24] [--repetitions 7]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import psutil
import torch

import explanation_alignment as ea
from common import Comparison, compare
from explanation_alignment.cli.memory import keep_freed_memory
from explanation_alignment.evaluation.units import UNIT_SIZE
from explanation_alignment.executors import RayExecutor

#: Ray's time over the local executor's, at most.
BOUND = 1.05


def digits(count: int) -> ea.AnnotatedDataset:
    """The test digits inside the installation, as often as it takes."""
    return Repeated(ea.load_dataset("colored_mnist"), count)


class Repeated:
    """A dataset whose samples come again under other ids."""

    def __init__(self, dataset: ea.AnnotatedDataset, count: int) -> None:
        self._samples = [dataset[place] for place in range(min(count, len(dataset)))]
        self._count = count
        self.name, self.class_names = "repeated digits", dataset.class_names
        self.regions, self.evidence = dataset.regions, dataset.evidence
        self.fingerprint = f"{dataset.fingerprint} {count}"

    def __len__(self) -> int:
        return self._count

    def ids(self) -> list[str]:
        return [f"{place:06d}" for place in range(self._count)]

    def attributes(self) -> dict[str, list[str]]:
        return {}

    def __getitem__(self, place: int) -> ea.Sample:
        sample = self._samples[place % len(self._samples)]
        return ea.Sample(f"{place:06d}", sample.image, sample.label, sample.annotations)


def processor_seconds() -> float:
    """Of this process and all below it, Ray's included."""
    own = psutil.Process()
    times = [each.cpu_times() for each in [own, *own.children(recursive=True)]]
    return sum(each.user + each.system for each in times)


def per_unit(comparison: Comparison, units: int) -> str:
    added = statistics.median(a - b for a, b in zip(comparison.ours, comparison.other, strict=True)) / units
    return f"{added * 1e3:+.0f} ms a unit of {statistics.median(comparison.other) / units:.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1)
    parser.add_argument("--units", type=int, default=24, help="of each model")
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    keep_freed_memory()  # a worker does so too
    torch.set_num_threads(1)
    dataset = digits(options.units * UNIT_SIZE)
    models = [ea.ModelSpec("paper:mnist", f"random:{seed}", name=f"digits {seed}") for seed in range(options.models)]
    import ray

    start = time.perf_counter()
    ray.init(num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    started = time.perf_counter() - start

    processor: dict[str, list[float]] = {"ray": [], "local": []}

    def sweep(executor: object) -> None:
        before = processor_seconds()
        with tempfile.TemporaryDirectory() as folder:
            run = ea.evaluate_models(
                models, dataset, out=Path(folder) / "run", device="cpu", progress=False, cache="off", executor=executor
            )
            assert not run.unfinished
            assert not run.failures
        processor["local" if executor == "local" else "ray"].append(processor_seconds() - before)

    found = compare(lambda: sweep(RayExecutor()), lambda: sweep("local"), options.repetitions)
    ray.shutdown()
    used = Comparison(processor["ray"][1:], processor["local"][1:])
    print(
        f"torch {torch.__version__}, one thread, load {os.getloadavg()[0]:.1f}; {options.models} models x "
        f"{options.units} units of {UNIT_SIZE} digits, median of {options.repetitions}; cluster up in {started:.0f} s"
    )
    print(found.line("Ray against local", BOUND).replace("bare", "local"))
    print(used.line("the same in processor time", BOUND).replace("bare", "local"))
    for name, one in (("wall", found), ("processor", used)):
        print(f"{name}: {per_unit(one, options.models * options.units)}")


if __name__ == "__main__":
    main()
