"""Figures as files, byte for byte the same each time."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from explanation_alignment.errors import UsageError
from explanation_alignment.runs.files import write_atomically

__all__ = ["figure_bytes", "save_figure"]


def figure_bytes(figure: Figure, kind: str = "svg", *, dpi: float = 150) -> bytes:
    """The figure as a file's content, the same bytes each time.

    Args:
        figure: any figure of this module.
        kind: ``"svg"`` or ``"png"``.
        dpi: pixels per inch of a PNG (and of the pictures within an SVG).

    Returns:
        The content of the file.
    """
    if kind not in ("svg", "png"):
        raise UsageError(f"kind must be 'svg' or 'png', got {kind!r}")
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "explanation-alignment", "svg.fonttype": "path"}):
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def save_figure(figure: Figure, folder: str | Path, name: str) -> tuple[Path, Path]:
    """Write ``<folder>/<name>.png`` and ``.svg``.

    Args:
        figure: any figure of this module.
        folder: made if it is not there.
        name: file name without extension.

    Returns:
        The paths of the PNG and of the SVG.
    """
    png, svg = Path(folder) / f"{name}.png", Path(folder) / f"{name}.svg"
    for path in (png, svg):
        content = figure_bytes(figure, path.suffix[1:])
        write_atomically(path, partial(_write, content=content))
    return png, svg


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
