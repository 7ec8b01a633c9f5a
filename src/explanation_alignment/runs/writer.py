"""Writes a run as it is made: part by part, each whole or absent, growing and resumable."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa
from filelock import FileLock, Timeout

from explanation_alignment.errors import RunError
from explanation_alignment.runs import environment
from explanation_alignment.runs.compaction import compact, complete_compaction, finish_line, is_compact, salvaged
from explanation_alignment.runs.files import read_json, write_atomically, write_frame, write_json, writing
from explanation_alignment.runs.identity import describe_difference, digest
from explanation_alignment.runs.leases import Lease, Leases
from explanation_alignment.runs.manifest import Manifest, line_of, part_problem
from explanation_alignment.runs.parts import (
    owed_rows,
    part_files,
    part_name,
    part_paths,
    stamped,
    units_of,
    work_folder,
    write_part,
)
from explanation_alignment.runs.schema import FORMAT_VERSION

__all__ = ["EvaluationWriter", "RunWriter"]

#: Seconds to wait for another process to be done with a file they share.
_PATIENCE: Final = 60
#: Libraries whose other version may move a score.
_MOVING: Final = ("explanation-alignment", "torch", "torchvision", "timm", "transformers", "captum", "numpy", "pillow")


class RunWriter:
    """Opens a run folder for writing, or makes one.

    Args:
        path: the folder.
        experiment: name and settings of the experiment the run belongs to, if it does. A run of another
            experiment, or of the same one with other settings, is refused.
        toy: whether the data is generated; never mixed with real data in one run.

    Raises:
        RunError: if the path cannot be written, holds something that is no run, or another run.
    """

    def __init__(self, path: str | Path, *, experiment: Mapping[str, Any] | None = None, toy: bool = False) -> None:
        self.path = Path(path)
        self._recorded: set[str] = set()
        experiment = json.loads(json.dumps(experiment))  # as it is read back: a tuple is a list there
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            occupied = any(not item.name.startswith(".") for item in self.path.iterdir())
        except OSError as error:
            reason = "it is a file" if self.path.is_file() else error.strerror or error
            raise RunError(f"cannot use {self.path} as a run folder: {reason}") from error
        if occupied and not self._file.is_file():
            raise RunError(f"{self.path} is not empty and holds no run.json; choose a new folder for --out")
        with self.updating() as info:
            for name in ("run.json", "models.parquet"):  # of writers that were killed: these two have one at a time
                for left in self.path.glob(f".{name}.*.tmp"):
                    left.unlink(missing_ok=True)
            if not info:
                info |= _new_run(experiment, toy)
            _check_format(self._file, info)
            info["format_version"] = FORMAT_VERSION  # of an earlier one that is about to grow
            recorded = info["experiment"]
            if experiment is not None and recorded != experiment:
                difference = (
                    describe_difference(_flat(recorded), _flat(experiment))
                    if recorded is not None
                    else "it was made by ealign evaluate, not by an experiment"
                )
                raise RunError(f"{self.path} holds another run ({difference}); choose another --out")
            if info["toy"] != toy:
                kinds = ("real", "generated (toy)")
                raise RunError(
                    f"{self.path} holds {kinds[info['toy']]} data, this is {kinds[toy]}; choose another --out"
                )

    @property
    def _file(self) -> Path:
        return self.path / "run.json"

    def updating(self) -> AbstractContextManager[dict[str, Any]]:
        """The content of run.json, to change in place; written when the block ends without an error."""
        return _Updating(self._file)

    def begin(
        self, question: Mapping[str, Any], methods: Sequence[Mapping[str, Any]], details: Mapping[str, Any]
    ) -> list[EvaluationWriter]:
        """Register an evaluation; returns what has to be worked on for it.

        Args:
            question: everything that changes numbers but the methods, with ``model``, ``seed``,
                ``dataset`` and ``target`` in it.
            methods: one mapping a method, with ``method`` and ``binarization`` in it. Methods the run
                already has for this question are resumed where they are, new ones are added.
            details: what else is worth recording (batch size, unit size, device, ...).

        Raises:
            RunError: if the run already answers another question under the same key, or holds other weights under the
                name of the model or other data under that of the dataset.
        """
        # as run.json will hold them: a tuple read back is a list
        question, methods = json.loads(json.dumps([dict(question), list(map(dict, methods))]))
        with self.updating() as info:
            for slug, item in list(info["evaluations"].items()):
                recorded = item["question"]
                problem = _clash(recorded, question)
                if not problem:
                    continue
                folder = self.path / "scores" / slug
                if not (part_files(folder) or Leases(work_folder(folder)).any_held()):
                    del info["evaluations"][slug]  # begun and given up before anything was written
                    continue
                raise RunError(f"{self.path} already holds {problem}")
            kin = {slug: item for slug, item in info["evaluations"].items() if item["question"] == question}
            wanted = list(methods)
            writers = []
            for slug, item in kin.items():
                shared = [method for method in item["methods"] if _method_key(method) in map(_method_key, wanted)]
                for method in shared:
                    asked = next(other for other in wanted if _method_key(other) == _method_key(method))
                    if asked != method:
                        difference = describe_difference(method, asked)
                        raise RunError(f"{self.path} holds {_method_key(method)} differently ({difference})")
                    wanted.remove(asked)
                if shared:
                    writers.append(EvaluationWriter(self, slug, item))
            if wanted:
                identity = digest({**question, "methods": wanted})
                slug = re.sub(r"[^\w.-]+", "_", f"{question['model']}--{question['dataset']}--seed{question['seed']}")
                slug = f"{slug[:120]}--{identity[:8]}"
                item = {
                    "identity": identity,
                    "question": dict(question),
                    "methods": wanted,
                    "details": dict(details),
                    "started": _now(),
                    "finished": None,
                    "status_counts": None,
                }
                info["evaluations"][slug] = item
                writers.append(EvaluationWriter(self, slug, item))
        return writers

    def record_session(self) -> None:
        """Record this process among those that wrote the run."""
        if environment.session_id() in self._recorded:
            return
        with self.updating() as info:
            info.setdefault("sessions", {}).setdefault(environment.session_id(), environment.session())
        self._recorded.add(environment.session_id())

    def record_dataset(self, name: str, description: Mapping[str, Any]) -> None:
        """Record a dataset's class names, regions and the like under its name; counts once made of it are kept."""
        with self.updating() as info:
            before = info["datasets"].get(name, {})
            same = before.get("fingerprint") == description["fingerprint"]
            kept = {key: value for key, value in before.items() if same and key == "class_counts"}
            info["datasets"][name] = kept | dict(description)

    def record_model(self, row: Mapping[str, Any]) -> None:
        """Add a classifier's row to models.parquet, in the place of one with the same model and seed."""
        path = self.path / "models.parquet"
        with self.updating():
            table = pl.DataFrame([row], infer_schema_length=None, schema_overrides=_MODEL_TYPES)
            if path.is_file():
                old = pl.read_parquet(path, glob=False)
                same = (pl.col("model") == row["model"]) & (pl.col("seed") == row["seed"])
                # layers of methods that were asked for before stay named
                before = old.filter(same)["layer"].drop_nulls().to_list()
                layers = {layer for text in [*before, row["layer"] or ""] for layer in text.split(", ") if layer}
                table = table.with_columns(layer=pl.lit(", ".join(sorted(layers)) or None, pl.String))
                if old.columns == table.columns and old.filter(same).equals(table):
                    return
                table = pl.concat([old.filter(~same), table], how="diagonal_relaxed")
            write_frame(path, table.sort("model", "seed"))


