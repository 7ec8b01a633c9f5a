"""From a unit's arrays to the rows of ``scores``: one a decision, method and region; no Python per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from explanation_alignment.runs.schema import ATTRIBUTE_PREFIX, STATUSES, scores_schema

__all__ = ["Decisions", "ScoredUnit", "score_rows"]

_OK, _NO_ANNOTATION, _FLAT, _ERROR = (STATUSES.index(word) for word in ("ok", "no_annotation", "flat_map", "error"))


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """What is known of N decisions, whatever the maps, for R regions.

    Args:
        ids: N sample ids.
        messages: N reasons why a sample could not be read, None where it could.
        label: (N,) int; negative for none.
        prediction: (N,) int, class index.
        correct: (N,) bool, whether the prediction is right; not looked at where there is no label.
        label_rank: (N,) int, 1 is the top.
        confidence: (N,) float, the largest softmax value.
        exchange_flip: (R, N) float, 1 where exchanging the region's content changed the prediction, else 0; NaN where
            it was not tried.
        elsewhere_flip: (R, N) float, the same for as many pixels elsewhere.
    """

    ids: Sequence[str]
    messages: Sequence[str | None]
    label: NDArray[np.integer]
    prediction: NDArray[np.integer]
    correct: NDArray[np.bool_]
    label_rank: NDArray[np.integer]
    confidence: NDArray[np.floating]
    exchange_flip: NDArray[np.floating]
    elsewhere_flip: NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredUnit:
    """What a unit of N decisions came to, for M methods, R regions and K metrics.

    Args:
        decisions: what is known of them.
        annotation_status: (R, N) int, places in ``STATUSES``.
        flat: (M, N) bool, whether the map says nothing.
        scores: (M, R, K, N) float; NaN where undefined.
        annotation_area: (M, R, N) int, pixels.
        salient_area: (M, R, N) int, pixels.
        map_size: (height, width) of the scored maps.
        center_iou: (M, R, N) float, the IoU of a Gaussian at the centre with as many salient pixels; NaN where unknown.
    """

    decisions: Decisions
    annotation_status: NDArray[np.integer]
    flat: NDArray[np.bool_]
    scores: NDArray[np.floating]
    annotation_area: NDArray[np.integer]
    salient_area: NDArray[np.integer]
    map_size: tuple[int, int]
    center_iou: NDArray[np.floating]


def score_rows(
    unit: ScoredUnit,
    *,
    key: Mapping[str, Any],
    methods: Sequence[tuple[str, str]],
    regions: Sequence[str],
    metrics: Sequence[str],
    attributes: Mapping[str, pa.Array],
) -> pa.Table:
    """The rows of a unit: sample by sample, method by method, region by region.

    Args:
        unit: its arrays.
        key: ``model``, ``seed``, ``dataset`` and ``target``, the same for all rows.
        methods: M pairs of method and binarization.
        regions: R names.
        metrics: K names.
        attributes: attribute name -> N values.

    Returns:
        N * M * R rows with the columns of ``schema.scores_schema``.
    """
    known = unit.decisions
    shape = (len(methods), len(regions), len(known.ids))
    each, total = len(methods) * len(regions), len(methods) * len(regions) * len(known.ids)
    failed = np.array([message is not None for message in known.messages])
    unlabelled = known.label < 0
    given = unit.annotation_status

    def by_row(values: NDArray[Any]) -> NDArray[Any]:
        """What broadcasts to (M, R, N), in the order of the rows."""
        return np.ascontiguousarray(np.broadcast_to(values, shape).transpose(2, 0, 1)).reshape(-1)

    def by_sample(values: NDArray[Any], kind: pa.DataType, undefined: NDArray[np.bool_]) -> pa.Array:
        return pa.array(np.repeat(values, each), kind, mask=np.repeat(undefined, each))

    def text_by_sample(values: Sequence[str | None]) -> pa.Array:
        return pa.array(np.repeat(np.array(values, dtype=object), each), pa.string())

    def words(codes: NDArray[np.integer], names: Sequence[str]) -> pa.Array:
        # each word once: of one that is there twice, the Parquet writer leaves what lay in memory in the file
        once = list(dict.fromkeys(names))
        place = np.array([once.index(name) for name in names], dtype=np.int32)
        return pa.DictionaryArray.from_arrays(pa.array(by_row(place[codes])), pa.array(once, pa.string()))

    def word(name: str) -> pa.Array:
        return words(np.zeros(1, dtype=np.int32), [name])

    status = np.where((given == _OK) & unit.flat[:, None], _FLAT, given)
    undefined = by_row(status) != _OK
    method_place, region_place = np.arange(len(methods))[:, None, None], np.arange(len(regions))[:, None]
    columns: dict[str, pa.Array] = {
        "model": word(key["model"]),
        "seed": pa.array(np.full(total, key["seed"]), pa.int64()),
        "dataset": word(key["dataset"]),
        "sample_id": text_by_sample(known.ids),
        "target": word(key["target"]),
        "method": words(method_place, [method for method, _ in methods]),
        "binarization": words(method_place, [binarization for _, binarization in methods]),
        "region": words(region_place, regions),
        "label": by_sample(known.label, pa.int32(), unlabelled),
        "prediction": by_sample(known.prediction, pa.int32(), failed),
        "confidence": by_sample(known.confidence, pa.float32(), failed),
        "label_rank": by_sample(known.label_rank, pa.int32(), failed | unlabelled),
        "correct": by_sample(known.correct, pa.bool_(), failed | unlabelled),
        "status": words(status, STATUSES),
        "message": text_by_sample(known.messages),
    }
    for place, metric in enumerate(metrics):
        values = by_row(unit.scores[:, :, place])
        columns[metric] = pa.array(values, pa.float32(), mask=undefined | np.isnan(values))
    absent = by_row(np.isin(given, [_NO_ANNOTATION, _ERROR]))
    columns["annotation_area"] = pa.array(by_row(unit.annotation_area), pa.int32(), mask=absent)
    columns["salient_area"] = pa.array(by_row(unit.salient_area), pa.int32(), mask=by_row(unit.flat[:, None] | failed))
    columns["map_height"] = pa.array(np.full(total, unit.map_size[0]), pa.int32())
    columns["map_width"] = pa.array(np.full(total, unit.map_size[1]), pa.int32())
    center = by_row(unit.center_iou)
    columns["center_iou"] = pa.array(center, pa.float32(), mask=undefined | np.isnan(center))
    for name, flips in (("exchange_flip", known.exchange_flip), ("elsewhere_flip", known.elsewhere_flip)):
        tried = by_row(flips)
        columns[name] = pa.array(tried == 1, pa.bool_(), mask=np.isnan(tried))
    sample_of_row = pa.array(np.repeat(np.arange(len(known.ids)), each))
    columns |= {ATTRIBUTE_PREFIX + name: values.take(sample_of_row) for name, values in attributes.items()}
    return pa.table(columns, schema=scores_schema(metrics, {name: values.type for name, values in attributes.items()}))
