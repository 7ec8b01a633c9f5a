from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.reporting.figures import dose_response, figure_bytes, group_bars, reliance_bars
from explanation_alignment.reporting.text import TOY_WARNING
from explanation_alignment.statistics.relying.region_reliance import RELIANCE_SCHEMA


def words(figure: Figure) -> list[str]:
    """All text of a figure."""
    found = [text.get_text() for text in figure.texts]
    legends = list(figure.legends)
    for ax in figure.axes:
        found += [text.get_text() for text in ax.texts] + [ax.get_title(loc="left"), ax.get_xlabel()]
        found += [label.get_text() for label in ax.get_yticklabels()]
        legends += [ax.get_legend()] if ax.get_legend() else []
    return [*found, *(text.get_text() for legend in legends for text in legend.get_texts())]


def widths(figure: Figure, axis: int) -> list[float]:
    """Lengths of the bars of one panel."""
    return [patch.get_width() for patch in figure.axes[axis].patches if isinstance(patch, Rectangle)]


class TestGroupBars:
    @staticmethod
    def table() -> pl.DataFrame:
        rows = [
            (
                test,
                measure,
                group,
                model,
                value,
                value - 0.05,
                value + 0.05,
                0.5 if measure == "accuracy" else 0.02,
                before,
            )
            for test in ("unbiased", "biased")
            for measure, chance, before in (("accuracy", 0.5, None), ("IoU", 0.02, 0.03))
            for group, more in (("all", 0.0), ("rare", 0.1))
            for model, base in (("one", 0.2), ("two", 0.6))
            for value in [base + more]
        ]
        names = ["test", "measure", "group", "model", "value", "low", "high", "chance", "before"]
        return pl.DataFrame(rows, schema=names, orient="row", schema_overrides={"before": pl.Float64})

    def test_a_bar_for_each_row_in_its_panel(self) -> None:
        figure = group_bars(self.table(), title="By group", note="Whisker: an interval.", toy=True)
        assert len(figure.axes) == 4
        for axis in range(4):
            assert sorted(widths(figure, axis)) == pytest.approx([0.2, 0.3, 0.6, 0.7])
        said = words(figure)
        for word in ("By group", "chance", "before training", "all", "rare", "0.700", TOY_WARNING):
            assert word in said
        assert {"accuracy, unbiased", "IoU, biased"} <= set(said)
        assert len(figure_bytes(figure, "png")) > 5_000

    def test_chosen_models_and_their_words(self) -> None:
        figure = group_bars(self.table(), models=["two"], labels={"two": "the second"})
        assert sorted(widths(figure, 0)) == pytest.approx([0.6, 0.7])
        assert "the second" in words(figure)
        assert TOY_WARNING not in words(figure)

    def test_what_cannot_be_drawn(self) -> None:
        with pytest.raises(UnknownNameError, match="model"):
            group_bars(self.table(), models=["three"])
        with pytest.raises(UsageError, match="nothing to draw"):
            group_bars(self.table().with_columns(value=pl.lit(None, pl.Float64)))


