"""Reads a run: its record, its rows, its summary, its models and examples, as polars tables."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from explanation_alignment.errors import RunError, UsageError
from explanation_alignment.runs.examples import read_examples
from explanation_alignment.runs.files import read_json, write_atomically
from explanation_alignment.runs.schema import ATTRIBUTE_PREFIX, FORMAT_VERSION, SUMMARY_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Run", "open_run"]

_SUMMARY_KEY = "explanation_alignment.summary"


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
            reason = "no such folder" if not self.path.is_dir() else "it holds no run.json"
            raise RunError(f"{self.path} is not a run: {reason}")
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
    def evidence(self) -> tuple[str, ...]:
        """Regions any of its datasets declares as evidence."""
        return tuple(sorted({region for item in self.info["datasets"].values() for region in item["evidence"]}))

    def scan_scores(self, slugs: Sequence[str] | None = None) -> pl.LazyFrame:
        """All rows, lazily; columns as in ``runs.schema``, missing ones (other attributes) null.

        Args:
            slugs: only those evaluations.

        Raises:
            RunError: if there are no rows yet.
        """
        chosen = self.evaluations if slugs is None else slugs
        folders = [self.path / "scores" / slug for slug in chosen]
        frames = [
            pl.scan_parquet(sorted(parts)) for folder in folders if (parts := list(folder.glob("unit-*.parquet")))
        ]
        if not frames:
            raise RunError(f"{self.path} holds no scores yet; run the command that made it again to resume")
        return pl.concat(frames, how="diagonal")

    def scores(self) -> pl.DataFrame:
        """All rows: one a decision, method and region."""
        try:
            return self.scan_scores().collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise RunError(f"{self.path}: a part of the scores cannot be read ({error})") from error

    def summary(self, by: Sequence[str] = ()) -> pl.DataFrame:
        """Explanation alignment of every model, seed, dataset, method, region and metric.

        Args:
            by: columns to add groups for: ``correct``, ``label``, or an attribute (``attr_x`` or ``x``).

        Returns:
            One row a group and metric: mean, 95 % interval, chance, ceiling, adjusted value, number
            of defined and undefined scores, accuracy. The rows of the group ``all`` are kept in
            ``summary.parquet`` and recomputed only for evaluations that changed.
        """
        from explanation_alignment.statistics.summary import summarise

        if by:
            known = self.scan_scores().collect_schema().names()
            columns = [name if name in known else ATTRIBUTE_PREFIX + name for name in by]
            for name, column in zip(by, columns, strict=True):
                if column not in known:
                    choices = [
                        name.removeprefix(ATTRIBUTE_PREFIX) for name in known if name.startswith(ATTRIBUTE_PREFIX)
                    ]
                    raise UsageError(f"no column {name!r} to group by; choose correct, label or {', '.join(choices)}")
            tables = [summarise(self.scan_scores([slug]), by=columns) for slug in self.evaluations if self._stamp(slug)]
            return pl.concat(tables).sort(*SUMMARY_SCHEMA.names()[:7], maintain_order=True)
        return self._kept_summary()

    def models(self) -> pl.DataFrame:
        """One row a classifier: spec, weights digest, parameters, input size, crop, layer."""
        return self._table("models.parquet")

    def examples(self) -> pl.DataFrame:
        """Up to 200 decisions with pictures: key and scores, and PNG bytes in ``image``, ``annotation``,
        ``saliency`` (scaled to its own range) and ``salient`` (binarized).
        """
        folders = [self.path / "examples" / slug for slug in self.evaluations]
        tables = [read_examples(folder) for folder in folders if (folder / "decisions.parquet").is_file()]
        return pl.concat(tables, how="diagonal") if tables else pl.DataFrame()

    def _table(self, name: str) -> pl.DataFrame:
        try:
            return pl.read_parquet(self.path / name)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise RunError(f"{self.path / name}: cannot be read ({error})") from error

    def _kept_summary(self) -> pl.DataFrame:
        from explanation_alignment.statistics.summary import summarise

        if len({item["question"]["target"] for item in self.evaluations.values()}) > 1:
            return summarise(self.scan_scores())  # which keeps targets apart by group; evaluations alone cannot
        path = self.path / "summary.parquet"
        stamps = {slug: self._stamp(slug) for slug in self.evaluations}
        stamps = {slug: stamp for slug, stamp in stamps.items() if stamp}
        kept, kept_stamps = pl.DataFrame(schema=SUMMARY_SCHEMA).with_columns(slug=pl.lit("")), {}
        if path.is_file():
            try:
                kept_stamps = json.loads(pl.read_parquet_metadata(path).get(_SUMMARY_KEY, "{}"))
                kept = pl.read_parquet(path)
            except (OSError, ValueError, pl.exceptions.PolarsError):
                kept_stamps = {}
        if kept_stamps == stamps and kept_stamps:
            return kept.select(SUMMARY_SCHEMA.names())
        current = [slug for slug, stamp in stamps.items() if kept_stamps.get(slug) == stamp]
        tables = [kept.filter(pl.col("slug").is_in(current))]
        tables += [
            summarise(self.scan_scores([slug])).with_columns(slug=pl.lit(slug))
            for slug in stamps
            if slug not in current
        ]
        table = pl.concat(tables, how="vertical").sort(*SUMMARY_SCHEMA.names()[:7], maintain_order=True)
        if not stamps:
            raise RunError(f"{self.path} holds no scores yet; run the command that made it again to resume")
        content = {_SUMMARY_KEY: json.dumps(stamps, sort_keys=True)}
        with contextlib.suppress(RunError):  # a run on a read-only disk can still be summarised
            write_atomically(path, lambda place: table.write_parquet(place, metadata=content))
        return table.select(SUMMARY_SCHEMA.names())

    def _stamp(self, slug: str) -> str:
        """A digest of the parts an evaluation consists of; empty while it has none."""
        parts = sorted((self.path / "scores" / slug).glob("unit-*.parquet"))
        sha = hashlib.sha256()
        for part in parts:
            with part.open("rb") as handle:
                sha.update(part.name.encode() + hashlib.file_digest(handle, "sha256").digest())
        return sha.hexdigest() if parts else ""


def open_run(path: str | Path) -> Run:
    """Open a run folder for reading.

    Raises:
        RunError: if it is no run, or one of a newer format.
    """
    return Run(path)
