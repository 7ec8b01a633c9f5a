"""A run as it is right now: its evaluations, their parts, and what an address may name.

A run can grow while it is looked at. Parts are written whole and never changed, so a catalogue looks for new ones and
keeps the rest; what was made of a snapshot is known by its stamp.
"""

from __future__ import annotations

import hashlib
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import polars as pl

from explanation_alignment.errors import RunError
from explanation_alignment.explorer.addresses.vocabulary import Vocabulary
from explanation_alignment.runs.parts import part_files
from explanation_alignment.runs.reader import Run, open_run
from explanation_alignment.runs.schema import ATTRIBUTE_PREFIX
from explanation_alignment.statistics.tables import metric_columns

__all__ = ["ATTRIBUTE_VALUES", "Catalogue", "Evaluation", "Part", "Snapshot", "collect_some", "heights", "own_files"]

#: Values of an attribute that are offered; with more, one is typed.
ATTRIBUTE_VALUES: Final = 60
#: Frames that are collected together.
_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Part:
    """A file of rows.

    Args:
        path: where it is.
        changed: when, nanoseconds; with the size tells whether it is still the same file.
        size: bytes.
    """

    path: Path
    changed: int
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """An evaluation that has rows.

    Args:
        slug: name of its folder.
        model: its classifier.
        seed: of training.
        dataset: its name.
        target: what was explained.
        methods: (method, binarization) pairs of its rows.
        regions: of its dataset.
        finished: whether all its parts are written.
        parts: in their order.
        schema: columns of its rows.
    """

    slug: str
    model: str
    seed: int
    dataset: str
    target: str
    methods: tuple[tuple[str, str], ...]
    regions: tuple[str, ...]
    finished: bool
    parts: tuple[Part, ...]
    schema: pl.Schema

    def scan(self) -> pl.LazyFrame:
        """Its rows with their place among them, ``_row``."""
        return pl.scan_parquet([part.path for part in self.parts], row_index_name="_row", glob=False)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A run at one time.

    Args:
        run: the run, opened then.
        evaluations: those that have rows.
        stamp: differs where evaluations or parts differ.
    """

    run: Run
    evaluations: tuple[Evaluation, ...]
    stamp: str

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.run.path.resolve().name

    @property
    def toy(self) -> bool:
        """Whether any of its data is generated."""
        return bool(self.run.info.get("toy")) or any(d.get("toy") for d in self.datasets.values())

    @property
    def datasets(self) -> Mapping[str, Mapping[str, Any]]:
        """What is recorded of each dataset."""
        found: Mapping[str, Mapping[str, Any]] = self.run.info.get("datasets") or {}
        return found

    @cached_property
    def by_slug(self) -> dict[str, Evaluation]:
        """Evaluations by their folder's name."""
        return {one.slug: one for one in self.evaluations}

    def binarization(self, method: str, binarization: str) -> str | None:
        """What a link to this method needs to say of its binarization: nothing where it has only the one."""
        return binarization if len(self.vocabulary.methods.get(method, ())) > 1 else None

    @cached_property
    def columns(self) -> dict[str, pl.DataType]:
        """Column -> type, of all evaluations together."""
        return {name: kind for one in reversed(self.evaluations) for name, kind in one.schema.items()}

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What an address may name."""
        methods: dict[str, dict[str, None]] = {}
        regions: dict[str, dict[str, None]] = {}
        for one in self.evaluations:
            for method, binarization in one.methods:
                methods.setdefault(method, {})[binarization] = None
            for region in one.regions:
                regions.setdefault(region, {})[one.dataset] = None
        datasets = dict.fromkeys(one.dataset for one in self.evaluations)
        evidence = {region for name in datasets for region in self.datasets.get(name, {}).get("evidence") or ()}
        ordered = sorted(regions, key=lambda region: region not in evidence)
        names = [name for name in self.columns if name.startswith(ATTRIBUTE_PREFIX)]
        return Vocabulary(
            models=tuple(dict.fromkeys(one.model for one in self.evaluations)),
            families=self._families(),
            seeds=tuple(sorted({one.seed for one in self.evaluations})),
            datasets={name: tuple(self.datasets.get(name, {}).get("class_names") or ()) for name in datasets},
            targets=tuple(dict.fromkeys(one.target for one in self.evaluations)),
            methods={name: tuple(values) for name, values in methods.items()},
            regions={name: tuple(regions[name]) for name in ordered},
            evidence=tuple(region for region in ordered if region in evidence),
            metrics=tuple(metric_columns(self.columns)),
            attributes=tuple(name.removeprefix(ATTRIBUTE_PREFIX) for name in names),
        )

    def _families(self) -> tuple[str, ...]:
        if not (self.run.path / "models.parquet").is_file():
            return ()
        models = self.run.models()
        return tuple(sorted(models["family"].drop_nulls().unique())) if "family" in models.columns else ()

    @cached_property
    def attribute_values(self) -> dict[str, tuple[str, ...]]:
        """Attribute -> its values as text, sorted; none where there are more than ``ATTRIBUTE_VALUES``.

        Attributes belong to the images: the evaluation of a dataset with the most parts tells them.
        """
        largest: dict[str, Evaluation] = {}
        for one in self.evaluations:
            if one.dataset not in largest or len(one.parts) > len(largest[one.dataset].parts):
                largest[one.dataset] = one
        values: dict[str, set[str]] = {}
        for one in largest.values():
            names = [name for name in one.schema if name.startswith(ATTRIBUTE_PREFIX)]
            if not names:
                continue
            distinct = [
                pl.col(name).cast(pl.String).fill_null("null").unique().head(ATTRIBUTE_VALUES + 1).implode()
                for name in names
            ]
            row = one.scan().select(distinct).collect().row(0, named=True)
            for name in names:
                values.setdefault(name.removeprefix(ATTRIBUTE_PREFIX), set()).update(row[name])
        return {name: tuple(sorted(found)) if len(found) <= ATTRIBUTE_VALUES else () for name, found in values.items()}


class Catalogue:
    """Knows what a run holds, and looks again as it grows.

    Args:
        path: the run's folder.
        patience: seconds for which what was found is taken to be still so.

    Raises:
        RunError: it is no run.
    """

    def __init__(self, path: str | Path, patience: float = 1.0) -> None:
        self._path, self._patience = Path(path), patience
        self._lock = threading.Lock()
        self._schemas: dict[Part, tuple[pl.Schema, tuple[tuple[str, str], ...], tuple[str, ...]]] = {}
        self._looked = -float("inf")
        self._record: tuple[int, int] = (0, 0)
        self._snapshot = Snapshot(open_run(self._path), (), "")
        self.now()

    def now(self) -> Snapshot:
        """The run as it is.

        Raises:
            RunError: it can no longer be read.
        """
        with self._lock:
            if time.monotonic() - self._looked > self._patience:
                self._look()
                self._looked = time.monotonic()
            return self._snapshot

    def _look(self) -> None:
        try:
            found = (self._path / "run.json").stat()
        except OSError as error:
            raise RunError(f"{self._path}: run.json is gone ({error.strerror})") from error
        record = (found.st_mtime_ns, found.st_size)
        run = self._snapshot.run if record == self._record else open_run(self._path)
        sha = hashlib.sha256(repr(record).encode())
        evaluations = []
        for slug, item in run.evaluations.items():
            parts = _parts(self._path, slug)
            if parts:
                evaluations.append(self._evaluation(slug, item, run, parts))
                sha.update(repr((slug, [(part.path.name, part.changed, part.size) for part in parts])).encode())
        stamp = sha.hexdigest()
        if stamp != self._snapshot.stamp:
            self._snapshot = Snapshot(run, tuple(evaluations), stamp)
        self._record = record

    def _evaluation(self, slug: str, item: Mapping[str, Any], run: Run, parts: tuple[Part, ...]) -> Evaluation:
        question = item["question"]
        schema, methods, regions = self._shape(parts[0])
        dataset = (run.info.get("datasets") or {}).get(question["dataset"], {})
        recorded = tuple((one["method"], one["binarization"]) for one in item.get("methods") or ())
        return Evaluation(
            slug=slug,
            model=question["model"],
            seed=question["seed"],
            dataset=question["dataset"],
            target=question["target"],
            methods=recorded or methods,
            regions=tuple(dict.fromkeys([*(dataset.get("regions") or ()), *regions])),
            finished=item.get("finished") is not None,
            parts=parts,
            schema=schema,
        )

    def _shape(self, part: Part) -> tuple[pl.Schema, tuple[tuple[str, str], ...], tuple[str, ...]]:
        """Columns, methods and regions of a part's rows."""
        if part not in self._schemas:
            try:
                words = pl.scan_parquet(part.path, glob=False).select(
                    pl.col("method", "binarization", "region").cast(pl.String)
                )
                keys = words.unique(maintain_order=True).collect()
                schema = pl.Schema(pl.read_parquet_schema(part.path))
            except (OSError, pl.exceptions.PolarsError) as error:
                raise RunError(f"{part.path}: a part of the scores cannot be read ({error})") from error
            pairs = keys.select("method", "binarization").unique(maintain_order=True).rows()
            self._schemas[part] = schema, tuple(pairs), tuple(keys["region"].unique(maintain_order=True))
        return self._schemas[part]


