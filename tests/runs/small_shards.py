"""Small runs in several folders, cut into units of eight samples."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import explanation_alignment as ea
from explanation_alignment.evaluation import units
from toys import Patches, small_classifier

METHODS = ("vanilla_gradients", "gradcam")


def evaluated(out: Path, methods: tuple[str, ...] = METHODS, **options: Any) -> ea.Run:
    """23 images, of which one cannot be read, one has no and one an empty annotation: three units."""
    name, seed = options.pop("name", "small"), options.pop("weights", 0)
    data = options.pop("data", None) or Patches(broken=(5,), bare=(3,), empty=(9,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "UNIT_SIZE", 8)
        return ea.evaluate(
            small_classifier(seed, name=name), data, list(methods), out, max_errors=2, progress=False, **options
        )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the lock and the summary, which reading makes."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", "summary.parquet"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def edited(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy whose run.json was changed."""
    shutil.copytree(source, target)
    info = json.loads((target / "run.json").read_text())
    change(info)
    (target / "run.json").write_text(json.dumps(info))
    return target


def rewritten(part: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """A part with other rows and the same stamp."""
    stamp = {name: text for name, text in pl.read_parquet_metadata(part).items() if "arrow" not in name.lower()}
    change(pl.read_parquet(part)).write_parquet(part, metadata=stamp)
