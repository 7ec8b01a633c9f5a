"""Names are drawn as they are written, whatever they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import polars as pl
import pytest
import test_bias_figures as bias
from made_runs import made_run
from matplotlib.figure import Figure
from matplotlib.text import Text
from model_tables import board
from report_tables import examples, summary
from test_region_figures import ranking

import explanation_alignment as ea
from explanation_alignment.reporting import figures
from explanation_alignment.reporting.figures import figure_bytes

#: A formula that cannot be read, and one that is none.
BROKEN, PRICE = r"$\frac$", "$5 and $10"


def renamed(table: pl.DataFrame) -> pl.DataFrame:
    """Every name with one of the two behind it."""
    return table.with_columns(
        pl.col(name).cast(pl.String) + f" {BROKEN}{PRICE}"
        for name in ("model", "dataset", "region", "test", "measure", "quantity", "family")
        if name in table.columns
    )


def dose() -> Figure:
    table = renamed(bias.TestDoseResponse.table())
    return figures.dose_response(table, {BROKEN: table["quantity"].unique().to_list()}, dose=PRICE)


DRAWN: Final[Mapping[str, Callable[[], Figure]]] = {
    "accuracy_scatter": lambda: figures.accuracy_scatter(renamed(board(3))),
    "dose_response": dose,
    "ea_bars": lambda: figures.ea_bars(renamed(summary())),
    "example_grid": lambda: figures.example_grid(renamed(examples()), class_names=[BROKEN, PRICE, "two"], title=PRICE),
    "group_bars": lambda: figures.group_bars(renamed(bias.TestGroupBars.table()), title=BROKEN),
    "model_grid": lambda: figures.model_grid(
        renamed(examples()), region=f"digit {BROKEN}{PRICE}", class_names=[BROKEN, PRICE, "two"], title=PRICE
    ),
    "ranking_bars": lambda: figures.ranking_bars(renamed(ranking()), dataset=f"d-biased {BROKEN}{PRICE}"),
    "rankings_side_by_side": lambda: figures.rankings_side_by_side(
        renamed(ranking()), dataset=f"d-biased {BROKEN}{PRICE}"
    ),
    "region_cutouts": lambda: figures.region_cutouts(renamed(examples()), class_names=[BROKEN, PRICE, "two"]),
    "relation_plot": lambda: figures.relation_plot(
        board(8).rename({"top1": BROKEN, "ea_iou_coverage": PRICE}), outcome=BROKEN, predictor=PRICE
    ),
    "reliance_bars": lambda: figures.reliance_bars(renamed(bias.TestRelianceBars.table())),
}


@pytest.mark.parametrize(
    "name", sorted(set(figures.__all__) - {"PALETTE", "figure_bytes", "metric_label", "save_figure"})
)
def test_a_dollar_in_a_name_begins_no_formula(name: str) -> None:
    figure = DRAWN[name]()
    written = [text for text in figure.findobj(Text) if "$" in text.get_text()]
    assert written
    assert not any(text.get_parse_math() for text in written)
    assert figure_bytes(figure).startswith(b"<?xml")


def test_a_report_of_names_with_dollars(tmp_path: Path) -> None:
    run = made_run(
        tmp_path / "run",
        models=(BROKEN, PRICE),
        datasets=(f"sets {PRICE}",),
        regions=(f"mouth {BROKEN}", "block"),
        evidence=(f"mouth {BROKEN}",),
        class_names=(BROKEN, PRICE, "two", "three"),
    )
    assert ea.report(run).stat().st_size > 0
