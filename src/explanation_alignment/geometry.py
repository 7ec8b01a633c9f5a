"""One geometry for an image and its annotations together, so that they stay on the same pixels.

Images are resized as the classifier's own preprocessing asks; annotation masks always by PIL's
NEAREST, since neither of torch's nearest modes equals it at every size.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

__all__ = ["Geometry", "Interpolation"]

Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Resize, then centre crop, with torchvision's rounding.

    Args:
        resize: length of the shorter side in pixels (aspect ratio kept), or (height, width) to
            squash to, or None to leave the size alone.
        crop: (height, width) of the centre crop; an image smaller than that is padded with zeros,
            its annotations with False. None crops nothing.
        interpolation: of the image.
    """

    resize: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"

    def leaves_alone(self, height: int, width: int) -> bool:
        """Whether an image of this size (pixels) comes out as it goes in."""
        resized = self.resize in (None, (height, width)) or (
            isinstance(self.resize, int) and min(height, width) == self.resize
        )
        return resized and self.crop in (None, (height, width))

    def image(self, image: Image.Image) -> Image.Image:
        """Apply to an image of any mode; the mode is kept."""
        return self._apply(image, InterpolationMode(self.interpolation))

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Apply to a (H, W) bool mask of the image's own size; the result has the image's new size."""
        if self.leaves_alone(*mask.shape):
            return mask
        pixels = self._apply(Image.fromarray(mask.astype(np.uint8) * 255), InterpolationMode.NEAREST)
        return np.asarray(pixels) > 0

    def describe(self) -> dict[str, object]:
        """The settings as plain values, for a run's identity and record."""
        return asdict(self)

    def _apply(self, picture: Image.Image, interpolation: InterpolationMode) -> Image.Image:
        if self.resize is not None:
            size = [self.resize] if isinstance(self.resize, int) else list(self.resize)
            picture = tv.resize(picture, size, interpolation=interpolation)
        if self.crop is not None:
            picture = tv.center_crop(picture, list(self.crop))
        return picture
