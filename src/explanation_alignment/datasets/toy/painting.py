"""What generated stand-ins are made of: plain shapes painted on textured paper, with their outlines known."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.datasets.reading.files import TOY_MARKER
from explanation_alignment.datasets.reading.polygons import fill_polygon
from explanation_alignment.errors import UsageError
from explanation_alignment.progress import progress_bars

__all__ = [
    "SHAPES",
    "Shape",
    "in_parallel",
    "outline",
    "paint_shape",
    "paper",
    "save_jpeg",
    "save_png",
    "start_toy",
]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Shape:
    """How a kind of object looks.

    Args:
        corners: of its regular outline.
        color: red, green, blue.
    """

    corners: int
    color: tuple[int, int, int]


#: Kinds of objects that a small network can tell apart, by outline and by colour.
SHAPES: Final[Mapping[str, Shape]] = {
    "disc": Shape(24, (40, 90, 220)),
    "triangle": Shape(3, (235, 190, 40)),
    "square": Shape(4, (40, 170, 70)),
    "octagon": Shape(8, (210, 40, 50)),
}


def start_toy(
    folder: Path, dataset: str, n: int, seed: int, options: Mapping[str, float] | None = None
) -> np.random.Generator:
    """Make the folder, say in it that its content is generated, and return what decides that content.

    Args:
        folder: a new or empty one.
        dataset: name the stand-in is asked for by.
        n: images.
        seed: another seed, other images.
        options: further options of the command that were not left as they are, by their names.

    Raises:
        UsageError: the folder holds something already, or ``n`` is less than 1.
    """
    if n < 1:
        raise UsageError(f"a stand-in needs at least 1 image, {n} were asked for")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there and not empty; give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    further = "".join(f" --{name} {value:.10g}" for name, value in (options or {}).items())
    text = (
        "Generated images with generated annotations, in the layout of the real files. Not data.\n"
        f"Written by: ealign datasets toy {dataset} DIR --n {n} --seed {seed}{further}\n"
    )
    (folder / TOY_MARKER).write_text(text, encoding="utf-8")
    return np.random.default_rng(seed)


def in_parallel(
    work: Callable[[_Item], _Result], items: Sequence[_Item], *, enough: int, workers: int | None = None
) -> list[_Result]:
    """What ``work`` returns for each item, in their order, whatever the number of processes.

    Args:
        work: a function a process can be given: at the top of a module, or a partial of one.
        items: what each is called with.
        enough: items that are worth a process; fewer are done here.
        workers: processes; None for as many as there are CPUs.
    """
    count = min(workers or os.cpu_count() or 1, len(items) // enough)
    if count > 1:
        with ProcessPoolExecutor(count) as pool:
            try:
                return _followed(pool.map(work, items, chunksize=max(1, enough // 8)), len(items))
            except BrokenProcessPool:
                pass  # killed for memory, or a script that starts processes as it is imported: all can be done here
    return _followed(map(work, items), len(items))


def _followed(results: Iterable[_Result], count: int) -> list[_Result]:
    with progress_bars() as bars:
        task = bars.add_task("drawing", total=count, note="")
        return list(bars.track(results, total=count, task_id=task))


def paper(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A textured grey background, (H, W, 3) uint8."""
    coarse = rng.integers(90, 170, (-(-height // 8), -(-width // 8), 3))
    texture = np.kron(coarse, np.ones((8, 8, 1), dtype=np.int64))[:height, :width]
    grain = rng.integers(-25, 26, (height, width, 1))
    pixels: NDArray[np.uint8] = np.clip(texture + grain, 0, 255).astype(np.uint8)
    return pixels


def outline(kind: str, x: float, y: float, radius: float, turn: float = 0.0) -> NDArray[np.float64]:
    """The corners of a shape, (N, 2) x and y in pixels, to hundredths.

    Args:
        kind: one of ``SHAPES``.
        x: of its centre.
        y: of its centre.
        radius: from the centre to a corner.
        turn: by how much it is turned, in radians.
    """
    angles = turn + 2 * np.pi * np.arange(SHAPES[kind].corners) / SHAPES[kind].corners
    corners: NDArray[np.float64] = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)
    return corners.round(2)


def paint_shape(pixels: NDArray[np.uint8], kind: str, corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Paint a shape in its kind's colour.

    Args:
        pixels: (H, W, 3) uint8, changed in place.
        kind: one of ``SHAPES``.
        corners: its outline.

    Returns:
        (H, W) bool, where it is.
    """
    mask = np.zeros(pixels.shape[:2], dtype=np.bool_)
    fill_polygon(mask, corners)
    pixels[mask] = SHAPES[kind].color
    return mask


def save_jpeg(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write an image; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "JPEG", quality=92, subsampling=0)


def save_png(path: Path, pixels: NDArray[np.uint8] | NDArray[np.bool_]) -> None:
    """Write an image or a mask (its pixels as 255); its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = pixels.astype(np.uint8) * 255 if pixels.dtype == np.bool_ else pixels
    Image.fromarray(values).save(path, "PNG")
