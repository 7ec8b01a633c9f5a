"""How explanation alignment goes with other columns of a table of models: rank correlations, and what they rest on.

A row is a model. Such tables are short, so every coefficient comes with an interval, a permutation test, and the model
whose removal changes it most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import factorial
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.metrics.registry import get_metric
from explanation_alignment.statistics.inputs import RunOrScores, as_run
from explanation_alignment.statistics.tables import metric_columns

__all__ = [
    "FEW_MODELS",
    "MIN_MODELS",
    "RELATION_SCHEMA",
    "model_table",
    "relate",
    "relation_residuals",
    "relation_sentence",
]

_Floats = NDArray[np.float64]

#: Fewer models than this have no correlation worth the name.
MIN_MODELS: Final = 4
#: Fewer models than this draw a caution: the interval is then hardly narrower than from -1 to 1.
FEW_MODELS: Final = 10

#: What tells the relations of one table apart; null where a plain table was given.
_CELL: Final = ("dataset", "method", "binarization", "region")

#: Columns of the table of :func:`relate`.
RELATION_SCHEMA: Final = pl.Schema(
    {
        **dict.fromkeys(_CELL, pl.String),
        "outcome": pl.String,
        "predictor": pl.String,
        "controls": pl.String,
        "statistic": pl.String,
        "coefficient": pl.Float64,
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "p_value": pl.Float64,
        "n_models": pl.Int64,
        "n_dropped": pl.Int64,
        "influential_model": pl.String,
        "without_it": pl.Float64,
        "loo_low": pl.Float64,
        "loo_high": pl.Float64,
        "caution": pl.String,
    }
)

#: A relation is told where the permutation test, too, is beyond this.
_ALPHA: Final = 0.05
#: Residuals smaller than this share of what they are residuals of are rounding.
_ROUNDING: Final = 1e-9
#: Coefficients closer than this are equal.
_TIE: Final = 1e-12
#: Cells of one block of (resamples, models, columns): 16 MB of float64.
_BLOCK_CELLS: Final = 1 << 21


def model_table(run: RunOrScores) -> pl.DataFrame:
    """A row per model, dataset, method, binarization and region: its alignment beside what is known of the model.

    Args:
        run: a run, or its folder.

    Returns:
        The four keys and ``model``; a column per metric (its mean), ``<metric>_adjusted`` (between chance and what the
        areas allow), ``accuracy``; ``n_seeds``, and the columns of ``run.models()``. Seeds of a model are trained
        copies, not further models: numbers are their mean, and of words the first is kept.

    Raises:
        RunError: it is no run, or has no scores yet.
    """
    opened = as_run(run)
    if opened is None:
        raise UsageError("a table of scores knows nothing of its models; give the run")
    summary = opened.summary().filter(pl.col("group") == "all")
    keys = ["model", "seed", *_CELL]
    parts = [summary.group_by(keys).agg(pl.col("accuracy").first())]
    for metric in metric_columns(summary["metric"].unique().to_list()):
        one = summary.filter(pl.col("metric") == metric)
        parts.append(one.select(*keys, pl.col("ea").alias(metric), pl.col("adjusted").alias(f"{metric}_adjusted")))
    table, *others = parts
    for other in others:
        table = table.join(other, on=keys, how="left")
    known = opened.models()
    table = table.join(known, on=["model", "seed"], how="left")
    numbers = [name for name, kind in table.schema.items() if kind.is_numeric() and name not in keys]
    words = [name for name in table.columns if name not in numbers and name not in keys]
    return (
        table.sort(keys)
        .group_by("model", *_CELL)
        .agg(pl.col("seed").n_unique().cast(pl.Int64).alias("n_seeds"), pl.col(numbers).mean(), pl.col(words).first())
        .sort(*_CELL, "model")
    )


def relate(
    table: RunOrScores,
    *,
    outcome: str = "accuracy",
    predictor: str = "iou_coverage",
    controls: Sequence[str] = (),
    group: str | None = None,
    dataset: str | None = None,
    method: str | None = None,
    region: str | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pl.DataFrame:
    """Correlations of two columns over models, with and without other columns held fixed.

    *Spearman* and *Pearson* always; with controls or a group also *partial Spearman*: the correlation of what is left
    of both columns' ranks after least squares on the ranks of the controls and an indicator a group. Ranks make it
    indifferent to whether parameters are counted or their logarithm is.

    Intervals are bootstrapped over models (BCa; Efron 1987, doi:10.1080/01621459.1987.10478410); resamples in which a
    column is constant have no correlation and are left out. ``p_value`` is two-sided, from permutations of the outcome
    (all of them where they are at most ``n_resamples``); of the outcome's residuals for the partial one (Freedman and
    Lane 1983, doi:10.1080/07350015.1983.10509354).

    Args:
        table: a run or its folder (:func:`model_table`), or a DataFrame with a row a model.
        outcome: a column of numbers: ``accuracy``, ``parameters``, a metric, ``iou_coverage_adjusted``, ...
        predictor: another.
        controls: columns of numbers held fixed.
        group: a column of words held fixed, such as ``family``.
        dataset: only this one; all there are by default, a relation each.
        method: only this one.
        region: only this one.
        level: nominal coverage of the intervals.
        n_resamples: bootstrap resamples and permutations.
        seed: seed of both.

    Returns:
        The columns of ``RELATION_SCHEMA``, a row per dataset, method, binarization, region (of a run, or where a table
        has such columns) and ``statistic``. ``n_dropped`` rows lacked a value. ``influential_model`` is the one whose
        removal changes the coefficient most, to ``without_it``; over all removals it goes from ``loo_low`` to
        ``loo_high``. ``coefficient`` is null, with the reason in ``caution``, where a column is constant, or the
        controls leave too few models (at least 3 more than they have terms). ``caution`` also says of fewer than 10
        models that the interval cannot be trusted.

    Raises:
        UsageError: fewer than 4 models, a column of words, a column given twice, or settings that mean nothing.
        UnknownNameError: there is no such column, dataset, method or region.
        RunError: the run cannot be read.

    Example:
        >>> models = pl.DataFrame({"accuracy": [0.6, 0.7, 0.75, 0.8, 0.9], "iou_coverage": [0.2, 0.3, 0.25, 0.4, 0.5]})
        >>> relate(models).select("statistic", "coefficient").row(0)
        ('spearman', 0.9)
    """
    if not 0 < level < 1:
        raise UsageError(f"level must lie between 0 and 1, such as 0.95; got {level}")
    if n_resamples < 1 or seed < 0:
        raise UsageError(f"n_resamples must be at least 1 and seed at least 0, got {n_resamples} and {seed}")
    models = table.lazy().collect() if isinstance(table, pl.DataFrame | pl.LazyFrame) else model_table(table)
    columns = [outcome, predictor, *controls]
    _check_columns(models, columns, group)
    keys = [name for name in _CELL if name in models.columns]
    for name, value in (("dataset", dataset), ("method", method), ("region", region)):
        if value is not None:
            known = models[name].cast(pl.String).unique().to_list() if name in keys else []
            if value not in known:
                raise UnknownNameError(f"{name} of this table", value, [str(k) for k in known])
            models = models.filter(pl.col(name).cast(pl.String) == value)
    records: list[dict[str, Any]] = []
    cells = models.sort(keys, maintain_order=True).partition_by(keys, maintain_order=True) if keys else [models]
    fewest = max((cell.height for cell in cells), default=0)
    if fewest < MIN_MODELS:
        raise UsageError(f"a relation needs at least {MIN_MODELS} models, a row each; there are {fewest}")
    settings = _Settings(level, n_resamples, seed)
    for cell in cells:
        key: dict[str, Any] = {name: cell[name].cast(pl.String)[0] for name in keys}
        words = {"outcome": outcome, "predictor": predictor}
        for name, row in _relations(cell, outcome, predictor, controls, group, settings):
            held = [*controls, *([group] if group else [])] if name.startswith("partial") else []
            records.append({**key, **words, "controls": ", ".join(held) or None, "statistic": name, **row})
    return pl.DataFrame(records, schema=RELATION_SCHEMA, infer_schema_length=None)


@dataclass(frozen=True, slots=True)
class _Settings:
    level: float
    n_resamples: int
    seed: int


def relation_residuals(
    models: pl.DataFrame,
    *,
    outcome: str = "accuracy",
    predictor: str = "iou_coverage",
    controls: Sequence[str] = (),
    group: str | None = None,
) -> pl.DataFrame:
    """What the partial Spearman correlation of :func:`relate` correlates: an added-variable plot's points.

    The ranks of outcome and predictor, less what least squares on the ranks of the controls and an indicator a group
    explain of them. The Pearson correlation of the two columns is :func:`relate`'s coefficient (plain Spearman's where
    nothing is held fixed).

    Args:
        models: a row a model, of one dataset, method, binarization and region, with a column ``model``.
        outcome: as in :func:`relate`; so are the others.
        predictor: a column of numbers.
        controls: columns of numbers held fixed.
        group: a column of words held fixed.

    Returns:
        ``model``, ``outcome`` and ``predictor`` (float64, in ranks: models further up than the controls let expect are
        positive), in the order of the table without the models that lack a value.

    Raises:
        UnknownNameError: there is no such column.
        UsageError: a column of words or one given twice; several rows a model.
    """
    columns = [outcome, predictor, *controls]
    _check_columns(models, ["model"], None, numbers=False)
    _check_columns(models, columns, group)
    if models["model"].is_duplicated().any():
        raise UsageError("a model has several rows: keep those of one dataset, method, binarization and region")
    whole = _whole(models, columns, group)
    if whole.is_empty():
        return pl.DataFrame(schema={"model": pl.String, "outcome": pl.Float64, "predictor": pl.Float64})
    relation = _Relation(whole.select(columns).to_numpy(), _indicators(whole, group), _ranked)
    left = relation.residuals()
    return pl.DataFrame({"model": whole["model"].cast(pl.String), "outcome": left[:, 0], "predictor": left[:, 1]})


def _whole(cell: pl.DataFrame, columns: Sequence[str], group: str | None) -> pl.DataFrame:
    """The models that lack nothing."""
    return cell.with_columns(pl.col(columns).cast(pl.Float64).fill_nan(None)).drop_nulls(
        [*columns, *([group] if group else [])]
    )


def _check_columns(models: pl.DataFrame, columns: Sequence[str], group: str | None, *, numbers: bool = True) -> None:
    every = [*columns, *([group] if group else [])]
    for name in every:
        if name not in models.columns:
            raise UnknownNameError("column of the table of models", name, models.columns)
    if len(set(every)) < len(every):
        raise UsageError(f"each column has one part to play; got {', '.join(every)}")
    for name in columns if numbers else ():
        if not models.schema[name].is_numeric():
            hint = "; words can only be held fixed, as the group" if models.schema[name] == pl.String else ""
            raise UsageError(f"column {name!r} holds no numbers{hint}")


def _relations(
    cell: pl.DataFrame, outcome: str, predictor: str, controls: Sequence[str], group: str | None, settings: _Settings
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The statistics of one table: name and columns."""
    columns = [outcome, predictor, *controls]
    whole = _whole(cell, columns, group)
    dropped = cell.height - whole.height
    names = whole["model"].cast(pl.String).to_list() if "model" in whole.columns else None
    names = names or [f"row {i}" for i in range(whole.height)]
    values = whole.select(columns).to_numpy()
    nothing = np.empty((whole.height, 0))
    asked = {
        "spearman": _Relation(values[:, :2], nothing, _ranked),
        "pearson": _Relation(values[:, :2], nothing, _plain),
    }
    if len(columns) > 2 or group:
        asked["partial spearman"] = _Relation(values, _indicators(whole, group), _ranked)
    for name, relation in asked.items():
        yield name, {**relation.row(names, settings), "n_models": whole.height, "n_dropped": dropped}


