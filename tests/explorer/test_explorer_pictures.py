"""What is drawn over an image is where it should be, and what is stored badly is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from exploring import explored
from PIL import Image

from explanation_alignment.errors import RunError
from explanation_alignment.explorer.pictures import COLOURS, Examples, Key, PictureCache, Pictures, compose

IMAGE = np.full((8, 8, 3), 100, np.uint8)
ANNOTATION = np.zeros((8, 8), bool)
SALIENT = np.zeros((8, 8), bool)
ANNOTATION[2:6, 2:6] = True
SALIENT[:, :4] = True
SALIENCY = (np.arange(64, dtype=np.uint8) * 4).reshape(8, 8)
ALL = Pictures(IMAGE, ANNOTATION, SALIENCY, SALIENT)


def drawn(pictures: Pictures, *layers: str) -> np.ndarray:
    picture = Image.open(io.BytesIO(compose(pictures, layers)))
    assert picture.size == (256, 256)
    return np.asarray(picture)


def changed(picture: np.ndarray) -> np.ndarray:
    return (picture != 100).any(axis=2)


def enlarged(mask: np.ndarray) -> np.ndarray:
    return np.kron(mask, np.ones((32, 32), bool))


def test_nothing_drawn_is_the_image() -> None:
    assert (drawn(ALL) == 100).all()


def test_the_mask_fills_what_is_salient() -> None:
    picture = drawn(ALL, "mask")
    assert (changed(picture) == enlarged(SALIENT)).all()
    assert (np.argmax(picture[SALIENT.repeat(32, 0).repeat(32, 1)], axis=1) == 0).all()  # orange


def test_the_outline_runs_along_the_annotation() -> None:
    picture = drawn(ALL, "outline")
    line = (picture == COLOURS["annotation"]).all(axis=2)
    inside = enlarged(ANNOTATION)
    assert line.any()
    assert not (line & ~inside).any()
    deep = np.zeros_like(line)
    deep[74:182, 74:182] = True  # ten pixels inside
    assert not (line & deep).any()
    assert line[100, 64]
    assert line[64, 100]


def test_the_outline_is_there_where_the_annotation_meets_the_edge() -> None:
    line = (drawn(Pictures(IMAGE, np.ones((8, 8), bool)), "outline") == COLOURS["annotation"]).all(axis=2)
    assert line[0].all()
    assert line[:, -1].all()


def test_the_overlap_has_three_colours() -> None:
    picture = drawn(ALL, "overlap")
    both, salient, annotated = (
        enlarged(mask) for mask in (ANNOTATION & SALIENT, SALIENT & ~ANNOTATION, ANNOTATION & ~SALIENT)
    )
    tones = [{tuple(pixel) for pixel in picture[mask]} for mask in (both, salient, annotated)]
    assert [len(tone) for tone in tones] == [1, 1, 1]
    assert len(set.union(*tones)) == 3
    assert (changed(picture) == enlarged(ANNOTATION | SALIENT)).all()


def test_the_heat_map_grows_lighter() -> None:
    picture = drawn(Pictures(IMAGE * 0, saliency=SALIENCY), "heat").astype(int).sum(axis=2)
    corners = [picture[16, 16], picture[16, 240], picture[240, 16], picture[240, 240]]
    assert corners == sorted(corners)
    assert corners[0] < corners[-1]


@pytest.mark.parametrize("layers", [("outline",), ("heat",), ("mask",), ("overlap",)])
def test_layers_that_are_not_there_are_left_out(layers: tuple[str, ...]) -> None:
    assert (drawn(Pictures(IMAGE), *layers) == 100).all()


def test_sizes_that_differ_are_brought_together() -> None:
    small = Pictures(IMAGE, np.eye(4, dtype=bool), SALIENCY[:2, :2], np.eye(16, dtype=bool))
    assert drawn(small, "outline", "heat", "mask", "overlap").shape == (256, 256, 3)
    tall = Pictures(np.zeros((1000, 10, 3), np.uint8))
    assert Image.open(io.BytesIO(compose(tall, ()))).size == (3, 256)


def test_only_the_last_pictures_are_kept() -> None:
    cache = PictureCache(most=10)
    for name in "abc":
        cache.put(name, b"12345")
    assert [cache.get(name) for name in "abc"] == [None, b"12345", b"12345"]
    cache.put("b", b"1")
    cache.put("d", b"1234")
    assert cache.get("c") == b"12345"


def stored(folder: Path, content: bytes) -> Examples:
    path = folder / "examples" / "e0" / "images.parquet"
    table = pl.read_parquet(path)
    table.with_columns(image=pl.lit(content)).write_parquet(path)
    return Examples(folder / "examples")


KEY = Key("e0", "image-1", "vanilla_gradients", "std:1", "object")


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, format="PNG")
    return buffer.getvalue()


def gif() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, format="GIF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"no picture", "damaged"), (png(20_000, 8), "at most 4096"), (gif(), "damaged"), (png(9, 9)[:40], "damaged")],
)
def test_pictures_stored_badly_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(RunError, match=words):
        stored(explored(tmp_path / "run"), content).find(KEY)


def test_examples_are_found_by_their_row(tmp_path: Path) -> None:
    examples = Examples(explored(tmp_path / "run") / "examples")
    found = examples.find(KEY)
    assert found is not None
    assert found.annotation is not None
    assert found.annotation.sum() == 16
    block = examples.find(Key("e0", "image-1", "vanilla_gradients", "std:1", "block"))
    assert block is not None
    assert block.annotation is None
    assert examples.find(Key("e0", "image-30", "vanilla_gradients", "std:1", "object")) is None
    assert examples.find(Key("none", "image-1", "vanilla_gradients", "std:1", "object")) is None
    assert examples.pictured("e0") == {"image-0", "image-1", "image-2", "image-3", "../../etc/passwd"}
