"""From a real-valued saliency map to the set of salient pixels.

Five rules, named and recorded with every score: ``std:k``, ``threshold:t``, ``percentile:q``, ``area`` and ``otsu``.
The mask of a map depends on nothing but that map: not on the batch it came in, its device's number of threads or the
map's scale (thresholds are computed in double precision on the map divided by a power of two).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from explanation_alignment.errors import UnknownNameError, UsageError

__all__ = ["BINARIZATIONS", "Binarization", "binarize"]

#: The rules there are: what each keeps, as ``ealign methods`` and error messages show it.
BINARIZATIONS: Final = {
    "std": "std:k keeps S >= mean + k * population standard deviation",
    "threshold": "threshold:t keeps S >= min + t * (max - min), t from 0 to 1",
    "percentile": "percentile:q keeps S >= the q-th percentile, q from 0 to 100",
    "area": "area keeps as many of the largest pixels as the annotation has",
    "otsu": "otsu keeps S >= the threshold between two classes of pixels (Otsu 1979, 256 bins)",
}

_EXAMPLES: Final = {"std": "std:1", "threshold": "threshold:0.5", "percentile": "percentile:95"}
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_OTSU_BINS: Final = 256
#: Pixels worked on together on a CPU: in double precision they take a megabyte, so that a core's cache holds them.
_BLOCK: Final = 1 << 17
#: Pixels counted together, 8 in a word: 128 words at most, so that no byte of their sum overflows.
_COUNTED: Final = 1024


@dataclass(frozen=True)
class Binarization:
    """A rule and its number, such as ``std:1``; ``str()`` gives the canonical text.

    Args:
        rule: one of ``BINARIZATIONS``.
        value: k of ``std``, t of ``threshold``, q of ``percentile``; None for ``area`` and ``otsu``.

    Raises:
        UnknownNameError: there is no such rule.
        UsageError: the number is missing, superfluous or out of range.

    Example:
        >>> str(Binarization.parse("threshold:0.50"))
        'threshold:0.5'
        >>> Binarization("std", 1.0)
        Binarization(rule='std', value=1.0)
    """

    rule: str
    value: float | None = None

    def __post_init__(self) -> None:
        """Check the number against the rule."""
        if self.rule not in BINARIZATIONS:
            raise UnknownNameError("binarization", self.rule, BINARIZATIONS)
        meaning = BINARIZATIONS[self.rule]
        if self.rule not in _EXAMPLES:
            if self.value is not None:
                raise UsageError(f"binarization {self.rule!r} takes no number, got {self.value!r}: {meaning}")
            return
        if self.value is None:
            raise UsageError(f"binarization {self.rule!r} needs a number, such as {_EXAMPLES[self.rule]}: {meaning}")
        value = float(self.value) + 0.0  # -0.0 becomes 0.0, so that equal rules have one text
        if not math.isfinite(value):
            raise UsageError(f"binarization {self.rule}:{self.value} needs a finite number: {meaning}")
        if self.rule == "threshold" and not 0 <= value <= 1:
            raise UsageError(f"binarization threshold:{value:g} is out of range: {meaning}")
        if self.rule == "percentile" and not 0 <= value <= 100:
            raise UsageError(f"binarization percentile:{value:g} is out of range: {meaning}")
        if self.rule == "percentile" and 0 < value < 1:
            # 0.95 is far more likely the 95th percentile than the 0.95th, and the two masks differ by everything.
            raise UsageError(
                f"binarization percentile:{value:g}: q is in percent; did you mean percentile:{100 * value:g}?"
            )
        object.__setattr__(self, "value", value)

    @classmethod
    def parse(cls, spec: str | Binarization) -> Binarization:
        """Read ``rule`` or ``rule:number``; spaces, capitals and anything else are refused.

        Raises:
            UnknownNameError: there is no such rule.
            UsageError: the text is not a rule with its number.
        """
        if isinstance(spec, Binarization):
            return spec
        if not isinstance(spec, str):
            raise UsageError(f"a binarization is text such as 'std:1', got {spec!r}")
        rule, colon, number = spec.partition(":")
        if not colon:
            return cls(rule)
        if rule in BINARIZATIONS and not _NUMBER.fullmatch(number):
            raise UsageError(f"binarization {spec!r}: {number!r} is not a number; {BINARIZATIONS[rule]}")
        return cls(rule, float(number) if rule in BINARIZATIONS else None)

    def __str__(self) -> str:
        """The canonical text: the shortest that reads back as the same rule."""
        if self.value is None:
            return self.rule
        return f"{self.rule}:{repr(self.value).removesuffix('.0')}"

    @property
    def needs_annotation(self) -> bool:
        """Whether the mask depends on the annotation too (``area``)."""
        return self.rule == "area"


def binarize(saliency: Tensor, spec: str | Binarization, *, annotation: Tensor | None = None) -> Tensor:
    """The salient pixels of each map.

    ``std:k``: S >= mean + k * population std. ``threshold:t``: S >= min + t * (max - min). ``percentile:q``: S >= the
    q-th percentile, linearly interpolated. ``area``: the \\|G\\| largest pixels, ties in row-major order. ``otsu``:
    S >= the lower edge of the first bin (of 256 between min and max) that maximises the variance between classes.
    All compare with >=, so a constant map is salient everywhere (metrics call it undefined); under ``area`` it follows
    the row-major order. A map with a NaN or an infinity has no salient pixel.

    Args:
        saliency: maps (B, H, W) or (B, 1, H, W), any floating dtype, on any device.
        spec: the rule, such as ``"std:1"``.
        annotation: masks G of the same shape, for ``area`` only; bool, integer (nonzero) or float (0 and 1).

    Returns:
        A bool tensor of the shape and on the device of ``saliency``.

    Raises:
        UnknownNameError: the rule does not exist.
        UsageError: the spec, a shape or a dtype is wrong, or ``area`` has no annotation.

    Source: std and >=: Boggust et al., Shared Interest, CHI 2022. otsu: Otsu, IEEE SMC 1979.

    Example:
        >>> maps = torch.tensor([[[0.0, 1.0], [2.0, 9.0]]])
        >>> binarize(maps, "threshold:0.2")
        tensor([[[False, False],
                 [ True,  True]]])
    """
    spec = Binarization.parse(spec)
    maps = Maps.of(saliency)
    area = None
    if spec.needs_annotation:
        if annotation is None:
            raise UsageError("binarization 'area' needs the annotation: binarize(saliency, 'area', annotation=masks)")
        area = count_pixels(as_mask(annotation, "annotation", maps.values.shape))
    return salient_mask(maps, spec, area).reshape(saliency.shape)


class Maps:
    """A batch of real-valued maps, with what thresholds and metrics derive from them computed once, on first use."""

    def __init__(self, values: Tensor) -> None:
        """Take maps (B, H, W), float32 or float64, contiguous, unchecked; ``Maps.of`` checks."""
        self.values = values
        #: Double precision where the device has it.
        self.dtype = torch.float32 if values.device.type == "mps" else torch.float64

    @classmethod
    def of(cls, tensor: Tensor, argument: str = "saliency") -> Maps:
        """Check and flatten what a user gave: (B, H, W) or (B, 1, H, W), floating.

        Raises:
            UsageError: the shape or dtype is another; the message names ``argument``.
        """
        tensor = _three_dimensional(tensor, argument)
        if not tensor.is_floating_point():
            raise UsageError(f"{argument} has dtype {tensor.dtype}; expected a floating point map, such as .float()")
        if tensor.dtype not in (torch.float32, torch.float64):
            tensor = tensor.float()  # exact, and half precision lacks some of the operations below
        return cls(tensor.detach().contiguous())

    @property
    def pixels(self) -> int:
        """H * W."""
        return self.values.shape[-2] * self.values.shape[-1]

    @cached_property
    def flat_values(self) -> Tensor:
        """(B, H * W)."""
        return self.values.flatten(1)

    @cached_property
    def _row_highs(self) -> Tensor:
        return self.values.amax(-1)

    @cached_property
    def high(self) -> Tensor:
        """The largest value (B,); NaN if there is one."""
        return self._row_highs.amax(-1)

    @cached_property
    def peak(self) -> Tensor:
        """Where the first row-major maximum is, as an index into H * W (B,), int64."""
        # The first maximum of the first row that has it: values alone are found several times faster than places.
        row = self._row_highs.max(-1).indices
        best_row = self.values.gather(1, row[:, None, None].expand(-1, 1, self.values.shape[-1]))
        return row * self.values.shape[-1] + best_row[:, 0].max(-1).indices

    @cached_property
    def low(self) -> Tensor:
        """The smallest value (B,); NaN if there is one."""
        return self.values.amin(-1).amin(-1)

    @cached_property
    def finite(self) -> Tensor:
        """Whether the map has neither NaN nor infinity (B,)."""
        return (self.low > -math.inf) & (self.high < math.inf)

    @cached_property
    def flat(self) -> Tensor:
        """Whether the map says nothing: constant or non-finite (B,)."""
        return ~(self.finite & (self.high > self.low))

    @cached_property
    def scale(self) -> Tensor:
        """A power of two (B, 1, 1) with which no square of ``scaled`` leaves the range of its type; exact.

        1 where double precision holds single: its range is wide enough. Else it brings the largest magnitude near 1.
        """
        if self._widened:
            return torch.ones(len(self.values), 1, 1, dtype=self.dtype, device=self.values.device)
        size = torch.maximum(self.high.abs(), self.low.abs()).to(self.dtype)
        limit = 1022 if self.dtype is torch.float64 else 126  # beyond, the power itself would overflow
        exponent = torch.where(size > 0, size, 1).log2().floor().clamp(-limit, limit)
        return torch.exp2(-exponent)[:, None, None]

    @cached_property
    def scaled(self) -> Tensor:
        """The maps times ``scale``, (B, H, W), in double precision where there is."""
        return self.values.to(self.dtype) if self._widened else self.values * self.scale

    @property
    def _widened(self) -> bool:
        return self.dtype != self.values.dtype

    @property
    def mean(self) -> Tensor:
        """The mean of ``scaled`` (B, 1, 1)."""
        return self._moments[0]

    @property
    def std(self) -> Tensor:
        """The population standard deviation of ``scaled`` (B, 1, 1)."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        # Wide copies of all maps at once would take twice the batch's memory and, on a CPU, half as long again. Taken
        # from the minimum, a map's second moment exceeds its variance less than H * W times, so the difference holds.
        low = self.low[:, None, None].to(self.dtype) * self.scale
        sums, squares = [], []
        for values, start, scale, block in blocks((self.values, low, self.scale), self.dtype):
            block.copy_(values)
            if not self._widened:
                block.mul_(scale)
            sums.append(block.sub_(start).sum(-1))
            squares.append(block.square_().sum(-1))
        mean, square = (torch.cat(rows).sum(-1)[:, None, None] / self.pixels for rows in (sums, squares))
        return low + mean, (square - mean.square()).clamp(min=0).sqrt()

    @cached_property
    def deviation(self) -> Tensor:
        """``scaled`` less its mean (B, H, W)."""
        return self.scaled - self.mean

    @cached_property
    def descending(self) -> tuple[Tensor, Tensor]:
        """Values and their indices, largest first, ties in row-major order; (B, H * W) each."""
        ordered = torch.sort(self.flat_values, dim=1, descending=True, stable=True)
        return ordered.values, ordered.indices

    @cached_property
    def ties(self) -> tuple[Tensor, Tensor]:
        """For each place of ``descending``, the first and the last place with the same value; (B, H * W) each."""
        ordered = self.descending[0]
        place = torch.arange(self.pixels, device=ordered.device)
        differs = ordered[:, 1:] != ordered[:, :-1]
        edge = torch.ones_like(differs[:, :1]) if self.pixels > 1 else torch.ones_like(ordered, dtype=torch.bool)
        first = torch.where(torch.cat([edge, differs], 1), place, 0).cummax(1).values
        last = torch.where(torch.cat([differs, edge], 1), place, self.pixels - 1).flip(1).cummin(1).values.flip(1)
        return first, last

    @cached_property
    def double_ranks(self) -> Tensor:
        """Twice the rank (1 is the smallest; ties share their mean) of each place of ``descending``; int64."""
        first, last = self.ties
        return 2 * self.pixels - first - last

    def largest(self, k: int) -> Tensor:
        """The k-th largest value (B,), without sorting all."""
        if "descending" in self.__dict__:
            return self.descending[0][:, k - 1]
        return self.flat_values.kthvalue(self.pixels - k + 1, dim=1).values


