"""Writes a run's report and figures."""

from __future__ import annotations

from pathlib import Path

from explanation_alignment.reporting.figures import save_figure
from explanation_alignment.reporting.html import Picture, Section, render_report
from explanation_alignment.reporting.presentation import Presentation, present
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
    for item in shown.illustrations:
        save_figure(item.figure, opened.path / "figures", item.name)
    page = render_report(
        title=shown.title,
        subtitle=shown.subtitle,
        info=opened.info,
        summary=opened.summary(),
        sentences=shown.sentences,
        sections=[
            *(Section(item.title, pictures=[Picture.of(item.figure, item.alt)]) for item in shown.illustrations),
            *shown.sections,
        ],
    )
    path = opened.path / "report.html"
    write_atomically(path, lambda place: place.write_text(page, encoding="utf-8"))
    return path
