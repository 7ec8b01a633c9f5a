"""``ealign cache``: decoded images that are kept for the next classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

__all__ = ["app"]

app = typer.Typer(
    help="Decoded images kept on disk: what there is, and clearing it.\n\nExample: ealign cache list",
    no_args_is_help=True,
)

Folder: TypeAlias = Annotated[
    Path | None, typer.Option("--dir", help="Where they are, if --cache named a folder.", show_default=False)
]


@app.command(name="list")
def show(folder: Folder = None) -> None:
    """What is kept, the largest first.

    Example: ealign cache list
    """
    from explanation_alignment.cli.display.tables import new_table, say, show_table
    from explanation_alignment.decoded import default_folder, in_bytes, list_cache

    entries = list_cache(folder)
    where = default_folder() if folder is None else folder
    if not entries:
        say(f"no decoded images in {where}")
        return
    table = new_table(f"decoded images in {where}", ["dataset", "input", "geometry", "images", "size"], numbers_from=3)
    for entry in entries:
        geometry = ", ".join(f"{name}={value}" for name, value in entry.geometry.items() if value is not None)
        size = " x ".join(map(str, entry.input_size))
        table.add_row(entry.dataset, size, geometry, f"{entry.images} of {entry.samples}", in_bytes(entry.size))
    show_table(table)
    say(f"{in_bytes(sum(entry.size for entry in entries))} in all", dim=True)


@app.command()
def clear(folder: Folder = None) -> None:
    """Remove all decoded images; nothing else is touched, and no number depends on them.

    Example: ealign cache clear
    """
    from explanation_alignment.cli.display.tables import say
    from explanation_alignment.decoded import clear_cache, in_bytes

    say(f"{in_bytes(clear_cache(folder))} freed")