def total(maps: Tensor) -> Tensor:
    """The sum over the last two axes, row by row.

    In one go, the order of summation of a single large map would depend on the number of threads.
    """
    return maps.sum(-1).sum(-1)


def at(values: Tensor, places: Tensor) -> Tensor:
    """The values at some places of the last axis: (..., N) and (..., K) to (..., K).

    Where one of the two lacks leading axes of the other, it is repeated along them.
    """
    lead = (values if values.ndim >= places.ndim else places).shape[:-1]
    return values.expand(*lead, -1).gather(-1, places.expand(*lead, -1))


def count_pixels(masks: Tensor) -> Tensor:
    """How many pixels of each bool mask (..., H, W) are True; (...), int32."""
    # On a CPU summing words, whose bytes are eight pixels, is an order of magnitude faster than summing bools.
    pixels = masks.flatten(-2)
    missing = -pixels.shape[-1] % _COUNTED
    if missing or pixels.storage_offset() % 8:
        pixels = F.pad(pixels, (0, missing))
    words = pixels.view(torch.int64).view(*pixels.shape[:-1], pixels.shape[-1] // _COUNTED, _COUNTED // 8)
    return words.sum(-1).view(torch.uint8).sum(-1, dtype=torch.int32)


def at_least(values: Tensor, threshold: Tensor) -> Tensor:
    """Where maps (B, H, W) reach thresholds (B,) of the same dtype: ``values >= threshold``; bool (B, H, W)."""
    # On a CPU comparisons are vectorised where they write the type they read: in blocks, half the time.
    reached = torch.empty(values.shape, dtype=torch.bool, device=values.device)
    for some, least, result, block in blocks((values, threshold[:, None, None], reached), values.dtype):
        result.copy_(torch.ge(some, least, out=block))
    return reached


def blocks(tensors: tuple[Tensor, ...], dtype: torch.dtype) -> Iterator[tuple[Tensor, ...]]:
    """Parts of tensors (B, ...), each with room to work: as many maps at once as a CPU's cache holds, elsewhere all.

    The room has the shape of the first tensor's part and the given dtype; it is the same memory for every part.
    """
    first = tensors[0]
    together = len(first)
    if first.device.type == "cpu":
        together = min(together, _BLOCK // (first.shape[1] * first.shape[2]))
    together = max(1, together)
    room = first.new_empty((together, *first.shape[1:]), dtype=dtype)
    for parts in zip(*(torch.split(tensor, together) for tensor in tensors), strict=True):
        yield *parts, room[: len(parts[0])]


def salient_mask(maps: Maps, spec: Binarization, annotation_area: Tensor | None = None) -> Tensor:
    """``binarize`` without its checks.

    Args:
        maps: B maps.
        spec: the rule.
        annotation_area: the pixels of each annotation (..., B), needed for ``area``.

    Returns:
        Masks (B, H, W), or (..., B, H, W) for ``area``.
    """
    if spec.rule == "area":
        assert annotation_area is not None
        count = torch.where(maps.finite, annotation_area, 0)
        last = at(maps.descending[0], (count.long() - 1).clamp(min=0)[..., None])
        return largest_pixels(maps, last[..., 0], count)
    threshold = _scaled_threshold(maps, spec) / maps.scale[:, 0, 0]
    # Rounding must not decide what a constant map is, and a comparison with NaN is False everywhere.
    threshold = torch.where(maps.flat, maps.low.to(maps.dtype), threshold)
    threshold = torch.where(maps.finite, threshold, torch.nan)
    return at_least(maps.values, _rounded_up(threshold, maps.values.dtype))


def _rounded_up(threshold: Tensor, dtype: torch.dtype) -> Tensor:
    """The smallest number of a narrower type that is not below the threshold: >= decides the same with either."""
    rounded = threshold.to(dtype)
    return torch.where(rounded < threshold, rounded.nextafter(torch.full_like(rounded, math.inf)), rounded)


def largest_pixels(maps: Maps, last: Tensor, count: Tensor | int) -> Tensor:
    """The ``count`` largest pixels of each map, ties taken in row-major order.

    Args:
        maps: B maps.
        last: the value of the last pixel to take (..., B): the ``count``-th largest, or any for a count of 0.
        count: how many pixels to take, (..., B) or one for all.

    Returns:
        Masks (..., B, H, W).
    """
    last = last[..., None]
    above = maps.flat_values > last
    tied = maps.flat_values == last
    room = count - above.sum(-1, dtype=torch.int32)
    taken = above | (tied & (tied.cumsum(-1, dtype=torch.int32) <= room[..., None]))
    return taken.reshape(*taken.shape[:-1], *maps.values.shape[-2:])


def _scaled_threshold(maps: Maps, spec: Binarization) -> Tensor:
    """The smallest salient value of each map times its ``scale`` (B,)."""
    value = spec.value if spec.value is not None else 0.0
    if spec.rule == "std":
        return (maps.mean + value * maps.std)[:, 0, 0]
    scale = maps.scale[:, 0, 0]
    low, high = maps.low * scale, maps.high * scale
    if spec.rule == "threshold":
        return torch.lerp(low, high, value)  # exact at both ends
    if spec.rule == "percentile":
        # torch.quantile refuses inputs over 16 million elements, counted over the whole batch.
        place = value * (maps.pixels - 1) / 100
        below = math.floor(place)
        ranks = [maps.pixels - rank for rank in (below, min(below + 1, maps.pixels - 1))]
        lower, upper = (maps.largest(rank) * scale for rank in ranks)
        return torch.lerp(lower, upper, place - below)
    assert spec.rule == "otsu"
    return low + _otsu_bin(maps, low, high) / _OTSU_BINS * (high - low)


def _otsu_bin(maps: Maps, low: Tensor, high: Tensor) -> Tensor:
    """The first bin of the upper class, 1 to 255 (B,); integer sums, so that ties are exact."""
    position = (maps.scaled.flatten(1) - low[:, None]) / (high - low)[:, None]
    bins = (position * _OTSU_BINS).long().clamp(0, _OTSU_BINS - 1)
    counts = torch.zeros(len(bins), _OTSU_BINS, dtype=torch.int64, device=bins.device)
    counts.scatter_add_(1, bins, torch.ones_like(bins))
    number = counts.cumsum(1)  # of pixels up to and including each bin
    weight = (counts * torch.arange(_OTSU_BINS, device=bins.device)).cumsum(1)
    n0, w0 = number[:, :-1], weight[:, :-1]
    between = (maps.pixels * w0 - n0 * weight[:, -1:]).to(maps.dtype).square() / (n0 * (maps.pixels - n0))
    return between.argmax(1) + 1


def as_mask(tensor: Tensor, argument: str, shape: torch.Size | None = None) -> Tensor:
    """Check what a user gave as a mask and return it as bool (B, H, W).

    Args:
        tensor: (B, H, W) or (B, 1, H, W); bool, integer (nonzero is True) or float (0 and 1 only).
        argument: its name, for the message.
        shape: the (B, H, W) it must have, if any.

    Raises:
        UsageError: the shape, dtype or values are others.
    """
    mask = _three_dimensional(tensor, argument)
    if shape is not None and mask.shape != shape:
        raise UsageError(f"{argument} has shape {tuple(tensor.shape)}; expected {tuple(shape)}, the shape of the maps")
    if mask.is_complex():
        raise UsageError(f"{argument} has dtype {mask.dtype}; expected bool, integer, or float of 0 and 1")
    if mask.is_floating_point() and not bool(((mask == 0) | (mask == 1)).all()):
        raise UsageError(
            f"{argument} has values other than 0 and 1; expected a mask "
            "(binarize a map first: binarize(saliency, 'std:1'))"
        )
    return mask.detach() != 0


def _three_dimensional(tensor: Tensor, argument: str) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise UsageError(f"{argument} is a {type(tensor).__name__}; expected a tensor (B, H, W), see torch.as_tensor")
    shape = tuple(tensor.shape)
    if tensor.ndim == 4 and shape[1] == 1:
        tensor = tensor[:, 0]
    if tensor.ndim != 3 or 0 in tensor.shape[1:]:
        hint = "; add the batch axis: [None]" if tensor.ndim == 2 else ""
        raise UsageError(f"{argument} has shape {shape}; expected (B, H, W) or (B, 1, H, W){hint}")
    return tensor
