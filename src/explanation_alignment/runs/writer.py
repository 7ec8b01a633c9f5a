"""Writes a run as it is made: part by part, each whole or absent, growing and resumable."""

from __future__ import annotations

import json
import platform
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from explanation_alignment.errors import RunError
from explanation_alignment.runs.files import read_json, write_atomically, write_json
from explanation_alignment.runs.identity import describe_difference, digest
from explanation_alignment.runs.schema import FORMAT_VERSION

__all__ = ["EvaluationWriter", "RunWriter"]

_PART_KEY = b"explanation_alignment"
_PACKAGES = ("explanation-alignment", "torch", "torchvision", "torchmetrics", "numpy", "pillow", "polars", "pyarrow")


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
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            occupied = any(not item.name.startswith(".") for item in self.path.iterdir())
        except OSError as error:
            raise RunError(f"cannot use {self.path} as a run folder: {error.strerror or error}") from error
        if occupied and not self._file.is_file():
            raise RunError(f"{self.path} is not empty and holds no run.json; choose a new folder for --out")
        with self.updating() as info:
            if not info:
                info |= _new_run(experiment, toy)
            _check_format(self._file, info)
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
            RunError: if the run already answers another question under the same key.
        """
        key = ("model", "seed", "dataset", "target")
        # as run.json will hold them: a tuple read back is a list
        question, methods = json.loads(json.dumps([dict(question), list(map(dict, methods))]))
        with self.updating() as info:
            kin = {
                slug: item
                for slug, item in info["evaluations"].items()
                if all(item["question"][part] == question[part] for part in key)
            }
            for slug, item in list(kin.items()):
                if item["question"] != dict(question):
                    if not any((self.path / "scores" / slug).glob("unit-*.parquet")):
                        del info["evaluations"][slug], kin[slug]  # begun and given up before anything was written
                        continue
                    difference = describe_difference(_flat(item["question"]), _flat(question))
                    raise RunError(
                        f"{self.path} already holds {question['model']} on {question['dataset']} "
                        f"(seed {question['seed']}) asked differently ({difference}); "
                        "choose another --out, or ask the same question to resume"
                    )
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
                old = pl.read_parquet(path)
                same = (pl.col("model") == row["model"]) & (pl.col("seed") == row["seed"])
                # layers of methods that were asked for before stay named
                before = old.filter(same)["layer"].drop_nulls().to_list()
                layers = {layer for text in [*before, row["layer"] or ""] for layer in text.split(", ") if layer}
                table = table.with_columns(layer=pl.lit(", ".join(sorted(layers)) or None, pl.String))
                if old.columns == table.columns and old.filter(same).equals(table):
                    return
                table = pl.concat([old.filter(~same), table], how="diagonal_relaxed")
            write_atomically(path, table.sort("model", "seed").write_parquet)


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

    Args:
        run: the run it belongs to.
        slug: the name of its folder under ``scores/``.
        record: its entry in run.json.
    """

    run: RunWriter
    slug: str
    record: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where its parts are."""
        return self.run.path / "scores" / self.slug

    def missing(self, rows: Mapping[int, int]) -> list[int]:
        """Units still owed: expected minus those whose part is readable, whole and this evaluation's.

        Args:
            rows: unit -> how many rows its part must have.
        """
        return [unit for unit, expected in rows.items() if not self._holds(unit, expected)]

    def write(self, unit: int, table: pa.Table) -> None:
        """Write one unit's rows as a part."""
        stamp = {"format_version": FORMAT_VERSION, "identity": self.record["identity"], "unit": unit}
        table = table.replace_schema_metadata({_PART_KEY: json.dumps(stamp, sort_keys=True).encode()})
        write_atomically(self._part(unit), lambda place: pq.write_table(table, place, compression="zstd"))

    def finish(self, status_counts: Mapping[str, int]) -> None:
        """Record that every unit is there, with the number of rows by status."""
        with self.run.updating() as info:
            item = info["evaluations"][self.slug]
            item["finished"] = item["finished"] or _now()
            item["status_counts"] = dict(status_counts)

    def _part(self, unit: int) -> Path:
        return self.folder / f"unit-{unit:06d}.parquet"

    def _holds(self, unit: int, expected: int) -> bool:
        path = self._part(unit)
        if not path.is_file():
            return False
        try:
            part = pq.read_metadata(path)
            stamp = json.loads((part.metadata or {}).get(_PART_KEY, b"{}"))
        except (OSError, ValueError, pa.ArrowException):
            return False
        return bool(part.num_rows == expected and stamp.get("identity") == self.record["identity"])


class _Updating(AbstractContextManager[dict[str, Any]]):
    """Reads run.json under a lock and writes it back if it changed and no error came."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path.with_name(".lock"))

    def __enter__(self) -> dict[str, Any]:
        try:
            self._lock.acquire(timeout=60)
        except OSError as error:
            raise RunError(f"cannot write to {self._path.parent}: {error.strerror or error}") from error
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
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "format_version": FORMAT_VERSION,
        "created": _now(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "toy": toy,
        "experiment": None if experiment is None else dict(experiment),
        "versions": {"python": platform.python_version(), **versions},
        "hardware": _hardware(),
        "datasets": {},
        "evaluations": {},
    }


def _hardware() -> dict[str, Any]:
    import os

    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def _check_format(path: Path, info: Mapping[str, Any]) -> None:
    version = info.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise RunError(f"{path}: run format {version!r}, this version reads up to {FORMAT_VERSION}; upgrade to open it")


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
