"""Runs as they are where an experiment was stopped on its way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import explanation_alignment as ea


def stopped(run: ea.Run, folder: Path, keep: Callable[[dict[str, Any]], bool], *, examples: bool = True) -> ea.Run:
    """A copy that holds only some evaluations, the last of which has not ended.

    Args:
        run: a finished one.
        folder: of the copy, not there yet.
        keep: whether an evaluation with this question had begun.
        examples: whether any were written.
    """
    shutil.copytree(run.path, folder, ignore=shutil.ignore_patterns("data", "checkpoints", "summary*", "*.lock"))
    info = json.loads((folder / "run.json").read_text())
    kept = {slug: item for slug, item in info["evaluations"].items() if keep(item["question"])}
    for slug in info["evaluations"].keys() - kept.keys():
        shutil.rmtree(folder / "scores" / slug)
        shutil.rmtree(folder / "examples" / slug, ignore_errors=True)
        (folder / "manifest" / f"{slug}.jsonl").unlink()
    last = kept[max(kept, key=lambda slug: kept[slug]["started"])]
    last["finished"] = last["status_counts"] = None
    info["evaluations"] = kept
    (folder / "run.json").write_text(json.dumps(info))
    if not examples:
        shutil.rmtree(folder / "examples", ignore_errors=True)
    return ea.open_run(folder)
