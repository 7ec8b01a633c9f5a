"""Leaderboards as text: read back, in timm's layout, and LaTeX that a parser accepts."""

from __future__ import annotations

import csv
import io
import re

import polars as pl
import pytest
from model_tables import board

from explanation_alignment.reporting.leaderboard_text import leaderboard_csv, leaderboard_latex, leaderboard_markdown
from explanation_alignment.statistics.leaderboards import TIMM_COLUMNS

NASTY = ["vit_base_patch16", "50%_&_#1", r"back\slash {brace} ~ ^ $x$", "plain|bar"]


def cells_of(line: str) -> list[str]:
    """The cells of a line of LaTeX, at ampersands that are no text."""
    return [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))]


def unescaped(text: str) -> str:
    for mark, plain in (
        (r"\textbackslash{}", "\0"),
        (r"\textasciitilde{}", "~"),
        (r"\textasciicircum{}", "^"),
        *((rf"\{mark}", mark) for mark in "{}_%&#$"),
    ):
        text = text.replace(mark, plain)
    return text.replace("\0", "\\")


def balanced(text: str) -> bool:
    depth = 0
    for mark in re.findall(r"\\.|[{}]", text):
        depth += {"{": 1, "}": -1}.get(mark, 0)
        if depth < 0:
            return False
    return depth == 0


def test_csv_is_timms_layout_and_keeps_every_number() -> None:
    table = board(NASTY)
    rows = list(csv.DictReader(io.StringIO(leaderboard_csv(table))))
    assert list(rows[0]) == table.columns
    assert list(rows[0])[:9] == ["model", *TIMM_COLUMNS]
    for row, record in zip(rows, table.rows(named=True), strict=True):
        assert row["model"] == record["model"]
        assert row["top1"] == f"{record['top1']:.3f}"
        assert row["top1_err"] == f"{record['top1_err']:.3f}"
        assert row["param_count"] == f"{record['param_count']:.2f}"
        assert row["crop_pct"] == "0.875"
        assert float(row["ea_iou_coverage_low"]) == record["ea_iou_coverage_low"]


def test_what_is_unknown_is_empty() -> None:
    table = board(2).with_columns(
        pl.lit(None, pl.Float64).alias(name)
        for name in ("top5", "top5_err", "top5_low", "top5_high", "param_count", "ea_pointing_game_low")
    )
    [row, _] = csv.DictReader(io.StringIO(leaderboard_csv(table)))
    assert (row["top5"], row["param_count"]) == ("", "")
    latex = leaderboard_latex(table)
    assert "None" not in latex + leaderboard_markdown(table)
    assert balanced(latex)


def test_markdown_holds_means_with_intervals() -> None:
    table = board(NASTY)
    lines = leaderboard_markdown(table).splitlines()
    assert len(lines) == 2 + len(NASTY)
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert {len(line) for line in cells} == {1 + 8 + 2 * 2}
    first = table.row(0, named=True)
    shown = dict(zip(cells[0], cells[2], strict=True))
    assert shown["top1"] == f"{first['top1']:.3f} [{first['top1_low']:.3f}, {first['top1_high']:.3f}]"
    assert shown["ea_iou_coverage"].startswith(f"{first['ea_iou_coverage']:.3f} [")
    assert shown["ea_iou_coverage_chance"] == f"{first['ea_iou_coverage_chance']:.3f}"
    assert cells[5][0] == r"plain\|bar"


@pytest.mark.parametrize("metrics", [("iou_coverage",), ("iou_coverage", "pointing_game(tolerance=3)")])
def test_latex_parses(metrics: tuple[str, ...]) -> None:
    table = board(NASTY, metrics=metrics).with_columns(method=pl.lit("gradcam"))
    table = table.select("model", "method", pl.exclude("model", "method"))
    text = leaderboard_latex(table)
    assert balanced(text)
    body = re.fullmatch(
        r"% \\usepackage\{booktabs\}\n\\begin\{tabular\}\{(?P<kinds>.*)\}\n\\toprule\n(?P<head>.*)\n\\midrule\n"
        r"(?P<rows>.*)\n\\bottomrule\n\\end\{tabular\}",
        text,
        re.DOTALL,
    )
    assert body is not None
    kinds = re.sub(r"@\{[^{}]*\}", "", body["kinds"])
    assert set(kinds) == {"l", "r"}
    heading = cells_of(body["head"])
    spans = [2 if cell.startswith(r"\multicolumn{2}{c}{") else 1 for cell in heading]
    assert sum(spans) == len(kinds)
    assert len(heading) == 2 + 8 + 2 * len(metrics)
    rows = [cells_of(line) for line in body["rows"].splitlines()]
    assert len(rows) == len(NASTY)
    for cells, record in zip(rows, table.rows(named=True), strict=True):
        assert len(cells) == len(kinds)
        assert unescaped(cells[0]) == record["model"]
        assert cells[1] == "gradcam"
        at = sum(spans[: heading.index(r"\multicolumn{2}{c}{top1}")])
        assert cells[at] == f"{record['top1']:.3f}"
        low, high = f"{record['top1_low']:.3f}", f"{record['top1_high']:.3f}"
        assert cells[at + 1] == rf"{{\scriptsize [{low}, {high}]}}"
    # numbers of a column have equal decimals, so that set right they stand below each other
    for column in range(2, len(kinds)):
        decimals = {len(cells[column].partition(".")[2]) for cells in rows if "[" not in cells[column]}
        assert len(decimals) <= 1


def test_toy_data_says_so() -> None:
    table = board(2).with_columns(toy=pl.lit(True))
    assert leaderboard_latex(table).startswith("% toy (generated) data")
    assert "toy (generated) data" in leaderboard_markdown(table)
    assert ",toy" in leaderboard_csv(table).splitlines()[0]
