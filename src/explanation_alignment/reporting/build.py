"""Writes a run's report and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from explanation_alignment.reporting.charts import save_chart
from explanation_alignment.reporting.content import Picture, Section
from explanation_alignment.reporting.figures import example_grid, save_figure
from explanation_alignment.reporting.findings import findings
from explanation_alignment.reporting.html import render_report
from explanation_alignment.reporting.material import Material
from explanation_alignment.reporting.presentation import Presentation, present
from explanation_alignment.reporting.sections import sections_of
from explanation_alignment.runs.files import write_atomically
from explanation_alignment.runs.reader import Run, open_run

__all__ = ["report"]


def report(run: Run | str | Path, presentation: Presentation | None = None) -> Path:
    """Write ``RUN/report.html``, one page that holds all it shows, and its figures as PNG and SVG.

    Args:
        run: an open run, or its folder.
        presentation: what to say of it; made from the run by default.

    Returns:
        The page's path.

    Raises:
        RunError: if the folder is no run, has no scores yet, or cannot be written.
    """
    opened = run if isinstance(run, Run) else open_run(run)
    shown = presentation or present(opened)
    material = Material(opened, shown.reliance)
    further = sections_of(material, without=shown.without)
    illustrated = [Section(item.title, pictures=[Picture.of(item.figure, item.alt)]) for item in shown.illustrations]
    below = {text for section in further for text in section.paragraphs}  # a rule need not stand twice on a page
    said = [text for text in shown.sentences if text not in below] if shown.sentences else findings(material)
    page = render_report(
        title=shown.title,
        subtitle=shown.subtitle,
        info=opened.info,
        summary=material.summary,
        sentences=said,
        sections=[*illustrated, *shown.sections],
        further=further,
        reasons=material.reasons,
        level=material.level,
    )
    _save_figures(material, shown, further)
    path = opened.path / "report.html"
    write_atomically(path, lambda place: place.write_text(page, encoding="utf-8"))
    return path


def _save_figures(material: Material, shown: Presentation, sections: Sequence[Section]) -> None:
    """The experiment's figures, the charts, and the examples, as files."""
    run = material.run
    folder = run.path / "figures"
    for item in shown.illustrations:
        save_figure(item.figure, folder, item.name)
    taken = {item.name for item in shown.illustrations}
    for section in sections:
        for chart in section.charts:
            # an experiment's own figure keeps its name
            save_chart(chart.spec, folder, f"{chart.name}_chart" if chart.name in taken else chart.name)
    examples = material.examples
    if "examples" not in taken and not examples.is_empty():
        names = {name: item["class_names"] for name, item in run.info["datasets"].items()}
        one = names[examples["dataset"][0]] if examples["dataset"].n_unique() == 1 else None
        save_figure(example_grid(examples, class_names=one, toy=material.toy), folder, "examples")
