"""Figures of a run, drawn from its tables alone: one file each, ``sheet`` and ``pictures`` hold what they share.

Every function returns a ``matplotlib.figure.Figure`` that belongs to no window and no global state;
:func:`save_figure` writes it as PNG and SVG, byte for byte the same each time.
"""

from explanation_alignment.reporting.figures.bars import ea_bars
from explanation_alignment.reporting.figures.example_grid import example_grid
from explanation_alignment.reporting.figures.files import figure_bytes, save_figure
from explanation_alignment.reporting.figures.sheet import PALETTE, metric_label

__all__ = ["PALETTE", "ea_bars", "example_grid", "figure_bytes", "metric_label", "save_figure"]
