"""What a page shows, as its address says it: read strictly, written in one order, without what is usual.

A state is frozen; :meth:`but` gives the state a link leads to, :meth:`query` its part of the address. What an address
may name is in a :class:`Vocabulary`; anything else is an error that names the nearest, never a guess.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self
from urllib.parse import urlencode

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.metrics.registry import METRICS
from explanation_alignment.runs.schema import ATTRIBUTE_PREFIX, STATUSES
from explanation_alignment.statistics.shared_interest_cases import LOW, case_name

__all__ = [
    "ALIGNED",
    "DEFAULT_LAYERS",
    "LAYERS",
    "OUTCOMES",
    "RUNS",
    "SIZES",
    "SORTS",
    "BoardState",
    "CompareState",
    "DecisionState",
    "Filters",
    "GalleryState",
    "ScatterState",
    "Side",
    "Vocabulary",
    "read_filters",
    "rising",
]

#: Names of the runs in an address: the first and the second that were given.
RUNS: Final = ("a", "b")
#: What can be drawn over an image.
LAYERS: Final = ("outline", "heat", "mask", "overlap")
DEFAULT_LAYERS: Final = ("outline", "mask")
#: Decisions a page may show.
SIZES: Final = (12, 24, 48, 96)
#: What a gallery can be sorted by, beside the metrics; ``picture`` is 1 where there is one, else 0.
SORTS: Final = ("picture", "confidence", "label_rank", "annotation_area", "salient_area")
#: What can have come of one decision, given a metric and a threshold.
OUTCOMES: Final = ("right_aligned", "right_elsewhere", "wrong_aligned", "wrong_elsewhere", "undefined")

#: From this score a map counts as aligned unless told otherwise: above what the eight cases call low.
ALIGNED: Final = LOW

_MOST_FIELDS: Final = 400
_LONGEST: Final = 1000
_MOST_PAGES: Final = 10**9

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the addresses of a run may name.

    Args:
        models: in the order of the run, as all of these.
        families: of the models, where known.
        seeds: of training.
        datasets: dataset -> names of its classes.
        targets: what was explained.
        methods: method -> its binarizations.
        regions: region -> the datasets that have it.
        evidence: the regions a person would accept as the reason.
        metrics: columns with scores.
        attributes: names, without prefix.
    """

    models: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    datasets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    methods: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    regions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()

    @property
    def binarizations(self) -> tuple[str, ...]:
        """Of any method."""
        return tuple(dict.fromkeys(name for names in self.methods.values() for name in names))


class _Fields:
    """The fields of an address, taken one by one; what nobody took is an error."""

    def __init__(self, pairs: Pairs) -> None:
        if len(pairs) > _MOST_FIELDS:
            raise UsageError(f"the address has {len(pairs)} fields; at most {_MOST_FIELDS} are read")
        self._fields: dict[str, list[str]] = {}
        self._asked: list[str] = []
        for name, value in pairs:
            if max(len(name), len(value)) > _LONGEST:
                raise UsageError(f"{name[:40]}: a field of the address may have {_LONGEST:,} characters")
            if value:  # a form sends what was left empty, too
                self._fields.setdefault(name, []).append(value)

    def many(self, name: str) -> list[str]:
        self._asked.append(name)
        return self._fields.pop(name, [])

    def one(self, name: str) -> str | None:
        values = self.many(name)
        if len(values) > 1:
            raise UsageError(f"{name} is given {len(values)} times; give it once")
        return values[0] if values else None

    def choice(self, name: str, known: Iterable[str], kind: str | None = None) -> str | None:
        value = self.one(name)
        return None if value is None else _known(value, list(known), kind or name)

    def choices(self, name: str, known: Iterable[str], kind: str | None = None) -> tuple[str, ...]:
        names = list(known)
        return tuple(dict.fromkeys(_known(value, names, kind or name) for value in self.many(name)))

    def whole(self, name: str, least: int, most: int) -> int | None:
        value = self.one(name)
        if value is None:
            return None
        if not (value.isascii() and value.removeprefix("-").isdecimal() and len(value) < 20):
            raise UsageError(f"{name}={value!r}: expected a whole number")
        if not least <= int(value) <= most:
            raise UsageError(f"{name}={value}: expected a number from {least:,} to {most:,}")
        return int(value)

    def number(self, name: str) -> float | None:
        value = self.one(name)
        if value is None:
            return None
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UsageError(f"{name}={value!r}: expected a number such as 0.5")
        return number

    def flag(self, name: str) -> bool:
        return self.choice(name, ("1",)) is not None

    def attributes(self, known: Iterable[str]) -> tuple[tuple[str, str], ...]:
        names = list(known)
        given = [name for name in self._fields if name.startswith(ATTRIBUTE_PREFIX)]
        found = []
        for name in given:
            attribute = _known(name.removeprefix(ATTRIBUTE_PREFIX), names, "attribute")
            found.append((attribute, str(self.one(name))))
        return tuple(sorted(found))

    def done(self) -> None:
        """Raises UnknownNameError where something is left."""
        for name in self._fields:
            raise UnknownNameError("field of the address", name, self._asked)


