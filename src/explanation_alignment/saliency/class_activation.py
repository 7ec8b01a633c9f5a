"""Class activation maps from a layer's activation and the gradient of the explained output there.

All take activation A and gradient g as (B, C, h, w) and return maps (B, h, w); a map depends on its own image alone.
``upsampled`` brings them to the size of the input. Sums run over channels k and places i, j.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import torch
from torch.nn import functional as F

__all__ = [
    "CLASS_ACTIVATION_MAPS",
    "eigencam",
    "gradcam_cells",
    "gradcam_plus_plus",
    "hirescam",
    "layercam",
    "upsampled",
    "xgradcam",
]

#: Sums below this share of their terms' sizes are what rounding leaves of float32.
_ROUNDING: Final = 1e-5


def gradcam_cells(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Grad-CAM: the sum over k of A_k times the mean of g_k (Selvaraju et al. 2017, eq. 1 and 2, without its ReLU)."""
    return torch.einsum("bchw,bc->bhw", activation, gradient.mean(dim=(2, 3)))


def gradcam_plus_plus(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Grad-CAM++ (Chattopadhay et al. 2018, eq. 19), the class's score taken as the exponential of the output.

    alpha = g^2 / (2 g^2 + g^3 sum(A_k)) = 1 / (2 + g sum(A_k)) where g is not 0, and the weight of a channel is the sum
    of alpha * relu(g). Written that way no square or cube of a small gradient underflows. A place whose denominator is
    0, which takes a layer with negative activations, has no weight.
    """
    denominator = 2 + gradient * activation.sum(dim=(2, 3), keepdim=True)
    alpha = torch.where(denominator == 0, 0, 1 / denominator)
    return torch.einsum("bchw,bc->bhw", activation, (alpha * gradient.relu()).sum(dim=(2, 3)))


def layercam(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """LayerCAM: the sum over k of relu(g) * A (Jiang et al. 2021, without the last ReLU)."""
    return (gradient.relu() * activation).sum(dim=1)


def hirescam(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """HiResCAM: the sum over k of g * A (Draelos and Carin 2020).

    Behind a layer whose output goes into a layer norm only, as in a vision transformer, the gradient is orthogonal to
    the activation at every place, and the sum is what rounding leaves. Such a map is returned as zeros: it says
    nothing.
    """
    products = gradient * activation
    cells = products.sum(dim=1)
    size = products.abs().sum(dim=1).amax(dim=(1, 2), keepdim=True)
    return torch.where(cells.abs().amax(dim=(1, 2), keepdim=True) > _ROUNDING * size, cells, 0)


def xgradcam(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """XGrad-CAM: the weight of a channel is sum(g * A_k) / sum(A_k) (Fu et al. 2020); 0 where it sums to 0."""
    total = activation.sum(dim=(2, 3))
    weights = torch.where(total == 0, 0, (gradient * activation).sum(dim=(2, 3)) / total)
    return torch.einsum("bchw,bc->bhw", activation, weights)


def eigencam(activation: torch.Tensor, *, centered: bool = False) -> torch.Tensor:
    """Eigen-CAM: the activations projected on their first right singular vector (Muhammad and Yeasin 2020).

    A singular vector's sign is arbitrary; the one taken makes the entry that is largest in size positive. Computed from
    the smaller of the two Gram matrices, in float64.

    Args:
        activation: (B, C, h, w).
        centered: take each channel's mean off first, as in a principal component analysis.

    Returns:
        (B, h, w); NaN for an image whose activation is not finite.
    """
    finite = activation.isfinite().flatten(1).all(dim=1)[:, None, None]
    # One image that is not finite would end the decomposition of the whole batch.
    activation = torch.where(finite[..., None], activation, 0)
    rows = activation.flatten(2).transpose(1, 2).to(torch.float64)  # (B, places, C)
    if centered:
        rows = rows - rows.mean(dim=1, keepdim=True)
    scale = rows.abs().amax(dim=(1, 2), keepdim=True)
    rows = rows / torch.where(scale > 0, scale, 1)  # squares of small activations must not underflow
    if rows.shape[1] <= rows.shape[2]:
        values, vectors = torch.linalg.eigh(rows @ rows.transpose(1, 2))
        projected = vectors[:, :, -1] * values[:, -1:].clamp(min=0).sqrt()
    else:
        _, vectors = torch.linalg.eigh(rows.transpose(1, 2) @ rows)
        projected = (rows @ vectors[:, :, -1:])[:, :, 0]
    largest = projected.gather(1, projected.abs().argmax(dim=1, keepdim=True))
    signed: torch.Tensor = projected * torch.where(largest < 0, -1, 1) * scale[:, :, 0]
    cells = signed.view(len(activation), *activation.shape[2:]).to(activation.dtype)
    return torch.where(finite, cells, torch.nan)


def upsampled(cells: torch.Tensor, size: tuple[int, int], *, relu: bool = False) -> torch.Tensor:
    """Maps (B, h, w), or their positive part, brought to (B, H, W) bilinearly (``align_corners=False``)."""
    cells = cells.relu() if relu else cells
    return F.interpolate(cells[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


#: Name -> (activation, gradient) -> maps; Eigen-CAM takes no gradient and has an argument of its own.
CLASS_ACTIVATION_MAPS: Final[Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = MappingProxyType(
    {
        "gradcam": gradcam_cells,
        "gradcam++": gradcam_plus_plus,
        "layercam": layercam,
        "hirescam": hirescam,
        "xgradcam": xgradcam,
    }
)
