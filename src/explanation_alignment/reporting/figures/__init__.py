"""Figures of a run, drawn from its tables alone: one file each, ``sheet`` and ``pictures`` hold what they share.

Every function returns a ``matplotlib.figure.Figure`` that belongs to no window and no global state;
:func:`save_figure` writes it as PNG and SVG, byte for byte the same each time.
"""

from explanation_alignment.reporting.figures.bars import ea_bars
from explanation_alignment.reporting.figures.dose_response import dose_response
from explanation_alignment.reporting.figures.example_grid import example_grid
from explanation_alignment.reporting.figures.files import figure_bytes, save_figure
from explanation_alignment.reporting.figures.group_bars import group_bars
from explanation_alignment.reporting.figures.model_grid import model_grid
from explanation_alignment.reporting.figures.region_cutouts import region_cutouts
from explanation_alignment.reporting.figures.region_ranking import ranking_bars, rankings_side_by_side
from explanation_alignment.reporting.figures.relation import relation_plot
from explanation_alignment.reporting.figures.reliance_bars import reliance_bars
from explanation_alignment.reporting.figures.scatter import accuracy_scatter
from explanation_alignment.reporting.figures.sheet import PALETTE, metric_label

__all__ = [
    "PALETTE",
    "accuracy_scatter",
    "dose_response",
    "ea_bars",
    "example_grid",
    "figure_bytes",
    "group_bars",
    "metric_label",
    "model_grid",
    "ranking_bars",
    "rankings_side_by_side",
    "region_cutouts",
    "relation_plot",
    "reliance_bars",
    "save_figure",
]
