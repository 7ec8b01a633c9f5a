"""Decisions kept with their pictures, so that report and explorer can show them without a model.

Per evaluation a folder ``examples/<slug>/`` with three tables: ``decisions`` (rows of the scores with
the annotation and the binarized map), ``maps`` (the saliency maps) and ``images`` (thumbnails). An
image is stored once, however many methods and regions it has rows for.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, zip_longest
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.runs.files import write_frame

__all__ = [
    "MAX_EXAMPLES",
    "Example",
    "choose_examples",
    "examples_each",
    "read_examples",
    "trim_examples",
    "write_examples",
]

#: Decisions with pictures a run keeps at most.
MAX_EXAMPLES: Final = 200
#: Longer side of a stored picture, pixels.
_THUMBNAIL: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """The pictures of one decision, all of the size the classifier saw.

    Args:
        sample_id: which sample.
        image: (H, W, C) uint8.
        annotations: region -> (H, W) bool, or None where it has none.
        saliency: method -> (H, W) float, or uint8 where it is scaled to its own range already; binarization included in
            the key: (method, binarization).
        salient: (method, binarization, region) -> (H, W) bool.
    """

    sample_id: str
    image: NDArray[np.uint8]
    annotations: Mapping[str, NDArray[np.bool_] | None]
    saliency: Mapping[tuple[str, str], NDArray[np.floating] | NDArray[np.uint8]]
    salient: Mapping[tuple[str, str, str], NDArray[np.bool_]]


def examples_each(evaluations: int) -> int:
    """How many of ``MAX_EXAMPLES`` each of so many evaluations may keep: an equal share, at least one."""
    return max(1, MAX_EXAMPLES // max(1, evaluations))


def choose_examples(scores: pl.DataFrame, metric: str, region: str, n: int = MAX_EXAMPLES) -> list[str]:
    """Which decisions to keep, the most telling first, so that a shorter list is a prefix of a longer one.

    Alternates between images that every evaluation of the dataset keeps (so that models can be compared
    on them) and the best and worst aligned of the correct and of the wrong decisions.

    Args:
        scores: the rows of one evaluation.
        metric: what best and worst go by; of the first method.
        region: the region it is taken on.
        n: how many at most.

    Returns:
        Sample ids.
    """
    rows = scores.filter(pl.col("region").cast(pl.String) == region, pl.col("status").cast(pl.String) != "error")
    method = scores.select("method", "binarization").row(0) if len(scores) else ("", "")
    rows = rows.filter(
        pl.col("method").cast(pl.String) == method[0], pl.col("binarization").cast(pl.String) == method[1]
    ).select("sample_id", "correct", metric)
    common = sorted(rows["sample_id"], key=lambda name: hashlib.sha256(name.encode()).digest())
    ranked = rows.drop_nulls().sort(metric, "sample_id")
    right = ranked.filter(pl.col("correct"))["sample_id"].to_list()
    wrong = ranked.filter(~pl.col("correct"))["sample_id"].to_list()
    lists = (common[0::2], right[::-1], wrong, common[1::2], right, wrong[::-1])
    chosen: dict[str, None] = {}
    for turn in zip_longest(*lists):
        chosen |= {name: None for name in turn if name is not None}
        if len(chosen) >= n:
            break
    return list(chosen)[:n]


def write_examples(folder: Path, examples: Iterable[Example], scores: pl.DataFrame) -> None:
    """Write the three tables of one evaluation.

    Args:
        folder: ``examples/<slug>``.
        examples: in the order to keep.
        scores: the evaluation's rows; those of the examples are stored with them.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # encoding lets other threads run
        rows = list(threads.map(_rows, examples, count()))
    images, maps, pictures = ([row for parts in rows for row in parts[place]] for place in range(3))
    words = pl.col("model", "dataset", "target", "method", "binarization", "region", "status").cast(pl.String)
    kinds: Mapping[str, Any] = {"rank": pl.Int32, "annotation": pl.Binary, "salient": pl.Binary}
    pictures_table = pl.DataFrame(pictures, schema_overrides=kinds, infer_schema_length=None)
    decisions = pictures_table.join(
        scores.with_columns(words), on=["sample_id", "method", "binarization", "region"], how="left"
    )
    tables = {"images": pl.DataFrame(images), "maps": pl.DataFrame(maps), "decisions": decisions}
    _clear(folder)
    for stem, table in tables.items():  # decisions last: where they are, all is
        write_frame(folder / f"{stem}.parquet", table)


