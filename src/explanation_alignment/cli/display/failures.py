"""Classifiers that could not be evaluated, on standard error."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text

from explanation_alignment.cli.display.tables import console, new_table

__all__ = ["print_failures"]


def print_failures(failures: Mapping[str, str]) -> None:
    """A table of classifiers and reasons, if there are any."""
    if not failures:
        return
    out = console(stderr=True)
    count = f"{len(failures)} classifier{'' if len(failures) == 1 else 's'} could not be evaluated"
    table = new_table(f"{count}; the same command again tries them again", ["classifier", "why"], numbers_from=2)
    for model, reason in failures.items():
        table.add_row(Text(model), Text(reason, "yellow"))
    out.print(table)
