"""A run's rows as one table for other tools: CSV, one Parquet file, or a dataset of the Hugging Face library.

Rows are written a model, seed and dataset at a time, so that memory does not grow with the run.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias, cast, get_args

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from explanation_alignment.errors import RunError, UnknownNameError, UsageError
from explanation_alignment.runs.files import frame_bytes, write_atomically
from explanation_alignment.runs.parts import has_scores
from explanation_alignment.runs.reader import Run, open_run
from explanation_alignment.runs.schema import ATTRIBUTE_PREFIX, KEY_COLUMNS, SUMMARY_SCHEMA, scores_schema

__all__ = ["ExportFormat", "export"]

ExportFormat: TypeAlias = Literal["csv", "parquet", "huggingface"]

_SUFFIXES: Final = {"csv": (".csv", ".csv.gz"), "parquet": (".parquet",), "huggingface": ("",)}
#: Rows of a row group: what a reader that filters skips or reads at once.
_GROUP_ROWS: Final = 1 << 17
#: The words of Parquet's, Arrow's and the Hugging Face library's types.
_FEATURES: Final = {
    pl.String: "string",
    pl.Boolean: "bool",
    pl.Int32: "int32",
    pl.Int64: "int64",
    pl.Float32: "float32",
    pl.Float64: "float64",
}
#: The only split of each table; ``all`` is the library's own word.
_SPLIT: Final = "rows"
_TOY: Final = "Generated toy data: these numbers say nothing about real images."


def export(run: Run | str | Path, to: ExportFormat = "parquet", out: str | Path | None = None) -> Path:
    """Write all rows of a run's scores as one table, sorted by their key.

    Words are plain text, columns stand in one order (key, decision, status, metrics, areas, attributes), and a column
    that an evaluation does not have is null in its rows.

    - ``csv``: one file, gzipped if its name ends in .gz. Null is an empty field; text that looks like a number, such as
      the id ``0001``, is for the reader to declare as text.
    - ``parquet``: one file, zstd, sorted as its metadata says, words dictionary encoded, with statistics for each row
      group, so that a filter on the key skips most of it.
    - ``huggingface``: a folder that ``datasets.load_dataset(FOLDER)`` opens: the scores, and as further configurations
      ``summary`` and ``models``, with a dataset card (README.md) that says what the run was asked, without a licence.

    Args:
        run: the run or its folder.
        to: the format.
        out: the file, replaced if it is there; for ``huggingface`` a folder, new or empty. Default: in RUN/export; the
            name of a run of generated data begins with ``toy-``.

    Returns:
        What was written.

    Raises:
        UnknownNameError: there is no such format.
        UsageError: the name of the file does not end as the format asks.
        RunError: the run has no scores, or ``out`` cannot be written or is a folder with something in it.
    """
    if to not in get_args(ExportFormat):
        raise UnknownNameError("export format", str(to), get_args(ExportFormat))
    opened = run if isinstance(run, Run) else open_run(run)
    place = _place(opened, to, out)
    table = _Table(opened)
    if to == "csv":
        write_atomically(place, lambda path: _write_csv(table, path, zipped=place.name.endswith(".gz")))
    elif to == "parquet":
        write_atomically(place, lambda path: _write_parquet(table, path))
    else:
        _write_dataset(opened, table, place)
    return place


def _place(run: Run, to: ExportFormat, out: str | Path | None) -> Path:
    if out is None:
        prefix = "toy-" if run.info["toy"] else ""
        return run.path / "export" / (f"{prefix}huggingface" if to == "huggingface" else f"{prefix}scores.{to}")
    place = Path(out)
    if to == "huggingface":
        if place.is_file():
            raise UsageError(f"--out {place} is a file; huggingface writes a folder")
        return place
    if not place.name.endswith(_SUFFIXES[to]):
        raise UsageError(f"--out {place}: expected a file name ending in {' or '.join(_SUFFIXES[to])} for {to}")
    if place.is_dir():
        raise UsageError(f"--out {place} is a folder; {to} writes a file")
    return place


class _Table:
    """A run's rows in one order and one form, a model, seed and dataset at a time."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.facts = {name: run.info[name] for name in ("format_version", "created", "toy", "experiment", "versions")}
        with run.reading():
            found = run.scan_scores().collect_schema()
        self.schema = {name: _plain(found[name]) for name in _in_order(found.names())}
        self._groups: dict[tuple[str, int, str], list[str]] = {}
        for slug, item in run.evaluations.items():
            if has_scores(run.path, slug):
                question = item["question"]
                key = (question["model"], question["seed"], question["dataset"])
                self._groups.setdefault(key, []).append(slug)

    def __iter__(self) -> Iterator[pl.DataFrame]:
        for _, slugs in sorted(self._groups.items()):
            with self._run.reading():
                rows = self._run.scan_scores(slugs).collect()
            absent = [pl.lit(None, kind).alias(name) for name, kind in self.schema.items() if name not in rows.columns]
            whole = rows.with_columns(absent).select(pl.col(name).cast(kind) for name, kind in self.schema.items())
            yield whole.sort(KEY_COLUMNS)

    @property
    def words(self) -> list[str]:
        """Columns whose values repeat."""
        return [name for name, kind in self.schema.items() if kind == pl.String and name != "sample_id"]


