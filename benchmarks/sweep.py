"""A sweep over classifiers that share their input: what decoding once saves, and what is left of the time beside them.

Generated images in ImageNet's layout, JPEGs of photographs' size, box annotations, resize 256, crop 224; one process
that decodes.

- input: reading every image and its annotations once; from the second classifier on they come from the cache. The first
  one's time includes writing it.
- a cache that is warm against decoding, for the whole of `ea.evaluate`.
- against the bare loop: `ea.evaluate` with a warm cache against a forward pass and an input gradient over float tensors
  in memory, nothing else. Examples with pictures are left out, as their number does not grow.
- top 5 from the run's `label_rank`, against a count over the logits.

    python benchmarks/sweep.py [--images 256] [--model resnet18] [--batch-size 16] [--repetitions 5]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import polars as pl
import torch
from PIL import Image

import explanation_alignment as ea
from common import compare
from explanation_alignment.batches import iterate_batches
from explanation_alignment.classifiers.classifier import Preprocessing
from explanation_alignment.cli.memory import keep_freed_memory
from explanation_alignment.datasets import DATASETS
from explanation_alignment.decoded import DecodedCache, DecodedImages, clear_cache, in_bytes
from explanation_alignment.geometry import Geometry

GEOMETRY = Geometry(resize=256, crop=(224, 224))
METHODS = ("vanilla_gradients",)
#: The second classifier's input time over the first's, and the evaluation's over the bare loop's, at most.
BOUNDS = (0.1, 1.15)


def write_images(folder: Path, count: int) -> ea.AnnotatedDataset:
    """The toy ImageNet with its pictures enlarged to 500 x 375, as photographs in ImageNet are on average."""
    DATASETS["imagenet"].write_toy(folder, count, 0, classes=12)
    rng = np.random.default_rng(0)
    for path in sorted(folder.rglob("*.JPEG")):
        with Image.open(path) as stored:
            picture = np.asarray(stored.convert("RGB").resize((500, 375)), dtype=np.int16)
        grain = rng.normal(0, 12, picture.shape).astype(np.int16)
        Image.fromarray((picture + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return ea.load_dataset("imagenet", folder)


def seconds(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def read(dataset: ea.AnnotatedDataset, preprocessing: Preprocessing, decoded: DecodedImages | None, size: int) -> None:
    places = range(len(dataset))
    cuts = [places[start : start + size] for start in range(0, len(places), size)]
    for _ in iterate_batches(dataset, dataset.ids(), cuts, preprocessing, decoded=decoded):
        pass


def input_line(dataset: ea.AnnotatedDataset, classifier: ea.Classifier, size: int, repetitions: int) -> str:
    """First and second classifier's input, the cache empty each time; and decoding without one."""
    preprocessing, first, second, without = classifier.preprocessing, [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repetitions):
            for times in (first, second):
                decoded = DecodedCache(folder).images(dataset, dataset.ids(), preprocessing, range(len(dataset)))
                times.append(seconds(lambda decoded=decoded: read(dataset, preprocessing, decoded, size)))
            clear_cache(folder)
            without.append(seconds(lambda: read(dataset, preprocessing, None, size)))
    ratio = statistics.median(b / a for a, b in zip(first, second, strict=True))
    writing = statistics.median(a / b for a, b in zip(first, without, strict=True))
    speed = len(dataset) / statistics.median(second)
    return (
        f"input: first classifier {statistics.median(first):.2f} s, second {statistics.median(second):.3f} s "
        f"({speed:.0f} images/s)   ratio {ratio:.3f} (bound {BOUNDS[0]}); first over no cache at all {writing:.3f}"
    )


@contextlib.contextmanager
def no_examples() -> Iterator[None]:
    module = "explanation_alignment.evaluation.running"
    with (
        mock.patch(f"{module}.choose_examples", return_value=[]),
        mock.patch(f"{module}.write_examples"),
        mock.patch(f"{module}.worth_keeping", return_value=False),
    ):
        yield


