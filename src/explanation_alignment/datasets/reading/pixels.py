"""Annotations stored as pictures or arrays: masks and measured attention."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, BinaryIO, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.datasets.reading.files import IMAGE_SUFFIXES, MAX_PIXELS, decode_image
from explanation_alignment.errors import DatasetError
from explanation_alignment.sample import Heatmap, Mask

__all__ = ["ARRAY_SUFFIXES", "MAP_SUFFIXES", "heatmap_from", "mask_from", "read_values", "values_of_image"]

ARRAY_SUFFIXES: Final = (".npy", ".npz")
#: Files that can hold a mask or a map.
MAP_SUFFIXES: Final = (*IMAGE_SUFFIXES, *ARRAY_SUFFIXES)
_LOSSY: Final = (".jpg", ".jpeg", ".webp")


def read_values(path: Path) -> NDArray[np.generic]:
    """The numbers in a picture (palette indices as they are) or in a NumPy array.

    Returns:
        (H, W), or (H, W, C) for pictures in colour.

    Raises:
        DatasetError: missing, damaged, too large, or of another shape.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise DatasetError(f"{path.name}: no regular file")
        with path.open("rb") as handle:
            suffix = path.suffix.lower()
            if suffix == ".npy":
                return _array(handle, path.name)
            if suffix == ".npz":
                return _packed_array(handle, path.name)
            return values_of_image(decode_image(handle, path.name, plain=False))
    except FileNotFoundError:
        raise DatasetError(f"{path.name}: no such file in {path.parent}") from None
    except OSError as error:
        raise DatasetError(f"{path.name}: cannot be read ({error.strerror or error})") from error


def values_of_image(image: Image.Image) -> NDArray[np.generic]:
    """A picture's numbers: (H, W), or (H, W, 3) in colour; colours of transparent pixels count as 0."""
    if image.mode in ("LA", "La", "PA", "RGBa"):
        image = image.convert("RGBA")
    values: NDArray[np.generic] = np.asarray(image)
    if image.mode == "RGBA":
        values = values[..., :3] * (values[..., 3:] > 0)  # type: ignore[operator]
    elif values.ndim == 3 and image.mode != "RGB":
        values = np.asarray(image.convert("RGB"))
    return values


def mask_from(
    values: NDArray[np.generic],
    name: str,
    *,
    threshold: float | None = None,
    chosen: Collection[int] = (),
    size: tuple[int, int],
    scale: bool = False,
) -> Mask:
    """A mask from a picture's or an array's numbers.

    Args:
        values: (H, W) or (H, W, 3).
        name: the file's name; that of a lossy format (.jpg, .webp) sets the threshold to 128, since compression leaves
            traces around every edge.
        threshold: numbers of at least this belong to the mask; left out, all that are not 0.
        chosen: the numbers that belong to it, instead.
        size: (height, width) of the image.
        scale: bring a mask of another size to the image's, by nearest neighbour.

    Raises:
        DatasetError: another size, not allowed to be scaled; or numbers that cannot be told from colours.
    """
    values = np.asarray(values)
    if chosen:
        flat = _one_channel(values, name, "mask_values=")
        pixels = np.isin(flat, list(chosen))
    else:
        flat = values.max(axis=2) if values.ndim == 3 else values
        if threshold is None and name.lower().endswith(_LOSSY):
            threshold = 128
        if flat.dtype != np.bool_ and not np.isfinite(flat).all():
            raise DatasetError(f"{name}: a mask with numbers that are not finite")
        pixels = flat != 0 if threshold is None else flat.astype(np.float64) >= threshold
    if pixels.shape != size:
        _check_scale(name, pixels.shape, size, scale)
        picture = Image.fromarray(pixels.astype(np.uint8) * 255)
        pixels = np.asarray(picture.resize((size[1], size[0]), Image.Resampling.NEAREST)) > 0
    return Mask(np.ascontiguousarray(pixels))


def heatmap_from(values: NDArray[np.generic], name: str, *, size: tuple[int, int], scale: bool = False) -> Heatmap:
    """Attention from a picture's or an array's numbers, taken as they are.

    Args:
        values: (H, W), finite and not negative; a picture in colour only where its channels agree.
        name: what errors call it.
        size: (height, width) of the image.
        scale: bring a map of another size to the image's, bilinearly.

    Raises:
        DatasetError: a colour-coded, negative or infinite map, or one of another size that may not be scaled.
    """
    strength = _one_channel(np.asarray(values), name, "a heatmap").astype(np.float32)
    if not np.isfinite(strength).all() or (strength.size and strength.min() < 0):
        raise DatasetError(f"{name}: a heatmap needs finite numbers of at least 0")
    if strength.shape != size:
        _check_scale(name, strength.shape, size, scale)
        picture = Image.fromarray(strength).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        strength = np.maximum(np.asarray(picture, dtype=np.float32), 0)
    return Heatmap(np.ascontiguousarray(strength))


def _one_channel(values: NDArray[np.generic], name: str, what: str) -> NDArray[np.generic]:
    if values.ndim == 2:
        return values
    if not (values == values[..., :1]).all():
        raise DatasetError(f"{name}: {what} needs one number a pixel, this picture has colours")
    return values[..., 0]


def _check_scale(name: str, shape: tuple[int, ...], size: tuple[int, int], scale: bool) -> None:
    if not scale:
        raise DatasetError(
            f"{name}: {shape[1]} x {shape[0]} pixels, the image has {size[1]} x {size[0]}; the argument size=scale, "
            "as in folder(size=scale), would scale it"
        )


def _array(handle: IO[bytes], name: str) -> NDArray[np.generic]:
    try:
        version = npy.read_magic(handle)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(handle)
        if dtype.hasobject or dtype.kind not in "biuf":
            raise DatasetError(f"{name}: an array of {dtype}; expected numbers")
        flat = tuple(length for length in shape if length != 1)
        if len(flat) > 2 or np.prod(shape, dtype=object) > MAX_PIXELS:
            raise DatasetError(f"{name}: an array of shape {shape}; expected (height, width)")
        handle.seek(0)
        values: NDArray[np.generic] = np.load(handle, allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise DatasetError(f"{name}: damaged array ({type(error).__name__}: {error})") from error
    while values.ndim > 2:
        values = values.squeeze(axis=values.shape.index(1))
    if values.ndim != 2:
        raise DatasetError(f"{name}: an array of shape {shape}; expected (height, width)")
    return values


def _packed_array(handle: BinaryIO, name: str) -> NDArray[np.generic]:
    try:
        with zipfile.ZipFile(handle) as archive:
            members = archive.infolist()
            if len(members) != 1:
                raise DatasetError(f"{name}: {len(members)} arrays; expected one")
            with archive.open(members[0]) as member:
                return _array(member, name)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise DatasetError(f"{name}: damaged array ({type(error).__name__}: {error})") from error
