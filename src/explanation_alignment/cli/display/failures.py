"""Classifiers that could not be evaluated, on standard error."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from explanation_alignment.cli.display.tables import new_table

__all__ = ["print_failures"]


def print_failures(failures: Mapping[str, str]) -> None:
    """A table of classifiers and reasons, if there are any."""
    if not failures:
        return
    found = Console(stderr=True)
    out = found if found.is_terminal else Console(stderr=True, width=100)
    count = f"{len(failures)} classifier{'' if len(failures) == 1 else 's'} could not be evaluated"
    table = new_table(f"{count}; the same command again tries them again", ["classifier", "why"], numbers_from=2)
    for model, reason in failures.items():
        table.add_row(Text(model), Text(reason, "yellow"))
    out.print(table)