def _in_order(names: Sequence[str]) -> list[str]:
    """Key, decision and status; metrics; areas and what else is known; attributes."""
    from explanation_alignment.statistics.tables import metric_columns

    metrics = metric_columns(names)
    usual = [name for name in scores_schema(metrics, {}).names if name in names]
    return [*usual, *(name for name in names if name.startswith(ATTRIBUTE_PREFIX))]


def _plain(kind: pl.DataType) -> pl.DataType:
    return pl.String() if kind in (pl.Categorical, pl.Enum, pl.Null) else kind


def _write_csv(table: _Table, path: Path, *, zipped: bool) -> None:
    # the time in a gzip header would make each export another file
    with path.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) if zipped else file as target:
        for number, rows in enumerate(table):
            rows.write_csv(cast("IO[bytes]", target), include_header=number == 0)


def _write_parquet(table: _Table, path: Path) -> int:
    """Write the rows; how many they are."""
    schema = pl.DataFrame(schema=table.schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    facts = {b"explanation_alignment.run": json.dumps(table.facts).encode()}
    schema = pa.schema([field.with_type(_short(field.type)) for field in schema], metadata=facts)
    order = pq.SortingColumn.from_ordering(schema, [(name, "ascending") for name in KEY_COLUMNS], "at_end")
    written = 0
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=[*table.words, "sample_id"],
        write_statistics=True,
        sorting_columns=order,
    ) as writer:
        for rows in _regrouped(table):
            writer.write_table(rows.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema), _GROUP_ROWS)
            written += rows.height
    return written


def _short(kind: pa.DataType) -> pa.DataType:
    """Text with 32-bit offsets, which every reader knows."""
    return pa.string() if kind == pa.large_string() else kind


def _regrouped(tables: _Table) -> Iterator[pl.DataFrame]:
    """The same rows in tables of a whole row group each, but for the last."""
    held: list[pl.DataFrame] = []
    for table in tables:
        held.append(table)
        if sum(one.height for one in held) < _GROUP_ROWS:
            continue
        whole = pl.concat(held)
        full = whole.height // _GROUP_ROWS * _GROUP_ROWS
        yield whole[:full]
        held = [whole[full:]]
    rest = pl.concat(held) if held else pl.DataFrame()
    if rest.height:
        yield rest


