"""Run folders with scores written by hand, for the tests of commands that only read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl


class Done(NamedTuple):
    """What a command ended with and wrote."""

    code: int
    out: str
    err: str


Ealign = Callable[[str], Done]


def write_run(path: Path, scores: pl.DataFrame, *, evidence: tuple[str, ...] = ("object",), toy: bool = False) -> Path:
    """A run whose only evaluation holds these scores."""
    names = scores["dataset"].cast(pl.String).unique().to_list()
    evaluation = {
        "identity": "i",
        "question": {"target": "predicted", "seed": 0, "model": "m", "dataset": names[0]},
        "methods": [],
        "details": {"samples": scores.height},
        "finished": "2024-01-01T00:00:00+00:00",
    }
    info = {
        "format_version": 1,
        "experiment": None,
        "evaluations": {"all": evaluation},
        "datasets": {
            name: {"fingerprint": "f", "evidence": list(evidence), "regions": list(evidence), "toy": toy}
            for name in names
        },
    }
    folder = path / "scores" / "all"
    folder.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(info))
    scores.write_parquet(folder / "unit-00000.parquet")
    return path
