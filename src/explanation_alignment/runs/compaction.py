"""Few large files in the place of many small ones, once an evaluation has all its units.

The bytes of a compacted part follow from its rows alone: neither the order the units came in, nor who wrote them, nor
how often the work was interrupted shows. It is whole and on the disk in the run's hidden ``.work`` folder before the
first unit is removed, and takes its place among the scores after the last one is, so that a tool that reads all files
there never sees a row twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from explanation_alignment.errors import RunError
from explanation_alignment.runs.files import sync_folder, write_atomically, writing
from explanation_alignment.runs.manifest import Manifest, line_of
from explanation_alignment.runs.parts import (
    compacted_name,
    is_part,
    part_files,
    part_paths,
    read_part,
    read_units,
    stamped,
    units_of,
    work_folder,
)

__all__ = ["COMPACT_FROM", "compact", "complete_compaction", "finish_line", "is_compact", "salvaged"]

#: Units from which on an evaluation is compacted; a few files are no burden.
COMPACT_FROM: Final = 8
#: Rows a compacted part has at most, unless one unit has more.
_FILE_ROWS: Final = 1 << 20
#: Rows from which on a row group is closed: what a reader that filters skips, and what is lost to a damaged page.
_GROUP_ROWS: Final = 1 << 16


def compact(folder: Path, manifest: Manifest, identity: str, owed: Mapping[int, int]) -> None:
    """Bring all units of an evaluation into few parts; the caller holds its lock and knows that all are sound.

    Args:
        folder: of the evaluation, under ``scores/``.
        manifest: of the evaluation.
        identity: of the evaluation.
        owed: unit -> rows, of all its units.

    Raises:
        RunError: a part cannot be read, or a file not written; nothing is lost.
    """
    complete_compaction(folder)
    if len(owed) < COMPACT_FROM:
        return
    for units in _files(owed):
        name = compacted_name(units[0], units[-1])
        files = [path for path in part_files(folder) if path.name != name and _within(path, units)]
        if not files or not _alike(part_files(folder), units):
            continue
        lines = manifest.lines()
        work = [line for path in files for line in lines.get(path.name, [])[-1:]]
        target = work_folder(folder) / name
        rows = sum(owed[unit] for unit in units)

        def write(place: Path, files: Sequence[Path] = files, units: Sequence[int] = units) -> None:
            _write(place, files, identity, units, [owed[unit] for unit in units])

        def tell(place: Path, name: str = name, rows: int = rows, work: list[dict[str, Any]] = work) -> None:
            _check(place, rows)
            manifest.append(line_of(place, name, rows, finish_line(work)))

        write_atomically(target, write, before=tell)
        complete_compaction(folder)


def complete_compaction(folder: Path) -> None:
    """Do what is left of a compaction that was stopped between its files; the caller holds the evaluation's lock."""
    for pending in sorted(work_folder(folder).glob("units-*.parquet")):
        first, last = units_of(pending)
        with writing(folder / pending.name):
            for path in folder.glob("unit*.parquet"):
                if is_part(path) and path.name != pending.name and _within(path, range(first, last + 1)):
                    path.unlink(missing_ok=True)
            sync_folder(folder)
            pending.replace(folder / pending.name)
            sync_folder(folder)


def is_compact(folder: Path) -> bool:
    """Whether an evaluation that has all its units has no small parts left to compact."""
    files = part_files(folder)
    small = sum(first == last for first, last in map(units_of, files))
    return not small or len(part_paths(folder)) < COMPACT_FROM


def salvaged(path: Path) -> Iterator[tuple[int, pa.Table]]:
    """The units of a damaged part whose pages are as they were written; none where its footer is damaged."""
    try:
        yield from read_units(path, salvage=True)
    except RunError:
        return


def finish_line(work: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How the parts of several lines came about, in one."""
    told: dict[str, Any] = {}
    if any("seconds" in line for line in work):
        told["seconds"] = round(sum(line.get("seconds", 0.0) for line in work), 3)
    for name in ("peak_rss", "peak_cuda"):
        values = [line[name] for line in work if line.get(name) is not None]
        told |= {name: max(values)} if values else {}
    if any("unread" in line for line in work):
        told["unread"] = sum(line.get("unread", 0) for line in work)
    for name, many in (("batch_size", "batch_sizes"), ("chunk", "chunks"), ("session", "sessions")):
        used = {value for line in work for value in [*line.get(many, ()), *([line[name]] if name in line else [])]}
        told |= {many: sorted(used)} if used else {}
    return told


def _files(owed: Mapping[int, int]) -> Iterator[list[int]]:
    """The units of each compacted part."""
    held: list[int] = []
    rows = 0
    for unit in sorted(owed):
        if held and rows + owed[unit] > _FILE_ROWS:
            yield held
            held, rows = [], 0
        held.append(unit)
        rows += owed[unit]
    if held:
        yield held


def _within(path: Path, units: Sequence[int]) -> bool:
    first, last = units_of(path)
    return units[0] <= first and last <= units[-1]


def _alike(files: Sequence[Path], units: Sequence[int]) -> bool:
    """Whether the parts of these units have the same columns; those of an earlier version may lack one."""
    schemas = [pq.read_schema(path).remove_metadata() for path in files if _within(path, units)]
    return all(schema == schemas[0] for schema in schemas)


def _write(place: Path, files: Sequence[Path], identity: str, units: Sequence[int], rows: Sequence[int]) -> None:
    tables = (table for path in files for _, table in read_units(path))
    writer: pq.ParquetWriter | None = None
    try:
        for group in _groups(tables):
            if writer is None:
                schema = stamped(group.slice(0, 0), identity, units, rows).schema
                words = [field.name for field in schema if pa.types.is_dictionary(field.type)]
                writer = pq.ParquetWriter(
                    place,
                    schema,
                    compression="zstd",
                    use_dictionary=[*words, "sample_id", "message"],
                    write_statistics=True,
                    write_page_checksum=True,
                )
            writer.write_table(group.replace_schema_metadata(writer.schema.metadata), group.num_rows)
    finally:
        if writer is not None:
            writer.close()


def _groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Whole units joined into row groups, their words numbered in the order they come."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(_plain(table))
        if sum(one.num_rows for one in held) >= _GROUP_ROWS:
            yield _numbered(held, table.schema)
            held = []
    if held:
        yield _numbered(held, table.schema)


def _plain(table: pa.Table) -> pa.Table:
    return table.cast(
        pa.schema(
            [
                field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
                for field in table.schema
            ]
        )
    )


def _numbered(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    whole = pa.concat_tables(tables).combine_chunks()
    columns: list[Callable[[], Any] | Any] = []
    for field in schema:
        column = whole[field.name].combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks)
        columns.append(column.dictionary_encode().cast(field.type) if pa.types.is_dictionary(field.type) else column)
    return pa.Table.from_arrays(columns, schema=schema)


def _check(place: Path, rows: int) -> None:
    """A compacted part must hold what it is to stand for before anything is removed."""
    found = sum(table.num_rows for _, table in read_units(place))
    if found != rows or read_part(place).rows != rows:
        raise RunError(f"{place}: {found} rows were compacted, expected {rows}; the units are kept")