def _known(value: str, known: Sequence[str], kind: str) -> str:
    if value not in known:
        raise UnknownNameError(kind, value, known)
    return value


class _State:
    """What states share: links to a neighbour, and their own text."""

    __slots__ = ()
    path: ClassVar[str]

    def pairs(self) -> list[tuple[str, str]]:
        raise NotImplementedError

    def but(self, **changed: Any) -> Self:
        """The same state with other values."""
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]

    def query(self) -> str:
        """Its part of an address, without the question mark."""
        return urlencode(self.pairs())

    def address(self, path: str | None = None) -> str:
        """Path and query."""
        query = self.query()
        return (path or self.path) + (f"?{query}" if query else "")


def _named(**values: object) -> list[tuple[str, str]]:
    """Fields that say something, in their order; lists give one field for each value."""
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        name = name.rstrip("_")
        if value is None or value is False or value == ():
            continue
        if isinstance(value, tuple):
            pairs += [(name, str(one)) for one in value]
        elif value is True:
            pairs.append((name, "1"))
        else:
            pairs.append((name, f"{value:.10g}" if isinstance(value, float) else str(value)))
    return pairs


def _layer_pairs(layers: tuple[str, ...]) -> list[tuple[str, str]]:
    return [] if layers == DEFAULT_LAYERS else _named(layer=layers or ("none",))


def _read_layers(fields: _Fields) -> tuple[str, ...]:
    given = fields.choices("layer", ("none", *LAYERS))
    return tuple(name for name in LAYERS if name in given) if given else DEFAULT_LAYERS


def _read_run(fields: _Fields, runs: Sequence[str]) -> str:
    return fields.choice("run", runs) or RUNS[0]


def rising(metrics: Iterable[str]) -> tuple[str, ...]:
    """The metrics whose scores rise with agreement; somebody's own are taken to."""
    bases = {name: METRICS.get(name.partition("(")[0]) for name in metrics}
    return tuple(name for name, metric in bases.items() if metric is None or metric.higher_is_better)


# ------------------------------------------------------------------------------------------------------ gallery


@dataclass(frozen=True, slots=True)
class Filters(_State):
    """Which rows of the scores are meant; None and () stand for any.

    Args:
        run: ``a`` or ``b``.
        models: any of these.
        seed: of training.
        dataset: its name.
        target: what was explained.
        method: as in the rows, arguments included.
        binarization: as in the rows.
        region: its name.
        label: index of the image's class.
        prediction: index of the predicted class.
        correct: whether the prediction is right.
        status: why a score is or is not defined.
        case: one of the eight cases, or ``unclassified``.
        metric: what ``low`` and ``high`` are about, and what is averaged.
        low: least score.
        high: greatest score.
        sample: part of the sample's id.
        pictured: only decisions with a picture.
        attributes: (name, value as text) pairs; a missing value is ``null``.
    """

    path: ClassVar[str] = "/gallery"
    run: str = RUNS[0]
    models: tuple[str, ...] = ()
    seed: int | None = None
    dataset: str | None = None
    target: str | None = None
    method: str | None = None
    binarization: str | None = None
    region: str | None = None
    label: int | None = None
    prediction: int | None = None
    correct: bool | None = None
    status: str | None = None
    case: str | None = None
    metric: str | None = None
    low: float | None = None
    high: float | None = None
    sample: str | None = None
    pictured: bool = False
    attributes: tuple[tuple[str, str], ...] = ()

    def pairs(self) -> list[tuple[str, str]]:
        """Fields in their order."""
        right = None if self.correct is None else "yes" if self.correct else "no"
        return [
            *_named(
                run=None if self.run == RUNS[0] else self.run,
                model=self.models,
                seed=self.seed,
                dataset=self.dataset,
                target=self.target,
                method=self.method,
                binarization=self.binarization,
                region=self.region,
                class_=self.label,
                predicted=self.prediction,
                correct=right,
                status=self.status,
                case=self.case,
                metric=self.metric,
                min=self.low,
                max=self.high,
                sample=self.sample,
                pictured=self.pictured,
            ),
            *((ATTRIBUTE_PREFIX + name, value) for name, value in self.attributes),
        ]


