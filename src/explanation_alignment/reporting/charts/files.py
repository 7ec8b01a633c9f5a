"""Charts as files, and the libraries that draw them on a page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import vl_convert

from explanation_alignment.reporting.charts.look import CONFIG, as_light
from explanation_alignment.runs.files import write_atomically

__all__ = ["chart_library", "save_chart"]

#: Width of a chart in a file, pixels.
_WIDTH: Final = 640
#: Pixels of a PNG for each.
_SCALE: Final = 2


@cache
def chart_library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script without references outside itself; it sets ``vegaEmbed``."""
    # a string within the library must not end the script element it is placed in
    return re.sub(
        r"</(?=script)", r"<\\/", vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"), flags=re.IGNORECASE
    )


def save_chart(spec: Mapping[str, Any], folder: Path, name: str) -> tuple[Path, Path]:
    """Write ``<folder>/<name>.png`` and ``.svg``, of what the chart shows before anything is picked.

    Args:
        spec: as in :class:`~explanation_alignment.reporting.content.Chart`.
        folder: made if it is not there.
        name: file name without extension.

    Returns:
        The paths of the PNG and of the SVG.
    """
    light = as_light({**spec, "width": _WIDTH, "config": {**CONFIG, "background": "#ffffff", "padding": 8}})
    light["params"] = [
        {key: value for key, value in param.items() if key != "bind" or value == "legend"}
        for param in light.get("params", [])
    ]
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    drawn = vl_convert.vegalite_to_svg(light)
    write_atomically(svg, partial(_write, content=drawn.encode()))
    write_atomically(png, partial(_write, content=vl_convert.svg_to_png(drawn, scale=_SCALE)))
    return png, svg


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
