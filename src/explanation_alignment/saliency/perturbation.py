"""Methods that cover parts of the image and look at what happens to the output; no gradient."""

from __future__ import annotations

import torch
from captum.attr import Occlusion
from torch.nn import functional as F

from explanation_alignment.errors import UsageError
from explanation_alignment.saliency.class_activation import upsampled
from explanation_alignment.saliency.passes import Explained, baseline_images, generators

__all__ = ["occlusion", "rise", "scorecam", "window_and_stride"]


def occlusion(explained: Explained, *, window: int | None, stride: int | None, baseline: str) -> torch.Tensor:
    """Occlusion (Zeiler and Fergus 2014) by captum: how much the output falls when a square window is covered.

    Args:
        explained: the batch.
        window: its side, pixels; None for a seventh of the shorter side.
        stride: pixels from one window to the next; None for half a window.
        baseline: what covers it.

    Returns:
        (B, H, W), signed: the mean over the windows at a pixel.

    Raises:
        UsageError: the window is larger than the image, or the stride larger than the window.
    """
    side, step = window_and_stride(explained, window=window, stride=stride)
    channels = explained.images.shape[1]
    cover = baseline_images(explained, baseline)
    method = Occlusion(explained.all_outputs)
    maps, done = [], 0
    for part in explained.parts():
        start, done = done, done + len(part.images)
        with torch.no_grad():
            change = method.attribute(
                part.images,
                sliding_window_shapes=(channels, side, side),
                strides=(channels, step, step),
                baselines=cover[start:done],
                target=part.targets,
                perturbations_per_eval=max(1, explained.chunk // len(part.images)),
            )
        maps.append(change[:, 0].to(torch.float32))  # a window covers all channels, so that all hold the same
    return torch.cat(maps)


def window_and_stride(explained: Explained, *, window: int | None, stride: int | None, **_: object) -> tuple[int, int]:
    """What occlusion's window and stride come to, pixels.

    Raises:
        UsageError: the window is larger than the image, or the stride larger than the window.
    """
    side = window or max(1, min(explained.size) // 7)
    step = stride or max(1, side // 2)
    if side > min(explained.size) or step > side:
        raise UsageError(
            f"occlusion: expected a window within {explained.size[0]} x {explained.size[1]} pixels and a stride of at "
            f"most the window, got window {side}, stride {step}"
        )
    return side, step


def rise(explained: Explained, *, masks: int, cells: int, keep: float, seed: int) -> torch.Tensor:
    """RISE (Petsiuk, Das, Saenko 2018, section 3): the mean of random masks weighted by the class's probability.

    A mask has cells x cells random cells, upsampled bilinearly to a little more than the image and cut out at a random
    place. Masked images are the image times the mask, as the network takes it. Each image has masks of its own, from
    its own stream; the mean is taken per pixel over the share of it that was shown. Whatever ``output`` is, the
    probability is what weights the masks, as in the paper.
    """
    streams = generators(explained, seed)
    height, width = explained.size
    total = torch.zeros(len(explained.images), height, width, device=explained.images.device)
    shown = torch.zeros_like(total)
    for which, _ in explained.expanded(masks):
        drawn = torch.stack([_smooth_mask(streams[place], cells, keep, height, width) for place in which.tolist()])
        drawn = drawn.to(explained.images.device)
        score = explained.probabilities(explained.images[which] * drawn[:, None], explained.targets[which])
        total.index_add_(0, which, score[:, None, None].float() * drawn)
        shown.index_add_(0, which, drawn)
    return torch.where(shown > 0, total / shown, 0)


def _smooth_mask(stream: torch.Generator, cells: int, keep: float, height: int, width: int) -> torch.Tensor:
    """One mask of RISE, (H, W) in 0..1."""
    rows, columns = -(-height // cells), -(-width // cells)  # pixels a cell, rounded up
    coarse = (torch.rand((cells, cells), generator=stream) < keep).float()
    top, left = (int(torch.randint(length, (), generator=stream)) for length in (rows, columns))
    size = ((cells + 1) * rows, (cells + 1) * columns)
    smooth = F.interpolate(coarse[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    return smooth[top : top + height, left : left + width]


def scorecam(explained: Explained, *, layer: str | None, relu: bool) -> torch.Tensor:
    """Score-CAM (Wang et al. 2020): channels weighted by the output of the image masked with each of them.

    A channel is upsampled and scaled to 0..1 to be a mask, a constant one to 0; the weights are the softmax of the
    outputs over the channels. The layer was taken in the shared pass.

    Returns:
        (B, H, W), its positive part if ``relu``.
    """
    activation = explained.shared
    assert activation is not None
    channels = activation.shape[1]

    def masked(which: torch.Tensor, channel: list[int]) -> torch.Tensor:
        mask = upsampled(activation[which, channel], explained.size)
        low, high = mask.amin(dim=(1, 2), keepdim=True), mask.amax(dim=(1, 2), keepdim=True)
        scaled = (mask - low) / torch.where(high > low, high - low, 1)
        return explained.images[which] * scaled[:, None]

    weights = explained.forward_scores(channels, masked).softmax(dim=1).to(activation.dtype)
    return upsampled(torch.einsum("bchw,bc->bhw", activation, weights), explained.size, relu=relu)
