"""Interactive charts of a report as Vega-Lite, a kind a file, and the files they become."""

from explanation_alignment.reporting.charts.case_bars import case_bars
from explanation_alignment.reporting.charts.files import chart_library, save_chart
from explanation_alignment.reporting.charts.intervals import interval_chart
from explanation_alignment.reporting.charts.look import CONFIG
from explanation_alignment.reporting.charts.scatter import scatter_chart

__all__ = ["CONFIG", "case_bars", "chart_library", "interval_chart", "save_chart", "scatter_chart"]
