"""What a leaderboard looks like: for people at a hundred columns, for machines in timm's layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import typer
from rich.text import Text

from explanation_alignment.cli.display.tables import Format, console, print_columns, print_for_machines
from explanation_alignment.reporting.leaderboard_text import leaderboard_csv, leaderboard_latex, leaderboard_markdown
from explanation_alignment.reporting.text import interval, number
from explanation_alignment.statistics.leaderboards import leaderboard_metrics

__all__ = ["export_leaderboard", "print_leaderboard"]

_KEYS = ("seed", "dataset", "method", "binarization", "region")
#: A model's name is folded at this many characters, so that metrics find room.
_NAME = 30


def export_leaderboard(table: pl.DataFrame, format: Format) -> None:
    """Every row in a format other than ``table``."""
    if format is Format.json:
        print_for_machines(table, format)
    elif format is Format.csv:
        typer.echo(leaderboard_csv(table), nl=False)
    else:
        typer.echo(leaderboard_latex(table) if format is Format.latex else leaderboard_markdown(table))


def print_leaderboard(table: pl.DataFrame, sort: str, *, ascending: bool, level: float = 0.95) -> None:
    """The models in their order, a line each; metrics that do not fit beside each other follow in a further table.

    Args:
        table: from :func:`~explanation_alignment.statistics.leaderboards.leaderboard`, with all keys.
        sort: what it is sorted by.
        ascending: as it was asked for.
        level: coverage of the intervals.
    """
    from explanation_alignment.metrics.registry import get_metric
    from explanation_alignment.statistics.chance import known_metric

    out = console()
    varying = [name for name in _KEYS if table[name].n_unique() > 1]
    constant = [
        f"{name} {table[name][0]}" for name in _KEYS if name not in varying and table[name].null_count() < table.height
    ]
    words = table.schema[sort] == pl.String
    direction = "from A" if words else "smallest first" if ascending else "largest first"
    keys = ["#", "model", "top1", "top5", "params", "size"]
    rows = list(table.iter_rows(named=True))
    lines = [[[str(place)], _folded(row, varying), *_facts(row)] for place, row in enumerate(rows, 1)]
    columns: dict[str, list[Any]] = {}
    for metric in leaderboard_metrics(table):
        columns[metric] = [get_metric(metric).label if known_metric(metric) else metric]
        columns[metric] += [_score(row, f"ea_{metric}") for row in rows]
    known = {*keys, *(f"ea_{metric}" for metric in columns)}
    if sort not in known and sort not in (*_KEYS, "param_count", "img_size"):
        # what the order rests on must be seen
        columns = {sort: [sort, *([_plain(row[sort])] for row in rows)], **columns}
    print_columns(out, f"models by {sort}, {direction}", keys, lines, columns, 2)
    notes = [
        *([f"all: {', '.join(constant)}"] if constant else []),
        *(["--dataset, --method and --region leave one row a model"] if varying and varying != ["seed"] else []),
        f"top1, top5: percent, {100 * level:g} % interval, n images; params: millions; size: pixels",
        f"a metric: mean; {100 * level:g} % interval; (a map that knows nothing); undef.: decisions left out",
    ]
    if any(row[f"ea_{metric}_unreliable"] for row in rows for metric in leaderboard_metrics(table)):
        notes.append("* unreliable: too few scores other than 0, images, clusters or seeds stand behind the interval")
    if table["top5"].null_count() == table.height:
        notes.append("top5: undefined, since there are fewer than 6 classes or the label's rank is not known")
    if "toy" in table.columns:
        notes.append("toy (generated) data: these numbers say nothing about real images")
    for note in notes:
        out.print(Text(note, style="dim"))


def _folded(row: Mapping[str, Any], varying: list[str]) -> list[str]:
    name = str(row["model"])
    lines = [name[i : i + _NAME] for i in range(0, len(name), _NAME)]
    places = [f"seed {row[key]}" if key == "seed" else str(row[key]) for key in varying]
    return [*lines, *(place[i : i + _NAME] for place in places for i in range(0, len(place), _NAME))]


def _facts(row: Mapping[str, Any]) -> list[list[str]]:
    """Accuracy, parameters and size."""
    cells = []
    for name in ("top1", "top5"):
        if row[name] is None:
            cells.append(["-"])
            continue
        bounds = [] if row[f"{name}_low"] is None else [f"{row[f'{name}_low']:.1f}-{row[f'{name}_high']:.1f}"]
        cells.append([f"{row[name]:.2f}", *bounds, *([f"n {row['n_images']:,}"] if name == "top1" else [])])
    cells.append([_plain(row["param_count"])])
    cells.append([_plain(row["img_size"])])
    return cells


def _score(row: Mapping[str, Any], name: str) -> list[str]:
    """Mean, interval, chance; and n where it is not that of the images."""
    if row[f"{name}_n"] is None:
        return ["-"]
    undefined = row[f"{name}_undefined"]
    counts = [f"undef. {undefined:,}"] if undefined else []
    if row[name] is None:
        return ["-", *counts]
    mark = "*" if row[f"{name}_unreliable"] else ""
    chance = [] if row[f"{name}_chance"] is None else [f"({number(row[f'{name}_chance'])})"]
    return [number(row[name]) + mark, interval(row[f"{name}_low"], row[f"{name}_high"]), *chance, *counts]


def _plain(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)
