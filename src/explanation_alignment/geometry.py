"""One geometry for an image and its annotations together, so that they stay on the same pixels.

Images are resized by PIL as the classifier's own preprocessing asks. Annotations follow PIL's NEAREST at every size
(neither of torch's nearest modes does): for each size it is asked once which pixel each pixel comes from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.sample import Annotation, Boxes

__all__ = ["Fit", "Geometry", "Interpolation"]

Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Fit: TypeAlias = Literal["squash", "cover", "inside"]

#: What timm takes where a data config does not say.
_TIMM_CROP_PCT: Final = 0.875
_TIMM_MEAN: Final = (0.485, 0.456, 0.406)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Trim, resize, then centre crop, with torchvision's and timm's rounding.

    Args:
        resize: length of the shorter side in pixels (aspect ratio kept, the longer side cut to whole pixels), or
            (height, width), see ``fit``, or None to leave the size alone.
        crop: (height, width) of the centre crop; an image smaller than that is padded with ``fill``,
            its annotations with False. None crops nothing.
        interpolation: of the image; always with antialiasing when it shrinks, as PIL does.
        fit: what (height, width) in ``resize`` means: ``"squash"`` to exactly that; ``"cover"`` it or lie ``"inside"``
            it with the aspect ratio kept and both sides rounded.
        fill: value of the padding in bytes, one for all channels or one a channel; none is black.
        trim: pixels cut off every edge before anything else.

    Raises:
        UsageError: a size is below 1, or a setting has no meaning.
    """

    resize: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"
    fit: Fit = "squash"
    fill: tuple[int, ...] = ()
    trim: int = 0

    def __post_init__(self) -> None:
        for name in ("resize", "crop", "fill"):
            value = getattr(self, name)
            if isinstance(value, list):  # as JSON gives them
                object.__setattr__(self, name, tuple(value))
        if self.interpolation not in get_args(Interpolation):
            raise UnknownNameError("interpolation", str(self.interpolation), get_args(Interpolation))
        if self.fit not in get_args(Fit):
            raise UnknownNameError("fit", str(self.fit), get_args(Fit))
        if self.fit != "squash" and not isinstance(self.resize, tuple):
            raise UsageError(f"Geometry: fit {self.fit!r} goes with resize=(height, width), got {self.resize!r}")
        sizes = [self.resize] if isinstance(self.resize, int) else [*(self.resize or ()), *(self.crop or ())]
        if any(size < 1 for size in sizes) or self.trim < 0:
            raise UsageError(f"Geometry: expected sizes of at least 1 pixel and no negative trim, got {self}")

    @classmethod
    def from_timm(cls, data_config: Mapping[str, Any]) -> Geometry:
        """The geometry of timm's evaluation transform.

        Args:
            data_config: what ``timm.data.resolve_data_config`` or a model's ``pretrained_cfg`` holds: ``input_size``
                and, where given, ``interpolation``, ``crop_pct``, ``crop_mode``, ``crop_border_pixels``, ``mean``.

        Raises:
            UsageError: it asks for something that is no fixed geometry.

        Example:
            >>> Geometry.from_timm({"input_size": (3, 224, 224), "crop_pct": 0.9, "interpolation": "bicubic"})
            Geometry(resize=248, crop=(224, 224), interpolation='bicubic', fit='squash', fill=(), trim=0)
        """
        if "input_size" not in data_config or data_config.get("naflex"):
            raise UsageError(f"timm data config: expected a fixed input_size, got {dict(data_config)}")
        height, width = data_config["input_size"][-2:]
        share = data_config.get("crop_pct") or _TIMM_CROP_PCT
        scaled = (math.floor(height / share), math.floor(width / share))
        mode = data_config.get("crop_mode") or "center"
        fits: dict[str, Fit] = {"center": "cover", "squash": "squash", "border": "inside"}
        if mode not in fits:
            raise UnknownNameError("crop_mode of a timm data config", mode, fits)
        shorter_side = mode == "center" and scaled[0] == scaled[1]  # then timm leaves it to torchvision's rounding
        return cls(
            resize=scaled[0] if shorter_side else scaled,
            crop=(height, width),
            interpolation=data_config.get("interpolation") or "bilinear",
            fit="squash" if shorter_side else fits[mode],
            fill=tuple(round(255 * value) for value in data_config.get("mean") or _TIMM_MEAN)
            if mode == "border"
            else (),
            trim=data_config.get("crop_border_pixels") or 0,
        )

    @classmethod
    def from_torchvision(cls, preset: Any) -> Geometry:
        """The geometry of torchvision's classification preset, ``weights.transforms()``.

        The preset's ``antialias`` concerns tensors only: PIL images are antialiased always, here as there.

        Raises:
            UsageError: it is no such preset.
        """
        try:
            resize, crop, interpolation = list(preset.resize_size), list(preset.crop_size), preset.interpolation.value
        except (AttributeError, TypeError):
            raise UsageError(
                f"expected a torchvision classification preset (weights.transforms()), got {type(preset).__name__}"
            ) from None
        return cls(
            resize=resize[0] if len(resize) == 1 else (resize[0], resize[1]),
            crop=(crop[0], crop[-1]),
            interpolation=interpolation,
        )

    def leaves_alone(self, height: int, width: int) -> bool:
        """Whether an image of this size (pixels) comes out as it goes in."""
        return (
            self.trim == 0 and self._resized(height, width) == (height, width) and self.crop in (None, (height, width))
        )

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width (pixels) of what an image of this size becomes.

        Raises:
            UsageError: the image is smaller than what ``trim`` takes away.
        """
        return self.crop or self._resized(*self._trimmed(height, width))

    def image(self, image: Image.Image) -> Image.Image:
        """Apply to an image of any mode; the mode is kept.

        Raises:
            UsageError: the image is smaller than what ``trim`` takes away, or has another number of channels than
                ``fill``.
        """
        height, width = self._trimmed(image.height, image.width)
        if self.trim:
            image = image.crop((self.trim, self.trim, self.trim + width, self.trim + height))
        size = self._resized(height, width)
        if size != (height, width):
            image = image.resize((size[1], size[0]), Image.Resampling[self.interpolation.upper()])
        if self.crop in (None, size):
            return image
        assert self.crop is not None
        top, left = _offset(size[0], self.crop[0]), _offset(size[1], self.crop[1])
        if self.fill and (size[0] < self.crop[0] or size[1] < self.crop[1]):
            if len(self.fill) not in (1, len(image.getbands())):
                raise UsageError(f"Geometry.fill has {len(self.fill)} values, the image is {image.mode}")
            paper = Image.new(image.mode, (self.crop[1], self.crop[0]), self._paper(image))
            paper.paste(image, (-left, -top))
            return paper
        return image.crop((left, top, left + self.crop[1], top + self.crop[0]))  # zeros beyond the edge

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Apply to a (H, W) bool mask of the image's own size; the result has the image's new size."""
        if self.leaves_alone(*mask.shape):
            return mask
        rows, columns = _axes(self, *mask.shape)
        result = np.zeros((rows.length, columns.length), dtype=np.bool_)
        result[rows.filled, columns.filled] = mask[rows.sources][:, columns.sources]
        return result

    def boxes(self, boxes: Boxes) -> NDArray[np.bool_]:
        """The mask of boxes, equal to ``mask(boxes.to_mask())`` without drawing them at the image's own size."""
        if self.leaves_alone(boxes.height, boxes.width):
            return boxes.to_mask()
        rows, columns = _axes(self, boxes.height, boxes.width)
        result = np.zeros((rows.length, columns.length), dtype=np.bool_)
        # Sources never decrease: a half-open range of them is a half-open range of pixels.
        across = columns.filled.start + np.searchsorted(columns.sources, boxes.xyxy[:, 0::2])
        down = rows.filled.start + np.searchsorted(rows.sources, boxes.xyxy[:, 1::2])
        for (x0, x1), (y0, y1) in zip(across.tolist(), down.tolist(), strict=True):
            result[y0:y1, x0:x1] = True
        return result

    def heatmap(self, strength: NDArray[np.float32]) -> NDArray[np.float32]:
        """Apply to a real-valued annotation, (H, W) float32 of the image's own size.

        Resized bilinearly with antialiasing, so that values stay within their range; 0 in the padding.
        """
        smooth = replace(self, interpolation="bilinear", fill=())
        return np.array(smooth.image(Image.fromarray(strength)), dtype=np.float32)

    def annotation(self, annotation: Annotation) -> NDArray[np.bool_]:
        """The mask of an annotation of any kind, equal to ``mask(annotation.to_mask())``, by the shortest way."""
        return self.boxes(annotation) if isinstance(annotation, Boxes) else self.mask(annotation.to_mask())

    def describe(self) -> dict[str, object]:
        """The settings as plain values, for a run's identity and record; ``Geometry(**described)`` is the same.

        Settings that came later appear only where they differ from their default, so that a run keeps its identity.
        """
        always = ("resize", "crop", "interpolation")
        return {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name in always or getattr(self, each.name) != each.default
        }

    def _paper(self, image: Image.Image) -> int | tuple[int, ...]:
        bands = len(image.getbands())
        return self.fill[0] if bands == 1 else self.fill if len(self.fill) == bands else self.fill * bands

    def _trimmed(self, height: int, width: int) -> tuple[int, int]:
        left = (height - 2 * self.trim, width - 2 * self.trim)
        if min(left) < 1:
            raise UsageError(f"an image of {height} x {width} pixels has nothing left after trimming {self.trim}")
        return left

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.resize is None:
            return height, width
        if isinstance(self.resize, int):  # as torchvision rounds
            if height <= width:
                return self.resize, int(self.resize * width / height)
            return int(self.resize * height / width), self.resize
        if self.fit == "squash":
            return self.resize
        ratios = height / self.resize[0], width / self.resize[1]  # as timm rounds
        ratio = min(ratios) if self.fit == "cover" else max(ratios)
        return max(1, round(height / ratio)), max(1, round(width / ratio))


