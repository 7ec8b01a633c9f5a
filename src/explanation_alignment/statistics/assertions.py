"""Claims about a run that can be checked: ``resnet50.iou_coverage.adjusted >= 0.2``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.specs import format_call, parse_call
from explanation_alignment.statistics.comparing.rows import ACCURACY
from explanation_alignment.statistics.inputs import RunOrScores, as_run, score_rows
from explanation_alignment.statistics.intervals import MeanEstimator, Scale, wilson_interval
from explanation_alignment.statistics.stratified import DESIGN_KEY, Design, Populations, design_of, estimate_sampled
from explanation_alignment.statistics.summary import summarise
from explanation_alignment.statistics.tables import ANNOTATION_SIZE, cells_of, group_columns, metric_columns

__all__ = ["CHECK_SCHEMA", "Assertion", "check", "parse"]

#: Columns of the table of :func:`check`.
CHECK_SCHEMA: Final = pl.Schema(
    {
        "assertion": pl.String,
        "model": pl.String,
        "seed": pl.Int64,
        "dataset": pl.String,
        "method": pl.String,
        "binarization": pl.String,
        "region": pl.String,
        "group": pl.String,
        "metric": pl.String,
        "quantity": pl.String,
        "value": pl.Float64,
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "n": pl.Int64,
        "n_undefined": pl.Int64,
        "holds": pl.Boolean,
    }
)

_OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
#: Quantities of a metric: the mean, the mean scaled by chance and ceiling, the bounds of its interval, and so on.
_QUANTITIES: Final = ("ea", "adjusted", "low", "high", "chance", "n", "n_undefined")
_FILTERS: Final = ("seed", "dataset", "method", "binarization", "region", "group")
#: Groups of rows, not of images: an image's regions and maps may lie in several of them.
_OF_ROWS: Final = (ANNOTATION_SIZE, "status")


@dataclass(frozen=True, slots=True)
class Assertion:
    """A claim, read.

    Attributes:
        text: as it was written.
        model: the model's name, or ``*`` for every model.
        metric: a metric's column, or ``accuracy``.
        quantity: ``ea`` (the mean), ``adjusted``, ``low``, ``high``, ``chance``, ``n``, ``n_undefined``.
        operator: ``>=``, ``<=``, ``>`` or ``<``.
        value: the number it is held against.
        filters: ``seed``, ``dataset``, ``method``, ``binarization``, ``region``, ``group`` -> the value asked for.
    """

    text: str
    model: str
    metric: str
    quantity: str
    operator: str
    value: float
    filters: Mapping[str, str]


def parse(text: str, models: Sequence[str], metrics: Sequence[str]) -> Assertion:
    """Read ``MODEL.METRIC[.QUANTITY] [FILTER=VALUE, ...] OPERATOR NUMBER``.

    Names of models may hold dots, slashes and brackets; therefore the names there are decide how it is read: the
    longest model that the words begin with; filters and operator are looked for after it. ``*`` is every model.

    Args:
        text: such as ``"resnet50.a1_in1k.pointing_game >= .5"`` or
            ``"*.iou_coverage.adjusted [method=gradcam(layer=last_conv), region=object] >= 0.2"``.
        models: the models there are.
        metrics: the metrics there are.

    Returns:
        The claim.

    Raises:
        UsageError: it cannot be read.
        UnknownNameError: there is no such model, metric, quantity or filter.
    """
    shape = 'MODEL.METRIC[.adjusted] [FILTER=VALUE] >= NUMBER, such as "resnet50.iou_coverage >= 0.2"'
    words = text.strip()
    known = sorted([*models, "*"], key=len, reverse=True)
    model = next((name for name in known if words.startswith(f"{name}.")), None)
    found = _split(words if model is None else words[len(model) + 1 :])
    if found is None:
        raise UsageError(f"cannot read {text!r}; expected {shape}")
    rest, inside, sign, number = found
    if sign not in _OPERATORS:
        raise UsageError(
            f"{text!r}: a mean is rarely equal to a number; use one of {', '.join(_OPERATORS)}, not {sign}"
        )
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{text!r}: {number!r} is no number; expected {shape}")
    if model is None and any(rest == name or rest.startswith(f"{name}.") for name in (*metrics, ACCURACY)):
        raise UsageError(f"{text!r} names no model; expected {shape}; models: {', '.join(models) or 'none'}, or *")
    if model is None:
        raise UnknownNameError("model of this run", _model_words(rest, [*metrics, ACCURACY]), models)
    names = sorted([*metrics, ACCURACY], key=len, reverse=True)
    metric = next((name for name in names if rest == name or rest.startswith(f"{name}.")), None)
    if metric is None:
        raise UnknownNameError("metric of this run", rest.partition(".")[0], [*metrics, ACCURACY])
    quantity = rest[len(metric) + 1 :] or "ea"
    if quantity not in _QUANTITIES:
        raise UnknownNameError(f"quantity of {metric}", quantity, _QUANTITIES)
    if metric == ACCURACY and quantity in ("adjusted", "chance"):
        raise UsageError(f"{text!r}: accuracy has no level of chance here; use accuracy, accuracy.low or accuracy.high")
    return Assertion(text, model, metric, quantity, sign, value, _filters(inside, text))


def _split(text: str) -> tuple[str, str, str, str] | None:
    """Subject, filters, operator and number; None where the text has another form."""
    # the operator is the last one outside brackets: arguments of methods and filters hold "=" too
    depth, at = 0, -1
    for place, letter in enumerate(text):
        depth += (letter in "([") - (letter in ")]")
        if depth == 0 and letter in "<>=!" and (place == 0 or text[place - 1] not in "<>=!"):
            at = place
    match = re.fullmatch(r"(>=|<=|==|!=|=|>|<)\s*([^\s<>=!]\S*)\s*", text[at:]) if at > 0 else None
    if match is None or depth != 0:
        return None
    subject, bracket, inside = text[:at].strip().partition("[")
    if bracket:
        if not inside.endswith("]"):
            return None
        inside = inside[:-1]
    return (subject.strip(), inside, match.group(1), match.group(2)) if subject.strip() else None


def _model_words(subject: str, metrics: Sequence[str]) -> str:
    """What was probably meant as the model: the words before a metric's name, else before the last dot."""
    for metric in sorted(metrics, key=len, reverse=True):
        head, found, _ = subject.rpartition(f".{metric}")
        if found:
            return head
    return subject.rpartition(".")[0] or subject