def own_files(run: Path, files: Iterable[Path]) -> Iterator[Path]:
    """Those of a run's files that are its own: no links, and below none that leads out of it."""
    root = run.resolve()
    inside: dict[Path, bool] = {}
    for path in files:
        folder = path.parent
        if folder not in inside:
            inside[folder] = folder.resolve().is_relative_to(root)
        try:
            regular = inside[folder] and stat.S_ISREG(path.lstat().st_mode)
        except OSError:  # compacted meanwhile
            continue
        if regular:
            yield path


def _parts(run: Path, slug: str) -> tuple[Part, ...]:
    """The parts of an evaluation; none where its folder is not one of the run's own."""
    if Path(slug).name != slug or slug in ("", ".", "..") or "\\" in slug:
        return ()
    found: list[Part] = []
    for path in own_files(run, part_files(run / "scores" / slug)):
        try:
            known = path.lstat()
        except OSError:
            continue
        found.append(Part(path, known.st_mtime_ns, known.st_size))
    return tuple(found)


def collect_some(frames: Sequence[pl.LazyFrame]) -> list[pl.DataFrame]:
    """The tables of many frames, a few at a time: polars blocks where hundreds of files are opened at once."""
    tables: list[pl.DataFrame] = []
    for start in range(0, len(frames), _AT_ONCE):
        tables += pl.collect_all(frames[start : start + _AT_ONCE])
    return tables


def heights(parts: Sequence[Part], known: dict[Part, int]) -> list[int]:
    """Rows of each part, from its footer; ``known`` keeps them."""
    import pyarrow.parquet as pq

    for part in parts:
        if part not in known:
            known[part] = int(pq.read_metadata(part.path).num_rows)
    return [known[part] for part in parts]