def evaluation_lines(dataset: ea.AnnotatedDataset, classifier: ea.Classifier, size: int, repetitions: int) -> list[str]:
    places = range(len(dataset))
    [batch] = iterate_batches(dataset, dataset.ids(), [places], classifier.preprocessing)
    floats = classifier.preprocessing.normalise(batch.images)

    def evaluate(cache: str | None) -> ea.Run:
        with tempfile.TemporaryDirectory() as folder, no_examples():
            run = ea.evaluate(
                classifier, dataset, METHODS, folder, batch_size=size, progress=False, cache=cache, max_errors=1.0
            )
            run.rows = run.scores()  # type: ignore[attr-defined]
            return run

    def bare() -> None:
        with classifier.explaining() as module:
            for images in floats.split(size):
                images = images.clone().requires_grad_()
                output = module(images)
                torch.autograd.grad(output.gather(1, output.argmax(dim=1, keepdim=True)).sum(), images)

    with tempfile.TemporaryDirectory() as cache:
        rows = evaluate(cache).rows  # type: ignore[attr-defined]
        on_off = compare(lambda: evaluate(cache), lambda: evaluate(None), repetitions)
        on_bare = compare(lambda: evaluate(cache), bare, repetitions)
    return [
        on_off.line("evaluation, cache on against off", 1.0).replace("bare", "off "),
        on_bare.line("evaluation, warm cache against bare", BOUNDS[1]),
        top5_line(rows, classifier, floats, batch.labels, size),
    ]


def top5_line(
    rows: pl.DataFrame, classifier: ea.Classifier, floats: torch.Tensor, labels: torch.Tensor, size: int
) -> str:
    decisions = rows.unique("sample_id").filter(pl.col("label_rank").is_not_null())
    share = (decisions["label_rank"] <= 5).mean()
    with torch.no_grad(), classifier.explaining() as module:
        logits = torch.cat([module(part) for part in floats.split(size)])
    hits = (logits.topk(5).indices == labels[:, None]).any(dim=1)[labels >= 0]
    return (
        f"top 5 from label_rank {share:.4f}, counted over the logits {hits.float().mean():.4f}, "
        f"top 1 {decisions['correct'].mean():.4f}, of {decisions.height} images"
    )


def trained_head(classifier: ea.Classifier, dataset: ea.AnnotatedDataset, size: int) -> None:
    """Fit the last layer to the images' own classes a little, so that top 1 and top 5 are neither 0 nor 1."""
    cuts: Sequence[range] = [range(start, min(start + size, len(dataset))) for start in range(0, len(dataset), size)]
    features, labels = [], []
    with torch.no_grad(), classifier.explaining() as module:
        for batch in iterate_batches(dataset, dataset.ids(), cuts, classifier.preprocessing):
            images = classifier.preprocessing.normalise(batch.images)
            features.append(module.forward_head(module.forward_features(images), pre_logits=True))  # type: ignore[operator]
            labels.append(batch.labels)
        known, target = torch.cat(features), torch.cat(labels)
        head = module.get_classifier()  # type: ignore[operator]
        head.weight.add_(0.05 * torch.nn.functional.one_hot(target.clamp(min=0), len(head.weight)).T.float() @ known)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--model", default="resnet18", help="a timm name")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    kept = keep_freed_memory()
    preprocessing = Preprocessing((3, 224, 224), GEOMETRY, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    classifier = ea.load_classifier(f"timm:{options.model}", "random", device="cpu", preprocessing=preprocessing)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EALIGN_CACHE_DIR"] = str(Path(folder) / "tables")
        dataset = write_images(Path(folder) / "images", options.images)
        sizes = [path.stat().st_size for path in Path(folder).rglob("*.JPEG")]
        trained_head(classifier, dataset, options.batch_size)
        print(
            f"torch {torch.__version__}, {torch.get_num_threads()} threads, freed memory kept: {kept}, load "
            f"{os.getloadavg()[0]:.1f}; {len(dataset)} JPEGs of {in_bytes(round(statistics.mean(sizes)))}, "
            f"{options.model} at 224, batch size {options.batch_size}, median of {options.repetitions}"
        )
        print(input_line(dataset, classifier, options.batch_size, options.repetitions), flush=True)
        for line in evaluation_lines(dataset, classifier, options.batch_size, options.repetitions):
            print(line, flush=True)


if __name__ == "__main__":
    main()
