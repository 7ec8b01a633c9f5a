"""What it costs to explain 50,000 images with each of the 195 models of the published list, from what is measured here.

- arithmetic: multiply-adds of each model's forward pass at its own input size, counted by PyTorch without computing.
- speed: processor seconds an image of the fused pass (prediction, vanilla gradients and Grad-CAM, binarized and scored
  by all default metrics), random weights, one thread, for some models across the range; processor time, since it means
  the same beside other load.
- fit: seconds = a + b x GMAC over those, least squares of relative errors, with how far each of them is from what the
  others say of it; summed over the list, most of whose arithmetic is in its largest tenth.
- a GPU: nothing is measured here. Twice the forward pass's arithmetic (the gradient of the input costs as much again)
  over a published peak, at a low and a high share of it.

    python benchmarks/scale.py [--models NAME ...] [--images 16] [--repetitions 3] [--flops FILE.csv]

``--flops`` keeps the counts in a file, and reads them from there the next time.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

import explanation_alignment as ea
from explanation_alignment.classifiers.paper import published_models
from explanation_alignment.cli.memory import keep_freed_memory
from explanation_alignment.metrics.registry import DEFAULT_METRICS
from explanation_alignment.metrics.scoring import score_maps
from explanation_alignment.saliency.base import MethodRequest
from explanation_alignment.saliency.explainer import Explainer

MODELS = (
    "mobilenetv3_small_100.lamb_in1k",
    "resnet18.a1_in1k",
    "deit_tiny_patch16_224.fb_in1k",
    "efficientnet_b0.ra_in1k",
    "resnet50.a1_in1k",
    "deit_small_patch16_224.fb_in1k",
    "convnext_tiny.fb_in1k",
    "deit_base_patch16_224.fb_in1k",
)
METHODS = ("vanilla_gradients", "gradcam")
IMAGES = 50_000
#: Peaks in multiply-adds a second, half of what is published as operations, with dense matrices. PyTorch computes
#: matrix products in fp32 unless told otherwise, and convolutions in tf32.
GPUS = {"A100, fp32": 9.75e12, "A100, tf32": 78e12, "A100, bf16": 156e12, "H100 SXM, bf16": 494e12}
SHARES = (0.10, 0.35)


def counted(names: Sequence[str], file: Path | None) -> dict[str, float]:
    """GMAC of a forward pass of one image, by name."""
    known: dict[str, float] = {}
    if file is not None and file.is_file():
        with file.open(newline="") as lines:
            known = {row["model"]: float(row["gmac"]) for row in csv.DictReader(lines)}
    for name in names:
        if name not in known:
            known[name] = multiply_adds(name)
    if file is not None:
        with file.open("w", newline="") as lines:
            writer = csv.writer(lines)
            writer.writerow(["model", "gmac"])
            writer.writerows(known.items())
    return {name: known[name] for name in names}


def multiply_adds(name: str) -> float:
    with warnings.catch_warnings(), torch.device("meta"), torch.no_grad():
        warnings.simplefilter("ignore")
        network = timm.create_model(name, pretrained=False).eval().requires_grad_(False)
        size = timm.data.resolve_data_config({}, model=network)["input_size"]
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, *size))
    return counter.get_total_flops() / 2e9


def measured(name: str, images: int, repetitions: int) -> float:
    """Processor seconds an image of the fused pass and its scores, the median of batches."""
    classifier = ea.load_classifier(f"timm:{name}", "random", device="cpu")
    size = classifier.preprocessing.input_size
    requests = [MethodRequest.parse(method) for method in METHODS]
    pixels = torch.rand(images, *size, generator=torch.Generator().manual_seed(0))
    annotation = torch.zeros((1, images, *size[1:]), dtype=torch.bool)
    annotation[..., size[1] // 4 : size[1] // 2, size[2] // 4 : size[2] // 2] = True
    labels, ids, seconds = torch.zeros(images, dtype=torch.int64), list(map(str, range(images))), []
    with Explainer(classifier, requests) as explainer:
        for _ in range(repetitions + 1):
            start = time.process_time()
            maps = explainer(pixels, labels, ids).maps
            for request, one in zip(requests, maps, strict=True):
                score_maps(one, request.binarization, annotation, DEFAULT_METRICS)
            seconds.append((time.process_time() - start) / images)
    return statistics.median(seconds[1:])


def fitted(arithmetic: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """a and b of seconds = a + b x GMAC, least squares of relative errors."""
    terms = np.stack([np.ones(len(seconds)), np.asarray(arithmetic)], axis=1) / np.asarray(seconds)[:, None]
    (a, b), *_ = np.linalg.lstsq(terms, np.ones(len(seconds)), rcond=None)
    return float(a), float(b)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="timm names that are measured")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--flops", type=Path, help="keeps the counts in a file")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    listed = [model.weights for model in published_models("timm").values()]
    arithmetic = counted([*dict.fromkeys([*listed, *options.models])], options.flops)
    total = sum(arithmetic[name] for name in listed)
    largest = sum(sorted(arithmetic[name] for name in listed)[-len(listed) // 10 :])
    middle = statistics.median(arithmetic[name] for name in listed)
    print(
        f"{len(listed)} models: {total:.0f} GMAC an image for all, median {middle:.1f}; {largest / total:.0%} in "
        "a tenth"
    )
    seconds = {}
    for name in options.models:
        seconds[name] = measured(name, options.images, options.repetitions)
        rate = arithmetic[name] / seconds[name]
        print(f"{name:<40} {arithmetic[name]:7.2f} GMAC {seconds[name] * 1e3:8.1f} ms {rate:6.1f} GMAC/s", flush=True)
    names = list(seconds)
    a, b = fitted([arithmetic[name] for name in names], [seconds[name] for name in names])
    apart = []
    for name in names:
        others = [other for other in names if other != name]
        a_, b_ = fitted([arithmetic[other] for other in others], [seconds[other] for other in others])
        apart.append((a_ + b_ * arithmetic[name]) / seconds[name])
    print(
        f"fit: {a * 1e3:.1f} ms + {b * 1e3:.1f} ms a GMAC; of a model left out it says {min(apart):.2f} to "
        f"{max(apart):.2f} times what was measured"
    )
    hours = sum(a + b * arithmetic[name] for name in listed) * IMAGES / 3600
    print(f"one core: {hours:,.0f} hours for {len(listed)} models x {IMAGES:,} images")
    for gpu, peak in GPUS.items():
        low, high = (2 * total * 1e9 * IMAGES / (peak * share) / 3600 for share in reversed(SHARES))
        print(f"{gpu}: {low:.1f} to {high:.1f} hours at {SHARES[1]:.0%} to {SHARES[0]:.0%} of its peak (not measured)")


if __name__ == "__main__":
    main()