_MODEL_TYPES = {
    "model": pl.String,
    "seed": pl.Int64,
    "spec": pl.String,
    "weights_digest": pl.String,
    "family": pl.String,
    "parameters": pl.Int64,
    "input_channels": pl.Int32,
    "input_height": pl.Int32,
    "input_width": pl.Int32,
    "resize": pl.String,
    "crop": pl.String,
    "interpolation": pl.String,
    "layer": pl.String,
    "notes": pl.String,
}


@dataclass(frozen=True, slots=True)
class EvaluationWriter:
    """Writes the parts of one evaluation: a classifier, a dataset, some methods.

    Several processes may write the same evaluation. What they do to its files they do under its lock; which unit is
    whose to compute, leases say.

    Args:
        run: the run it belongs to.
        slug: the name of its folder under ``scores/``.
        record: its entry in run.json.
    """

    run: RunWriter
    slug: str
    record: Mapping[str, Any]
    _leases: Leases = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_leases", Leases(work_folder(self.folder)))

    @property
    def folder(self) -> Path:
        """Where its parts are."""
        return self.run.path / "scores" / self.slug

    @property
    def files(self) -> list[Path]:
        """Its parts as files, each row in one of them."""
        return part_files(self.folder)

    @property
    def manifest(self) -> Manifest:
        """What was written for it."""
        return Manifest.of(self.run.path, self.slug)

    def missing(self, rows: Mapping[int, int]) -> list[int]:
        """Units still owed: expected minus those whose part is readable, whole and this evaluation's.

        A part whose size and time are those it was written with is believed; any other is hashed. :meth:`repair`
        hashes all.

        Args:
            rows: unit -> how many rows its part must have.
        """
        return self._missing(rows)

    def repair(self, rows: Mapping[int, int]) -> list[str]:
        """Put the files in order before work goes on: end a compaction that was stopped, take out damaged parts.

        Of a damaged part that was compacted the units that are whole are kept.

        Args:
            rows: unit -> how many rows its part must have.

        Returns:
            A line for each damaged part that was taken out.
        """
        told = []
        with self._alone():
            complete_compaction(self.folder)
            manifest = self.manifest.path
            for place, name in ((self.folder, ""), (work_folder(self.folder), ""), (manifest.parent, manifest.name)):
                for left in place.glob(f".{name}*.tmp"):
                    left.unlink(missing_ok=True)  # whoever writes here holds the lock
            lines = self.manifest.lines()
            for path in self.files:
                problem = part_problem(path, lines, rows, self.record["identity"], thorough=True)
                if problem:
                    told.append(f"{path}: {problem}")
                    self._take_out(path, rows)
        return told

    def claim(self, unit: int, rows: Mapping[int, int], *, anyway: bool = False) -> Lease | None:
        """Take a unit to compute it; None if another process has it, or it is there.

        Args:
            unit: which.
            rows: unit -> how many rows its part must have.
            anyway: even if it is there, since something else of it is not.
        """
        with self._alone():
            path = None if anyway else part_paths(self.folder).get(unit)
            if path is not None and not part_problem(path, self.manifest.lines(), rows, self.record["identity"]):
                return None
            return self._leases.claim(f"unit-{unit:06d}")

    def claim_end(self) -> Lease | None:
        """Take it on to end the evaluation (counts, examples, compaction); None if another process has."""
        with self._alone():
            return self._leases.claim("end")

    def write(self, unit: int, table: pa.Table, work: Mapping[str, Any] | None = None) -> None:
        """Write one unit's rows as a part.

        Args:
            unit: which.
            table: its rows.
            work: how they came about, for the manifest: seconds, batch_size, ...

        Raises:
            RunError: it cannot be written; nothing of it is left then.
        """
        path = self.folder / part_name(unit)
        told = {"session": environment.session_id(), **(work or {})}

        def tell(place: Path) -> None:
            self.manifest.append(line_of(place, path.name, table.num_rows, told))

        self.run.record_session()
        with self._alone():
            if part_paths(self.folder).get(unit, path) != path:
                return  # compacted by others meanwhile, with the same rows
            table = stamped(table, self.record["identity"], unit)
            write_atomically(path, lambda place: write_part(table, place), before=tell)

    def unread(self) -> int:
        """How many samples could not be read in the units that are there."""
        lines = self.manifest.lines()
        return sum(lines[path.name][-1].get("unread", 0) for path in self.files if path.name in lines)

    def other_versions(self) -> str:
        """Where libraries that may move a score are of other versions than made the parts there are; empty if alike."""
        with self.run.updating() as info:
            sessions = info.get("sessions", {})
        here = environment.versions()
        made: set[str] = set()
        lines = self.manifest.lines()
        for path in self.files:
            for line in lines.get(path.name, [])[-1:]:
                made |= {*line.get("sessions", ()), *([line["session"]] if "session" in line else [])}
        found = {
            (name, str(sessions[one]["versions"].get(name)))
            for one in made & sessions.keys()
            for name in _MOVING
            if sessions[one]["versions"].get(name) != here.get(name)
        }
        return ", ".join(f"{name} {then} -> {here.get(name)}" for name, then in sorted(found))

    def is_finished(self) -> bool:
        """Whether its end is recorded."""
        with self.run.updating() as info:
            return bool(self._entry(info)["finished"])

    def finish(self, status_counts: Mapping[str, int]) -> None:
        """Compact the parts and record that every unit is there, with the number of rows by status."""
        with self.run.updating() as info:
            dataset = info["datasets"].get(self.record["question"].get("dataset"), {})
        work: dict[str, Any] = {}
        with self._alone():
            if "regions" in dataset:
                owed = owed_rows(self.record, len(dataset["regions"]))
                if not self._missing(owed):
                    compact(self.folder, self.manifest, self.record["identity"], owed)
            work = finish_line(self.manifest.keep(self.files))
        with self.run.updating() as info:
            item = self._entry(info)
            item["finished"] = item["finished"] or _now()
            item["status_counts"] = dict(status_counts)
            if work:
                item["work"] = work

    def _entry(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """Its entry in the content of run.json; gone where another question took its place before its first part."""
        entries: dict[str, dict[str, Any]] = info["evaluations"]
        if self.slug not in entries:
            question = self.record["question"]
            raise RunError(
                f"{self.run.path} no longer holds {question['model']} on {question['dataset']} (seed "
                f"{question['seed']}) as it was asked here: meanwhile another process asked otherwise; ask both alike, "
                "or choose another --out for one of them"
            )
        return entries[self.slug]

    def is_compact(self) -> bool:
        """Whether there is nothing left to compact."""
        return is_compact(self.folder)

    def _missing(self, rows: Mapping[int, int]) -> list[int]:
        lines = self.manifest.lines()
        sound = {
            unit
            for path in self.files
            if not part_problem(path, lines, rows, self.record["identity"])
            for unit in range(units_of(path)[0], units_of(path)[1] + 1)
        }
        return [unit for unit in rows if unit not in sound]

    def _take_out(self, path: Path, rows: Mapping[int, int]) -> None:
        """Remove a damaged part, but for the units of it that are whole; the lock is held."""
        first, last = units_of(path)
        if first == last:
            path.unlink(missing_ok=True)
            return
        aside = work_folder(self.folder) / f"{path.name}.damaged"
        with writing(aside):
            path.replace(aside)
        for unit, table in salvaged(aside):
            if rows.get(unit) == table.num_rows:
                self._write_again(unit, table)
        aside.unlink(missing_ok=True)

    def _write_again(self, unit: int, table: pa.Table) -> None:
        """Write a unit's rows as they were, as a part of their own."""
        place = self.folder / part_name(unit)
        made = stamped(table, self.record["identity"], unit)
        write_atomically(
            place,
            lambda temporary: write_part(made, temporary),
            before=lambda temporary: self.manifest.append(line_of(temporary, place.name, table.num_rows, {})),
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the evaluation's lock."""
        place = work_folder(self.folder)
        with writing(place):
            place.mkdir(parents=True, exist_ok=True)
            lock = FileLock(place / ".lock")
            try:
                lock.acquire(timeout=_PATIENCE)
            except Timeout:
                raise RunError(
                    f"{self.folder} is kept busy by another process for more than {_PATIENCE} s; try again, or see "
                    "whether one hangs"
                ) from None
        try:
            yield
        finally:
            lock.release()


class _Updating(AbstractContextManager[dict[str, Any]]):
    """Reads run.json under a lock and writes it back if it changed and no error came."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path.with_name(".lock"))

    def __enter__(self) -> dict[str, Any]:
        with writing(self._path):
            try:
                self._lock.acquire(timeout=_PATIENCE)
            except Timeout:
                raise RunError(f"{self._path} is kept busy by another process for more than {_PATIENCE} s") from None
        try:
            self._info = read_json(self._path) if self._path.is_file() else {}
        except BaseException:
            self._lock.release()
            raise
        self._before = json.dumps(self._info)
        return self._info

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and json.dumps(self._info) != self._before:
                write_json(self._path, self._info)
        finally:
            self._lock.release()


def _new_run(experiment: Mapping[str, Any] | None, toy: bool) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "created": _now(),
        "command": environment.command_line(),
        "toy": toy,
        "experiment": None if experiment is None else dict(experiment),
        "versions": environment.versions(),
        "hardware": environment.hardware(),
        "datasets": {},
        "evaluations": {},
    }


def _check_format(path: Path, info: Mapping[str, Any]) -> None:
    version = info.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise RunError(f"{path}: run format {version!r}, this version reads up to {FORMAT_VERSION}; upgrade to open it")


def _or_name(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Where it is the model that differs, another name keeps both."""
    own = ("weights", "input_size", "geometry", "mean", "std", "outputs", "multi_label")
    return " or another --name" if any(recorded.get(name) != asked.get(name) for name in own) else ""


def _clash(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """What keeps two questions from standing in one run, to be read after "already holds"; empty for nothing.

    A run records a dataset once for its name, and a model once for its name and seed.
    """

    def same(*names: str) -> bool:
        return all(recorded[name] == asked[name] for name in names)

    def difference(name: str) -> str:
        return describe_difference({name: recorded[name]}, {name: asked[name]})

    if same("model", "seed", "dataset", "target") and recorded != asked:
        return (
            f"{asked['model']} on {asked['dataset']} (seed {asked['seed']}) asked differently "
            f"({describe_difference(_flat(recorded), _flat(asked))}); choose another --out{_or_name(recorded, asked)}, "
            "or ask the same question to resume"
        )
    if same("dataset") and not same("dataset_fingerprint"):
        return (
            f"other data under the name {asked['dataset']} ({difference('dataset_fingerprint')}), which "
            f"{recorded['model']} was evaluated on; choose another --out"
        )
    if same("model", "seed") and not same("weights") and not _are_maps(recorded, asked):
        return (
            f"other weights under the name {asked['model']} (seed {asked['seed']}; {difference('weights')}); choose "
            "another --out, or give one of them another --name"
        )
    return ""


def _are_maps(*questions: Mapping[str, Any]) -> bool:
    """Whether all are of maps made elsewhere: the digest that stands for weights is then that of the maps."""
    return all("covers" in question for question in questions)


def _method_key(method: Mapping[str, Any]) -> tuple[Any, Any]:
    return method["method"], method["binarization"]


def _flat(question: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in question.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
