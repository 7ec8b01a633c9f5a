"""Rankings of regions against tables made by hand, scipy's ranks and loops written another way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, rankdata

import explanation_alignment as ea
from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.statistics.intervals import resample_weights
from explanation_alignment.statistics.region_ranking import (
    RANKINGS,
    REGION_RANKING_SCHEMA,
    SEED_RANKING_SCHEMA,
    rank_regions,
    ranks_and_intervals,
    ranks_over_seeds,
)
from explanation_alignment.statistics.summary import summarise
from toys import UnevenPatches, small_classifier

REGIONS = ("hair", "mouth", "skin", "nose")


def scores(images: int = 40, **changed: Any) -> pl.DataFrame:
    """Scores of four regions that the four statistics rank otherwise; the nose is missing in every fourth image."""
    rng = np.random.default_rng(changed.pop("draw", 3))
    records = []
    for i in range(images):
        for region, area, mean, centre in (
            ("hair", 20, 0.30, 0.10),
            ("mouth", 2, 0.15, 0.12),
            ("skin", 40, 0.45, 0.50),
            ("nose", 4, 0.05, 0.20),
        ):
            missing = region == "nose" and i % 4 == 0
            coverage = float(np.clip(mean + rng.normal(0, 0.05), 0, 1))
            records.append(
                {
                    "model": "m",
                    "seed": 0,
                    "dataset": "d",
                    "sample_id": f"image-{i:03d}",
                    "target": "predicted",
                    "method": "gradcam",
                    "binarization": "threshold:0.5",
                    "region": region,
                    "correct": bool(i % 3),
                    "status": "no_annotation" if missing else "ok",
                    "iou_coverage": None if missing else coverage,
                    "saliency_coverage": None if missing else 0.2 + 0.02 * float(rng.random()),
                    "pointing_game": None if missing else float(rng.random() < mean),
                    "center_iou": None if missing else centre,
                    "annotation_area": 0 if missing else area + i % 2,
                    "salient_area": 16,
                    "map_height": 8,
                    "map_width": 8,
                    "attr_group": "one" if i < images // 2 else "two",
                }
                | changed
            )
    return pl.DataFrame(records, infer_schema_length=None)


def order(table: pl.DataFrame, statistic: str) -> list[str]:
    return table.filter(statistic=statistic, group="all")["region"].to_list()


def test_each_statistic_ranks_as_written_out_by_hand() -> None:
    table = rank_regions(scores())
    assert table.schema == REGION_RANKING_SCHEMA
    assert order(table, "excess") == ["hair", "mouth", "skin", "nose"]
    assert order(table, "iou")[0] == "skin"
    assert order(table, "lift") == ["mouth", "nose", "hair", "skin"]  # the same share of the map: by size alone
    assert table["statistic"].unique(maintain_order=True).to_list() == list(RANKINGS)


def test_values_and_ranks_are_those_of_plain_means_and_scipy() -> None:
    rows = scores()
    table = rank_regions(rows)
    for statistic in RANKINGS:
        plain = {}
        for region in REGIONS:
            of = rows.filter(pl.col("region") == region, pl.col("status") == "ok")
            share = of["annotation_area"].to_numpy() / 64
            iou, centre = of["iou_coverage"].to_numpy(), of["center_iou"].to_numpy()
            plain[region] = {
                "excess": float(np.mean(iou - centre)),
                "lift": float(np.mean(of["saliency_coverage"].to_numpy()) / np.mean(share)),
                "iou": float(np.mean(iou)),
                "hits": float(np.mean(of["pointing_game"].to_numpy())),
            }[statistic]
        ranks = rankdata([-plain[region] for region in REGIONS], method="min")
        told = {row["region"]: row for row in table.filter(statistic=statistic).iter_rows(named=True)}
        for region, rank in zip(REGIONS, ranks, strict=True):
            assert told[region]["value"] == pytest.approx(plain[region])
            assert told[region]["rank"] == rank
            assert told[region]["low"] <= plain[region] <= told[region]["high"]
            assert told[region]["n"] == (30 if region == "nose" else 40)
            assert told[region]["n_undefined"] == (10 if region == "nose" else 0)


def test_values_are_those_of_the_summary() -> None:
    rows = scores()
    summary = {(r["region"], r["metric"]): r for r in summarise(rows).iter_rows(named=True)}
    metric = {"excess": "iou_coverage", "lift": "saliency_coverage", "iou": "iou_coverage", "hits": "pointing_game"}
    column = {"excess": "excess", "lift": "lift", "iou": "ea", "hits": "ea"}
    for row in rank_regions(rows).iter_rows(named=True):
        known = summary[row["region"], metric[row["statistic"]]]
        assert row["value"] == pytest.approx(known[column[row["statistic"]]])
        assert row["chance"] == {"excess": 0.0, "lift": 1.0}.get(row["statistic"], known["chance"])


def test_the_images_of_a_sample_are_ranked_as_they_come_intervals_and_chance_too(tmp_path: Path) -> None:
    run = ea.evaluate(
        small_classifier(),
        UnevenPatches(60),
        ["vanilla_gradients"],
        tmp_path / "run",
        metrics=["iou_coverage", "pointing_game", "saliency_coverage"],
        sample=16,
        progress=False,
    )
    table = rank_regions(run, n_resamples=100)
    assert table.equals(rank_regions(run.scores(), n_resamples=100))
    weighted = run.summary(metrics=["iou_coverage"]).select("region", "ea").rows()
    assert dict(table.filter(statistic="iou").select("region", "value").rows()) != pytest.approx(dict(weighted))


def test_first_and_the_lift_s_interval_are_those_of_a_loop_over_resamples() -> None:
    rows = scores()
    ids = sorted(rows["sample_id"].unique().to_list())
    weights = np.concatenate([w.copy() for w in resample_weights(ids, n_resamples=300, seed=5)])
    values = np.empty((300, len(REGIONS)))
    for j, region in enumerate(REGIONS):
        of = rows.filter(pl.col("region") == region).sort("sample_id")
        defined = (of["status"] == "ok").to_numpy()
        tops = of["saliency_coverage"].fill_null(0).to_numpy()
        areas = of["annotation_area"].to_numpy() / 64
        for i, weight in enumerate(weights):
            values[i, j] = np.average(tops[defined], weights=weight[defined]) / np.average(
                areas[defined], weights=weight[defined]
            )
    table = rank_regions(rows, statistics=["lift"], n_resamples=300, seed=5)
    told = {row["region"]: row for row in table.iter_rows(named=True)}
    for j, region in enumerate(REGIONS):
        assert told[region]["first"] == pytest.approx(np.mean(values.argmax(axis=1) == j))
        assert told[region]["low"] == pytest.approx(np.quantile(values[:, j], 0.025))
        assert told[region]["high"] == pytest.approx(np.quantile(values[:, j], 0.975))


def test_rank_sets_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 5)) * 0.4 + np.array([0.0, 0.1, 0.15, 0.9, 1.0])
    draws = rng.multinomial(60, np.full(60, 1 / 60), size=800) / 60 @ x
    values = x.mean(axis=0)
    ranks, low, high, first = ranks_and_intervals(values, draws, 0.9)
    assert ranks.tolist() == rankdata(-values).tolist()
    assert first.sum() == pytest.approx(1)
    for j in range(5):
        others = [k for k in range(5) if k != j]
        errors = {k: (draws[:, k] - draws[:, j]).std() for k in others}
        largest = [
            max(abs((draw[k] - draw[j]) - (values[k] - values[j])) / errors[k] for k in others) for draw in draws
        ]
        reach = np.quantile(largest, 0.9)
        above = sum(values[k] - values[j] > reach * errors[k] for k in others)
        below = sum(values[j] - values[k] > reach * errors[k] for k in others)
        assert (low[j], high[j]) == (1 + above, 5 - below)


def test_rank_sets_hold_equal_regions_where_percentiles_of_ranks_do_not() -> None:
    rng = np.random.default_rng(2)
    held, by_percentiles = 0, 0
    for _ in range(60):
        x = rng.exponential(0.2, size=(40, 6))
        draws = rng.multinomial(40, np.full(40, 1 / 40), size=300) / 40 @ x
        _, low, high, _ = ranks_and_intervals(x.mean(axis=0), draws, 0.95)
        held += int(((low == 1) & (high == 6)).sum())  # equal regions: each may have any rank
        ranks = np.argsort(np.argsort(-draws, axis=1), axis=1) + 1
        by_percentiles += int((np.quantile(ranks, 0.025, axis=0) <= 1).sum())
    assert held / 360 > 0.9
    assert by_percentiles / 360 < 0.85


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1, allow_nan=False), min_size=1, max_size=7), st.integers(0, 2**16))
def test_properties_of_any_ranking(values: list[float], seed: int) -> None:
    means = np.array(values)
    draws = means + np.random.default_rng(seed).normal(0, 0.2, (60, means.size))
    ranks, low, high, first = ranks_and_intervals(means, draws, 0.95)
    assert ((low >= 1) & (low <= ranks) & (ranks <= high) & (high <= means.size)).all()
    assert first.sum() == pytest.approx(1)
    shuffled = np.random.default_rng(seed).permutation(means.size)
    again = ranks_and_intervals(means[shuffled], draws[:, shuffled], 0.95)
    assert [item.tolist() for item in again[:3]] == [item[shuffled].tolist() for item in (ranks, low, high)]


def test_equal_values_share_the_better_rank_and_the_first_place() -> None:
    values, draws = np.array([0.5, 0.5, 0.0]), np.tile([0.5, 0.5, 0.0], (50, 1))
    ranks, low, high, first = ranks_and_intervals(values, draws, 0.95)
    assert ranks.tolist() == [1, 1, 3]
    assert (low.tolist(), high.tolist()) == ([1, 1, 3], [2, 2, 3])
    assert first.tolist() == [0.5, 0.5, 0.0]


def test_a_region_without_scores_has_no_rank_and_is_in_nobody_s_way() -> None:
    rows = scores()
    nowhere = rows.filter(pl.col("region") == "nose").with_columns(
        pl.lit("cloth").alias("region"),
        pl.lit("no_annotation").alias("status"),
        *(pl.lit(None, pl.Float64).alias(c) for c in ("iou_coverage", "saliency_coverage", "pointing_game")),
        pl.lit(None, pl.Float64).alias("center_iou"),
    )
    with_it = rank_regions(pl.concat([rows, nowhere]), n_resamples=200)
    cloth = with_it.filter(region="cloth")
    assert cloth.select("rank", "rank_low", "first", "value", "low").null_count().row(0) == (4,) * 5
    assert cloth["n_undefined"].to_list() == [40] * 4
    assert with_it.filter(pl.col("region") != "cloth").equals(rank_regions(rows, n_resamples=200))
    assert with_it.filter(statistic="excess")["region"].to_list()[-1] == "cloth"


def test_few_images_are_marked() -> None:
    table = rank_regions(scores(24), n_resamples=100)  # 18 of them have a nose
    assert set(table.filter("unreliable")["region"]) == {"nose"}


def test_the_order_of_the_rows_and_other_cells_change_nothing() -> None:
    rows = scores()
    more = pl.concat([rows, scores(draw=4, model="other"), scores(25, draw=5, dataset="e")])
    shuffled = more.sample(fraction=1.0, shuffle=True, seed=1)
    whole = rank_regions(shuffled, n_resamples=200)
    assert whole.filter(model="m", dataset="d").equals(rank_regions(rows, n_resamples=200))
    assert whole.select("model", "dataset").unique().height == 3


def test_groups_are_ranked_apart() -> None:
    rows = scores()
    table = rank_regions(rows, by=["group"], n_resamples=200)
    assert table["group"].unique().sort().to_list() == ["all", "attr_group=one", "attr_group=two"]
    alone = rank_regions(rows.filter(pl.col("attr_group") == "two"), n_resamples=200)
    part = table.filter(group="attr_group=two")
    assert part.drop("group").equals(alone.drop("group"))


def test_methods_that_explain_no_model_are_not_ranked() -> None:
    rows = pl.concat([scores(), scores(method="center")])
    assert rank_regions(rows, n_resamples=50)["method"].unique().to_list() == ["gradcam"]


def test_only_what_the_scores_allow_is_ranked() -> None:
    rows = scores().drop("center_iou", "saliency_coverage")
    assert rank_regions(rows, n_resamples=50)["statistic"].unique(maintain_order=True).to_list() == ["iou", "hits"]
    with pytest.raises(UsageError, match="by excess needs the column 'center_iou'"):
        rank_regions(rows, statistics=["excess"])
    with pytest.raises(UnknownNameError, match="did you mean 'excess'"):
        rank_regions(rows, statistics=["exces"])
    with pytest.raises(UsageError, match="at least one of"):
        rank_regions(rows, statistics=[])
    with pytest.raises(UsageError, match="level"):
        rank_regions(rows, level=1)
    with pytest.raises(UsageError, match="one of the metrics"):
        rank_regions(rows.drop("iou_coverage", "pointing_game"))
    with pytest.raises(UnknownNameError, match="group"):
        rank_regions(rows, by=["hair"])


def test_no_row_gives_an_empty_table() -> None:
    assert rank_regions(scores().head(0)).equals(pl.DataFrame(schema=REGION_RANKING_SCHEMA))


def test_seeds_are_compared_by_rank_value_and_kendall_s_tau() -> None:
    rows = pl.concat([scores(seed=seed, draw=seed) for seed in (3, 4, 5)])
    ranking = rank_regions(rows, n_resamples=50)
    table = ranks_over_seeds(ranking)
    assert table.schema == SEED_RANKING_SCHEMA
    for statistic in RANKINGS:
        part = ranking.filter(statistic=statistic)
        values = [part.filter(seed=seed).sort("region")["value"].to_numpy() for seed in (3, 4, 5)]
        taus = [kendalltau(values[a], values[b]).statistic for a, b in ((0, 1), (0, 2), (1, 2))]
        for row in table.filter(statistic=statistic).iter_rows(named=True):
            own = part.filter(region=row["region"])
            assert row["seeds"] == 3
            assert row["rank_mean"] == pytest.approx(np.mean(own["rank"].to_numpy()))
            assert (row["rank_best"], row["rank_worst"]) == (own["rank"].min(), own["rank"].max())
            assert row["times_first"] == sum(rank == 1 for rank in own["rank"])
            assert row["value_sd"] == pytest.approx(np.std(own["value"].to_numpy(), ddof=1))
            assert row["tau_mean"] == pytest.approx(np.mean(taus))
            assert row["tau_min"] == pytest.approx(min(taus))
    assert table.filter(statistic="excess")["region"].to_list() == ["hair", "mouth", "skin", "nose"]
    one = ranks_over_seeds(rank_regions(scores(), n_resamples=50))
    assert one["tau_mean"].null_count() == one.height
    assert one["value_sd"].null_count() == one.height


def test_it_is_public() -> None:
    assert ea.rank_regions is rank_regions
