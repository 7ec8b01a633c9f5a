"""What a run is exported to reads back as the same rows in other tools, and so does the run folder itself."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal
from small_shards import evaluated

import datasets
import explanation_alignment as ea
from explanation_alignment.errors import RunError, UsageError
from explanation_alignment.runs import exporting
from explanation_alignment.runs.schema import KEY_COLUMNS
from toys import Patches


class _Others(Patches):
    """An attribute of its own, one of another type, ids that look like numbers, words that need care."""

    name = "others"

    def ids(self) -> list[str]:
        return [f"{index:04d}" for index in range(len(self))]

    def attributes(self) -> dict[str, list[Any]]:
        words = ['a "quoted", word', "two\nlines", "", None, "=1+1", "Müller 🙂"]
        return {"even": ["yes"] * len(self), "words": [words[index % 6] for index in range(len(self))]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ea.Run:
    """Two datasets with other attributes, two seeds, one evaluation with another metric; units of eight."""
    out = tmp_path_factory.mktemp("exporting") / "run"
    evaluated(out, seed=1)
    evaluated(out)
    evaluated(out, ("sobel",), data=_Others(), metrics=["roc_auc", "pointing_game"])
    return evaluated(out, name="a model")


@pytest.fixture(scope="module")
def expected(run: ea.Run) -> pl.DataFrame:
    """The rows by way of the reader, words as text, sorted by their key."""
    return run.scores().with_columns(pl.col(pl.Categorical).cast(pl.String)).sort(KEY_COLUMNS)


@pytest.fixture(scope="module")
def parquet(run: ea.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ea.export(run, "parquet", tmp_path_factory.mktemp("parquet") / "all.parquet")


def same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """The same rows in the same order; types may be wider."""
    assert set(found.columns) == set(expected.columns)
    wanted = {name: expected.schema[name] for name in found.columns}
    assert_frame_equal(found.cast(wanted), expected.select(found.columns))


def test_polars_reads_the_parquet_file(parquet: Path, expected: pl.DataFrame) -> None:
    found = pl.read_parquet(parquet)
    same(found, expected)
    assert found.columns[: len(KEY_COLUMNS)] == list(KEY_COLUMNS)
    metrics = found.columns[found.columns.index("message") + 1 : found.columns.index("annotation_area")]
    assert set(metrics) == {"iou_coverage", "ground_truth_coverage", "saliency_coverage", "pointing_game", "roc_auc"}
    assert [name for name in found.columns if name.startswith("attr_")] == found.columns[-2:]


def test_pandas_reads_the_parquet_file(parquet: Path, expected: pl.DataFrame) -> None:
    frame = pd.read_parquet(parquet, dtype_backend="pyarrow")
    same(pl.from_pandas(frame), expected)
    assert len(pd.read_parquet(parquet, filters=[("model", "==", "small")])) == expected.filter(model="small").height


def test_duckdb_reads_the_parquet_file(parquet: Path, expected: pl.DataFrame) -> None:
    same(duckdb.sql(f"SELECT * FROM '{parquet}'").pl(), expected)


def test_the_parquet_file_is_sorted_coded_and_counted(parquet: Path, run: ea.Run) -> None:
    footer = pq.read_metadata(parquet)
    group = footer.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert all(column.is_stats_set for name, column in columns.items() if column.statistics is not None)
    assert columns["model"].statistics.min == "a model"
    assert columns["seed"].statistics.max == 1
    assert "RLE_DICTIONARY" in columns["method"].encodings
    assert "RLE_DICTIONARY" not in columns["iou_coverage"].encodings
    assert [one.column_index for one in group.sorting_columns] == list(range(len(KEY_COLUMNS)))
    assert str(pq.read_schema(parquet).field("model").type) == "string"


def test_row_groups_are_full_however_small_the_evaluations(
    run: ea.Run, expected: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_GROUP_ROWS", 50)
    place = ea.export(run, "parquet", tmp_path / "small.parquet")
    footer = pq.read_metadata(place)
    sizes = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
    assert set(sizes[:-1]) == {50}
    assert sum(sizes) == expected.height
    same(pl.read_parquet(place), expected)


TEXT = ("sample_id", "attr_even", "attr_words", "message")


@pytest.mark.parametrize("name", ["all.csv", "all.csv.gz"])
def test_csv_reads_back(run: ea.Run, expected: pl.DataFrame, tmp_path: Path, name: str) -> None:
    place = ea.export(run, "csv", tmp_path / name)
    text = (gzip.decompress(place.read_bytes()) if name.endswith(".gz") else place.read_bytes()).decode()
    assert text.count("sample_id") == 1  # one header
    same(pl.read_csv(place, schema_overrides=dict.fromkeys(TEXT, pl.String), infer_schema_length=None), expected)
    again = place.read_bytes()
    assert ea.export(run, "csv", place).read_bytes() == again
    types = dict.fromkeys(TEXT, "VARCHAR")
    found = duckdb.sql(f"SELECT * FROM read_csv('{place}', types={types}, sample_size=-1)").pl()
    # neither DuckDB nor pandas tells an empty text from none
    nothing = pl.col("attr_words").replace("", None)
    same(found.with_columns(nothing), expected.with_columns(nothing))
    frame = pd.read_csv(place, dtype=dict.fromkeys(TEXT, "string[pyarrow]"))
    flags = ("correct", "exchange_flip", "elsewhere_flip")
    found = pl.from_pandas(frame.astype(dict.fromkeys(flags, "boolean")))
    same(found.with_columns(nothing), expected.with_columns(nothing))


def test_the_hugging_face_library_opens_the_folder(
    run: ea.Run, expected: pl.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = ea.export(run, "huggingface", tmp_path / "folder")
    loaded = datasets.load_dataset(str(place), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["rows"]
    same(pl.from_arrow(loaded["rows"].data.table), expected)  # type: ignore[arg-type]
    features = loaded["rows"].features
    assert (features["iou_coverage"].dtype, features["model"].dtype) == ("float32", "string")
    summary = datasets.load_dataset(str(place), "summary", split="rows", cache_dir=str(tmp_path / "cache"))
    assert_frame_equal(pl.from_arrow(summary.data.table), run.summary())  # type: ignore[arg-type]
    models = datasets.load_dataset(str(place), "models", split="rows", cache_dir=str(tmp_path / "cache"))
    assert models["model"][:] == run.models()["model"].to_list()
    card = (place / "README.md").read_text()
    for words in ("small, a model", "sobel (std:1)", "roc_auc", "## Licence", "patches, fingerprint"):
        assert words in card
    assert "\nlicense:" not in card
    assert not caplog.records  # the library has nothing to say of the card


def test_a_run_of_toy_data_says_so_wherever_it_goes(tmp_path: Path) -> None:
    class Toy(Patches):
        toy = True

    run = evaluated(tmp_path / "run", data=Toy())
    places = [ea.export(run, kind) for kind in ("csv", "parquet", "huggingface")]
    assert [place.name for place in places] == ["toy-scores.csv", "toy-scores.parquet", "toy-huggingface"]
    assert "Generated toy data" in (places[2] / "README.md").read_text()
    assert json.loads(pq.read_metadata(places[1]).metadata[b"explanation_alignment.run"])["toy"] is True
    assert ea.verify(run).ok


@pytest.mark.parametrize(
    ("to", "name", "words"),
    [
        ("csv", "x.parquet", r"ending in \.csv or \.csv\.gz"),
        ("parquet", "x", "ending in .parquet"),
        ("paruqet", None, "did you mean 'parquet'"),
        ("huggingface", "file", "is a file"),
        ("parquet", "folder.parquet", "is a folder"),
    ],
)
def test_what_cannot_be_meant(run: ea.Run, tmp_path: Path, to: Any, name: str | None, words: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(UsageError, match=words):
        ea.export(run, to, None if name is None else tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_with_something_in_it_is_left_alone(run: ea.Run, tmp_path: Path) -> None:
    place = ea.export(run, "huggingface", tmp_path / "folder")
    (place / "README.md").write_text("license: mine")
    with pytest.raises(RunError, match="not empty"):
        ea.export(run, "huggingface", place)
    assert (place / "README.md").read_text() == "license: mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]


def test_a_failed_export_leaves_the_old_file(run: ea.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ea.export(run, "parquet", tmp_path / "x.parquet")
    before = place.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(RunError, match="No space left"):
        ea.export(run, "parquet", place)
    with pytest.raises(RunError, match="No space left"):
        ea.export(run, "huggingface", tmp_path / "folder")
    assert place.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ea.Run:
    """A run of one dataset, as another tool meets it: units of eight, with a summary and examples beside."""
    out = tmp_path_factory.mktemp("plain") / "run"
    evaluated(out, seed=1)
    run = evaluated(out)
    run.summary()
    return run


def test_pandas_reads_the_run_folder(plain: ea.Run) -> None:
    frame = pd.read_parquet(plain.path / "scores")
    expected = plain.scores()
    assert len(frame) == expected.height
    words = [name for name in expected.columns if expected.schema[name] == pl.Categorical]
    found = pl.from_pandas(frame.astype(dict.fromkeys(words, "string[pyarrow]"))).sort(KEY_COLUMNS)
    flags = ("correct", "exchange_flip", "elsewhere_flip")  # as objects, since there are nulls
    found = found.with_columns(pl.col(flags).cast(pl.Boolean))
    same(found.fill_nan(None), expected.with_columns(pl.col(words).cast(pl.String)).sort(KEY_COLUMNS))


def test_duckdb_and_polars_read_the_run_folder(plain: ea.Run) -> None:
    expected = plain.scores().with_columns(pl.col(pl.Categorical).cast(pl.String)).sort(KEY_COLUMNS)
    pattern = f"{plain.path}/scores/*/*.parquet"
    found = duckdb.sql(f"SELECT * FROM '{pattern}'").pl()
    same(found.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String)).sort(KEY_COLUMNS), expected)
    found = pl.read_parquet(pattern).with_columns(pl.col(pl.Categorical).cast(pl.String))
    same(found.sort(KEY_COLUMNS), expected)


def test_duckdb_reads_a_run_whose_datasets_differ_by_name(run: ea.Run, expected: pl.DataFrame) -> None:
    query = f"SELECT * FROM read_parquet('{run.path}/scores/*/*.parquet', union_by_name=true)"
    found = duckdb.sql(query).pl().with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
    same(found.sort(KEY_COLUMNS), expected)
