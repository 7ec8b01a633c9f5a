"""Tables and lines write names as they are."""

from __future__ import annotations

import pytest

from explanation_alignment.cli.display.failures import print_failures
from explanation_alignment.cli.display.tables import cell, console, new_table, show_table

NAME = "mouth [left] [/x] :smile: [red]"


def test_brackets_and_colons_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = new_table(f"of {NAME}", [f"in {NAME}", "n"], 1)
    table.add_row(f"at {NAME}", "1")
    table.add_row(cell("first", f"below {NAME}"), "2")
    show_table(table)
    console().print(f"beside {NAME}", soft_wrap=True)
    console(stderr=True).print(f"unfinished {NAME}", soft_wrap=True)
    print_failures({f"model {NAME}": "why"})
    out, err = capsys.readouterr()
    for word in ("of", "in", "at", "below", "beside"):
        assert f"{word} {NAME}" in out
    assert f"unfinished {NAME}" in err
    assert f"model {NAME}" in err