def read_filters(fields: _Fields, known: Vocabulary, run: str) -> Filters:
    """The filters among the fields.

    Raises:
        UsageError: a field means nothing, or names what the run has not.
    """
    right = fields.choice("correct", ("yes", "no"))
    case = fields.one("case")
    low, high = fields.number("min"), fields.number("max")
    metric = fields.choice("metric", known.metrics)
    if low is not None and high is not None and low > high:
        raise UsageError(f"min={low:g} is more than max={high:g}")
    if (low is not None or high is not None) and metric is None:
        raise UsageError("min and max need a metric: metric=" + (known.metrics[0] if known.metrics else "..."))
    return Filters(
        run=run,
        models=fields.choices("model", known.models),
        seed=fields.whole("seed", -(2**63), 2**63 - 1),
        dataset=fields.choice("dataset", known.datasets),
        target=fields.choice("target", known.targets),
        method=fields.choice("method", known.methods, "saliency method"),
        binarization=fields.choice("binarization", known.binarizations),
        region=fields.choice("region", known.regions),
        label=fields.whole("class", -1, 2**31 - 1),
        prediction=fields.whole("predicted", -1, 2**31 - 1),
        correct=None if right is None else right == "yes",
        status=fields.choice("status", STATUSES),
        case=None if case is None else case_name(case),
        metric=metric,
        low=low,
        high=high,
        sample=fields.one("sample"),
        pictured=fields.flag("pictured"),
        attributes=fields.attributes(known.attributes),
    )


@dataclass(frozen=True, slots=True)
class GalleryState(_State):
    """A page of decisions.

    Args:
        chosen: which rows.
        sort: a metric or one of ``SORTS``; None for the order of the run.
        descending: the largest first.
        page: from 1.
        size: decisions a page.
        layers: what is drawn over the images.
    """

    path: ClassVar[str] = "/gallery"
    chosen: Filters = Filters()
    sort: str | None = None
    descending: bool = True
    page: int = 1
    size: int = 24
    layers: tuple[str, ...] = DEFAULT_LAYERS

    @classmethod
    def read(cls, pairs: Pairs, known: Mapping[str, Vocabulary]) -> Self:
        """The state of an address; ``known`` has a vocabulary for each run.

        Raises:
            UsageError: a field means nothing, or names what the run has not.
        """
        fields = _Fields(pairs)
        run = _read_run(fields, list(known))
        state = cls(
            chosen=read_filters(fields, known[run], run),
            sort=fields.choice("sort", (*known[run].metrics, *SORTS), "column to sort by"),
            descending=fields.choice("order", ("asc", "desc")) != "asc",
            page=fields.whole("page", 1, _MOST_PAGES) or 1,
            size=_read_size(fields),
            layers=_read_layers(fields),
        )
        fields.done()
        return state

    def pairs(self) -> list[tuple[str, str]]:
        """Fields in their order."""
        return [
            *self.chosen.pairs(),
            *_named(sort=self.sort, order=None if self.descending or self.sort is None else "asc"),
            *_page_pairs(self.page, self.size),
            *_layer_pairs(self.layers),
        ]

    def filtered(self, **changed: Any) -> Self:
        """The first page with other filters."""
        return self.but(chosen=self.chosen.but(**changed), page=1)


def _read_size(fields: _Fields) -> int:
    return int(fields.choice("size", map(str, SIZES), "number of decisions a page") or GalleryState().size)


def _page_pairs(page: int, size: int) -> list[tuple[str, str]]:
    usual = GalleryState()
    return _named(page=None if page == 1 else page, size=None if size == usual.size else size)


# -------------------------------------------------------------------------------------------- one decision


