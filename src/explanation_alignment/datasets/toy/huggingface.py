"""A small generated stand-in for a dataset of the Hugging Face library: Parquet files with its column types noted."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.datasets.toy.painting import outline, paint_shape, paper, start_toy

__all__ = ["write"]

_NAMES: Final = ("disc", "octagon", "square", "triangle")
_SIZE: Final = 64


def write(folder: Path, n: int, seed: int) -> None:
    """Write ``data/test-00000-of-00001.parquet``.

    Columns: image, label, mask (a picture), objects (COCO's fields bbox and category), background (a group).

    Raises:
        UsageError: the folder is not empty.
    """
    rng = start_toy(folder, "huggingface", n, seed)
    rows: dict[str, list[Any]] = {"image": [], "label": [], "mask": [], "objects": [], "background": []}
    for index in range(n):
        label = index % len(_NAMES)
        pixels = paper(rng, _SIZE, _SIZE)
        dark = bool(rng.integers(2))
        pixels //= 2 if dark else 1
        x, y = rng.uniform(20, _SIZE - 20, 2)
        corners = outline(_NAMES[label], x, y, rng.uniform(10, 16), rng.uniform(0, 0.4))
        mask = paint_shape(pixels, _NAMES[label], corners)
        low, high = corners.min(axis=0), corners.max(axis=0)
        rows["image"].append({"bytes": _png(pixels), "path": f"{index:05d}.png"})
        rows["label"].append(label)
        rows["mask"].append({"bytes": _png(mask.astype(np.uint8) * 255), "path": f"{index:05d}_mask.png"})
        rows["objects"].append({"bbox": [[*low.tolist(), *(high - low).tolist()]], "category": [label]})
        rows["background"].append("dark" if dark else "light")
    picture = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    schema = pa.schema(
        {
            "image": picture,
            "label": pa.int64(),
            "mask": picture,
            "objects": pa.struct({"bbox": pa.list_(pa.list_(pa.float64(), 4)), "category": pa.list_(pa.int64())}),
            "background": pa.string(),
        }
    )
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(_NAMES), "_type": "ClassLabel"},
        "mask": {"_type": "Image"},
        "objects": {
            "bbox": {
                "feature": {"feature": {"dtype": "float64", "_type": "Value"}, "length": 4, "_type": "Sequence"},
                "_type": "Sequence",
            },
            "category": {"feature": {"dtype": "int64", "_type": "Value"}, "_type": "Sequence"},
        },
        "background": {"dtype": "string", "_type": "Value"},
    }
    noted = {"huggingface": json.dumps({"info": {"features": features}})}
    (folder / "data").mkdir()
    table = pa.table(rows, schema=schema.with_metadata(noted))
    pq.write_table(table, folder / "data" / "test-00000-of-00001.parquet")


def _png(pixels: NDArray[np.uint8]) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()