@dataclass(frozen=True, slots=True, eq=False)
class _Axis:
    """Where the pixels of one axis of an annotation come from.

    Args:
        length: pixels of the result.
        filled: those that are no padding.
        sources: (filled,) the pixel each of them is, at the image's own size; never decreases.
    """

    length: int
    filled: slice
    sources: NDArray[np.int32]


@lru_cache(maxsize=4096)
def _axes(geometry: Geometry, height: int, width: int) -> tuple[_Axis, _Axis]:
    """Rows and columns of an annotation of an image of this size (pixels)."""
    trimmed = geometry._trimmed(height, width)
    resized = geometry._resized(*trimmed)
    crop = geometry.crop or resized
    rows, columns = (
        _axis(geometry.trim, before, after, kept) for before, after, kept in zip(trimmed, resized, crop, strict=True)
    )
    return rows, columns


def _axis(trim: int, before: int, after: int, kept: int) -> _Axis:
    line = Image.fromarray(np.arange(trim, trim + before, dtype=np.int32)[None])
    sources = np.asarray(line.resize((after, 1), Image.Resampling.NEAREST))[0]
    offset = _offset(after, kept)
    sources = sources[max(offset, 0) :][:kept]
    start = max(-offset, 0)
    return _Axis(kept, slice(start, start + len(sources)), sources)


def _offset(length: int, kept: int) -> int:
    """Where a centre crop begins; negative where it pads, which puts the odd pixel at the end."""
    return -((kept - length) // 2) if kept > length else round((length - kept) / 2)
