"""The parts of an evaluation's scores as files: which are owed, and what each says of itself."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from explanation_alignment.errors import RunError, first_line

__all__ = ["PART_KEY", "Part", "owed_rows", "part_paths", "read_part"]

#: Where a part's stamp is in the Parquet file's metadata: JSON with format_version, identity and unit.
PART_KEY: Final = b"explanation_alignment"
_NAME: Final = re.compile(r"unit-(\d{6,})\.parquet")


@dataclass(frozen=True, slots=True)
class Part:
    """What a part says of itself.

    Args:
        path: the file.
        rows: how many rows it holds.
        identity: of the evaluation it was written for; None where it does not say.
        unit: which unit of that evaluation it holds; None where it does not say.
    """

    path: Path
    rows: int
    identity: str | None
    unit: int | None


def part_paths(folder: Path) -> dict[int, Path]:
    """Unit -> file, of an evaluation's folder, in order; empty where there is none."""
    found = {path: _NAME.fullmatch(path.name) for path in sorted(folder.glob("unit-*.parquet"))}
    return {int(match.group(1)): path for path, match in found.items() if match is not None}


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
    return Part(path, footer.num_rows, stamp.get("identity"), stamp.get("unit"))


def owed_rows(evaluation: Mapping[str, Any], regions: int) -> dict[int, int]:
    """Unit -> how many rows its part must have.

    Args:
        evaluation: its entry in run.json.
        regions: how many regions its dataset has.
    """
    size, samples = int(evaluation["details"]["unit_size"]), int(evaluation["details"]["samples"])
    each = len(evaluation["methods"]) * regions
    return {unit: min(size, samples - start) * each for unit, start in enumerate(range(0, samples, size))}