@dataclass(frozen=True, slots=True)
class DecisionState(_State):
    """One image with every model and method.

    Args:
        run: ``a`` or ``b``.
        dataset: its name.
        sample: the sample's id.
        region: whose annotation is drawn; None for the evidence.
        target: only decisions explained for it.
        page: of its models.
        layers: what is drawn over the image.
    """

    path: ClassVar[str] = "/decision"
    run: str = RUNS[0]
    dataset: str = ""
    sample: str = ""
    region: str | None = None
    target: str | None = None
    page: int = 1
    layers: tuple[str, ...] = DEFAULT_LAYERS

    @classmethod
    def read(cls, pairs: Pairs, known: Mapping[str, Vocabulary]) -> Self:
        """As :meth:`GalleryState.read`."""
        fields = _Fields(pairs)
        run = _read_run(fields, list(known))
        dataset = fields.choice("dataset", known[run].datasets)
        sample = fields.one("sample")
        if dataset is None or sample is None:
            raise UsageError("a decision has a dataset and a sample: ?dataset=...&sample=...")
        state = cls(
            run=run,
            dataset=dataset,
            sample=sample,
            region=fields.choice("region", known[run].regions),
            target=fields.choice("target", known[run].targets),
            page=fields.whole("page", 1, _MOST_PAGES) or 1,
            layers=_read_layers(fields),
        )
        fields.done()
        return state

    def pairs(self) -> list[tuple[str, str]]:
        """Fields in their order."""
        return [
            *_named(
                run=None if self.run == RUNS[0] else self.run,
                dataset=self.dataset,
                sample=self.sample,
                region=self.region,
                target=self.target,
                page=None if self.page == 1 else self.page,
            ),
            *_layer_pairs(self.layers),
        ]


# ------------------------------------------------------------------------------------------------- leaderboard


@dataclass(frozen=True, slots=True)
class BoardState(_State):
    """The leaderboard.

    Args:
        run: ``a`` or ``b``.
        find: part of the model's name.
        family: of the model.
        seed: of training.
        dataset: its name.
        method: its name.
        binarization: its name.
        region: its name.
        nulls: whether methods that explain no model are shown, too.
        sort: a column of :func:`~explanation_alignment.leaderboard`.
        descending: the largest first.
    """

    path: ClassVar[str] = "/"
    run: str = RUNS[0]
    find: str | None = None
    family: str | None = None
    seed: int | None = None
    dataset: str | None = None
    method: str | None = None
    binarization: str | None = None
    region: str | None = None
    nulls: bool = False
    sort: str = "top1"
    descending: bool = True

    @classmethod
    def read(cls, pairs: Pairs, known: Mapping[str, Vocabulary]) -> Self:
        """As :meth:`GalleryState.read`."""
        fields = _Fields(pairs)
        run = _read_run(fields, list(known))
        own = known[run]
        words = ("model", "family", "dataset", "method", "region")
        scores = [f"ea_{metric}{end}" for metric in own.metrics for end in ("", "_adjusted")]
        sort = fields.choice("sort", ("top1", "param_count", "seed", *words, *scores), "column to sort by") or "top1"
        order = fields.choice("order", ("asc", "desc"))
        state = cls(
            run=run,
            find=fields.one("find"),
            family=fields.choice("family", own.families),
            seed=fields.whole("seed", -(2**63), 2**63 - 1),
            dataset=fields.choice("dataset", own.datasets),
            method=fields.choice("method", own.methods, "saliency method"),
            binarization=fields.choice("binarization", own.binarizations),
            region=fields.choice("region", own.regions),
            nulls=fields.flag("nulls"),
            sort=sort,
            descending=order == "desc" if order else sort not in words,
        )
        fields.done()
        return state

    def pairs(self) -> list[tuple[str, str]]:
        """Fields in their order."""
        return _named(
            run=None if self.run == RUNS[0] else self.run,
            find=self.find,
            family=self.family,
            seed=self.seed,
            dataset=self.dataset,
            method=self.method,
            binarization=self.binarization,
            region=self.region,
            nulls=self.nulls,
            sort=self.sort,
            order="desc" if self.descending else "asc",
        )


@dataclass(frozen=True, slots=True)
class ScatterState(_State):
    """Accuracy against alignment, a point a model and seed; None stands for what the run has first."""

    path: ClassVar[str] = "/scatter"
    run: str = RUNS[0]
    dataset: str | None = None
    method: str | None = None
    binarization: str | None = None
    region: str | None = None
    metric: str | None = None

    @classmethod
    def read(cls, pairs: Pairs, known: Mapping[str, Vocabulary]) -> Self:
        """As :meth:`GalleryState.read`."""
        fields = _Fields(pairs)
        run = _read_run(fields, list(known))
        own = known[run]
        state = cls(
            run=run,
            dataset=fields.choice("dataset", own.datasets),
            method=fields.choice("method", own.methods, "saliency method"),
            binarization=fields.choice("binarization", own.binarizations),
            region=fields.choice("region", own.regions),
            metric=fields.choice("metric", own.metrics),
        )
        fields.done()
        return state

    def pairs(self) -> list[tuple[str, str]]:
        """Fields in their order."""
        return _named(
            run=None if self.run == RUNS[0] else self.run,
            dataset=self.dataset,
            method=self.method,
            binarization=self.binarization,
            region=self.region,
            metric=self.metric,
        )