def _indicators(whole: pl.DataFrame, group: str | None) -> _Floats:
    """(models, groups - 1) 0/1 columns: which group a model is in, the first group being all zeros."""
    if group is None:
        return np.empty((whole.height, 0))
    values = whole[group].cast(pl.String)
    return np.column_stack(
        [np.empty((whole.height, 0)), *((values == v).to_numpy() for v in values.unique().sort()[1:])]
    )


_Transform: TypeAlias = Callable[[_Floats], _Floats]


def _ranked(values: _Floats) -> _Floats:
    """(..., models, columns) -> ranks down each column, ties shared."""
    ranks: _Floats = rankdata(values, axis=-2)
    return ranks


def _plain(values: _Floats) -> _Floats:
    return values


@dataclass(frozen=True, slots=True)
class _Relation:
    """One correlation: (models, columns) values, outcome and predictor first, and indicator columns to hold fixed."""

    values: _Floats
    indicators: _Floats
    transform: _Transform

    def coefficients(self, chosen: NDArray[np.int64]) -> _Floats:
        """(samples, models) rows chosen -> (samples,) coefficients; NaN where a column does not vary."""
        residuals = self._residuals(chosen)
        norms = np.sqrt((residuals**2).sum(axis=1))
        product = (residuals[..., 0] * residuals[..., 1]).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            result: _Floats = np.clip(product / (norms[:, 0] * norms[:, 1]), -1, 1)
        return result

    def residuals(self) -> _Floats:
        """(models, 2) outcome and predictor less what the rest of the columns explain."""
        left: _Floats = self._residuals(np.arange(len(self.values))[None])[0]
        return left

    def _residuals(self, chosen: NDArray[np.int64]) -> _Floats:
        """(samples, models, 2): outcome and predictor less what the rest of the columns explain; 0 where nothing is."""
        data = self.transform(self.values[chosen])
        data = data - data.mean(axis=1, keepdims=True)
        both, held = data[..., :2], data[..., 2:]
        dummies = self.indicators[chosen]
        held = np.concatenate([held, dummies - dummies.mean(axis=1, keepdims=True)], axis=2)
        if held.shape[2]:
            scale = np.sqrt((held**2).sum(axis=1, keepdims=True))
            held = np.divide(held, scale, out=np.zeros_like(held), where=scale > 0)
            residuals = both - held @ (np.linalg.pinv(held) @ both)
        else:
            residuals = both
        size = np.sqrt((both**2).sum(axis=1, keepdims=True))
        left = np.sqrt((residuals**2).sum(axis=1, keepdims=True))
        return np.where(left > _ROUNDING * size, residuals, 0.0)

    def _terms(self) -> int:
        return int(self.values.shape[1] - 2 + self.indicators.shape[1])

    def row(self, names: Sequence[str], settings: _Settings) -> dict[str, Any]:
        """The columns of the table that are about this coefficient."""
        n = len(names)
        terms = self._terms()
        if n < max(MIN_MODELS, terms + 3):
            held = f" with {terms} terms held fixed" if terms else ""
            return {"caution": f"too few models: {n}{held}"}
        everyone = np.arange(n)[None]
        observed = float(self.coefficients(everyone)[0])
        if np.isnan(observed):
            return {"caution": "a column does not vary" + (" once the others are held fixed" if terms else "")}
        removed = np.array([np.delete(everyone[0], i) for i in range(n)])
        without = self.coefficients(removed)
        generator = np.random.default_rng([settings.seed, n])
        low, high = _bca(observed, self._replicates(generator, n, settings.n_resamples), without, settings.level)
        row: dict[str, Any] = {
            "coefficient": observed,
            "ci_low": low,
            "ci_high": high,
            "p_value": self._permuted(observed, generator, n, settings.n_resamples),
            "caution": f"only {n} models: the interval cannot be trusted" if n < FEW_MODELS else None,
        }
        known = ~np.isnan(without)
        if known.any():
            change = np.where(known, np.abs(without - observed), -1)
            most = int(change.argmax())
            row |= {"influential_model": names[most], "without_it": float(without[most])}
            row |= {"loo_low": float(without[known].min()), "loo_high": float(without[known].max())}
        return row

    def _replicates(self, generator: np.random.Generator, n: int, resamples: int) -> _Floats:
        chosen = generator.integers(0, n, (resamples, n))
        width = self._terms() + 2
        block = max(1, _BLOCK_CELLS // (n * width))
        return np.concatenate([self.coefficients(chosen[i : i + block]) for i in range(0, resamples, block)])

    def _permuted(self, observed: float, generator: np.random.Generator, n: int, resamples: int) -> float:
        """Share of permutations of the outcome's residuals with a coefficient at least as far from 0."""
        outcome, predictor = self._residuals(np.arange(n)[None])[0].T
        if factorial(n) <= resamples:
            orders = np.array(list(permutations(range(n))))
        else:
            orders = generator.permuted(np.broadcast_to(np.arange(n), (resamples, n)), axis=1)
        shuffled = outcome[orders]
        if self._terms():
            # a permuted residual is no longer free of the controls: it is regressed on them again
            held = self._held()
            shuffled = shuffled - (shuffled @ np.linalg.pinv(held).T) @ held.T
        norms = np.sqrt((shuffled**2).sum(axis=1) * (predictor**2).sum())
        product = shuffled @ predictor
        reached = np.abs(product) >= (abs(observed) - _TIE) * norms
        if len(orders) == factorial(n):
            return float(reached.mean())
        return float((1 + reached.sum()) / (1 + len(orders)))

    def _held(self) -> _Floats:
        """(models, terms) what is held fixed, centred."""
        held = np.concatenate([self.transform(self.values)[:, 2:], self.indicators], axis=1)
        centred: _Floats = held - held.mean(axis=0)
        return centred


def _bca(observed: float, replicates: _Floats, without: _Floats, level: float) -> tuple[float | None, float | None]:
    """Bounds with bias correction and acceleration; none where fewer than half of the resamples have a coefficient."""
    drawn = np.sort(replicates[~np.isnan(replicates)])
    left = without[~np.isnan(without)]
    if 2 * drawn.size < replicates.size or left.size < 2:
        return None, None
    below = ((drawn < observed - _TIE).sum() + (drawn <= observed + _TIE).sum()) / (2 * drawn.size)
    bias = ndtri(np.clip(below, 0.5 / drawn.size, 1 - 0.5 / drawn.size))
    influence = left.mean() - left
    squares = (influence**2).sum() ** 1.5
    acceleration = (influence**3).sum() / (6 * squares) if squares > 0 else 0.0
    z = bias + ndtri(np.array([0.5 - level / 2, 0.5 + level / 2]))
    low, high = np.quantile(drawn, ndtr(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def relation_sentence(row: dict[str, Any]) -> str:
    """One row of :func:`relate` in plain words; only what its numbers support."""
    subject = f"{_words(row['outcome'])} and {_words(row['predictor'])}"
    where = ", ".join(str(row[name]) for name in ("dataset", "method", "region") if row[name] is not None)
    where = f" ({where})" if where else ""
    held = f" at equal {row['controls']}" if row["controls"] else ""
    if row["coefficient"] is None:
        return f"Whether {subject} go together{where}{held} is unknown: {row['caution']}."
    low, high = row["ci_low"], row["ci_high"]
    chance = low is not None and row["p_value"] >= _ALPHA  # among many ties the interval alone is too narrow
    if low is None:
        said = f"Over {row['n_models']} models nothing can be said of whether {subject} go together{where}{held}"
    elif low > 0 and not chance:
        said = f"Over {row['n_models']} models, {subject} rise together{where}{held}"
    elif high < 0 and not chance:
        said = f"Over {row['n_models']} models, one of {subject} falls as the other rises{where}{held}"
    else:
        said = f"Over {row['n_models']} models, {subject} show no clear relation{where}{held}"
    numbers = f"{row['statistic']} {_signed(row['coefficient'])}"
    if low is not None:
        numbers += f", {_signed(low)} to {_signed(high)}"
    numbers += ", permutation p " + ("< 0.001" if row["p_value"] < 0.001 else f"{row['p_value']:.3f}")
    rests = (
        f"; without {row['influential_model']} it is {_signed(row['without_it'])}" if row["influential_model"] else ""
    )
    caution = f"; {row['caution']}" if row["caution"] else ""
    return f"{said} ({numbers}){rests}{caution}."


def _words(column: str) -> str:
    """A metric's heading, or the column's own name."""
    name, adjusted = column.removesuffix("_adjusted"), column.endswith("_adjusted")
    try:
        label = get_metric(name).label
    except UsageError:
        return column.replace("_", " ")
    return f"{label} adjusted for chance" if adjusted else label


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\u2212")