def _filters(inside: str, text: str) -> Mapping[str, str]:
    filters: dict[str, str] = {}
    for part in re.split(r",(?![^()]*\))", inside):
        if not part.strip():
            continue
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise UsageError(f"{text!r}: cannot read {part.strip()!r}; expected filter=value, such as method=gradcam")
        if name not in _FILTERS:
            raise UnknownNameError("filter", name, _FILTERS)
        if name in filters:
            raise UsageError(f"{text!r} gives {name!r} twice")
        filters[name] = value
    return filters


def check(
    run_or_scores: RunOrScores,
    *expressions: str,
    confident: bool = False,
    evidence: Sequence[str] | None = None,
    level: float = 0.95,
) -> pl.DataFrame:
    """Hold claims against a run: every row a claim speaks of must satisfy it.

    A claim reads ``MODEL.METRIC[.QUANTITY] [FILTER=VALUE, ...] OPERATOR NUMBER`` (:func:`parse`). Without the filter
    ``region`` it speaks of the regions declared as evidence, without ``group`` of all images, without the others of
    every seed, dataset, method and binarization. A group is one of
    :func:`~explanation_alignment.statistics.summary.summarise`: ``hair=dark``, ``class=cat``,
    ``annotation_size=05-15%``, ``target=cat`` (a target other than the main one). ``adjusted`` is (EA - chance) /
    (ceiling - chance), its interval that of EA on the same scale. An undefined value satisfies nothing. In a run of a
    class-balanced sample every value, ``accuracy`` with its interval too, is for the whole dataset, as in its summary.

    Args:
        run_or_scores: a run, its folder, or rows of its ``scores``.
        *expressions: claims.
        confident: whether the whole interval must satisfy the claim, not only the value.
        evidence: the regions that count unless a claim names one; a run's own by default, every region for plain rows.
        level: nominal coverage of the intervals.

    Returns:
        A table with the columns of ``CHECK_SCHEMA``, a row for every value that a claim speaks of; ``holds`` tells
        whether it satisfies the claim.

    Raises:
        UsageError: a claim cannot be read, or speaks of nothing in the run.
        UnknownNameError: a name in it is not in the run; the nearest is told.

    Example:
        >>> import polars as pl
        >>> scores = pl.DataFrame({
        ...     "model": "m", "seed": 0, "dataset": "d", "sample_id": ["a", "b"], "target": "predicted",
        ...     "method": "gradcam", "binarization": "threshold:0.5", "region": "object", "correct": [True, False],
        ...     "status": "ok", "iou_coverage": [0.5, 0.25], "annotation_area": 4, "salient_area": 4,
        ...     "map_height": 4, "map_width": 4,
        ... })
        >>> check(scores, "m.iou_coverage >= 0.3", "m.accuracy > .5")["holds"].to_list()
        [True, False]
    """
    if not expressions:
        raise UsageError('nothing to check; give a claim such as "resnet50.iou_coverage >= 0.2"')
    run = as_run(run_or_scores)
    if run is not None and evidence is None:
        evidence = run.evidence
    scores = score_rows(run_or_scores)
    columns = scores.lazy().collect_schema().names()
    metrics = metric_columns(columns)
    models = scores.lazy().select(pl.col("model").cast(pl.String).unique().sort()).collect().to_series().to_list()
    claims = [parse(text, models, metrics) for text in expressions]
    groups = {claim.filters["group"] for claim in claims if "group" in claim.filters}
    by = sorted({column for column in (_group_column(group, columns) for group in groups) if column != "target"})
    used = [metric for metric in metrics if any(claim.metric == metric for claim in claims)]
    named = {claim.model for claim in claims}
    if "*" not in named:
        scores = scores.filter(pl.col("model").cast(pl.String).is_in(sorted(named)))
    # accuracy needs some metric's rows to be counted by
    populations = None if run is None else run.populations
    summary = summarise(scores, by=by, metrics=used or metrics[:1], level=level, populations=populations)
    correct = _decisions(scores, [column for column in by if column not in _OF_ROWS], level, populations)
    parts = [_check(claim, columns, summary, correct, evidence, confident) for claim in claims]
    return pl.concat(parts)


