"""Binarization and the four published metrics beside what they come after and what they replace.

One batch at 224 x 224, two methods' maps: std:1 on a gradient map, threshold:0.5 on an upsampled class activation map.
"all" is the whole of ``score_maps``, which also scores the image's centre. Held against

- a ResNet-50 (random weights): forward pass and gradient of the predicted class's logit at the input, once for both
  methods: at most 5 % of it;
- plain NumPy on the same arrays, image by image, each metric a function of mask and annotation, as people write it:
  less than it. A second line has NumPy share intersection and areas between the metrics.

NumPy says NaN where nothing is annotated or the map is constant, as ours does. Both sides have the same threads and
take turns. NumPy works in single precision; ours takes mean and deviation in double precision. Memory is what torch
allocates, by its profiler, as a multiple of the maps' bytes.

    python benchmarks/metrics.py [--batch-size 16] [--repetitions 7] [--profile] [--default-malloc]
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from common import compare
from explanation_alignment.binarization import Binarization, Maps
from explanation_alignment.cli.memory import keep_freed_memory
from explanation_alignment.metrics.decisions import Decisions
from explanation_alignment.metrics.registry import DEFAULT_METRICS, get_metric
from explanation_alignment.metrics.scoring import score_maps

SIZE = 224
#: How often a quick side runs in one repetition, so that each repetition takes long enough to time.
TURNS = 20

Array = np.ndarray[Any, Any]


def maps_of(B: int) -> tuple[Tensor, Tensor, Tensor]:
    """A map like a gradient's (B, H, W), one like Grad-CAM's, and annotations (1, B, H, W): discs of many sizes."""
    rng = torch.Generator().manual_seed(0)
    gradients = torch.randn(B, 3, SIZE, SIZE, generator=rng).abs().sum(1)
    cam = F.interpolate(torch.randn(B, 1, 7, 7, generator=rng), (SIZE, SIZE), mode="bilinear")[:, 0].contiguous()
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    centers, radii = torch.randint(40, SIZE - 40, (B, 2), generator=rng), torch.linspace(20, 90, B)
    distance = (y - centers[:, :1, None]) ** 2 + (x - centers[:, 1:, None]) ** 2
    return gradients, cam, (distance < radii[:, None, None] ** 2)[None]


def binarized(saliency: Array, rule: str) -> Array:
    if rule == "std:1":
        return saliency >= saliency.mean() + saliency.std()
    low, high = saliency.min(), saliency.max()
    return saliency >= low + 0.5 * (high - low)


def undefined(saliency: Array, annotation: Array) -> bool:
    return not annotation.any() or saliency.min() == saliency.max()


def iou(mask: Array, annotation: Array) -> float:
    return np.logical_and(mask, annotation).sum() / np.logical_or(mask, annotation).sum()


def ground_truth_coverage(mask: Array, annotation: Array) -> float:
    return np.logical_and(mask, annotation).sum() / annotation.sum()


def saliency_coverage(mask: Array, annotation: Array) -> float:
    return np.logical_and(mask, annotation).sum() / mask.sum()


def pointing_game(saliency: Array, annotation: Array) -> float:
    return float(annotation[np.unravel_index(saliency.argmax(), saliency.shape)])


def as_written(saliency: Array, annotation: Array, rule: str) -> tuple[float, ...]:
    if undefined(saliency, annotation):
        return (math.nan,) * 4
    mask = binarized(saliency, rule)
    return (
        iou(mask, annotation),
        ground_truth_coverage(mask, annotation),
        saliency_coverage(mask, annotation),
        pointing_game(saliency, annotation),
    )


def sharing(saliency: Array, annotation: Array, rule: str) -> tuple[float, ...]:
    if undefined(saliency, annotation):
        return (math.nan,) * 4
    mask = binarized(saliency, rule)
    both = np.logical_and(mask, annotation).sum()
    salient, annotated = mask.sum(), annotation.sum()
    return both / (salient + annotated - both), both / annotated, both / salient, pointing_game(saliency, annotation)


def in_numpy(
    function: Callable[..., tuple[float, ...]], methods: list[tuple[str, Tensor]], annotations: Tensor
) -> Array:
    """Scores (methods, 4, B)."""
    masks = annotations[0].numpy()
    return np.array(
        [np.array([function(s, g, rule) for s, g in zip(maps.numpy(), masks, strict=True)]).T for rule, maps in methods]
    )


def peak_of(run: Callable[[], object]) -> int:
    """The most bytes that torch held at once beyond what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    held = peak = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def repeated(run: Callable[[], object], turns: int) -> Callable[[], None]:
    def several() -> None:
        for _ in range(turns):
            run()

    return several


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--profile", action="store_true", help="also print where the time goes, by operator")
    parser.add_argument("--default-malloc", action="store_true", help="leave the C library's allocator alone")
    options = parser.parse_args()
    kept = not options.default_malloc and keep_freed_memory()
    B = options.batch_size
    gradients, cam, annotations = maps_of(B)
    methods = [("std:1", gradients), ("threshold:0.5", cam)]

    metrics = [get_metric(name) for name in DEFAULT_METRICS]

    def four() -> list[list[Tensor]]:
        batch = [Decisions(Maps.of(maps), annotations, Binarization.parse(rule)) for rule, maps in methods]
        return [[decisions.score(metric) for metric in metrics] for decisions in batch]

    def everything() -> list[Any]:
        return [score_maps(maps, rule, annotations) for rule, maps in methods]

    found = np.array([[scores[0].numpy() for scores in values] for values in four()])
    for function in (as_written, sharing):
        expected = in_numpy(function, methods, annotations)
        # Single precision may put a pixel on the other side of the threshold.
        np.testing.assert_allclose(found, expected, atol=5 / (SIZE * SIZE) * 100)

    print(
        f"torch {torch.__version__}, numpy {np.__version__}, {torch.get_num_threads()} threads, batch {B}, "
        f"freed memory kept: {kept}, median of {options.repetitions}"
    )
    print(f"{'':32}{'ours':>10}{'other':>10}{'ratio':>8}   range             bound")

    network = torchvision.models.resnet50(weights=None).eval().requires_grad_(False)
    images = torch.randn(B, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))

    def network_pass() -> None:
        given = images.clone().requires_grad_()
        logits = network(given)
        torch.autograd.grad(logits.gather(1, logits.argmax(1, keepdim=True)).sum(), given)

    def plain() -> Array:
        return in_numpy(as_written, methods, annotations)

    def thrifty() -> Array:
        return in_numpy(sharing, methods, annotations)

    sides = [
        ("four metrics, ResNet-50 pass", four, network_pass, 1, 0.05),
        ("four metrics, NumPy as written", four, plain, TURNS, 1.0),
        ("four metrics, NumPy that shares", four, thrifty, TURNS, None),
        ("all, NumPy as written", everything, plain, TURNS, None),
    ]
    for name, ours, other, turns, bound in sides:
        timed = compare(repeated(ours, TURNS), repeated(other, turns), options.repetitions)
        one, two = ([s / n * 1000 for s in side] for side, n in ((timed.ours, TURNS), (timed.other, turns)))
        ratios = [a / b for a, b in zip(one, two, strict=True)]
        print(
            f"{name:32}{statistics.median(one):7.2f} ms{statistics.median(two):7.1f} ms"
            f"{statistics.median(ratios):8.4f}   {min(ratios):.4f} to {max(ratios):.4f}  {bound or ''}",
            flush=True,
        )
    for rule, maps in methods:
        peak = peak_of(lambda maps=maps, rule=rule: score_maps(maps, rule, annotations))
        print(f"peak memory of {rule:<17}{peak / maps.nbytes:7.2f} times the maps' {maps.nbytes / 2**20:.1f} MiB")
    if options.profile:
        with profile(activities=[ProfilerActivity.CPU]) as recorded:
            repeated(four, TURNS)()
        print(recorded.key_averages().table(sort_by="self_cpu_time_total", row_limit=14, max_name_column_width=42))


if __name__ == "__main__":
    main()
