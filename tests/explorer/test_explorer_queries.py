"""What the explorer finds is what plain polars and plain Python find in the whole table."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from exploring import ATTRIBUTE, EVIL, MODELS, explored, scores
from hypothesis import given
from hypothesis import strategies as st

import explanation_alignment as ea
from explanation_alignment.errors import RunError, UsageError
from explanation_alignment.explorer import boards, queries
from explanation_alignment.explorer.addresses.comparison import CompareState, Side
from explanation_alignment.explorer.addresses.fields import OUTCOMES
from explanation_alignment.explorer.addresses.gallery import Filters
from explanation_alignment.explorer.addresses.leaderboard import BoardState
from explanation_alignment.explorer.boards import Boards, chosen_rows
from explanation_alignment.explorer.catalogue import Catalogue, Snapshot
from explanation_alignment.explorer.choosing import compare_chosen, gallery_first
from explanation_alignment.explorer.downloads import csv_pieces
from explanation_alignment.explorer.queries import Questions, chances
from explanation_alignment.runs.schema import STATUSES
from explanation_alignment.statistics.shared_interest_cases import CASES, with_cases

WORDS = ("model", "dataset", "target", "method", "binarization", "region", "status")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return Catalogue(explored(tmp_path_factory.mktemp("queries") / "run")).now()


def plain(run: ea.Run) -> list[dict[str, Any]]:
    table = with_cases(run.scores().with_columns(pl.col(WORDS).cast(pl.String)))
    return table.with_columns(pl.col("case").cast(pl.String)).to_dicts()


def keys(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["model"], row["sample_id"], row["region"]) for row in rows]


def holds(row: dict[str, Any], f: Filters) -> bool:
    """The filters in plain Python."""
    exact = {"seed": f.seed, "dataset": f.dataset, "method": f.method, "region": f.region, "label": f.label}
    exact |= {"prediction": f.prediction, "correct": f.correct, "status": f.status, "case": f.case}
    exact |= {"binarization": f.binarization, "target": f.target}
    score = row[f.metric or "iou_coverage"]
    return (
        all(value is None or row[name] == value for name, value in exact.items())
        and (not f.models or row["model"] in f.models)
        and (f.low is None or (score is not None and score >= f.low))
        and (f.high is None or (score is not None and score <= f.high))
        and (f.sample is None or f.sample in row["sample_id"])
        and all(str(row[f"attr_{name}"]) == value for name, value in f.attributes)
    )


def maybe(*values: Any) -> st.SearchStrategy:
    return st.none() | st.sampled_from(values)


@given(
    st.builds(
        Filters,
        models=st.sampled_from([(), ("good",), MODELS]),
        seed=maybe(0, 1),
        dataset=maybe("d"),
        method=maybe("vanilla_gradients"),
        region=maybe("object", "block"),
        label=maybe(0, 1, 7),
        prediction=maybe(0, 2),
        correct=maybe(True, False),
        status=maybe(*STATUSES[:4]),
        case=maybe(*CASES),
        metric=st.sampled_from(["iou_coverage", "saliency_coverage"]),
        low=maybe(0.0, 0.25),
        high=maybe(0.25, 0.5),
        sample=maybe("image-1", "..", "(", "nowhere"),
        attributes=st.sampled_from([(), (("hair", "dark"),), ((ATTRIBUTE, "=1+1"),)]),
    ),
    maybe("iou_coverage", "confidence"),
    st.booleans(),
)
def test_a_selection_is_what_plain_python_selects(
    snapshot: Snapshot, chosen: Filters, sort: str | None, descending: bool
) -> None:
    questions = Questions()
    expected = [row for row in plain(snapshot.run) if holds(row, chosen)]
    if sort is not None:
        known = [row for row in expected if row[sort] is not None]
        known.sort(key=lambda row: row[sort], reverse=descending)
        expected = known + [row for row in expected if row[sort] is None]
    found = questions.select(snapshot, chosen, sort, descending)
    rows = questions.rows(snapshot, found.places).to_dicts()
    assert keys(rows) == keys(expected)
    values = [row[chosen.metric] for row in expected if row[chosen.metric] is not None]
    assert found.defined == len(values)
    assert found.mean == (pytest.approx(sum(values) / len(values)) if values else None)
    assert sum(found.undefined.values()) == len(expected) - len(values)
    assert (found.correct, found.decided) == (sum(row["correct"] for row in expected), len(expected))


def test_rows_are_whole_and_in_the_order_asked_for(snapshot: Snapshot) -> None:
    questions = Questions()
    everything = questions.select(snapshot, Filters()).places
    some = everything.reverse().gather_every(7)
    rows = questions.rows(snapshot, some)
    expected = plain(snapshot.run)[::-1][::7]
    assert [{name: row[name] for name in expected[0]} for row in rows.to_dicts()] == expected
    assert set(rows["_slug"]) == {"e0", "e1"}


def test_only_pictured_decisions(snapshot: Snapshot) -> None:
    pictured = {"e0": frozenset({"image-1", "image-2"}), "e1": frozenset()}
    found = Questions().select(snapshot, Filters(pictured=True), pictured=pictured)
    rows = Questions().rows(snapshot, found.places)
    assert set(rows["sample_id"]) == {"image-1", "image-2"}
    assert set(rows["model"]) == {"good"}


def test_chance_levels_are_those_of_the_statistics(snapshot: Snapshot) -> None:
    questions = Questions()
    rows = questions.rows(snapshot, questions.select(snapshot, Filters(models=("good",), region="object")).places)
    mean = sum(
        level for level, s in zip(chances(rows, "pointing_game"), rows["pointing_game"], strict=True) if s is not None
    )
    summary = snapshot.run.summary().filter(model="good", region="object", metric="pointing_game")
    assert mean / summary["n"][0] == pytest.approx(summary["chance"][0])


def test_one_image_with_every_model(snapshot: Snapshot) -> None:
    rows = Questions().decision(snapshot, "d", "image-3")
    assert keys(rows.to_dicts()) == [key for key in keys(plain(snapshot.run)) if key[1] == "image-3"]
    with pytest.raises(RunError, match="no decision on a sample 'nobody'"):
        Questions().decision(snapshot, "d", "nobody")


def came(row: dict[str, Any], threshold: float) -> str:
    score = row["iou_coverage"]
    if score is None or row["correct"] is None:
        return "undefined"
    return ("right" if row["correct"] else "wrong") + ("_aligned" if score >= threshold else "_elsewhere")


@pytest.mark.parametrize("threshold", [0.1, 0.3, 2.0])
def test_two_models_are_counted_image_by_image(snapshot: Snapshot, threshold: float) -> None:
    state = compare_chosen(CompareState(threshold=threshold, region="object"), {"a": snapshot, "b": snapshot})
    assert (state.a.model, state.b.model) == MODELS
    rows = {(row["model"], row["sample_id"]): row for row in plain(snapshot.run) if row["region"] == "object"}
    expected: dict[tuple[str, str], list[str]] = {}
    for (model, name), row in rows.items():
        if model == "good":
            pair = (came(row, threshold), came(rows[EVIL, name], threshold))
            expected.setdefault(pair, []).append(name)
    pairs = Questions().compare(snapshot, snapshot, state)
    assert pairs.counts == {pair: len(names) for pair, names in expected.items()}
    assert (pairs.only_a, pairs.only_b) == (0, 0)
    for (a, b), names in expected.items():
        questions = Questions()
        cell = questions.compare(snapshot, snapshot, state.cell(a, b)).places
        own = questions.rows(snapshot, cell.select(_evaluation="_b_evaluation", _row="_b_row"))
        assert own["sample_id"].to_list() == names


def test_two_models_sorted_by_their_difference(snapshot: Snapshot) -> None:
    state = compare_chosen(CompareState(region="object", sort="difference"), {"a": snapshot, "b": snapshot})
    found = Questions().compare(snapshot, snapshot, state).places["difference"]
    known = found.drop_nulls().to_list()
    assert known == sorted(known, reverse=True)
    assert found.to_list()[: len(known)] == known
    (table,) = Questions().side_by_side(snapshot, snapshot, Questions().compare(snapshot, snapshot, state).places)
    assert (table["a_iou_coverage"] - table["b_iou_coverage"]).to_list() == pytest.approx(found.to_list(), nan_ok=True)


@pytest.mark.parametrize("descending", [True, False])
def test_two_models_without_a_picture_of_both_stay_in_the_order_of_the_run(
    snapshot: Snapshot, descending: bool
) -> None:
    state = compare_chosen(CompareState(region="object"), {"a": snapshot, "b": snapshot})
    plain_order = Questions().compare(snapshot, snapshot, state).places
    by_picture = state.but(sort="picture", descending=descending)
    assert Questions().compare(snapshot, snapshot, by_picture, frozenset()).places.equals(plain_order)


def test_images_only_one_run_has_are_counted(tmp_path: Path, snapshot: Snapshot) -> None:
    fewer = Catalogue(explored(tmp_path / "fewer", images=30)).now()
    both = {"a": snapshot, "b": fewer}
    state = compare_chosen(CompareState(b=Side(run="b"), region="object"), both)
    pairs = Questions().compare(snapshot, fewer, state)
    assert (pairs.total, pairs.only_a, pairs.only_b) == (30, 10, 0)  # the last of each has the same id
    with pytest.raises(UsageError, match="no decisions on the same dataset"):
        compare_chosen(CompareState(metric="heatmap_nss"), both)


def test_long_tables_come_in_pieces(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = Questions()
    places = questions.select(snapshot, Filters(), "confidence").places
    (whole,) = questions.chunks(snapshot, places)
    assert whole["confidence"].is_sorted(descending=True)
    monkeypatch.setattr(queries, "_CHUNK", 33)
    pieces = list(questions.chunks(snapshot, places))
    assert [piece.height for piece in pieces] == [33] * 4 + [28]
    assert keys(pl.concat(pieces).to_dicts()) == keys(plain(snapshot.run))


def test_pieces_have_every_column_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = explored(tmp_path / "run")
    part = next((path / "scores" / "e1").glob("*.parquet"))
    other = pl.read_parquet(part).drop(f"attr_{ATTRIBUTE}", "pointing_game")
    other = other.with_columns(attr_more=pl.lit(7), heatmap_nss=pl.lit(1.5, pl.Float32))
    other.select(reversed(other.columns)).write_parquet(part)
    snapshot, questions = Catalogue(path).now(), Questions()
    places = questions.select(snapshot, Filters()).places
    monkeypatch.setattr(queries, "_CHUNK", 33)
    pieces = list(questions.chunks(snapshot, places))
    assert {tuple(piece.columns) for piece in pieces} == {(*snapshot.columns, "case", "_slug")}
    assert {"attr_more", "heatmap_nss", "pointing_game"} <= set(snapshot.columns)
    read = pl.read_csv(b"".join(csv_pieces(pieces)), infer_schema_length=None)
    assert read.filter(model="good")["attr_more"].null_count() == read.filter(model="good").height == 80
    assert set(read.filter(model=EVIL)["attr_more"]) == {7}
    assert set(read.filter(model=EVIL)["heatmap_nss"]) == {1.5}
    whole = pl.concat(piece.select("iou_coverage", "case") for piece in pieces)
    assert read["iou_coverage"].to_list() == pytest.approx(whole["iou_coverage"].to_list())
    assert read["case"].to_list() == whole["case"].cast(pl.String).to_list()
    compared = compare_chosen(CompareState(region="object"), {"a": snapshot, "b": snapshot})
    monkeypatch.setattr(queries, "_CHUNK", 7)
    pairs = questions.compare(snapshot, snapshot, compared).places
    assert len({tuple(table.columns) for table in questions.side_by_side(snapshot, snapshot, pairs)}) == 1


def test_answers_are_kept_and_forgotten(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = Questions()
    first = questions.select(snapshot, Filters(region="object"), "confidence")
    assert questions.select(snapshot, Filters(region="object"), "confidence") is first
    assert questions.select(snapshot, Filters(region="object"), "confidence", False) is not first
    monkeypatch.setattr(queries, "_KEPT_PLACES", 10)
    questions.select(snapshot, Filters())
    assert questions.select(snapshot, Filters(region="object"), "confidence") is not first


# ------------------------------------------------------------------------------------------------ growing runs


def test_a_run_that_grows_is_seen_to_grow(tmp_path: Path) -> None:
    path = explored(tmp_path / "run")
    catalogue, questions = Catalogue(path, patience=0), Questions()
    before = questions.select(catalogue.now(), Filters()).total
    assert catalogue.now() is catalogue.now()
    later = scores(("good",)).with_columns(sample_id="later-" + pl.col("sample_id"))
    later.write_parquet(path / "scores" / "e0" / "unit-00001.parquet")
    assert questions.select(catalogue.now(), Filters()).total == before + later.height
    rows = questions.rows(catalogue.now(), questions.select(catalogue.now(), Filters(sample="later-image-7")).places)
    assert set(rows["sample_id"]) == {"later-image-7"}


def test_folders_that_lead_out_of_the_run_are_not_read(tmp_path: Path) -> None:
    outside = explored(tmp_path / "outside")
    path = explored(tmp_path / "run")
    info = json.loads((path / "run.json").read_text())
    (path / "scores" / "linked").symlink_to(outside / "scores" / "e0")
    for slug in ("../../outside/scores/e0", str(outside / "scores" / "e1"), "..", "linked"):
        info["evaluations"][slug] = info["evaluations"]["e0"]
    (path / "run.json").write_text(json.dumps(info))
    part = path / "scores" / "e1" / "unit-00009.parquet"
    part.symlink_to(outside / "scores" / "e0" / "unit-00000.parquet")
    (outside / "scores" / "e0" / "unit-00000.parquet").rename(outside / "scores" / "e0" / "units-00010-00011.parquet")
    (path / ".work").mkdir()
    (path / ".work" / "e0").symlink_to(outside / "scores" / "e0")
    snapshot = Catalogue(path).now()
    assert set(snapshot.by_slug) == {"e0", "e1"}
    assert all(len(one.parts) == 1 for one in snapshot.evaluations)


def test_a_run_without_rows_and_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run"):
        Catalogue(tmp_path)
    path = explored(tmp_path / "run")
    for part in path.glob("scores/*/*.parquet"):
        part.unlink()
    snapshot = Catalogue(path).now()
    assert snapshot.evaluations == ()
    assert Questions().select(snapshot, Filters()).total == 0


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    path = explored(tmp_path / "run")
    part = path / "scores" / "e0" / "unit-00000.parquet"
    part.write_bytes(b"no parquet")
    with pytest.raises(RunError, match="unit-00000"):
        Catalogue(path)


def test_values_of_many_attributes(tmp_path: Path) -> None:
    path = explored(tmp_path / "run")
    more = {f"attr_a{i:03d}": pl.int_range(pl.len()) % (i + 1) for i in range(200)}
    for part in path.glob("scores/*/*.parquet"):
        pl.read_parquet(part).with_columns(**more).write_parquet(part)
    values = Catalogue(path).now().attribute_values
    assert len(values) == 202
    assert values["a001"] == ("0", "1")
    assert values["a150"] == ()  # too many to offer: one is typed


# ------------------------------------------------------------------------------------------------- leaderboard


def test_the_board_is_the_leaderboard_and_plain_means_come_first(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Boards(patience=60).of(snapshot)
    expected = ea.leaderboard(snapshot.run, all_keys=True)
    assert whole.whole
    assert whole.table.drop("family").equals(expected.drop("family"))
    release = threading.Event()
    monkeypatch.setattr(
        boards, "leaderboard", lambda *given, **more: release.wait(60) and ea.leaderboard(*given, **more)
    )
    waiting = Boards(patience=0.05)
    quick = waiting.of(snapshot)
    assert not quick.whole
    assert set(quick.table.columns) <= set(expected.columns)
    both = quick.table.join(expected, on=["model", "region"], suffix="_known")
    assert both.height == 4
    for name in ("top1", "ea_iou_coverage", "ea_saliency_coverage", "ea_iou_coverage_n"):
        assert both[name].to_list() == pytest.approx(both[f"{name}_known"].to_list())
    release.set()
    while not waiting.of(snapshot).whole:
        time.sleep(0.01)


def test_a_board_that_cannot_be_made_says_why(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: object, **more: object) -> None:
        raise UsageError("several targets")

    monkeypatch.setattr(boards, "leaderboard", refused)
    board = Boards(patience=60).of(snapshot)
    assert (board.whole, board.problem, board.table.height) == (False, "several targets", 4)


@pytest.mark.parametrize("patience", [0, 60])
def test_of_several_targets_without_a_main_one_nothing_is_ranked(tmp_path: Path, patience: float) -> None:
    snapshot = Catalogue(explored(tmp_path / "run", targets=("label", "3"))).now()
    board = Boards(patience).of(snapshot)
    assert board.table.is_empty()
    assert board.problem is not None
    assert "several targets (3, label)" in board.problem
    assert chosen_rows(board, BoardState(method="vanilla_gradients")).is_empty()


def test_rows_of_the_board_are_filtered_and_sorted(snapshot: Snapshot) -> None:
    board = Boards(patience=60).of(snapshot)
    rows = chosen_rows(board, BoardState(sort="ea_iou_coverage", region="object"))
    assert rows["ea_iou_coverage"].to_list() == sorted(rows["ea_iou_coverage"], reverse=True)
    assert chosen_rows(board, BoardState(find="GOO"))["model"].unique().to_list() == ["good"]
    assert chosen_rows(board, BoardState(find="document.title")).height == 2
    assert chosen_rows(board, BoardState(find="document?title")).height == 0
    first = gallery_first(snapshot, board, "a").chosen
    assert (first.region, first.method) == ("object", "vanilla_gradients")


def test_methods_that_know_nothing_are_shown_when_asked(tmp_path: Path) -> None:
    path = explored(tmp_path / "run")
    for part in path.glob("scores/*/*.parquet"):
        rows = pl.read_parquet(part).with_columns(pl.col("method").cast(pl.String))
        pl.concat([rows, rows.with_columns(method=pl.lit("random"))]).write_parquet(part)
    info = json.loads((path / "run.json").read_text())
    for item in info["evaluations"].values():
        item["methods"].append({"method": "random", "binarization": "std:1"})
    (path / "run.json").write_text(json.dumps(info))
    board = Boards(patience=60).of(Catalogue(path).now())
    assert set(chosen_rows(board, BoardState())["method"]) == {"vanilla_gradients"}
    assert set(chosen_rows(board, BoardState(nulls=True))["method"]) == {"vanilla_gradients", "random"}


def test_outcomes_are_named_in_order() -> None:
    table = pl.DataFrame({"v": [0.3, 0.1, 0.3, 0.1, None], "c": [True, True, False, False, True]})
    table = table.with_columns(pl.col("v").cast(pl.Float32))
    assert table.select(came=queries.outcome("v", "c", 0.3))["came"].to_list() == list(OUTCOMES)
