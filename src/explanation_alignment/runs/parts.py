"""The parts of an evaluation's scores as files: which are there, which are owed, and what each says of itself.

A part holds one unit (``unit-000003.parquet``), or several that were compacted (``units-000000-000048.parquet``). While
units are compacted the new file lies whole in the run's hidden ``.work`` folder before they are removed; whoever reads
through this module takes it in their place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from explanation_alignment.errors import RunError, first_line
from explanation_alignment.runs.schema import FORMAT_VERSION

__all__ = [
    "PART_KEY",
    "Part",
    "compacted_name",
    "has_scores",
    "is_part",
    "owed_rows",
    "part_files",
    "part_name",
    "part_paths",
    "read_part",
    "read_units",
    "stamped",
    "units_of",
    "work_folder",
    "write_part",
]

#: Where a part's stamp is in the Parquet file's metadata: JSON with format_version, identity and unit or units.
PART_KEY: Final = b"explanation_alignment"
_ONE: Final = re.compile(r"unit-(\d+)\.parquet")
_SEVERAL: Final = re.compile(r"units-(\d+)-(\d+)\.parquet")


@dataclass(frozen=True, slots=True)
class Part:
    """What a part says of itself.

    Args:
        path: the file.
        rows: how many rows it holds.
        identity: of the evaluation it was written for; None where it does not say.
        units: unit -> how many rows the file holds of it, in their order; empty where it does not say.
    """

    path: Path
    rows: int
    identity: str | None
    units: Mapping[int, int]

    def problem(self, owed: Mapping[int, int], identity: str) -> str:
        """What its name, stamp and length say against it; empty for nothing.

        Args:
            owed: unit -> how many rows the evaluation owes of it.
            identity: of the evaluation.
        """
        first, last = units_of(self.path)
        if last not in owed:
            return f"the evaluation has {len(owed)} units, from unit-000000 on"
        if self.identity != identity:
            return f"written for evaluation {str(self.identity)[:8]}, this is {identity[:8]}"
        if list(self.units) != list(range(first, last + 1)):
            told = [*self.units]
            return f"it says of itself that it is unit {told[0] if len(told) == 1 else told or None}"
        expected = sum(owed[unit] for unit in self.units)
        if self.rows != expected or any(owed[unit] != rows for unit, rows in self.units.items()):
            return f"{self.rows} rows, expected {expected}"
        return ""


def part_name(unit: int) -> str:
    """The name of a part that holds one unit."""
    return f"unit-{unit:06d}.parquet"


def compacted_name(first: int, last: int) -> str:
    """The name of a part that holds these units and all between."""
    return f"units-{first:06d}-{last:06d}.parquet"


def units_of(path: Path) -> tuple[int, int]:
    """The first and the last unit a part holds by its name.

    Raises:
        ValueError: it is no part's name.
    """
    if match := _ONE.fullmatch(path.name):
        return int(match[1]), int(match[1])
    if match := _SEVERAL.fullmatch(path.name):
        return int(match[1]), int(match[2])
    raise ValueError(path.name)


def is_part(path: Path) -> bool:
    """Whether a file has the name of a part."""
    return bool(_ONE.fullmatch(path.name) or _SEVERAL.fullmatch(path.name))


def work_folder(folder: Path) -> Path:
    """Where an evaluation's leases, lock and unfinished compactions are, by its folder under ``scores/``."""
    return folder.parent.parent / ".work" / folder.name


def part_files(folder: Path) -> list[Path]:
    """The files that hold an evaluation's rows, each row once, in the order of units; empty where there are none.

    Args:
        folder: the evaluation's, under ``scores/``.
    """
    found = {path.name: path for path in folder.glob("unit*.parquet") if is_part(path)}
    found |= {path.name: path for path in work_folder(folder).glob("units-*.parquet") if is_part(path)}
    chosen: list[Path] = []
    covered: set[int] = set()
    for path in sorted(found.values(), key=lambda path: -len(_range(path))):  # the larger in the place of the smaller
        if covered.isdisjoint(_range(path)):
            chosen.append(path)
            covered.update(_range(path))
    return sorted(chosen, key=units_of)


def part_paths(folder: Path) -> dict[int, Path]:
    """Unit -> file that holds it, of an evaluation's folder, in order; empty where there is none."""
    return {unit: path for path in part_files(folder) for unit in _range(path)}


def has_scores(run: Path, slug: str | None = None) -> bool:
    """Whether a run, or one evaluation of it, has any rows."""
    folders = (run / "scores").glob("*") if slug is None else [run / "scores" / slug]
    return any(part_files(folder) for folder in folders)


def read_part(path: Path) -> Part:
    """Read a part's footer, not its rows.

    Raises:
        RunError: the file is no readable Parquet, or its stamp is not.
    """
    try:
        footer = pq.read_metadata(path)
        stamp = json.loads((footer.metadata or {}).get(PART_KEY, b"{}"))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunError(f"{path}: cannot be read ({first_line(error)})") from error
    if not isinstance(stamp, dict):
        raise RunError(f"{path}: its stamp is {type(stamp).__name__}, expected an object")
    units = stamp.get("units")
    if isinstance(units, dict):
        held = {int(units["first"]) + at: int(rows) for at, rows in enumerate(units["rows"])}
    else:
        unit = stamp.get("unit")
        held = {unit: footer.num_rows} if isinstance(unit, int) else {}
    return Part(path, footer.num_rows, stamp.get("identity"), held)


def read_units(path: Path, *, salvage: bool = False) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each unit that a part holds, the pages' checksums looked at.

    Args:
        path: the file.
        salvage: leave out the units that cannot be read, instead of ending with an error.

    Raises:
        RunError: the file, or one of its row groups, cannot be read.
    """
    units = [*read_part(path).units.items()]
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.metadata.num_row_groups):
                length = file.metadata.row_group(group).num_rows
                held: list[tuple[int, int]] = []
                while units and sum(rows for _, rows in held) + units[0][1] <= length:
                    held.append(units.pop(0))
                try:
                    table = file.read_row_group(group)
                except (OSError, ValueError, pa.ArrowException):
                    if not salvage:
                        raise
                    continue
                start = 0
                for unit, rows in held:
                    yield unit, table.slice(start, rows)
                    start += rows
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunError(f"{path}: cannot be read ({first_line(error)})") from error


def stamped(table: pa.Table, identity: str, units: Sequence[int] | int, rows: Sequence[int] = ()) -> pa.Table:
    """A table with the stamp of a part.

    Args:
        table: the rows.
        identity: of the evaluation.
        units: the unit, or the units in their order.
        rows: of several units, how many rows each has.
    """
    held = {"unit": units} if isinstance(units, int) else {"units": {"first": units[0], "rows": list(rows)}}
    stamp = {"format_version": FORMAT_VERSION, "identity": identity, **held}
    return table.replace_schema_metadata({PART_KEY: json.dumps(stamp, sort_keys=True).encode()})


def write_part(table: pa.Table, path: Path) -> None:
    """Write a stamped table of one unit: zstd, a checksum a page, words dictionary encoded."""
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def owed_rows(evaluation: Mapping[str, Any], regions: int) -> dict[int, int]:
    """Unit -> how many rows its part must have.

    Args:
        evaluation: its entry in run.json.
        regions: how many regions its dataset has.
    """
    size, samples = int(evaluation["details"]["unit_size"]), int(evaluation["details"]["samples"])
    each = len(evaluation["methods"]) * regions
    return {unit: min(size, samples - start) * each for unit, start in enumerate(range(0, samples, size))}


def _range(path: Path) -> range:
    first, last = units_of(path)
    return range(first, last + 1)
