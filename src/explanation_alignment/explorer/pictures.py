"""The picture of a decision: its image with what was annotated and where the model looked drawn over it.

Pictures come from sources: the run's examples, or what was computed later. A source gives arrays; what is drawn is
decided here. Colours are told apart with any kind of colour vision (Okabe and Ito's, and a map of rising lightness).
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from explanation_alignment.errors import RunError

__all__ = ["COLOURS", "Examples", "Key", "PictureCache", "Pictures", "Source", "compose"]

#: Longer side of a picture that is drawn, pixels; smaller ones are enlarged by a whole number.
_SIDE: Final = 256
#: A stored picture beyond this is not opened: bytes of the file, pixels of a side.
_MOST_BYTES: Final = 16 * 2**20
_MOST_SIDE: Final = 4096
#: Bytes of drawn pictures that are kept.
_KEPT: Final = 32 * 2**20

_ANNOTATION: Final = (0, 114, 178)
_SALIENT: Final = (232, 89, 12)
_BOTH: Final = (0, 158, 115)
_ONLY_SALIENT: Final = (230, 159, 0)
_ONLY_ANNOTATED: Final = (86, 180, 233)
#: What a legend says of each colour.
COLOURS: Final = {
    "annotation": _ANNOTATION,
    "salient": _SALIENT,
    "both": _BOTH,
    "only_salient": _ONLY_SALIENT,
    "only_annotated": _ONLY_ANNOTATED,
}
_GREY: Final = 150

Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Key:
    """Which picture: a row of the scores.

    Args:
        slug: the evaluation.
        sample: the sample's id.
        method: as in the rows.
        binarization: as in the rows.
        region: whose annotation.
    """

    slug: str
    sample: str
    method: str
    binarization: str
    region: str


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """What there is to draw; sizes may differ.

    Args:
        image: (H, W, 3) uint8.
        annotation: (H, W) bool.
        saliency: (H, W) uint8, over its own range.
        salient: (H, W) bool.
    """

    image: Pixels | None = None
    annotation: Mask | None = None
    saliency: Pixels | None = None
    salient: Mask | None = None

    @property
    def shape(self) -> tuple[int, int] | None:
        """Height and width to draw at; None where there is nothing."""
        for one in (self.image, self.saliency, self.salient, self.annotation):
            if one is not None:
                return int(one.shape[0]), int(one.shape[1])
        return None


class Source(Protocol):
    """Where pictures come from."""

    def pictured(self, slug: str) -> frozenset[str]:
        """Samples of an evaluation that have pictures."""

    def find(self, key: Key) -> Pictures | None:
        """The pictures of a decision, or None."""


class Examples:
    """The pictures in ``RUN/examples``.

    Args:
        folder: that folder; only its own files are read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._known: dict[str, tuple[tuple[int, int], frozenset[str]]] = {}

    def pictured(self, slug: str) -> frozenset[str]:
        """Samples of an evaluation that have pictures."""
        path = self._file(slug, "decisions")
        try:
            found = path.stat()
        except OSError:
            return frozenset()
        stamp = (found.st_mtime_ns, found.st_size)
        with self._lock:
            if slug in self._known and self._known[slug][0] == stamp:
                return self._known[slug][1]
        names = frozenset(_column(path, pl.lit(True), "sample_id"))
        with self._lock:
            self._known[slug] = stamp, names
        return names

    def find(self, key: Key) -> Pictures | None:
        """The pictures of a decision, or None.

        Raises:
            RunError: a file of the examples is damaged.
        """
        if key.sample not in self.pictured(key.slug):
            return None
        sample = pl.col("sample_id") == key.sample
        method = sample & (pl.col("method") == key.method) & (pl.col("binarization") == key.binarization)
        region = method & (pl.col("region") == key.region)
        return Pictures(
            image=_pixels(self._cell(key.slug, "images", sample, "image")),
            annotation=_mask(self._cell(key.slug, "decisions", region, "annotation")),
            saliency=_grey(self._cell(key.slug, "maps", method, "saliency")),
            salient=_mask(self._cell(key.slug, "decisions", region, "salient")),
        )

    def _cell(self, slug: str, table: str, which: pl.Expr, column: str) -> bytes | None:
        found: list[bytes | None] = _column(self._file(slug, table), which, column)
        return found[0] if found else None

    def _file(self, slug: str, table: str) -> Path:
        path = self._folder / slug / f"{table}.parquet"
        if not path.resolve().is_relative_to(self._folder.parent.resolve() / self._folder.name):
            raise RunError(f"{path}: leads out of the run; only a run's own files are shown")
        return path


def _column(path: Path, which: pl.Expr, column: str) -> list[Any]:
    """A column of the rows meant; none where the file went away, as examples are cut down while a run grows.

    Raises:
        RunError: the file is damaged.
    """
    try:
        return pl.scan_parquet(path, glob=False).filter(which).select(column).collect()[column].to_list()
    except FileNotFoundError:
        return []
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from error


