"""Maps that a run keeps whole are shown where there is no picture, with the mask the row speaks of."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from exploring import explored
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from explanation_alignment.errors import RunError
from explanation_alignment.explorer import kept_maps
from explanation_alignment.explorer.kept_maps import KeptMaps, largest
from explanation_alignment.explorer.pictures import COLOURS, Key
from explanation_alignment.runs.saved_maps import MapFiles, UnitMaps, pack

RISING = np.arange(64, dtype=np.float32).reshape(8, 8) / 7
LACKING = "image-7"  # whose map could not be made


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose first evaluation has maps, read by a stand-in for the reader of such files."""
    run = explored(tmp_path / "run")
    for part in sorted((run / "scores" / "e0").glob("unit-*.parquet")):
        rows = pl.read_parquet(part).with_columns(
            salient_area=pl.lit(16, pl.Int32), map_height=pl.lit(8, pl.Int32), map_width=pl.lit(8, pl.Int32)
        )
        rows.write_parquet(part)
        (run / "maps" / "e0").mkdir(parents=True, exist_ok=True)
        (run / "maps" / "e0" / part.name).touch()

    def read(
        path: Path, *, methods: Collection[str], sample_ids: Collection[str]
    ) -> Iterator[tuple[str, str, np.ndarray | None]]:
        known = pl.read_parquet(run / "scores" / path.parent.name / path.name)["sample_id"].cast(pl.String).unique()
        for name in sample_ids:
            assert name in known, "asked for in the file of another unit"
            yield name, next(iter(methods)), None if name == LACKING else RISING

    monkeypatch.setattr(kept_maps, "read_maps", read)
    return run


def key(sample: str, slug: str = "e0") -> Key:
    return Key(slug, sample, "vanilla_gradients", "std:1", "object")


def test_the_mask_is_the_largest_values_as_many_as_the_row_counts(kept: Path) -> None:
    found = KeptMaps(kept).find(key("image-9"))
    assert found is not None
    assert found.saliency is not None
    assert found.image is not None
    assert found.saliency.min() == 0
    assert found.saliency.max() == 255
    assert (found.image == found.saliency[..., None]).all()
    assert (found.salient == (np.arange(64).reshape(8, 8) >= 48)).all()
    assert found.annotation is None


def test_what_was_not_kept_is_not_there(kept: Path) -> None:
    maps = KeptMaps(kept)
    assert maps.there("e0")
    assert not maps.there("e1")
    assert maps.find(key("image-9", "e1")) is None
    assert maps.find(key("nobody")) is None
    assert maps.find(key(LACKING)) is None
    for file in (kept / "maps" / "e0").iterdir():
        file.unlink()
    assert maps.find(key("image-9")) is None


def test_what_was_written_is_read(tmp_path: Path) -> None:
    run = explored(tmp_path / "run")
    for part in sorted((run / "scores" / "e0").glob("unit-*.parquet")):
        names = pl.read_parquet(part)["sample_id"].cast(pl.String).unique(maintain_order=True).to_list()
        files = MapFiles(run / "maps" / "e0", "identity", ("vanilla_gradients",))
        unit = UnitMaps(files, int(part.stem[5:]), "uint8")
        maps = np.stack([np.full((1, 8, 8), place, np.float32) + RISING for place in range(len(names))])
        unit.add(names, {name: pack(maps[place], "uint8") for place, name in enumerate(names)})
        unit.commit()
        part.rename(part.with_name(files.path(int(part.stem[5:])).name))  # units have the same names in both folders
    found = KeptMaps(run).find(key("image-9"))
    assert found is not None
    assert found.saliency is not None
    assert (np.diff(found.saliency.ravel().astype(int)) > 0).all()


def test_maps_that_lead_out_of_the_run_are_refused(kept: Path, tmp_path: Path) -> None:
    (kept / "maps" / "e1").symlink_to(tmp_path)
    with pytest.raises(RunError, match="leads out of the run"):
        KeptMaps(kept).find(key("image-9", "e1"))


@pytest.mark.parametrize("place", ["maps/e0/{name}", "scores/e0/{name}", "maps/e0", "maps", "scores"])
def test_links_that_lead_out_of_the_run_are_not_served(
    kept: Path, visit: type[TestClient], tmp_path: Path, place: str
) -> None:
    (part,) = (kept / "scores" / "e0").glob("*.parquet")
    inside = kept / place.format(name=part.name)
    outside = inside.rename(tmp_path / "outside")
    inside.symlink_to(outside)
    address = {"evaluation": "e0", "sample": "image-9", "method": "vanilla_gradients", "binarization": "std:1"}
    client = visit(kept)
    assert client.get("/picture", params={**address, "region": "object"}).status_code == 404
    assert client.get("/").status_code == 200
    if place.startswith("maps"):
        assert not KeptMaps(kept).there("e0")
    if place.endswith("{name}"):
        assert KeptMaps(kept).find(key("image-9")) is None
    else:
        with pytest.raises(RunError, match="leads out of the run"):
            KeptMaps(kept).find(key("image-9"))


def test_a_decision_without_a_picture_is_shown_as_its_map(kept: Path, visit: type[TestClient]) -> None:
    client = visit(kept)
    page = client.get("/gallery?model=good&region=object&sample=image-9").text
    assert "the map alone, without its image" in page
    assert "Compute 1 missing picture" in page
    shown = client.get(
        "/picture?evaluation=e0&sample=image-9&method=vanilla_gradients&binarization=std%3A1&region=object&layer=none"
    )
    assert shown.headers["content-type"] == "image/png"
    grey = np.asarray(Image.open(io.BytesIO(shown.content)))
    assert (grey[..., 0] == grey[..., 2]).all()
    masked = np.asarray(Image.open(io.BytesIO(client.get(f"{shown.url}&layer=mask").content)))
    coloured = (masked[..., 0] != masked[..., 2]).any(axis=1)
    assert coloured[192:].all()
    assert not coloured[:192].any()
    assert (masked[200, 250].argmax(), np.argmax(COLOURS["salient"])) == (0, 0)


def test_a_picture_that_was_kept_comes_before_the_map(kept: Path, visit: type[TestClient]) -> None:
    page = visit(kept).get("/gallery?model=good&region=object&sample=image-2").text
    words = dict(re.findall(r'alt="(image-\d+): ([^"]*)"', page))
    assert {name for name, said in words.items() if "the map alone" not in said} == {"image-2"}
    assert len(words) > 1


@given(st.lists(st.floats(-5, 5, width=32), min_size=4, max_size=40), st.integers(0, 40))
def test_largest_keeps_what_is_at_least_a_value(values: list[float], pixels: int) -> None:
    saliency = np.array([values], np.float32)
    mask = largest(saliency, pixels)
    if pixels > len(values):
        assert mask is None
        return
    assert mask is not None
    assert mask.sum() >= pixels
    if mask.any() and not mask.all():
        assert saliency[mask].min() > saliency[~mask].max()
    if len(set(values)) == len(values):
        assert mask.sum() == pixels


def test_a_map_with_gaps_or_an_unknown_count_has_no_mask() -> None:
    assert largest(np.array([[1.0, np.nan]]), 1) is None
    assert largest(RISING, None) is None
