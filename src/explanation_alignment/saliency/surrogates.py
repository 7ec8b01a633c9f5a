"""LIME and Kernel SHAP: a linear model of the output over segments of the image that are shown or covered.

captum explains one image after another and draws from the global generator; here a batch is explained together and each
sample draws from its own stream. The regressions are solved in float64 on the CPU.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from explanation_alignment.errors import UsageError
from explanation_alignment.saliency.passes import Explained, baseline_images, generators
from explanation_alignment.saliency.ranked_segments import pixels_in_0_1, scikit_image

__all__ = ["check_segments", "kernel_shap", "lime", "segment_places"]


def lime(
    explained: Explained, *, samples: int, segments: str, baseline: str, width: float, ridge: float, seed: int
) -> torch.Tensor:
    """LIME for images (Ribeiro, Singh, Guestrin 2016, section 3).

    Every segment is shown with probability 1/2, but in the first selection, which shows all. The weight of a selection
    is sqrt(exp(-d^2 / width^2)) with d its cosine distance to the whole image (1 where nothing is shown); the fit is a
    ridge regression with an intercept that is not penalised.

    Returns:
        (B, H, W), signed: each pixel has its segment's weight.
    """

    def fit(part: Explained, places: torch.Tensor) -> torch.Tensor:
        return _lime(part, places, samples, baseline, width, ridge, seed)

    return _by_segments(explained, segments, fit)


def _lime(
    explained: Explained,
    places: torch.Tensor,
    samples: int,
    baseline: str,
    width: float,
    ridge: float,
    seed: int,
) -> torch.Tensor:
    count = int(places.max()) + 1
    streams = generators(explained, seed)
    shown = torch.stack([torch.randint(0, 2, (samples, count), generator=stream) for stream in streams]).bool()
    shown[:, 0] = True
    scores = _scores(explained, shown, places, baseline)
    values = shown.double()
    cosine = values.sum(dim=2).sqrt() / math.sqrt(count)
    weights = (-((1 - cosine) ** 2) / width**2).exp().sqrt()
    total = weights.sum(dim=1, keepdim=True)
    centered = values - (weights[:, :, None] * values).sum(dim=1, keepdim=True) / total[:, :, None]
    rest = scores - (weights * scores).sum(dim=1, keepdim=True) / total
    weighted = centered * weights[:, :, None]
    gram = weighted.transpose(1, 2) @ centered + ridge * torch.eye(count, dtype=torch.float64)
    return _spread(torch.linalg.solve(gram, (weighted * rest[:, :, None]).sum(dim=1)), places, explained)


def kernel_shap(explained: Explained, *, samples: int, segments: str, baseline: str, seed: int) -> torch.Tensor:
    """Kernel SHAP (Lundberg and Lee 2017, theorem 2): Shapley values of the segments.

    With ``samples`` no fewer than there are selections but none and all, every one is taken with its Shapley kernel
    weight, and the values are exact. Else sizes are drawn by that kernel, selections of a size evenly, each with its
    complement. That the values add up to the output's difference between image and baseline is a constraint.

    Returns:
        (B, H, W), signed: each pixel has its segment's value; NaN for an image with an output that is not finite.
    """

    def fit(part: Explained, places: torch.Tensor) -> torch.Tensor:
        return _kernel_shap(part, places, samples, baseline, seed)

    return _by_segments(explained, segments, fit)


def _kernel_shap(explained: Explained, places: torch.Tensor, samples: int, baseline: str, seed: int) -> torch.Tensor:
    count = int(places.max()) + 1
    if count == 1:
        ends = torch.tensor([[False], [True]]).expand(len(places), -1, -1)
        nothing, everything = _scores(explained, ends, places, baseline).unbind(1)
        return _spread((everything - nothing)[:, None], places, explained)
    every = 2**count - 2 if count < 31 else math.inf
    if samples >= every:
        selections = torch.tensor(list(itertools.product((False, True), repeat=count))[1:-1])
        size = selections.sum(dim=1)
        kernel = torch.tensor([(count - 1) / (math.comb(count, s) * s * (count - s)) for s in size.tolist()])
        shown = selections.expand(len(explained.images), -1, -1)
        weights = kernel.double().expand(len(explained.images), -1)
    else:
        shown = torch.stack([_pairs(g, samples, count) for g in generators(explained, seed)])
        weights = torch.ones(shown.shape[:2], dtype=torch.float64)
    ends = torch.tensor([[False] * count, [True] * count]).expand(len(shown), -1, -1)
    scores = _scores(explained, torch.cat([ends, shown], dim=1), places, baseline)
    nothing, everything, scores = scores[:, :1], scores[:, 1:2], scores[:, 2:]
    # The last segment's value is the difference less the others': the constraint put into the regression.
    values = shown.double()
    change = everything - nothing
    design = values[:, :, :-1] - values[:, :, -1:]
    rest = scores - nothing - values[:, :, -1] * change
    # One image with an output that is not finite would end the regression of the whole batch.
    finite = rest.isfinite().all(dim=1, keepdim=True)
    rest = torch.where(finite, rest, 0)
    weighted = design * weights[:, :, None]
    fitted = torch.linalg.lstsq(
        weighted.transpose(1, 2) @ design, (weighted * rest[:, :, None]).sum(dim=1)[:, :, None], driver="gelsd"
    ).solution[:, :, 0]
    fitted = torch.where(finite, fitted, torch.nan)
    return _spread(torch.cat([fitted, change - fitted.sum(dim=1, keepdim=True)], dim=1), places, explained)


def _by_segments(
    explained: Explained, segments: str, fit: Callable[[Explained, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """The maps of a batch that shares a grid, or of one image after another where each has segments of its own."""
    places = segment_places(explained, segments)
    if segments.startswith("grid:"):
        return fit(explained, places)
    alone = [
        replace(explained, images=explained.images[[at]], targets=explained.targets[[at]], ids=[explained.ids[at]])
        for at in range(len(places))
    ]
    return torch.cat([fit(part, places[[at]]) for at, part in enumerate(alone)])


def check_segments(explained: Explained, *, segments: str, **_: object) -> None:
    """Refuse segments that cannot be.

    Raises:
        UsageError: a grid finer than the image.
        ModelError: superpixels without the extra.
    """
    segment_places(explained, segments)


def segment_places(explained: Explained, segments: str) -> torch.Tensor:
    """(B, H, W) int64 on the CPU: the number of each pixel's segment, from 0.

    Args:
        explained: the batch.
        segments: ``grid:N``, ``grid:HxW`` cells as even as can be, or ``slic:N`` superpixels (scikit-image).
    """
    kind, _, rest = segments.partition(":")
    height, width = explained.size
    if kind == "grid":
        rows, columns = (int(side) for side in (rest.split("x") * 2)[:2])
        if rows > height or columns > width:
            raise UsageError(f"segments={segments} is finer than the {height} x {width} pixels of the image")
        row, column = torch.arange(height) * rows // height, torch.arange(width) * columns // width
        return (row[:, None] * columns + column).expand(len(explained.images), -1, -1)
    slic = scikit_image(f"segments={segments}").segmentation.slic
    images = pixels_in_0_1(explained).permute(0, 2, 3, 1).cpu().numpy()
    found = [torch.from_numpy(slic(image, n_segments=int(rest), start_label=0).astype(np.int64)) for image in images]
    return torch.stack(found)


def _pairs(stream: torch.Generator, samples: int, count: int) -> torch.Tensor:
    """Selections and their complements, (2 * (samples // 2), count) bool, sizes by the Shapley kernel."""
    sizes = torch.arange(1, count)
    kernel = 1 / (sizes * (count - sizes)).double()
    half = max(1, samples // 2)
    drawn = sizes[torch.multinomial(kernel, half, replacement=True, generator=stream)]
    order = torch.rand((half, count), generator=stream).argsort(dim=1).argsort(dim=1)
    first = order < drawn[:, None]
    return torch.cat([first, ~first])


def _scores(explained: Explained, shown: torch.Tensor, places: torch.Tensor, baseline: str) -> torch.Tensor:
    """(B, samples) float64 on the CPU: the output with only some segments shown, the others as in the baseline."""
    cover = baseline_images(explained, baseline)
    device = explained.images.device
    where, selected = places.to(device), shown.to(device)

    def make(which: torch.Tensor, step: list[int]) -> torch.Tensor:
        chosen = selected[which, step].gather(1, where[which].flatten(1)).view(-1, 1, *explained.size)
        return torch.where(chosen, explained.images[which], cover[which])

    return explained.forward_scores(shown.shape[1], make).cpu()


def _spread(values: torch.Tensor, places: torch.Tensor, explained: Explained) -> torch.Tensor:
    """Each segment's value at its pixels: (B, segments) -> (B, H, W) float32."""
    maps = values.gather(1, places.flatten(1)).view(places.shape)
    return maps.to(explained.images.device, torch.float32)
