"""Reads a run: its record, its rows, its summary, its models and examples, as polars tables."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from explanation_alignment.errors import RunError, UnknownNameError
from explanation_alignment.paths import not_found
from explanation_alignment.runs.examples import read_examples
from explanation_alignment.runs.files import read_json, write_frame
from explanation_alignment.runs.parts import has_scores, part_files
from explanation_alignment.runs.saved_maps import SavedMap, read_maps, unit_files
from explanation_alignment.runs.schema import FORMAT_VERSION, SUMMARY_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Run", "open_run", "read_kept_summary"]

_Part = TypeVar("_Part")

_SUMMARY_KEY = "explanation_alignment.summary"
#: Raised when the numbers of a summary change for the same scores, so that those kept by an older version are renewed.
_SUMMARY_VERSION = 2
#: Coverage of the intervals that are kept.
_KEPT_LEVEL = 0.95
#: Runs inside a folder that is none itself, at most, that an error names.
_INSIDE = 5


class Run:
    """A run folder, opened for reading. Get one from :func:`open_run`.

    Args:
        path: the folder.

    Raises:
        RunError: if it is no run, or one of a newer format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "run.json").is_file():
            if not self.path.is_dir():
                raise not_found(RunError, "run", path)
            inside = sorted(item.parent.name for item in itertools.islice(self.path.glob("*/run.json"), _INSIDE))
            hint = f"; runs in it: {', '.join(inside)}" if inside else ""
            raise RunError(f"{self.path} is not a run: it holds no run.json{hint}", exit_code=2)
        version = self.info.get("format_version")
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise RunError(f"{self.path}: run format {version!r}, this version reads up to {FORMAT_VERSION}; upgrade")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, evaluations={len(self.evaluations)})"

    @cached_property
    def info(self) -> dict[str, Any]:
        """The content of run.json when it was first looked at."""
        return read_json(self.path / "run.json")

    @property
    def evaluations(self) -> Mapping[str, Mapping[str, Any]]:
        """Folder name under ``scores/`` -> what was asked there."""
        evaluations: Mapping[str, Mapping[str, Any]] = self.info["evaluations"]
        return evaluations

    @property
    def unfinished(self) -> list[str]:
        """Evaluations that were begun and not finished."""
        return [slug for slug, item in self.evaluations.items() if item["finished"] is None]

    @property
    def failures(self) -> Mapping[str, str]:
        """Classifiers that could not be evaluated -> why, of the last time each was asked for."""
        failures: Mapping[str, str] = self.info.get("failures", {})
        return failures

    def no_scores(self) -> RunError:
        """The error for a run without a row: why, as far as it is known, and what to do."""
        reasons = "".join(f"; {model}: {reason}" for model, reason in self.failures.items())
        return RunError(f"{self.path} holds no scores yet; run the command that made it again to resume{reasons}")

    @property
    def evidence(self) -> tuple[str, ...]:
        """Regions any of its datasets declares as evidence."""
        return tuple(sorted({region for item in self.info["datasets"].values() for region in item["evidence"]}))

    def scan_scores(self, slugs: Sequence[str] | None = None) -> pl.LazyFrame:
        """All rows, lazily; columns as in ``runs.schema``, missing ones (other attributes) null.

        An attribute that is of another type in another dataset is brought to a type that holds both, text if need be.

        Args:
            slugs: only those evaluations.

        Raises:
            RunError: if there are no rows yet.
        """
        chosen = self.evaluations if slugs is None else slugs
        folders = [self.path / "scores" / slug for slug in chosen]
        frames = [pl.scan_parquet(parts, glob=False) for folder in folders if (parts := part_files(folder))]
        if not frames:
            raise self.no_scores()
        return pl.concat(frames, how="diagonal_relaxed")

    def scores(self) -> pl.DataFrame:
        """All rows: one a decision, method and region."""
        with self.reading():
            return self.scan_scores().collect()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """What goes wrong in reading rows becomes a :class:`RunError`."""
        try:
            yield
        except (pl.exceptions.PolarsError, OSError) as error:
            raise RunError(f"{self.path}: a part of the scores cannot be read ({error})") from error

    def summary(
        self,
        by: Sequence[str] = (),
        *,
        level: float = 0.95,
        cluster: str | None = None,
        pool_seeds: bool = False,
        metrics: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Explanation alignment of every model, seed, dataset, method, region and metric.

        Args:
            by: columns to add groups for: ``correct``, ``label``, ``annotation_size`` (strata by the annotation's share
                of the image), or an attribute (``attr_x`` or ``x``).
            level: nominal coverage of the intervals.
            cluster: what is drawn anew in an interval in place of the image: ``class``, or an attribute.
            pool_seeds: one row for all seeds of a model (``seed`` null), its interval for images and seeds.
            metrics: those alone; all by default.

        Returns:
            One row a group and metric, with the columns of ``SUMMARY_SCHEMA``: mean, interval, chance, ceiling,
            adjusted value, number of defined and undefined scores, accuracy, whether the interval is unreliable, lift,
            and excess over the centre. The rows of the group ``all``, with intervals of 95 %, are kept in
            ``summary.parquet`` and recomputed only for evaluations that changed, unless the run has several targets.

        Raises:
            RunError: if there are no scores yet.
            UnknownNameError: there is no such group, cluster or metric.
            UsageError: the level is not between 0 and 1.
        """
        from explanation_alignment.statistics.summary import summarise
        from explanation_alignment.statistics.tables import metric_columns

        parts = self._parts(pool_seeds)
        with self.reading():
            whole = self.scan_scores().collect_schema()
            known = metric_columns(whole.names())
            for metric in metrics or ():
                if metric not in known:
                    raise UnknownNameError("metric of these scores", metric, known)
            if not (by or cluster or pool_seeds) and level == _KEPT_LEVEL:
                kept = self._kept_summary()
                return kept if metrics is None else kept.filter(pl.col("metric").is_in(list(metrics)))

            def summary_of(slugs: list[str]) -> pl.DataFrame:
                rows = self.scan_scores(slugs)
                own = rows.collect_schema().names()
                # what other evaluations have and these have not is null here, and a metric they lack no row
                absent = [name for name in whole.names() if name not in own and name not in known]
                rows = rows.with_columns(pl.lit(None, whole[name]).alias(name) for name in absent)
                chosen = [name for name in metrics or known if name in own]
                return summarise(
                    rows,
                    by=by,
                    metrics=chosen,
                    level=level,
                    cluster=cluster,
                    pool_seeds=pool_seeds,
                    populations=self.populations,
                )

            return pl.concat(_each(summary_of, parts)).sort(*SUMMARY_SCHEMA.names()[:6], maintain_order=True)

    def _parts(self, pool_seeds: bool) -> list[list[str]]:
        """The evaluations that are summarised together: each alone where nothing links them, to save memory."""
        written = [slug for slug in self.evaluations if has_scores(self.path, slug)]
        if not written:
            raise self.no_scores()
        if self._targets > 1:
            return [written]  # which target is the main one is a question to all of them
        names = ("model", "dataset") if pool_seeds else ("model", "dataset", "seed")
        parts: dict[tuple[Any, ...], list[str]] = {}
        for slug in written:
            question = self.evaluations[slug]["question"]
            parts.setdefault(tuple(question[name] for name in names), []).append(slug)
        return list(parts.values())

    @property
    def _targets(self) -> int:
        return len({item["question"]["target"] for item in self.evaluations.values()})

    @property
    def populations(self) -> dict[tuple[Any, ...], list[int]]:
        """(model, seed, dataset, target) of class-balanced samples -> images of each class in the dataset, those
        without a label last; what :func:`~explanation_alignment.statistics.summarise` needs to speak of all of them.
        """
        found = {}
        for item in self.evaluations.values():
            question = item["question"]
            if (population := self._population(question)) is not None:
                found[tuple(question[name] for name in ("model", "seed", "dataset", "target"))] = population
        return found

    def _population(self, question: Mapping[str, Any]) -> list[int] | None:
        """How many images of each class an evaluation's sample was drawn from; None where it is no sample."""
        dataset = self.info["datasets"].get(question["dataset"], {})
        counts: list[int] | None = dataset.get("class_counts")
        size = question.get("sample")
        if size is None or counts is None or dataset["fingerprint"] != question["dataset_fingerprint"]:
            return None
        return counts if size < sum(counts) else None

    def models(self) -> pl.DataFrame:
        """One row a classifier: spec, weights digest, parameters, input size, crop, layer."""
        return self._table("models.parquet")

    def maps(
        self,
        model: str | None = None,
        method: str | None = None,
        sample_ids: Collection[str] | None = None,
        *,
        dataset: str | None = None,
    ) -> Iterator[SavedMap]:
        """The saliency maps of its decisions, one after another, where they were kept (``--save-maps``).

        Args:
            model: those of one model; all by default.
            method: those of one method, with its arguments as in the tables.
            sample_ids: those of these samples; what else there is is not read.
            dataset: those on one dataset.

        Yields:
            Maps of float32, evaluation by evaluation in the order of the samples; none for samples that could not be
            read.

        Raises:
            UnknownNameError: the run has no such model, method or dataset.
            RunError: no maps were kept, or a file is damaged.
        """
        asked = {"model": model, "dataset": dataset}
        for name, value in asked.items():
            known = {item["question"][name] for item in self.evaluations.values()}
            if value is not None and value not in known:
                raise UnknownNameError(f"{name} of this run", value, known)
        methods = {each["method"] for item in self.evaluations.values() for each in item["methods"]}
        if method is not None and method not in methods:
            raise UnknownNameError("method of this run", method, methods)
        files = {
            slug: found
            for slug, item in self.evaluations.items()
            if all(value in (None, item["question"][name]) for name, value in asked.items())
            and (found := unit_files(self.path / "maps" / slug))
        }
        if not files:
            raise RunError(f"{self.path} holds no maps of these; the command that made it keeps them with --save-maps")
        for slug, paths in files.items():
            key = {name: self.evaluations[slug]["question"][name] for name in ("model", "seed", "dataset", "target")}
            for path in paths:
                wanted = None if method is None else [method]
                for sample_id, name, saliency in read_maps(path, methods=wanted, sample_ids=sample_ids):
                    if saliency is not None:
                        yield SavedMap(**key, sample_id=sample_id, method=name, saliency=saliency)

    def examples(self) -> pl.DataFrame:
        """Up to 200 decisions with pictures: key and scores, and PNG bytes in ``image``, ``annotation``,
        ``saliency`` (scaled to its own range) and ``salient`` (binarized).
        """
        folders = [self.path / "examples" / slug for slug in self.evaluations]
        tables = [read_examples(folder) for folder in folders if (folder / "decisions.parquet").is_file()]
        return pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame()

    def _table(self, name: str) -> pl.DataFrame:
        try:
            return pl.read_parquet(self.path / name, glob=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise RunError(f"{self.path / name}: cannot be read ({error})") from error

    def _kept_summary(self) -> pl.DataFrame:
        from explanation_alignment.statistics.summary import summarise

        if self._targets > 1:
            # which keeps targets apart by group; evaluations alone cannot, and so an earlier one is not renewed
            with contextlib.suppress(OSError):
                (self.path / "summary.parquet").unlink(missing_ok=True)
            return summarise(self.scan_scores(), populations=self.populations)
        path = self.path / "summary.parquet"
        stamps = {slug: self.stamp(slug) for slug in self.evaluations}
        stamps = {slug: stamp for slug, stamp in stamps.items() if stamp}
        kept, kept_stamps = read_kept_summary(path)
        if kept_stamps == stamps and kept_stamps:
            return kept.select(SUMMARY_SCHEMA.names())
        current = [slug for slug, stamp in stamps.items() if kept_stamps.get(slug) == stamp]
        tables = [kept.filter(pl.col("slug").is_in(current))]
        tables += _each(
            lambda slug: summarise(self.scan_scores([slug]), populations=self.populations).with_columns(
                slug=pl.lit(slug)
            ),
            [slug for slug in stamps if slug not in current],
        )
        table = pl.concat(tables, how="vertical").sort(*SUMMARY_SCHEMA.names()[:7], maintain_order=True)
        if not stamps:
            raise self.no_scores()
        content = {_SUMMARY_KEY: json.dumps({"version": _SUMMARY_VERSION, "stamps": stamps}, sort_keys=True)}
        with contextlib.suppress(RunError):  # a run on a read-only disk can still be summarised
            write_frame(path, table, content)
        return table.select(SUMMARY_SCHEMA.names())

    def stamp(self, slug: str) -> str:
        """A digest of an evaluation's parts and of what they are a sample of; empty while it has none."""
        parts = part_files(self.path / "scores" / slug)
        sha = hashlib.sha256()
        for part in parts:
            with part.open("rb") as handle:
                sha.update(part.name.encode() + hashlib.file_digest(handle, "sha256").digest())
        if (population := self._population(self.evaluations[slug]["question"])) is not None:
            sha.update(json.dumps(population).encode())
        return sha.hexdigest() if parts else ""


def _each(summary_of: Callable[[_Part], pl.DataFrame], parts: Sequence[_Part]) -> list[pl.DataFrame]:
    """The summaries of parts of a run, in their order; a few at a time, since NumPy and polars leave Python free."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(summary_of, parts))


def read_kept_summary(path: Path) -> tuple[pl.DataFrame, dict[str, str]]:
    """The kept summary and the stamps of what it was made of; empty where there is none that this version made."""
    schema = pl.Schema(dict(SUMMARY_SCHEMA) | {"slug": pl.String()})
    try:
        content = json.loads(pl.read_parquet_metadata(path).get(_SUMMARY_KEY, "{}"))
        kept = pl.read_parquet(path, glob=False)
    except (OSError, ValueError, pl.exceptions.PolarsError):
        content, kept = {}, pl.DataFrame()
    if content.get("version") != _SUMMARY_VERSION or kept.schema != schema:
        return pl.DataFrame(schema=schema), {}
    return kept, content["stamps"]


def open_run(path: str | Path) -> Run:
    """Open a run folder for reading.

    Raises:
        RunError: if it is no run, or one of a newer format.
    """
    return Run(path)
