"""How an experiment's run begins: seeds checked, its record made, a folder of nothing but generated data adopted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from explanation_alignment.errors import UsageError

__all__ = ["adopt", "check_seeds", "experiment_record"]


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuse no seeds, one given twice, and negative ones.

    Raises:
        UsageError: for these.
    """
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UsageError(
            f"seeds: expected different whole numbers from 0 on, got {', '.join(map(str, seeds)) or 'none'}"
        )


def experiment_record(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json holds of an experiment: its name and all its numbers, as they are when read back."""
    record: dict[str, Any] = json.loads(json.dumps({"name": name, "settings": dict(settings)}))
    return record


def adopt(out: Path, experiment: Mapping[str, Any]) -> None:
    """Make a run that was begun for its generated data, and holds nothing else yet, this experiment's."""
    from explanation_alignment.runs.writer import RunWriter

    if not (out / "run.json").is_file():
        return
    with RunWriter(out, experiment=None, toy=True).updating() as info:
        if info["experiment"] is None and not info["evaluations"]:
            info["experiment"] = dict(experiment)