def read_examples(folder: Path) -> pl.DataFrame:
    """One evaluation's examples: a row a decision, method and region, with its pictures as PNG bytes."""
    images, maps, decisions = (
        pl.read_parquet(folder / f"{stem}.parquet", glob=False) for stem in ("images", "maps", "decisions")
    )
    joined = decisions.join(maps, on=["sample_id", "method", "binarization"], how="left")
    return joined.join(images, on="sample_id", how="left").sort("rank", maintain_order=True)


def trim_examples(folder: Path, slugs: Sequence[str]) -> None:
    """Keep an equal share of ``MAX_EXAMPLES`` decisions for each evaluation of a run.

    Args:
        folder: ``examples`` of the run.
        slugs: its evaluations, oldest first; beyond ``MAX_EXAMPLES`` of them only the oldest keep one.
    """
    share = examples_each(len(slugs))
    for number, slug in enumerate(slugs):
        place = folder / slug
        if not (place / "decisions.parquet").is_file():
            continue
        if number >= MAX_EXAMPLES:
            shutil.rmtree(place)
            continue
        _clear(place)
        decisions = pl.read_parquet(place / "decisions.parquet", glob=False)
        kept = decisions.filter(pl.col("rank") < share)
        if len(kept) == len(decisions):
            continue
        write_frame(place / "decisions.parquet", kept)  # first, since the others are joined to it
        for stem in ("images", "maps"):
            path = place / f"{stem}.parquet"
            table = pl.read_parquet(path, glob=False).filter(
                pl.col("sample_id").is_in(kept["sample_id"].unique().to_list())
            )
            write_frame(path, table)


def _clear(folder: Path) -> None:
    """Remove what writers that were killed have left; nobody else writes there now."""
    for left in folder.glob(".*.tmp"):
        left.unlink(missing_ok=True)


def _rows(example: Example, rank: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """A decision's rows of the images, of the maps and of the decisions, with its pictures as PNG bytes."""
    name = {"sample_id": example.sample_id}
    outlines = {region: None if one is None else _png(one) for region, one in example.annotations.items()}
    maps: list[dict[str, Any]] = []
    pictures: list[dict[str, Any]] = []
    for (method, binarization), saliency in example.saliency.items():
        key = name | {"method": method, "binarization": binarization}
        maps.append(key | {"saliency": _png(_to_bytes(saliency))})
        for region, outline in outlines.items():
            salient = _png(example.salient[method, binarization, region])
            pictures.append(key | {"region": region, "rank": rank, "annotation": outline, "salient": salient})
    return [name | {"image": _png(example.image)}], maps, pictures


def _to_bytes(saliency: NDArray[np.floating] | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A map scaled to its own range; what is not finite, or constant, comes out as zeros."""
    if saliency.dtype == np.uint8:
        return saliency.astype(np.uint8, copy=False)
    values = np.nan_to_num(saliency.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    if high <= low:
        return np.zeros(values.shape, dtype=np.uint8)
    scaled: NDArray[np.uint8] = np.rint((values - low) * (255 / (high - low))).astype(np.uint8)
    return scaled


def _png(pixels: NDArray[Any]) -> bytes:
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    picture = Image.fromarray(pixels)
    if max(picture.size) > _THUMBNAIL:
        picture.thumbnail(
            (_THUMBNAIL, _THUMBNAIL),
            Image.Resampling.NEAREST if pixels.dtype == np.bool_ else Image.Resampling.BILINEAR,
        )
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)  # three times as fast as the default, a tenth larger
    return buffer.getvalue()
