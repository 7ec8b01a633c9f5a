"""The maps in ``RUN/maps``: what there is to show of a decision whose image was not kept.

A kept map has neither image nor annotation. Its mask follows from the row of the scores: every binarization keeps a
map's largest values, and the row says how many pixels that were.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from explanation_alignment.errors import RunError
from explanation_alignment.explorer.catalogue import own_files
from explanation_alignment.explorer.pictures import Key, Mask, Pictures, Pixels
from explanation_alignment.runs.parts import part_files, units_of
from explanation_alignment.runs.saved_maps import read_maps, unit_files

__all__ = ["KeptMaps", "largest"]

#: Evaluations whose samples are remembered.
_REMEMBERED: Final = 8


class KeptMaps:
    """The maps of one run.

    Args:
        run: its folder; only files in its own ``maps`` and ``scores`` are read.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._parts: OrderedDict[str, tuple[tuple[str, ...], pl.DataFrame]] = OrderedDict()

    def there(self, slug: str) -> bool:
        """Whether maps of an evaluation were kept."""
        files = (self._run / "maps" / slug).glob("unit-*.parquet")
        return next(own_files(self._run, files), None) is not None

    def find(self, key: Key) -> Pictures | None:
        """The map of a decision, in grey in the place of its image; None where none was kept.

        Raises:
            RunError: a file of the maps or the scores is damaged, or their folder leads out of the run.
        """
        folder = self._own("maps", key.slug)
        unit = self._unit(key) if self.there(key.slug) else None
        if unit is None:
            return None
        path = folder / unit
        if not any(own_files(self._run, [path])):
            return None
        found = next(iter(read_maps(path, methods=[key.method], sample_ids=[key.sample])), None)
        if found is None or found[2] is None:
            return None
        saliency, row = found[2], self._row(key)
        grey = _scaled(saliency)
        counted = row is not None and (row["map_height"], row["map_width"]) == saliency.shape
        salient = largest(saliency, row["salient_area"]) if row is not None and counted else None
        return Pictures(image=np.stack([grey] * 3, axis=-1), saliency=grey, salient=salient)

    def _unit(self, key: Key) -> str | None:
        """Name of the file of maps with a sample."""
        files = self._rows_of(key.slug)
        if any(first != last for first, last in map(units_of, files)):  # else a file has the same name in both
            files = list(own_files(self._run, unit_files(self._own("maps", key.slug))))
        names = tuple(file.name for file in files)
        with self._lock:
            known = self._parts.get(key.slug)
        if known is None or known[0] != names:
            known = names, _samples(files)
            with self._lock:
                self._parts[key.slug] = known
                while len(self._parts) > _REMEMBERED:
                    self._parts.popitem(last=False)
        places = known[1].filter(pl.col("sample_id") == key.sample)["part"]
        return names[places[0]] if len(places) else None

    def _row(self, key: Key) -> dict[str, Any] | None:
        """What the scores say of the decision's mask."""
        names = {"sample_id": key.sample, "method": key.method, "binarization": key.binarization, "region": key.region}
        chosen = pl.all_horizontal(pl.col(name).cast(pl.String) == value for name, value in names.items())
        for path in self._rows_of(key.slug):
            rows = _collected(pl.scan_parquet(path, glob=False).filter(chosen), path)
            if rows.height:
                return rows.select("salient_area", "map_height", "map_width").row(0, named=True)
        return None

    def _rows_of(self, slug: str) -> list[Path]:
        return list(own_files(self._run, part_files(self._own("scores", slug))))

    def _own(self, kind: str, slug: str) -> Path:
        folder = self._run / kind / slug
        if not folder.resolve().is_relative_to(self._run.resolve() / kind):
            raise RunError(f"{folder}: leads out of the run; only a run's own files are shown")
        return folder


def largest(saliency: NDArray[np.floating], pixels: int | None) -> Mask | None:
    """The so many largest pixels of a map (H, W), ties included; None where that is not known."""
    if pixels is None or not 0 <= pixels <= saliency.size or not np.isfinite(saliency).all():
        return None
    if pixels == 0:
        return np.zeros(saliency.shape, np.bool_)
    mask: Mask = saliency >= np.partition(saliency, -pixels, axis=None)[-pixels]
    return mask


def _scaled(saliency: NDArray[np.floating]) -> Pixels:
    """A map (H, W) over its own range; black where it is not finite."""
    values = np.where(np.isfinite(saliency), saliency, np.nan).astype(np.float64)
    known = values[~np.isnan(values)]
    if not known.size or known.min() == known.max():
        return np.zeros(saliency.shape, np.uint8)
    grey: Pixels = np.nan_to_num(np.rint((values - known.min()) / (known.max() - known.min()) * 255)).astype(np.uint8)
    return grey


def _samples(files: list[Path]) -> pl.DataFrame:
    """Which part has which sample."""
    schema = {"sample_id": pl.String, "part": pl.Int32}
    tables = [
        _collected(
            pl.scan_parquet(file, glob=False).select(pl.col("sample_id").cast(pl.String).unique(), part=place), file
        )
        for place, file in enumerate(files)
    ]
    return pl.concat([pl.DataFrame(schema=schema), *(table.cast(schema) for table in tables)])  # type: ignore[arg-type]


def _collected(frame: pl.LazyFrame, path: Path) -> pl.DataFrame:
    try:
        return frame.collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{path}: a part of the scores cannot be read ({error})") from error
