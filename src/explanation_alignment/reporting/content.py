"""What a page is made of: sections with text, charts, pictures, decisions to look at, and tables. Plain data."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from explanation_alignment.errors import UsageError
from explanation_alignment.reporting.figures import figure_bytes

__all__ = ["Card", "Chart", "Gallery", "Picture", "Section", "Table"]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a section; one of more than a few rows is folded away under its caption.

    Attributes:
        headers: column headings.
        rows: cells; numbers are right-aligned (floats with three decimals), None is a dash, booleans yes or no.
        caption: a line above the table.
        note: what was left out of it, if anything.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        """Refuse rows of another width than the headings."""
        for row in self.rows:
            if len(row) != len(self.headers):
                raise UsageError(f"a table row has {len(row)} cells, expected {len(self.headers)}: {list(row)!r}")


@dataclass(frozen=True, slots=True)
class Chart:
    """An interactive chart with its numbers.

    Attributes:
        name: of its files in RUN/figures, without ending.
        spec: Vega-Lite, with the names of the page's colours (``var(--series-1)``) in place of colours.
        alt: what it shows, for those who cannot see it.
        table: the numbers it is drawn from.
        caption: a line below it.
    """

    name: str
    spec: Mapping[str, Any]
    alt: str
    table: Table
    caption: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of a section, held in the page itself.

    Attributes:
        data: content of an SVG, PNG or JPEG file.
        alt: what it shows, for those who cannot see it.
        caption: a line below it.
    """

    data: bytes
    alt: str
    caption: str | None = None

    @classmethod
    def of(cls, figure: Figure, alt: str, caption: str | None = None) -> Picture:
        """A matplotlib figure as SVG."""
        return cls(figure_bytes(figure), alt, caption)

    @property
    def source(self) -> str:
        """The content as a data address."""
        kinds = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}
        kind = next((kind for mark, kind in kinds.items() if self.data.startswith(mark)), "image/svg+xml")
        return f"data:{kind};base64,{base64.b64encode(self.data).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Card:
    """One decision to look at.

    Attributes:
        heading: what was predicted.
        right: whether that was right; None where it is not known.
        pictures: side by side.
        lines: what else there is to say, a line each.
    """

    heading: str
    right: bool | None
    pictures: Sequence[Picture]
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Gallery:
    """Decisions of one kind, side by side.

    Attributes:
        title: which kind.
        cards: the decisions.
        note: a line below the title.
    """

    title: str
    cards: Sequence[Card]
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report, in the order: paragraphs, charts with their tables, pictures, galleries, tables, note.

    Attributes:
        title: heading.
        paragraphs: plain text.
        tables: tables.
        pictures: figures.
        note: small print below.
        charts: interactive charts.
        galleries: decisions to look at.
    """

    title: str
    paragraphs: Sequence[str] = field(default=())
    tables: Sequence[Table] = field(default=())
    pictures: Sequence[Picture] = field(default=())
    note: str | None = None
    charts: Sequence[Chart] = field(default=())
    galleries: Sequence[Gallery] = field(default=())