def _write_dataset(run: Run, table: _Table, place: Path) -> None:
    """A folder with the tables and their card; it appears when it is whole."""
    making = place.with_name(f".{place.name}.export")
    try:
        if place.is_dir() and any(place.iterdir()):
            raise RunError(f"{place} is there already and not empty; remove it, or choose another --out")
        shutil.rmtree(making, ignore_errors=True)
        (making / "data").mkdir(parents=True)
        try:
            written = _write_parquet(table, making / "data" / "scores.parquet")
            summary, models = run.summary(), run.models()
            models = models.cast({name: _plain(kind) for name, kind in models.schema.items()})
            (making / "data" / "summary.parquet").write_bytes(frame_bytes(summary))
            (making / "data" / "models.parquet").write_bytes(frame_bytes(models))
            schemas = {"scores": table.schema, "summary": dict(SUMMARY_SCHEMA), "models": dict(models.schema)}
            (making / "README.md").write_text(_card(run, schemas, written), encoding="utf-8")
            if place.is_dir():
                place.rmdir()
            making.rename(place)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    except OSError as error:
        raise RunError(f"cannot write {place}: {error.strerror or error}") from error


def _card(run: Run, schemas: Mapping[str, Mapping[str, Any]], rows: int) -> str:
    """The dataset card: what the library needs to know, then what people do."""
    info = run.info
    head = ["---", "# license: to be chosen by who publishes this", "tags:", "- explanation-alignment", "configs:"]
    for name in schemas:
        head += [f"- config_name: {name}", "  data_files:", f"  - split: {_SPLIT}", f"    path: data/{name}.parquet"]
        head += ["  default: true"] if name == "scores" else []
    head.append("dataset_info:")
    for name, schema in schemas.items():
        head += [f"- config_name: {name}", "  features:"]
        for column, kind in schema.items():  # JSON is YAML, whatever a column's name holds
            head += [f"  - name: {json.dumps(column)}", f"    dtype: {_FEATURES[kind]}"]
    head.append("---")
    questions = [item["question"] for item in run.evaluations.values()]
    methods = [
        f"{method['method']} ({method['binarization']})"
        for item in run.evaluations.values()
        for method in item["methods"]
    ]
    facts = {
        "models": _listed([question["model"] for question in questions]),
        "datasets": _listed(
            [f"{name}, fingerprint {record['fingerprint'][:16]}" for name, record in info["datasets"].items()]
        ),
        "saliency methods": _listed(methods),
        "alignment metrics": _listed([metric for question in questions for metric in question["metrics"]]),
        "targets": _listed([question["target"] for question in questions]),
        "seeds": _listed([str(question["seed"]) for question in questions]),
        "rows": f"{rows:,}",
        "made": f"{info['created']}, explanation-alignment {info['versions'].get('explanation-alignment')}",
    }
    body = ["", "# Explanation alignment: scores of classifiers' decisions", ""]
    body += [f"**{_TOY}**", ""] if info["toy"] else []
    body += [
        "How well saliency maps of image classifiers agree with human annotations: a row a decision, saliency method",
        "and annotated region. No images, annotations or maps are in here.",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        f'scores = load_dataset("PATH", split="{_SPLIT}")  # or "summary", "models" as the second argument',
        "```",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {text.replace('|', chr(92) + '|')} |" for name, text in facts.items()),
        "",
        "Key of a row: " + ", ".join(f"`{name}`" for name in KEY_COLUMNS) + ". A score is null where it is undefined;",
        "`status` says why. Areas are in pixels of the scored map. `correct` is null where label or prediction is",
        "unknown.",
        "",
        "## Licence",
        "",
        "None is chosen here. The terms of the images' and annotations' dataset and of the models' weights may bear on",
        "what is derived from them; put the one that applies into the first lines of this file.",
        "",
    ]
    return "\n".join([*head, *body])


def _listed(names: Sequence[str]) -> str:
    known = list(dict.fromkeys(names))
    shown = ", ".join(known[:20])
    return shown + (f" and {len(known) - 20} more" if len(known) > 20 else "")
