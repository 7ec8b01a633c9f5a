"""Explanation alignment in parts of the decisions: right and wrong ones, by attribute, by class, by annotation size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import polars as pl

from explanation_alignment.reporting.charts import interval_chart
from explanation_alignment.reporting.content import Chart, Section, Table
from explanation_alignment.reporting.figures import metric_label
from explanation_alignment.reporting.material import Material
from explanation_alignment.reporting.sections.rows import bounded, number_cells, value_rows
from explanation_alignment.runs.schema import ATTRIBUTE_PREFIX

__all__ = ["class_section", "correctness_section", "group_section", "size_section"]

#: Attributes that get a place in the chart, and how many values an attribute may have.
_ATTRIBUTES: Final = 8
_VALUES: Final = 12
#: Classes of the chart; of more, the two ends.
_CLASSES: Final = 30
#: Lines of points that stand side by side; more models become a list to pick from.
_SIDE_BY_SIDE: Final = 4

_Words = Callable[[Mapping[str, Any]], str]


def correctness_section(material: Material) -> Section | None:
    """Are right decisions better aligned than wrong ones?"""
    words = {"true": "right", "false": "wrong", "null": "not known"}
    table = material.by("correct").filter(pl.col("ea").is_not_null())
    if table["group"].n_unique() < 2:
        return None
    return Section(
        "Right and wrong decisions",
        charts=[_chart(material, table, "ea_by_correctness", "Prediction", lambda row: words[_value(row)])],
        note=_note(material),
    )


def size_section(material: Material) -> Section | None:
    """Does alignment come from large annotations?"""
    table = material.by("annotation_size").filter(pl.col("ea").is_not_null())
    if table["group"].n_unique() < 2:
        return None
    return Section(
        "By size of the annotation",
        ["Shares of the image that are annotated. Large annotations are easy to hit: compare each with its chance."],
        charts=[_chart(material, table, "ea_by_annotation_size", "Annotated", _size)],
        note=_note(material),
    )


def class_section(material: Material) -> Section | None:
    """Which classes are aligned, and which not."""
    if material.shown_rows["label"].drop_nulls().n_unique() < 2:
        return None
    metrics = material.metrics if material.shown_rows["label"].n_unique() <= _CLASSES else [material.metric]
    table = material.by("label", metrics).filter(pl.col("ea").is_not_null())
    if table["group"].n_unique() < 2:
        return None
    table, which = _class_ends(material, table)

    def words(row: Mapping[str, Any]) -> str:
        value = _value(row)
        return "no label" if value == "null" else material.class_word(row["dataset"], int(value))

    return Section(
        "By class",
        charts=[_chart(material, table, "ea_by_class", "Class", words, which)],
        note=_note(material),
    )


def group_section(material: Material) -> Section | None:
    """In which groups of images is the model aligned?"""
    names, others = _attributes(material)
    if not names:
        return None
    tables = [material.by(name).filter(pl.col("ea").is_not_null()) for name in names]
    table = pl.concat(tables)
    if table.is_empty():
        return None
    what = names[0].removeprefix(ATTRIBUTE_PREFIX) if len(names) == 1 else "Group"
    more = f"Further attributes: {', '.join(others[:20])}; ealign show RUN --by NAME shows them." if others else None
    return Section(
        f"By group: {what}" if len(names) == 1 else "By group",
        charts=[_chart(material, table, "ea_by_group", what, _value, more, grouped=True)],
        note=_note(material),
    )


def _attributes(material: Material) -> tuple[list[str], list[str]]:
    """Attributes with a few values, as many as there is room for, and the names of the others that have several."""
    rows = material.shown_rows
    columns = [name for name in rows.columns if name.startswith(ATTRIBUTE_PREFIX)]
    classes = rows["label"].n_unique()
    several = {
        name: count
        for name in columns
        if (count := rows[name].n_unique()) > 1
        # what divides the images as the classes do is shown by class
        and not (count == classes == rows.select(name, "label").n_unique())
    }
    fit = [name for name, count in several.items() if count <= _VALUES][:_ATTRIBUTES]
    return fit, [name.removeprefix(ATTRIBUTE_PREFIX) for name in several if name not in fit]


def _value(row: Mapping[str, Any]) -> str:
    """The value of ``column=value``."""
    return str(row["group"]).partition("=")[2]


def _size(row: Mapping[str, Any]) -> str:
    """``05-15%`` as it is read."""
    low, dash, high = _value(row).rstrip("%").partition("-")
    return f"{int(low)}\u2013{int(high)} %" if dash and low.isdigit() and high.isdigit() else _value(row)


def _attribute(row: Mapping[str, Any]) -> str:
    return str(row["group"]).partition("=")[0].removeprefix(ATTRIBUTE_PREFIX)


def _class_ends(material: Material, table: pl.DataFrame) -> tuple[pl.DataFrame, str | None]:
    """The classes to show, and which they are if not all."""
    ranked = (
        table.filter(pl.col("metric") == material.metric)
        .group_by("group", maintain_order=True)
        .agg(pl.col("ea").mean())
        .sort("ea", "group", descending=[material.higher_is_better, False])["group"]
        .to_list()
    )
    if len(ranked) <= _CLASSES:
        place = pl.col("group").str.extract(r"=(\d+)$").cast(pl.Int64)
        return table.sort(place, maintain_order=True, nulls_last=True), None
    half = _CLASSES // 2
    kept = [*ranked[:half], *ranked[-half:]]
    order = {name: i for i, name in enumerate(kept)}
    table = table.filter(pl.col("group").is_in(kept)).sort(
        pl.col("group").replace_strict(order, return_dtype=pl.Int64), maintain_order=True
    )
    label = metric_label(material.metric)
    return table, (
        f"Shown: the {half} classes with the best mean {label} and the {half} with the worst, of {len(ranked)}; "
        "ealign show RUN --by class shows all."
    )


def _chart(
    material: Material,
    table: pl.DataFrame,
    name: str,
    what: str,
    words: _Words,
    caption: str | None = None,
    *,
    grouped: bool = False,
) -> Chart:
    """Groups down the side, models beside each other, and lists for what else there is."""
    table, left_out = bounded(material, table)
    few = table["model"].n_unique() <= _SIDE_BY_SIDE
    rows = [
        {
            **values,
            "line": words(row),
            "series": row["model"] if few else row["region"],
            "model": row["model"],
            "attribute": _attribute(row) if grouped else "",
            "metric": metric_label(row["metric"]),
            "dataset": row["dataset"],
            "region": row["region"],
        }
        for row, values in value_rows(table)
    ]
    choices = {"attribute": "Attribute", "metric": "Metric", "dataset": "Data"}
    choices |= {"region": "Region"} if few else {"model": "Model"}
    alt_text = f"Mean explanation alignment by {what.lower()}, with {100 * material.level:g} % intervals and chance"
    spec = interval_chart(
        rows,
        alt_text=alt_text,
        value="explanation alignment",
        line=what,
        series="Model" if few else "Region",
        choices=choices,
        first=material.first,
        toy=material.toy,
    )
    headers = ["Model", "Data", "Region", *(["Attribute"] if grouped else []), what, "Metric"]
    cells = [
        [
            *(row["model"], row["dataset"], row["region"], *([_attribute(row)] if grouped else []), words(row)),
            *(metric_label(row["metric"]), *number_cells(row), row["accuracy"]),
        ]
        for row in table.iter_rows(named=True)
    ]
    numbers = ["EA", "from", "to", "Chance", "n", "Undefined", "Accuracy"]
    told = " ".join(text for text in (caption, left_out) if text) or None
    return Chart(name, spec, alt_text, Table([*headers, *numbers], cells, "The numbers of this chart"), told)


def _note(material: Material) -> str:
    parts = [f"Method {material.method_words}."]
    parts += [material.bounds_note] if material.bounds_note else []
    parts += ["A model's seeds are taken together."] if material.pools_seeds else []
    return " ".join(parts)