class TestRelianceBars:
    @staticmethod
    def table(seeds: int = 1, **change: Any) -> pl.DataFrame:
        rows = []
        for seed in range(seeds):
            for model, region, excess in (("a", "mouth", 0.1), ("a", "hair", -0.1), ("b", "hair", 0.3)):
                evidence = region == "mouth"
                rows.append(
                    {
                        "model": model,
                        "seed": seed,
                        "dataset": "d",
                        "method": "gradcam",
                        "binarization": "threshold:0.5",
                        "group": "all",
                        "region": region,
                        "is_evidence": evidence,
                        "verdict": "evidence" if evidence else "confirmed" if model == "b" else "not relied on",
                        "metric": "iou_coverage",
                        "null": "center",
                        "excess": excess + 0.01 * seed,
                        "excess_low": excess - 0.02,
                        "excess_high": excess + 0.02,
                        "flip_difference": 0.5,
                        "flip_low": 0.4,
                        "flip_high": 0.6,
                        "n": 100,
                    }
                    | change
                )
        return pl.DataFrame(rows, schema_overrides={k: v for k, v in RELIANCE_SCHEMA.items() if k in rows[0]})

    def test_one_seed_is_drawn_with_its_interval(self) -> None:
        figure = reliance_bars(self.table(), toy=True)
        assert sorted(widths(figure, 0)) == pytest.approx([-0.1, 0.1, 0.3])
        assert widths(figure, 1) == pytest.approx([0.5] * 3)
        said = words(figure)
        assert "mouth (evidence)" in said
        assert "+0.500  confirmed" in said
        assert "+0.300" in said
        assert "\u22120.100" in said
        assert "n = 100 decisions per bar. Whisker: 95 % interval." in said
        assert TOY_WARNING in said

    def test_several_seeds_are_a_mean_and_a_count(self) -> None:
        figure = reliance_bars(self.table(seeds=3))
        assert sorted(widths(figure, 0)) == pytest.approx([-0.09, 0.11, 0.31])
        assert "+0.500  confirmed in 3 of 3" in words(figure)

    def test_without_an_intervention_there_is_one_panel(self) -> None:
        change = dict.fromkeys(("flip_difference", "flip_low", "flip_high"))
        assert len(reliance_bars(self.table(**change)).axes) == 1

    def test_what_cannot_be_drawn(self) -> None:
        two = pl.concat([self.table(), self.table(method="vanilla_gradients")])
        with pytest.raises(UsageError, match="one method, got gradcam, vanilla_gradients"):
            reliance_bars(two)
        with pytest.raises(UsageError, match="nothing to draw"):
            reliance_bars(self.table(group="x=1"))


class TestDoseResponse:
    @staticmethod
    def table() -> pl.DataFrame:
        rows = [
            (name, dose, value, value - 0.1, value + 0.1, chance, before)
            for name, values, chance, before in (
                ("rare", (1.0, 0.5, 0.0), 0.5, None),
                ("hair", (0.0, 0.1, 0.3), 0.0, 0.05),
            )
            for dose, value in zip((0.0, 0.5, 1.0), values, strict=True)
        ]
        names = ["quantity", "correlation", "value", "low", "high", "chance", "untrained"]
        table = pl.DataFrame(rows, schema=names, orient="row", schema_overrides={"untrained": pl.Float64})
        return table.sample(len(rows), shuffle=True, seed=0)

    def test_curves_go_from_the_lowest_to_the_highest_dose(self) -> None:
        panels = {"accuracy": ["rare"], "excess": ["hair"]}
        figure = dose_response(self.table(), panels, dose="phi", labels={"rare": "rare groups"}, toy=True)
        curves = [figure.axes[place].lines[0] for place in range(2)]
        assert [list(curve.get_xdata()) for curve in curves] == [[0.0, 0.5, 1.0]] * 2
        assert list(curves[0].get_ydata()) == [1.0, 0.5, 0.0]
        assert list(curves[1].get_ydata()) == pytest.approx([0.0, 0.1, 0.3])
        bars = [list(line.get_ydata()) for line in figure.axes[1].lines[1:4]]
        assert sorted(bars) == [pytest.approx([-0.1, 0.1]), pytest.approx([0.0, 0.2]), pytest.approx([0.2, 0.4])]
        said = words(figure)
        for word in ("rare groups", "chance", "before training", "phi", TOY_WARNING):
            assert word in said
        assert len(figure_bytes(figure, "png")) > 5_000

    def test_what_cannot_be_drawn(self) -> None:
        with pytest.raises(UnknownNameError, match="quantity"):
            dose_response(self.table(), {"x": ["hare"]}, dose="phi")
        with pytest.raises(UsageError, match="at least one panel"):
            dose_response(self.table(), {}, dose="phi")
        with pytest.raises(UsageError, match="nothing to draw"):
            dose_response(self.table().with_columns(value=pl.lit(None, pl.Float64)), {"x": ["hair"]}, dose="phi")
