"""Saliency maps that need no model: the empirical nulls that every method is compared with.

``random`` knows nothing, ``center`` knows that objects stand in the middle, ``sobel`` knows the image but no class. All
give maps (B, H, W), float32, on the device asked for; a map depends on its own image or id only, bit for bit, not on
the batch it came in.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.metrics.center import squared_distance

__all__ = ["BASELINES", "baseline_maps", "center_maps", "random_maps", "sobel_maps"]

#: The nulls there are and what each knows.
BASELINES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "random": "random values, seeded by the sample's id",
        "center": "a Gaussian at the centre of the image",
        "sobel": "the magnitude of the image's edges",
    }
)

#: Bits of a random value: all that float32 holds exactly.
_BITS: Final = 24
#: How the keyed permutation mixes: an odd factor below 2^24 and a shift per round. The key is added, since a random
#: factor can be one that mixes badly.
_ROUNDS: Final = (
    (0x3779B1, 13),
    (0xEBCA6B, 11),
    (0xB2AE3D, 13),
    (0xD4EB2F, 11),
    (0x5667B1, 13),
    (0xA2646D, 11),
)
#: ITU-R BT.601: how much red, green and blue make up the luminance.
_LUMINANCE: Final = (0.299, 0.587, 0.114)


def baseline_maps(name: str, images: Tensor, ids: Sequence[str], seed: int = 0) -> Tensor:
    """The maps of a null for a batch, whatever it needs to know.

    Args:
        name: a key of ``BASELINES``.
        images: (B, C, H, W), floating, as the classifier sees them.
        ids: the ids of the B samples.
        seed: of ``random``.

    Returns:
        Maps (B, H, W), float32, on the device of ``images``.

    Raises:
        UnknownNameError: there is no such null.
        UsageError: the images' shape or dtype is wrong, or there are not B ids.

    Example:
        >>> baseline_maps("center", torch.zeros(2, 3, 8, 9), ["a", "b"]).shape
        torch.Size([2, 8, 9])
    """
    if name not in BASELINES:
        raise UnknownNameError("baseline", name, BASELINES)
    _check_images(images)
    B, _, H, W = images.shape
    if len(ids) != B:
        raise UsageError(f"{len(ids)} ids for {B} images; expected an id for each image")
    if name == "random":
        return random_maps(ids, H, W, seed, device=images.device)
    return center_maps(B, H, W, device=images.device) if name == "center" else sobel_maps(images)


def random_maps(
    ids: Sequence[str], height: int, width: int, seed: int = 0, *, device: torch.device | str = "cpu"
) -> Tensor:
    """Random values in [0, 1), no two of a map equal; every order of the pixels is as likely as any other.

    The values of a map are the images of 0, 1, ..., H * W - 1 under a permutation of the numbers below 2^24 keyed by a
    hash of seed and id, divided by 2^24. Whole-number arithmetic only, so that the map of an id is the same on every
    machine and device and in every batch.

    Args:
        ids: the samples' ids, B of them.
        height: H, pixels.
        width: W, pixels.
        seed: another seed, other maps.
        device: where the maps shall be.

    Returns:
        Maps (B, H, W), float32.

    Raises:
        UsageError: a side is not a whole number of at least 1, or the map has more than 2^24 pixels.

    Example:
        >>> maps = random_maps(["a", "b"], 4, 5)
        >>> torch.equal(maps[1:], random_maps(["b"], 4, 5)), maps.unique().numel() > 20
        (True, True)
    """
    pixels = squared_distance(height, width).size
    if pixels > 1 << _BITS:
        raise UsageError(f"a map of {height} x {width} has {pixels} pixels; random maps have at most {1 << _BITS}")
    below = (1 << _BITS) - 1
    keys = torch.from_numpy(_keys(ids, seed)).to(device)
    value = torch.arange(pixels, device=device).repeat(len(keys), 1)
    for turn, (factor, shift) in enumerate(_ROUNDS):  # each step can be undone, so different pixels stay different
        value.add_(keys[:, turn : turn + 1]).mul_(factor).bitwise_and_(below)
        value.bitwise_xor_(value >> shift)
    return (value.float() / (1 << _BITS)).view(len(keys), height, width)


def _keys(ids: Sequence[str], seed: int) -> np.ndarray:
    """Per id a number below 2^24 for each round, from a hash of seed and id; (B, rounds), int64."""
    digests = (hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=4 * len(_ROUNDS)).digest() for name in ids)
    words = np.frombuffer(b"".join(digests), dtype="<u4").astype(np.int64) >> (32 - _BITS)
    return words.reshape(len(ids), len(_ROUNDS))


def center_maps(count: int, height: int, width: int, *, device: torch.device | str = "cpu") -> Tensor:
    """A Gaussian at the exact centre ((H - 1) / 2, (W - 1) / 2), the same for every image.

    exp(-d^2 / (2 * sigma^2)), d the distance from the centre in pixels, sigma a quarter of the map's diagonal, with
    which the corners keep exp(-2) of the centre at any aspect ratio. Pixels equally far away have equal values;
    under ``area`` only their order counts, which is ``metrics.center_rank``.

    Args:
        count: B, how many.
        height: H, pixels.
        width: W, pixels.
        device: where the maps shall be.

    Returns:
        Maps (B, H, W), float32, in (0, 1].

    Raises:
        UsageError: a side is not a whole number of at least 1.

    Example:
        >>> center_maps(1, 3, 3)[0, 1]
        tensor([0.6412, 1.0000, 0.6412])
    """
    return _gaussian(height, width, torch.device(device)).repeat(count, 1, 1)


@functools.lru_cache(maxsize=32)
def _gaussian(height: int, width: int, device: torch.device) -> Tensor:
    # Once per distance: vectorised exponentials of equal numbers may differ in the last bit.
    distances, place = np.unique(squared_distance(height, width), return_inverse=True)
    variance = (height**2 + width**2) / 16
    values = np.exp(-distances / (8 * variance)).astype(np.float32)  # distances are four times the squared ones
    return torch.from_numpy(values[place.reshape(height, width)]).to(device)


def sobel_maps(images: Tensor) -> Tensor:
    """Edge magnitude of the luminance: sqrt(gx^2 + gy^2) of the two 3 x 3 Sobel derivatives.

    The luminance of three channels is .299 R + .587 G + .114 B, that of one channel itself. Pixels beyond the border
    repeat the border's (``mode="reflect"`` of ``scipy.ndimage.sobel``).

    Args:
        images: (B, 1 or 3, H, W), floating, as the classifier sees them.

    Returns:
        Maps (B, H, W), float32, >= 0, on the device of ``images``; 0 everywhere for an image of one colour.

    Raises:
        UsageError: the shape or dtype is another.

    Source: Sobel and Feldman, 1968; luminance: ITU-R BT.601.

    Example:
        >>> sobel_maps(torch.tensor([[[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]]]))
        tensor([[[0., 4., 4.],
                 [0., 4., 4.]]])
    """
    _check_images(images)
    if images.shape[1] not in (1, 3):
        raise UsageError(f"images have shape {tuple(images.shape)}; expected 1 or 3 channels for their luminance")
    # Sums of slices rather than a convolution, whose kernel, and so its rounding, can depend on the batch size.
    channels = images.detach().float().unbind(1)
    gray = channels[0]
    if len(channels) == 3:
        red, green, blue = (weight * channel for weight, channel in zip(_LUMINANCE, channels, strict=True))
        gray = red + green + blue
    padded = F.pad(gray[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    columns = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    gx, gy = rows[:, :, 2:] - rows[:, :, :-2], columns[:, 2:] - columns[:, :-2]
    return (gx.square() + gy.square()).sqrt()


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or 0 in images.shape[1:] or not images.is_floating_point():
        raise UsageError(
            f"images have shape {tuple(images.shape)} and dtype {images.dtype}; expected (B, C, H, W), floating"
        )
