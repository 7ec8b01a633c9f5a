"""The fields an address can have: what each is called, how it is read, and what is usual."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from explanation_alignment.explorer.addresses import kinds
from explanation_alignment.explorer.addresses.kinds import Field
from explanation_alignment.runs.schema import ATTRIBUTE_PREFIX, STATUSES
from explanation_alignment.statistics.shared_interest_cases import LOW, case_name

__all__ = ["ALIGNED", "DEFAULT_LAYERS", "FIELDS", "LAYERS", "OUTCOMES", "RUNS", "SIZES", "SORTS", "WORDS"]

#: Names of the runs in an address: the first and the second that were given.
RUNS: Final = ("a", "b")
#: What can be drawn over an image.
LAYERS: Final = ("outline", "heat", "mask", "overlap")
DEFAULT_LAYERS: Final = ("outline", "mask")
#: Decisions a page may show.
SIZES: Final = (12, 24, 48, 96)
#: What a gallery can be sorted by, beside the metrics; ``picture`` is 1 where there is one, else 0.
SORTS: Final = ("picture", "confidence", "label_rank", "annotation_area", "salient_area")
#: Columns of the leaderboard that hold words.
WORDS: Final = ("model", "family", "dataset", "method", "region")
#: What can have come of one decision, given a metric and a threshold.
OUTCOMES: Final = ("right_aligned", "right_elsewhere", "wrong_aligned", "wrong_elsewhere", "undefined")
#: From this score a map counts as aligned unless told otherwise: above what the eight cases call low.
ALIGNED: Final = LOW

_NUMBERS: Final = ("top1", "param_count", "seed")
_ENDS: Final = ("", "_adjusted")

#: By the attribute of a state that holds them; what is sorted by differs from page to page.
FIELDS: Final[Mapping[str, Field]] = {
    "run": Field("run", kinds.choice(lambda _: RUNS), usual=RUNS[0]),
    "models": Field("model", kinds.choices(lambda own: own.models), usual=()),
    "model": Field("model", kinds.choice(lambda own: own.models)),
    "find": Field("find", kinds.text()),
    "family": Field("family", kinds.choice(lambda own: own.families)),
    "seed": Field("seed", kinds.whole(-(2**63), 2**63 - 1)),
    "dataset": Field("dataset", kinds.choice(lambda own: own.datasets)),
    "target": Field("target", kinds.choice(lambda own: own.targets)),
    "method": Field("method", kinds.choice(lambda own: own.methods), called="saliency method"),
    "nulls": Field("nulls", kinds.flag("1"), usual=False),
    "binarization": Field("binarization", kinds.choice(lambda own: own.binarizations)),
    "region": Field("region", kinds.choice(lambda own: own.regions)),
    "label": Field("class", kinds.whole(-1, 2**31 - 1)),
    "prediction": Field("predicted", kinds.whole(-1, 2**31 - 1)),
    "correct": Field("correct", kinds.flag("yes", "no")),
    "status": Field("status", kinds.choice(lambda _: STATUSES)),
    "case": Field("case", kinds.text(case_name)),
    "metric": Field("metric", kinds.choice(lambda own: own.metrics)),
    "low": Field("min", kinds.number()),
    "high": Field("max", kinds.number()),
    "threshold": Field("threshold", kinds.number(), usual=ALIGNED),
    "outcome": Field("outcome", kinds.choice(lambda _: OUTCOMES)),
    "sample": Field("sample", kinds.text()),
    "pictured": Field("pictured", kinds.flag("1"), usual=False),
    "attributes": Field(ATTRIBUTE_PREFIX, kinds.attributes(lambda own: own.attributes), usual=(), called="attribute"),
    "sort": Field("sort", kinds.choice(lambda own: (*own.metrics, *SORTS)), called="column to sort by"),
    "board_sort": Field(
        "sort",
        kinds.choice(lambda own: (*_NUMBERS, *WORDS, *(f"ea_{name}{end}" for name in own.metrics for end in _ENDS))),
        usual="top1",
        called="column to sort by",
    ),
    "pair_sort": Field("sort", kinds.choice(lambda _: ("difference", "picture"))),
    "descending": Field("order", kinds.flag("desc", "asc"), usual=True, beside="sort"),
    "page": Field("page", kinds.whole(1, 10**9), usual=1),
    "size": Field("size", kinds.choice(lambda _: map(str, SIZES), int), usual=24, called="number of decisions a page"),
    "layers": Field("layer", kinds.subset(LAYERS, "none"), usual=DEFAULT_LAYERS),
}