def _group_column(group: str, columns: Sequence[str]) -> str:
    """What forms a group: a column, ``annotation_size``, or ``target``, which summaries always tell apart."""
    name, equals, _ = (part.strip() for part in group.partition("="))
    if not equals:
        raise UsageError(f"a group is named by what forms it and its value, such as group=hair=dark; got {group!r}")
    return name if name == "target" else group_columns([name], columns, sizes=True)[0]


def _group(group: str, columns: Sequence[str]) -> str:
    """A group as a summary writes it: ``attr_hair=dark`` for ``hair=dark``."""
    return f"{_group_column(group, columns)}={group.partition('=')[2].strip()}"


def _decisions(
    scores: pl.DataFrame | pl.LazyFrame, by: Sequence[str], level: float, populations: Populations | None
) -> pl.DataFrame:
    """(model, seed, dataset, group) -> accuracy, its interval and denominators, each image once.

    Of a class-balanced sample it is the accuracy on the whole dataset, as in a summary.
    """
    place = ["model", "seed", "dataset"]
    rows = scores.lazy().with_columns(pl.col("model", "dataset").cast(pl.String))
    design, drawn = None, [pl.lit(None, pl.Float64).alias("_weight"), pl.lit(None, pl.Int64).alias("_stratum")]
    if populations:
        wanted = dict.fromkeys([*DESIGN_KEY, "sample_id", "label", "status", "correct", *by])
        table = rows.select(*wanted).collect()
        rows, design = table.lazy(), design_of(table, populations)
        if design is not None:
            drawn = [
                pl.lit(pl.Series("_weight", design.weight).fill_nan(None)),
                pl.lit(pl.Series("_stratum", design.stratum)),
            ]
    images = (
        rows.with_columns(drawn)
        .group_by(*place, "sample_id")
        .agg(  # a row of the image may have failed; the samples of several targets are taken as one
            pl.col("correct").max().alias("_correct"),
            pl.col("_weight").max(),
            pl.col("_stratum").min(),
            *(pl.col(name).drop_nulls().first() for name in by),
        )
        .collect()
    )
    if design is not None:  # sums of weights are the same to the last bit in one order only
        images = images.sort(*place, "sample_id")
    labels = [
        pl.lit("all"),
        *(pl.format(f"{name}={{}}", pl.col(name).cast(pl.String).fill_null("null")) for name in by),
    ]
    parts = [_accuracies(images.with_columns(group=label), [*place, "group"], design, level) for label in labels]
    return pl.concat(parts).sort(*place, "group")


