"""What happens to a prediction when a region's content changes: the evidence that a saliency map alone cannot give.

The region's pixels are exchanged for those of an image of another label; as a control, as many pixels of the same
shape elsewhere in the image are, off the evidence where there is room. A region the classifier relies on changes the
prediction clearly more often.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from explanation_alignment.errors import UsageError

__all__ = ["elsewhere", "exchanged", "partners"]


def partners(ids: Sequence[str], labels: Sequence[int | None], places: Sequence[int], seed: int) -> list[int]:
    """For each place an image of another label, drawn by the sample's own id.

    Args:
        ids: all sample ids of the dataset.
        labels: their class indices.
        places: the samples that need a partner.
        seed: another seed, other partners.

    Returns:
        A place in the dataset for each of ``places``; the same whatever else is asked for. A sample without a label
        gets any labelled one: it has no images of another label, and what comes of it means nothing.

    Raises:
        UsageError: no two samples have different labels.
    """
    values = np.array([-1 if label is None else label for label in labels], dtype=np.int64)
    by_label = np.argsort(values, kind="stable")[(values < 0).sum() :]
    ordered = values[by_label]
    if not len(ordered) or ordered[0] == ordered[-1]:
        found = "all have the same one" if len(ordered) else "none has one"
        raise UsageError(f"intervening exchanges content between images of different labels; {found}")
    result = []
    for place in places:
        first, last = np.searchsorted(ordered, values[place], "left"), np.searchsorted(ordered, values[place], "right")
        others = len(ordered) - int(last - first)
        chosen = _number(f"{seed} partner {ids[place]}") % others
        result.append(int(by_label[chosen if chosen < first else chosen + int(last - first)]))
    return result


def elsewhere(regions: torch.Tensor, avoid: torch.Tensor, ids: Sequence[str], seed: int) -> torch.Tensor:
    """The same shape at another place: each mask moved, around the edges if need be, to where it meets least.

    Of all moves those count that meet the fewest pixels of the region itself and of what is to be avoided; which of
    them is taken is drawn by the sample's id. A region of more than half the image cannot but meet itself.

    Args:
        regions: (R, B, H, W) bool.
        avoid: (R, B, H, W) bool, other pixels that each moved mask should keep off, such as the evidence.
        ids: B sample ids.
        seed: another seed, other moves.

    Returns:
        (R, B, H, W) bool on the same device, with as many pixels in each mask as were given.
    """
    height, width = regions.shape[2:]
    # How much is met at every move at once: a circular correlation; rounding makes the counts exact again.
    precise = torch.float32 if regions.device.type == "mps" else torch.float64
    shape = torch.fft.rfft2(regions.to(precise))
    kept_off = torch.fft.rfft2((regions | avoid).to(precise))
    met = torch.fft.irfft2(shape.conj() * kept_off, s=(height, width)).round().flatten(2)
    drawn = [np.random.default_rng(_number(f"{seed} elsewhere {name}")).permutation(height * width) for name in ids]
    place = torch.from_numpy(np.stack(drawn)).to(met.device)
    move = (met.to(torch.int64) * (height * width) + place).argmin(dim=2)[..., None]  # no ties left
    rows = (torch.arange(height, device=met.device) - move // width) % height  # (R, B, H)
    columns = (torch.arange(width, device=met.device) - move % width) % width
    sources = (rows[..., :, None] * width + columns[..., None, :]).flatten(2)
    return regions.flatten(2).gather(2, sources).view(regions.shape)


def exchanged(images: torch.Tensor, others: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Images with the other image's pixels where the mask is.

    Args:
        images: (B, C, H, W).
        others: (B, C, H, W), the partners.
        masks: (B, H, W) bool.

    Returns:
        (B, C, H, W), a new tensor.
    """
    return torch.where(masks[:, None], others, images)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