class PictureCache:
    """Drawn pictures, the last used ones."""

    def __init__(self, most: int = _KEPT) -> None:
        self._most, self._lock = most, threading.Lock()
        self._kept: OrderedDict[object, bytes] = OrderedDict()
        self._size = 0

    def get(self, key: object) -> bytes | None:
        """The picture, if it is kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: object, picture: bytes) -> None:
        """Keep a picture, and forget the oldest where there is no room."""
        with self._lock:
            self._size += len(picture) - len(self._kept.pop(key, b""))
            self._kept[key] = picture
            while self._size > self._most:
                self._size -= len(self._kept.popitem(last=False)[1])


# ----------------------------------------------------------------------------------------------------- drawing


def compose(pictures: Pictures, layers: Sequence[str], side: int = _SIDE) -> bytes:
    """Draw layers over an image.

    Args:
        pictures: what there is; a layer that is not there is left out.
        layers: of ``outline``, ``heat``, ``mask``, ``overlap``; drawn in the order overlap, mask, heat, outline.
        side: longer side of the result, at most; pixels. Small images are enlarged by a whole number.

    Returns:
        A PNG file.
    """
    height, width = pictures.shape or (1, 1)
    longest = max(height, width)
    scale = max(1, side // longest) if longest <= side else side / longest
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    drawn = np.full((size[1], size[0], 3), _GREY, np.float64)
    if pictures.image is not None:
        drawn = _resized(pictures.image, size, smooth=longest > side).astype(np.float64)
    masks = {
        name: None if mask is None else _resized(mask, size, smooth=False).astype(np.bool_)
        for name, mask in (("annotation", pictures.annotation), ("salient", pictures.salient))
    }
    annotation, salient = masks["annotation"], masks["salient"]
    if "overlap" in layers and annotation is not None and salient is not None:
        drawn = _filled(drawn, annotation & salient, _BOTH, 0.65)
        drawn = _filled(drawn, salient & ~annotation, _ONLY_SALIENT, 0.6)
        drawn = _filled(drawn, annotation & ~salient, _ONLY_ANNOTATED, 0.6)
    if "mask" in layers and salient is not None:
        drawn = _filled(drawn, salient, _SALIENT, 0.55)
    if "heat" in layers and pictures.saliency is not None:
        values = _resized(pictures.saliency, size, smooth=longest > side)
        weight = (0.85 * (values / 255.0) ** 0.7)[..., None]
        drawn = drawn * (1 - weight) + _heat()[values] * weight
    if "outline" in layers and annotation is not None:
        line, casing = _outline(annotation)
        drawn = _filled(drawn, casing, (255, 255, 255), 0.9)
        drawn = _filled(drawn, line, _ANNOTATION, 1)
    buffer = io.BytesIO()
    Image.fromarray(np.rint(drawn).clip(0, 255).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


@cache
def _heat() -> NDArray[np.float64]:
    """(256, 3) colours from dark to light."""
    from matplotlib import colormaps

    colours: NDArray[np.float64] = colormaps["inferno"](np.arange(256))[:, :3] * 255
    return colours


def _filled(drawn: NDArray[np.float64], mask: Mask, colour: tuple[int, int, int], opacity: float) -> Any:
    weight = opacity * mask[..., None]
    return drawn * (1 - weight) + np.array(colour, np.float64) * weight


def _outline(mask: Mask) -> tuple[Mask, Mask]:
    """A line along the inside of a mask's border, and a casing on both sides that shows on any ground."""
    room = 6
    padded = Image.fromarray((np.pad(mask, room) * 255).astype(np.uint8))

    def shrunk(by: int) -> Mask:
        return np.asarray(padded.filter(ImageFilter.MinFilter(2 * by + 1))) > 0

    grown = np.asarray(padded.filter(ImageFilter.MaxFilter(3))) > 0
    whole = np.asarray(padded) > 0
    line = whole & ~shrunk(3)
    casing = (grown & ~whole) | (shrunk(3) & ~shrunk(4))
    inside = (slice(room, -room), slice(room, -room))
    return line[inside], casing[inside]


def _resized(pixels: NDArray[Any], size: tuple[int, int], *, smooth: bool) -> NDArray[np.uint8]:
    image = Image.fromarray(pixels.astype(np.uint8))
    kind = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(image.resize(size, kind))


def _opened(data: bytes) -> Image.Image:
    """A stored picture, of a size that can be meant.

    Raises:
        RunError: it is damaged, or too large.
    """
    if len(data) > _MOST_BYTES:
        raise RunError(f"a stored picture has {len(data):,} bytes; at most {_MOST_BYTES:,} are opened")
    try:
        image = Image.open(io.BytesIO(data), formats=["PNG"])
        if max(image.size) > _MOST_SIDE:
            raise RunError(f"a stored picture is {image.size[0]} x {image.size[1]}; at most {_MOST_SIDE} are opened")
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise RunError(f"a stored picture is damaged ({error})") from error
    return image


def _pixels(data: bytes | None) -> Pixels | None:
    return None if data is None else np.asarray(_opened(data).convert("RGB"))


def _grey(data: bytes | None) -> Pixels | None:
    return None if data is None else np.asarray(_opened(data).convert("L"))


def _mask(data: bytes | None) -> Mask | None:
    found = _grey(data)
    return None if found is None else found > 0
