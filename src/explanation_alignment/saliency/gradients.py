"""Methods that take the input's gradient many times: along a path, or under noise."""

from __future__ import annotations

import torch
from captum.attr import IntegratedGradients

from explanation_alignment.saliency.passes import Explained, baseline_images, generators, over_channels

__all__ = ["gradient_shap", "integrated_gradients", "integrated_gradients_by_channel", "smoothgrad"]


def integrated_gradients(explained: Explained, *, steps: int, baseline: str, signed: bool) -> torch.Tensor:
    """Integrated gradients (Sundararajan, Taly, Yan 2017, eq. 1) by captum, with its Gauss-Legendre rule: (B, H, W).

    Summed with sign over channels and pixels they are the output's difference between image and baseline, up to the
    rule's error.
    """
    return over_channels(
        integrated_gradients_by_channel(explained, baseline_images(explained, baseline), steps), signed=signed
    )


def integrated_gradients_by_channel(explained: Explained, baseline: torch.Tensor, steps: int) -> torch.Tensor:
    """The same before summing over channels, from a baseline (B, C, H, W) given: (B, C, H, W)."""
    method = IntegratedGradients(explained.all_outputs, multiply_by_inputs=True)
    values, done = [], 0
    for part in explained.parts():
        start, done = done, done + len(part.images)
        # captum holds inputs at once to internal_batch_size, which may not be below the number of images.
        attribution = method.attribute(
            part.images,
            baselines=baseline[start:done],
            target=part.targets,
            n_steps=steps,
            method="gausslegendre",
            internal_batch_size=max(explained.chunk, len(part.images)),
        )
        values.append(attribution.detach().to(torch.float32))
    return torch.cat(values)


def smoothgrad(
    explained: Explained, *, samples: int, noise: float, squared: bool, signed: bool, seed: int
) -> torch.Tensor:
    """SmoothGrad (Smilkov et al. 2017): the mean gradient of noisy copies; squared (Hooker et al. 2019): its square.

    The noise is Gaussian with a standard deviation of ``noise`` times the range of the image as the network takes it.
    captum's noise comes from one stream for the whole batch, so that a map would depend on its neighbours.
    """
    noisy = _Noise(explained, noise, seed)
    total = torch.zeros_like(explained.images)
    for which, _ in explained.expanded(samples):
        gradient = explained.gradients(noisy(which), explained.targets[which])
        total.index_add_(0, which, gradient.square() if squared else gradient)
    return over_channels(total / samples, signed=signed)


def gradient_shap(
    explained: Explained, *, samples: int, noise: float, baseline: str, signed: bool, seed: int
) -> torch.Tensor:
    """Gradient SHAP: the mean of gradient times difference at random points between baseline and noisy image.

    Points are uniform on the path, one a noisy copy (expected gradients: Erion et al. 2021, eq. 3).
    """
    noisy = _Noise(explained, noise, seed)
    # Shares have streams of their own: from the noise's, a chunk would take them in an order that depends on its size.
    streams = generators(explained, seed, "share")
    start = baseline_images(explained, baseline)
    total = torch.zeros_like(explained.images)
    for which, _ in explained.expanded(samples):
        images = noisy(which)
        drawn = torch.stack([torch.rand((1, 1, 1), generator=streams[place]) for place in which.tolist()])
        share = drawn.to(images.device)
        difference = images - start[which]
        gradient = explained.gradients(start[which] + share * difference, explained.targets[which])
        total.index_add_(0, which, gradient * difference)
    return over_channels(total / samples, signed=signed)


class _Noise:
    """Noisy copies of images, each image's noise from its own stream, one copy after another."""

    def __init__(self, explained: Explained, level: float, seed: int) -> None:
        self._images = explained.images
        self._streams = generators(explained, seed)
        flat = explained.images.flatten(1)
        self._deviation = level * (flat.amax(dim=1) - flat.amin(dim=1))[:, None, None, None]

    def __call__(self, which: torch.Tensor) -> torch.Tensor:
        shape = self._images.shape[1:]
        drawn = torch.stack([torch.randn(shape, generator=self._streams[place]) for place in which.tolist()])
        return self._images[which] + self._deviation[which] * drawn.to(self._images.device)