# -------------------------------------------------------------------------------------------------- two models


@dataclass(frozen=True, slots=True)
class Side:
    """One of two models; None stands for what the run has first."""

    run: str = RUNS[0]
    model: str | None = None
    seed: int | None = None
    method: str | None = None
    binarization: str | None = None


@dataclass(frozen=True, slots=True)
class CompareState(_State):
    """Two models on the same images.

    Args:
        a: one model.
        b: the other.
        dataset: whose images.
        target: what was explained.
        region: whose agreement.
        metric: of agreement.
        threshold: least score that counts as the right reason.
        a_outcome: only images where this came of a.
        b_outcome: the same of b.
        sort: ``difference``, ``picture`` (1 where there is one of both, else 0) or None for the order of the run.
        descending: where a is ahead first, or what has pictures.
        page: from 1.
        size: images a page.
        layers: what is drawn over the images.
    """

    path: ClassVar[str] = "/compare"
    a: Side = Side()
    b: Side = Side()
    dataset: str | None = None
    target: str | None = None
    region: str | None = None
    metric: str | None = None
    threshold: float = ALIGNED
    a_outcome: str | None = None
    b_outcome: str | None = None
    sort: str | None = None
    descending: bool = True
    page: int = 1
    size: int = 24
    layers: tuple[str, ...] = DEFAULT_LAYERS

    @classmethod
    def read(cls, pairs: Pairs, known: Mapping[str, Vocabulary]) -> Self:
        """As :meth:`GalleryState.read`."""
        fields = _Fields(pairs)
        a, b = (_read_side(fields, name, known, run) for name, run in (("a", RUNS[0]), ("b", list(known)[-1])))
        own = [known[side.run] for side in (a, b)]
        threshold = fields.number("threshold")
        state = cls(
            a=a,
            b=b,
            dataset=fields.choice("dataset", _shared(*(one.datasets for one in own)), "dataset of both"),
            target=fields.choice("target", _shared(*(one.targets for one in own)), "target of both"),
            region=fields.choice("region", _shared(*(one.regions for one in own)), "region of both"),
            metric=fields.choice("metric", rising(_shared(*(one.metrics for one in own))), "metric of both"),
            threshold=ALIGNED if threshold is None else threshold,
            a_outcome=fields.choice("a_outcome", OUTCOMES),
            b_outcome=fields.choice("b_outcome", OUTCOMES),
            sort=fields.choice("sort", ("difference", "picture")),
            descending=fields.choice("order", ("asc", "desc")) != "asc",
            page=fields.whole("page", 1, _MOST_PAGES) or 1,
            size=_read_size(fields),
            layers=_read_layers(fields),
        )
        fields.done()
        return state

    def pairs(self) -> list[tuple[str, str]]:
        """Fields in their order."""
        sides: list[tuple[str, str]] = []
        for name, side in (("a", self.a), ("b", self.b)):
            sides += [(f"{name}_run", side.run)] if side.run != RUNS[0] or name == "b" else []
            fields = {"model": side.model, "seed": side.seed, "method": side.method, "binarization": side.binarization}
            sides += [(f"{name}_{key}", value) for key, value in _named(**fields)]
        return [
            *sides,
            *_named(
                dataset=self.dataset,
                target=self.target,
                region=self.region,
                metric=self.metric,
                threshold=None if self.threshold == ALIGNED else self.threshold,
                a_outcome=self.a_outcome,
                b_outcome=self.b_outcome,
                sort=self.sort,
                order=None if self.descending or self.sort is None else "asc",
            ),
            *_page_pairs(self.page, self.size),
            *_layer_pairs(self.layers),
        ]

    def cell(self, a: str | None, b: str | None) -> Self:
        """The first page of a cell of the table of counts."""
        return self.but(a_outcome=a, b_outcome=b, page=1)


def _read_side(fields: _Fields, name: str, known: Mapping[str, Vocabulary], run: str) -> Side:
    run = fields.choice(f"{name}_run", known, "run") or run
    own = known[run]
    return Side(
        run=run,
        model=fields.choice(f"{name}_model", own.models, "model"),
        seed=fields.whole(f"{name}_seed", -(2**63), 2**63 - 1),
        method=fields.choice(f"{name}_method", own.methods, "saliency method"),
        binarization=fields.choice(f"{name}_binarization", own.binarizations, "binarization"),
    )


def _shared(one: Iterable[str], other: Iterable[str]) -> list[str]:
    both = set(other)
    return [name for name in one if name in both]
