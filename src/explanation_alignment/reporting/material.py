"""What a report is made of: a run, the view of it that its sections share, and how much of it they take in.

A section must be quick and readable whatever the size of the run. So the sections that go back to single decisions
look at one saliency method, the evidence, and a bounded number of models; each says what it left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Final

import polars as pl

from explanation_alignment.errors import UsageError
from explanation_alignment.metrics.registry import get_metric
from explanation_alignment.reporting.paired import Comparison, compared
from explanation_alignment.runs.parts import part_paths
from explanation_alignment.runs.reader import Run
from explanation_alignment.statistics import summarise, undefined_reasons
from explanation_alignment.statistics.inputs import without_nulls
from explanation_alignment.statistics.leaderboards import leaderboard
from explanation_alignment.statistics.relying.region_reliance import reliance
from explanation_alignment.statistics.tables import metric_columns

__all__ = ["Comparison", "Material"]

#: Models that the sections about single decisions show.
_MODELS: Final = 12
#: Datasets and regions they show.
_DATASETS: Final = 8
_REGIONS: Final = 6
#: Rows of scores they read; some 10 s of work.
_MOST_ROWS: Final = 2_000_000
#: Rows of scores up to which the reasons for undefined scores are counted.
_MOST_ROWS_FOR_REASONS: Final = 20_000_000
_LEVEL: Final = 0.95


class Material:
    """A run, and the view of it that a report's sections share.

    Args:
        run: an open run.
        reliance: what :func:`~explanation_alignment.statistics.relying.region_reliance.reliance` gave for it, where an
            experiment knows of interventions that the run itself does not tell; computed by default.

    Attributes:
        run: the run.
        summary: its summary.
        level: nominal coverage of all intervals.
        toy: whether any of its data is generated.
    """

    #: What names a decision of one method.
    DECISION: ClassVar = ("model", "seed", "dataset", "sample_id", "target", "method", "binarization")

    def __init__(self, run: Run, reliance: pl.DataFrame | None = None) -> None:
        self.run = run
        self.summary = run.summary()
        self.level = _LEVEL
        self.toy = bool(run.info["toy"])
        self._given_reliance = reliance

    # ------------------------------------------------------------------------------------------- what is shown

    @cached_property
    def metrics(self) -> list[str]:
        """The run's metrics, in the registry's order."""
        return metric_columns(self.summary["metric"].unique().to_list())

    @property
    def metric(self) -> str:
        """The metric that ranks: the first one."""
        return self.metrics[0]

    @cached_property
    def higher_is_better(self) -> bool:
        """Whether agreement raises it; so it is for metrics that are not registered."""
        try:
            return get_metric(self.metric).higher_is_better
        except UsageError:
            return True

    @cached_property
    def method(self) -> tuple[str, str]:
        """The method and binarization that the sections about single decisions show: the first that was asked for."""
        there = set(without_nulls(self.summary).select("method", "binarization").iter_rows())
        for item in self.run.evaluations.values():
            for asked in item["methods"]:
                if (asked["method"], asked["binarization"]) in there:
                    return asked["method"], asked["binarization"]
        return min(there)

    @cached_property
    def method_words(self) -> str:
        """That method, in words for a caption."""
        name, binarization = self.method
        return f"{name} ({binarization})"

    @cached_property
    def several_methods(self) -> bool:
        """Whether there are others beside that one, or other binarizations of it."""
        return without_nulls(self.summary).select("method", "binarization").n_unique() > 1

    @property
    def first(self) -> Mapping[str, str]:
        """What charts show before anything is picked: the main view."""
        return {"method": self.method_words, "region": self.regions[0], "dataset": self.datasets[0]}

    @cached_property
    def target(self) -> str:
        """The class that is explained in the rows shown: the predicted one, or the first there is."""
        targets = list(dict.fromkeys(item["question"]["target"] for item in self.run.evaluations.values()))
        return "predicted" if "predicted" in targets else targets[0]

    @cached_property
    def regions(self) -> list[str]:
        """The regions shown where decisions are grouped: the evidence, else all; at most a handful."""
        return self._regions_there[0][:_REGIONS]

    @property
    def _regions_there(self) -> tuple[list[str], str]:
        """The regions that may be shown, and what they are: the evidence, else all."""
        there = self.summary["region"].unique().sort().to_list()
        evidence = [region for region in self.run.evidence if region in there]
        return (evidence, "regions of the evidence") if evidence else (there, "regions")

    @cached_property
    def datasets(self) -> list[str]:
        """The datasets shown, in the run's order."""
        there = set(self.summary["dataset"])
        return [name for name in self.run.info["datasets"] if name in there][:_DATASETS]

    @cached_property
    def models(self) -> list[str]:
        """The models whose decisions are shown: all of a few, else the most accurate, as many as are read quickly."""
        ranked = (
            self.summary.group_by("model", maintain_order=True)
            .agg(pl.col("accuracy").mean())
            .sort("accuracy", "model", descending=[True, False], nulls_last=True)["model"]
            .to_list()
        )
        taken: list[str] = []
        rows = 0
        for model in ranked[:_MODELS]:
            rows += sum(_rows_a_method(item, self._n_regions(item)) for item in self._asked_of(model))
            if taken and rows > _MOST_ROWS:
                break
            taken.append(model)
        return [model for model in self.summary["model"].unique(maintain_order=True) if model in taken]

    @cached_property
    def bounds_note(self) -> str | None:
        """Which models, datasets and regions the sections about single decisions leave out; None if none."""
        regions, what = self._regions_there
        few = len(self.regions) < len(regions)
        return _shown([*self._bounds, *([f"{len(self.regions)} of {len(regions)} {what}, the first"] if few else [])])

    @cached_property
    def rows_note(self) -> str | None:
        """The same of ``rows``, which have every region."""
        return _shown(self._bounds)

    @cached_property
    def _bounds(self) -> list[str]:
        parts = []
        for shown, there, words in (
            (self.models, self.summary["model"].n_unique(), "models, the most accurate"),
            (self.datasets, self.summary["dataset"].n_unique(), "datasets, the first"),
        ):
            if len(shown) < there:
                parts.append(f"{len(shown)} of {there} {words}")
        return parts

    @cached_property
    def pools_seeds(self) -> bool:
        """Whether there are several seeds of a model, which are then taken together."""
        return bool((self.summary.group_by("model").agg(pl.col("seed").n_unique())["seed"] > 1).any())

    def class_word(self, dataset: str, index: int | None) -> str:
        """A class in words: its name, or its index where it has none."""
        names: Sequence[str] = self.run.info["datasets"].get(dataset, {}).get("class_names") or ()
        if index is None:
            return "no prediction"
        return str(names[index]) if 0 <= index < len(names) else str(index)

    # ------------------------------------------------------------------------------------------- means

    @cached_property
    def whole(self) -> pl.DataFrame:
        """The summary's rows of all decisions, of methods that explain a model and the datasets shown."""
        return self._of_all(self.summary)

    @cached_property
    def pooled(self) -> pl.DataFrame:
        """The same with a model's seeds taken together."""
        return self._of_all(self.run.summary(pool_seeds=True, level=self.level)) if self.pools_seeds else self.whole

    def _of_all(self, summary: pl.DataFrame) -> pl.DataFrame:
        every = "all" if "all" in summary["group"] else f"target={self.target}"
        return without_nulls(summary.filter(pl.col("group") == every, pl.col("dataset").is_in(self.datasets)))

    @cached_property
    def board(self) -> pl.DataFrame | None:
        """The leaderboard: a row a model, dataset, method and region; None where no target is the main one."""
        if "all" not in self.summary["group"]:
            return None
        return leaderboard(self.run, sort="top1", pool_seeds=self.pools_seeds, all_keys=True, level=self.level)

    def by(self, column: str, metrics: Sequence[str] | None = None) -> pl.DataFrame:
        """The means of the rows shown in the groups of a column, without those of all decisions."""
        table = summarise(
            self.shown_rows,
            by=[column],
            metrics=list(metrics or self.metrics),
            pool_seeds=self.pools_seeds,
            level=self.level,
            populations=None if self.pools_seeds else self.run.populations,
        )
        prefix = f"target={self.target}, "  # where the run's only target is another than the predicted class
        return table.with_columns(pl.col("group").str.strip_prefix(prefix)).filter(pl.col("group").str.contains("="))

    # ------------------------------------------------------------------------------------------- decisions

    @cached_property
    def rows(self) -> pl.DataFrame:
        """The scores of the models and datasets shown, of the method and target shown, in all regions."""
        method, binarization = self.method
        return self._rows(pl.col("method") == method, pl.col("binarization") == binarization)

    @cached_property
    def shown_rows(self) -> pl.DataFrame:
        """``rows`` of the regions shown."""
        return self.rows.filter(pl.col("region").is_in(self.regions))

    def _rows(self, *conditions: pl.Expr) -> pl.DataFrame:
        slugs = [
            slug
            for slug, item in self._written.items()
            if item["question"]["model"] in self.models and item["question"]["dataset"] in self.datasets
        ]
        words = pl.col("model", "dataset", "target", "method", "binarization", "region", "status").cast(pl.String)
        with self.run.reading():
            return self.run.scan_scores(slugs).with_columns(words).filter(*conditions).collect()

    @cached_property
    def _written(self) -> Mapping[str, Mapping[str, Any]]:
        """Evaluations of the target shown that have scores."""
        return {
            slug: item
            for slug, item in self.run.evaluations.items()
            if item["question"]["target"] == self.target and part_paths(self.run.path / "scores" / slug)
        }

    @cached_property
    def comparison(self) -> Comparison | None:
        """Models compared on the same images, or the methods of the only one; None where there is nothing to."""
        one = self.summary["model"].n_unique() == 1
        rows = self._rows(pl.col("region").is_in(self.regions)) if one else self.shown_rows
        return compared(rows, self.metric, over_seeds=self.pools_seeds)

    @cached_property
    def reliance(self) -> pl.DataFrame | None:
        """The ranking of regions; None where the main metric has no chance level, so that there is none."""
        if self._given_reliance is not None:
            return self._given_reliance if self._given_reliance.height else None
        try:
            chance = get_metric(self.metric).chance
        except UsageError:
            return None
        regions = set(self.rows["region"])
        declared = {
            name: [region for region in self.run.info["datasets"][name]["evidence"] if region in regions]
            for name in self.rows["dataset"].unique().sort()
        }
        if chance is None:
            return None
        found = reliance(self.rows, evidence=declared, metric=self.metric, level=self.level)
        return found if found.height else None

    @property
    def reliance_is_own(self) -> bool:
        """Whether the ranking of regions is of the models shown here, not an experiment's."""
        return self._given_reliance is None

    # ------------------------------------------------------------------------------------------- what is missing

    @cached_property
    def reasons(self) -> pl.DataFrame | None:
        """Why scores are undefined, counted; None where there are too many rows to look."""
        missing = self.summary.filter(pl.col("n_undefined") > 0)
        keys = set(missing.select("model", "seed", "dataset").iter_rows())
        items = {
            slug: item
            for slug, item in self._written.items()
            if tuple(item["question"][name] for name in ("model", "seed", "dataset")) in keys
        }
        rows = sum(_rows_a_method(item, self._n_regions(item)) * len(item["methods"]) for item in items.values())
        if rows > _MOST_ROWS_FOR_REASONS:
            return None
        with self.run.reading():
            parts = [undefined_reasons(self.run.scan_scores([slug])) for slug in items]
        return pl.concat(parts) if parts else pl.DataFrame()

    @cached_property
    def errors(self) -> pl.DataFrame:
        """model, dataset, message, n: images that could not be read, counted, the most frequent first."""
        slugs = [slug for slug, item in self._written.items() if (item["status_counts"] or {}).get("error", 1)]
        if not slugs:
            return pl.DataFrame()
        words = [pl.col(name).cast(pl.String) for name in ("model", "dataset", "message")]
        failed = self.run.scan_scores(slugs).filter(pl.col("status").cast(pl.String) == "error")
        with self.run.reading():
            return (
                failed.group_by(words)
                .agg(n=pl.col("sample_id").n_unique())
                .sort("n", "model", "dataset", "message", descending=[True, False, False, False])
                .collect()
            )

    # ------------------------------------------------------------------------------------------- pictures

    @cached_property
    def examples(self) -> pl.DataFrame:
        """The decisions kept with pictures, words as String; without a column where there are none."""
        table = self.run.examples()
        words = (*self.DECISION, "region", "status")
        return table.with_columns(
            pl.col(name).cast(pl.String) for name in words if name in table.columns and name != "seed"
        )

    @cached_property
    def annotations(self) -> Mapping[tuple[Any, ...], bytes | None]:
        """Key of a decision of one method, and region -> its annotation as PNG."""
        if self.examples.is_empty():
            return {}
        columns = self.examples.select(*self.DECISION, "region", "annotation")
        return {row[:-1]: row[-1] for row in columns.iter_rows()}

    def _asked_of(self, model: str) -> list[Mapping[str, Any]]:
        return [item for item in self.run.evaluations.values() if item["question"]["model"] == model]

    def _n_regions(self, item: Mapping[str, Any]) -> int:
        return len(self.run.info["datasets"].get(item["question"]["dataset"], {}).get("regions", ())) or 1


def _shown(parts: Sequence[str]) -> str | None:
    return f"Shown: {'; '.join(parts)}." if parts else None


def _rows_a_method(item: Mapping[str, Any], regions: int) -> int:
    """Rows an evaluation has for each of its methods."""
    return int(item["details"]["samples"]) * regions
