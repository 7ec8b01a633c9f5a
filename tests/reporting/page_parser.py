"""A report, parsed: its tables with the exact numbers behind them, its text, its attributes, its charts."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects tables as rows of cells; a cell is its text and the values of its ``data`` elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[tuple[str, list[str]]]]] = []
        self.captions: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.charts: list[dict[str, Any]] = []
        self.headings: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self._kind = ""
        self.feed(html)
        assert self.open == [], "elements left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._kind = dict(attrs).get("class") or ""
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
            self.captions.append("")
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(("", []))
        elif tag == "data":
            self.tables[-1][-1][-1][1].append(dict(attrs)["value"] or "")
        elif tag == "h2":
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        if "script" in self.open:
            if self._kind == "spec":
                self.charts.append(json.loads(data))
            else:
                self.scripts.append(data)
            return
        self.text += data
        if "h2" in self.open:
            self.headings[-1] += data
        if "caption" in self.open:
            self.captions[-1] += data
        if {"td", "th"} & set(self.open):
            text, values = self.tables[-1][-1][-1]
            self.tables[-1][-1][-1] = (text + data.strip(), values)

    def body(self, table: int) -> list[list[tuple[str, list[str]]]]:
        """The rows of a table that hold numbers."""
        return [row for row in self.tables[table] if any(values for _, values in row)]