def _accuracies(images: pl.DataFrame, key: Sequence[str], design: Design | None, level: float) -> pl.DataFrame:
    cells, cell = cells_of(images, key)
    correct = images["_correct"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    known = ~np.isnan(correct)
    there, n = (np.bincount(which, minlength=cells.height) for which in (cell, cell[known]))
    hits = np.bincount(cell[known], weights=correct[known], minlength=cells.height)
    value = np.divide(hits, n, out=np.full(cells.height, np.nan), where=n > 0)
    low, high = wilson_interval(hits, n, level)
    if design is not None:
        weight, stratum = images["_weight"].fill_null(np.nan).to_numpy(), images["_stratum"].to_numpy()
        of_images = Design(weight, stratum, design.drawn, design.left)
        scale, estimator = Scale(0, 1, binary=True), MeanEstimator(level=level)
        found = estimate_sampled(of_images, cell, cells.height, [correct], [scale], estimator)
        for c, [estimate] in found.items():
            bounds = (estimate.mean, estimate.low, estimate.high)
            value[c], low[c], high[c] = (np.nan if bound is None else bound for bound in bounds)
    return cells.with_columns(
        pl.Series("value", value).fill_nan(None),
        pl.Series("ci_low", low).fill_nan(None),
        pl.Series("ci_high", high).fill_nan(None),
        pl.Series("n", n, pl.Int64),
        pl.Series("n_undefined", there - n, pl.Int64),
    )


def _check(
    claim: Assertion,
    columns: Sequence[str],
    summary: pl.DataFrame,
    decisions: pl.DataFrame,
    evidence: Sequence[str] | None,
    confident: bool,
) -> pl.DataFrame:
    rows = decisions if claim.metric == ACCURACY else summary.filter(pl.col("metric") == claim.metric)
    if claim.model != "*":
        rows = rows.filter(pl.col("model") == claim.model)
    asked = dict(claim.filters)
    named = asked.pop("group", None)
    group = "all" if named is None else _group(named, columns)
    groups = rows["group"].unique().sort().to_list()
    if claim.metric == ACCURACY and group.partition("=")[0] in (*_OF_ROWS, "target"):
        raise UsageError(
            f"{claim.text!r}: accuracy counts images, and {group.partition('=')[0]} is of an image's maps or regions; "
            "leave that group out"
        )
    if named is None and group not in groups and groups:
        raise UsageError(
            f"{claim.text!r}: decisions were explained for several targets, none of them 'predicted', and are not "
            f"mixed; name one, such as [group={groups[0].partition(', ')[0]}]"
        )
    if group not in groups:
        raise UnknownNameError("group of this run", group, groups)
    rows = rows.filter(pl.col("group") == group)
    if claim.metric == ACCURACY:
        extra = [name for name in asked if name not in ("seed", "dataset")]
        if extra:
            raise UsageError(f"{claim.text!r}: accuracy is the same whatever the {extra[0]}; leave that filter out")
    elif "region" not in asked and evidence:
        rows = rows.filter(pl.col("region").is_in(list(evidence)))
    for name, value in asked.items():
        known = rows[name].cast(pl.String).unique().sort().to_list()
        if name == "method" and value not in known:
            value = _canonical(value)
        if value not in known:
            raise UnknownNameError(f"{name} of what {claim.text!r} speaks of", value, known)
        rows = rows.filter(pl.col(name).cast(pl.String) == value)
    if rows.is_empty():
        raise UsageError(f"{claim.text!r} speaks of nothing in this run")
    return pl.DataFrame([_row(claim, row, confident) for row in rows.iter_rows(named=True)], schema=CHECK_SCHEMA)


def _canonical(method: str) -> str:
    """A method's text as a run writes it: arguments sorted, no spaces; as it is where it is no such text."""
    try:
        name, arguments = parse_call(method, "method")
    except UsageError:
        return method  # such as a file's path
    return format_call(name, arguments)


def _row(claim: Assertion, row: Mapping[str, object], confident: bool) -> Mapping[str, object]:
    values = row if claim.metric == ACCURACY else _of_metric(row, claim.quantity == "adjusted")
    pick = {"low": values["ci_low"], "high": values["ci_high"]}
    if claim.quantity in ("chance", "n", "n_undefined"):
        value = row.get(claim.quantity, values.get(claim.quantity))
        low = high = None
    else:
        value = pick.get(claim.quantity, values["value"])
        low, high = values["ci_low"], values["ci_high"]
    holds = _OPERATORS[claim.operator]
    # of an interval, the end that could break the claim
    held = (
        (low if claim.operator in (">", ">=") else high)
        if confident and claim.quantity in ("ea", "adjusted")
        else value
    )
    return {
        **{name: row.get(name) for name in ("model", "seed", "dataset", "method", "binarization", "region", "group")},
        "assertion": claim.text,
        "metric": claim.metric,
        "quantity": claim.quantity,
        "value": value,
        "ci_low": low,
        "ci_high": high,
        "n": values["n"],
        "n_undefined": values["n_undefined"],
        "holds": isinstance(held, int | float) and holds(float(held), claim.value),
    }


def _of_metric(row: Mapping[str, object], adjusted: bool) -> dict[str, object]:
    bounds = {"value": row["ea"], "ci_low": row["ci_low"], "ci_high": row["ci_high"]}
    if adjusted:
        chance, ceiling = row["chance"], row["ceiling"]
        if isinstance(chance, float) and isinstance(ceiling, float) and ceiling != chance:
            bounds = {
                name: (value - chance) / (ceiling - chance) if isinstance(value, float) else None
                for name, value in bounds.items()
            }
        else:
            bounds = dict.fromkeys(bounds)
    return {**bounds, "n": row["n"], "n_undefined": row["n_undefined"]}
