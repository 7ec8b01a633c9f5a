"""The tables a run consists of: their columns, types and the words used in them.

Everything that writes or reads a run (writer, statistics, report, explorer) takes names from here.
This module imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl
import pyarrow as pa

__all__ = [
    "ATTRIBUTE_PREFIX",
    "FORMAT_VERSION",
    "KEY_COLUMNS",
    "NULL_METHODS",
    "STATUSES",
    "SUMMARY_SCHEMA",
    "scores_schema",
]

#: Version of the folder's layout; a reader refuses a newer one.
FORMAT_VERSION: Final = 2

#: Why a score is or is not defined, per decision and region; the code of a status is its place here.
STATUSES: Final = ("ok", "no_annotation", "annotation_cropped", "flat_map", "error")

#: What names one row of ``scores``.
KEY_COLUMNS: Final = ("model", "seed", "dataset", "sample_id", "target", "method", "binarization", "region")

#: Saliency methods that explain no model: what the others are held against, no finding about a model.
NULL_METHODS: Final = ("random", "center", "sobel")

#: An attribute ``name`` of a sample is stored as the column ``attr_name``.
ATTRIBUTE_PREFIX: Final = "attr_"

#: Columns of ``Run.summary()`` and ``summary.parquet``.
SUMMARY_SCHEMA: Final = pl.Schema(
    {
        "model": pl.String,
        "seed": pl.Int64,
        "dataset": pl.String,
        "method": pl.String,
        "binarization": pl.String,
        "region": pl.String,
        "group": pl.String,
        "metric": pl.String,
        "ea": pl.Float64,
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "chance": pl.Float64,
        "ceiling": pl.Float64,
        "adjusted": pl.Float64,
        "n": pl.Int64,
        "n_undefined": pl.Int64,
        "accuracy": pl.Float64,
        "unreliable": pl.Boolean,
        "lift": pl.Float64,
        "excess": pl.Float64,
        "excess_low": pl.Float64,
        "excess_high": pl.Float64,
    }
)

_WORD = pa.dictionary(pa.int32(), pa.string())


def scores_schema(metrics: Sequence[str], attributes: Mapping[str, pa.DataType]) -> pa.Schema:
    """The Arrow schema of a part of ``scores``.

    Args:
        metrics: metric names, a float32 column each; null where the score is undefined.
        attributes: attribute names (without prefix) and their Arrow types, a column each.

    Returns:
        The schema: the key, the decision, the status, the metrics, the areas in pixels (for the
        chance level), what is known of the region beside the map (``center_iou``: the IoU that a Gaussian at
        the image's centre, binarized to ``salient_area`` pixels, has with the annotation; ``exchange_flip``:
        whether the prediction changed when the region's content was exchanged with that of an image of
        another label; ``elsewhere_flip``: the same for as many pixels elsewhere; both null unless the
        evaluation intervened), then the attributes. Words that repeat are dictionary encoded.
    """
    return pa.schema(
        [
            ("model", _WORD),
            ("seed", pa.int64()),
            ("dataset", _WORD),
            ("sample_id", pa.string()),
            ("target", _WORD),
            ("method", _WORD),
            ("binarization", _WORD),
            ("region", _WORD),
            ("label", pa.int32()),
            ("prediction", pa.int32()),
            ("confidence", pa.float32()),
            ("label_rank", pa.int32()),
            ("correct", pa.bool_()),
            ("status", _WORD),
            ("message", pa.string()),
            *((name, pa.float32()) for name in metrics),
            ("annotation_area", pa.int32()),
            ("salient_area", pa.int32()),
            ("map_height", pa.int32()),
            ("map_width", pa.int32()),
            ("center_iou", pa.float32()),
            ("exchange_flip", pa.bool_()),
            ("elsewhere_flip", pa.bool_()),
            *((ATTRIBUTE_PREFIX + name, kind) for name, kind in attributes.items()),
        ]
    )
