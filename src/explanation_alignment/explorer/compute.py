"""The process that computes pictures: reads what to compute as JSON, rebuilds classifier and dataset, writes a run.

``python -m explanation_alignment.explorer.compute`` with an object of ``run``, ``evaluation``, ``samples``, ``out``,
``data_dir``, ``datasets`` and ``run_code`` on standard input; exit code 1 with a line on standard error
where it cannot be done. It opens no network connection.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from explanation_alignment.errors import ExplanationAlignmentError, first_line

__all__ = ["main"]


def main() -> int:
    """Do what standard input asks for; the exit code."""
    asked = json.load(sys.stdin)
    sys.addaudithook(_stay_offline)
    from explanation_alignment.recomputation import evaluate_again
    from explanation_alignment.runs.reader import open_run

    try:
        evaluate_again(
            open_run(asked["run"]),
            asked["evaluation"],
            asked["samples"],
            asked["out"],
            data_dir=asked["data_dir"],
            datasets=asked["datasets"],
            run_code=asked["run_code"],
        )
    except ExplanationAlignmentError as error:
        sys.stderr.write(f"{first_line(error)}\n")
        return 1
    return 0


def _stay_offline(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse what would leave the machine: weights are never fetched because somebody looks at a run."""
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        raise OSError("the explorer fetches nothing")
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        raise OSError("the explorer fetches nothing")


if __name__ == "__main__":
    sys.exit(main())
