"""XRAI, by PAIR's library, over integrated gradients of a whole batch; and what needs scikit-image."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import torch

from explanation_alignment.errors import ModelError
from explanation_alignment.saliency.gradients import integrated_gradients_by_channel
from explanation_alignment.saliency.passes import Explained

__all__ = ["check_installed", "pixels_in_0_1", "scikit_image", "xrai"]


def xrai(explained: Explained, *, steps: int, algorithm: str) -> torch.Tensor:
    """XRAI (Kapishnikov et al. 2019): segments ranked by the integrated gradients in them, from black and from white.

    Integrated gradients come from captum for the batch; segments (Felzenszwalb's, no randomness) and their ranking from
    PAIR's library, one image after another on the CPU. An image of one colour has no segments and gives a flat map.

    Returns:
        (B, H, W), signed.

    Raises:
        ModelError: the extra is not installed.
    """
    check_installed(explained)
    from saliency.core import XRAI, XRAIParameters

    preprocessing = explained.classifier.preprocessing
    shape = (1, explained.images.shape[1], 1, 1)
    ends = [torch.full(shape, value, dtype=torch.uint8, device=explained.images.device) for value in (0, 255)]
    attributions = [
        integrated_gradients_by_channel(explained, preprocessing.normalise(end).expand_as(explained.images), steps)
        for end in ends
    ]
    attribution = torch.stack(attributions).mean(dim=0).permute(0, 2, 3, 1).cpu().numpy()
    pixels = pixels_in_0_1(explained).permute(0, 2, 3, 1).cpu().numpy()
    settings = XRAIParameters(steps=steps, algorithm=algorithm)
    maps = []
    for image, values in zip(pixels, attribution, strict=True):
        if image.max() == image.min():
            maps.append(np.zeros(image.shape[:2], dtype=np.float32))
            continue
        found = XRAI().GetMask(image, None, base_attribution=values, extra_parameters=settings)
        maps.append(np.asarray(found, dtype=np.float32))
    return torch.from_numpy(np.stack(maps)).to(explained.images.device)


def check_installed(explained: Explained, **_: object) -> None:
    """Refuse XRAI where its libraries are not there.

    Raises:
        ModelError: naming the extra.
    """
    scikit_image("xrai")
    try:
        import saliency.core  # noqa: F401
    except ImportError:
        raise _missing("xrai") from None


def pixels_in_0_1(explained: Explained) -> torch.Tensor:
    """The images before normalisation, (B, C, H, W) in 0..1."""
    preprocessing = explained.classifier.preprocessing
    mean, std = (
        explained.images.new_tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std)
    )
    return (explained.images * std + mean).clamp(0, 1)


def scikit_image(what: str) -> ModuleType:
    """scikit-image with its segmentation.

    Raises:
        ModelError: it is not installed, naming the extra.
    """
    try:
        import skimage
        import skimage.segmentation
    except ImportError:
        raise _missing(what) from None
    return skimage


def _missing(what: str) -> ModelError:
    return ModelError(f"{what} needs scikit-image and saliency: pip install 'explanation-alignment[xrai]'")
