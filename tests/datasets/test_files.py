"""Files that come from elsewhere: every kind of image, damage of every kind, paths that lead astray, kept tables."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from explanation_alignment.datasets.reading.files import (
    MAX_PIXELS,
    TOY_MARKER,
    cached_table,
    data_folder,
    decode_image,
    fingerprint_of,
    inside,
    is_toy,
    list_files,
    open_image,
)
from explanation_alignment.errors import DatasetError

SMOOTH = np.linspace(0, 255, 12 * 10 * 3).reshape(12, 10, 3).astype(np.uint8)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EALIGN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tables"


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def png(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG with this header, whatever is in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


class TestKindsOfImages:
    """Each as its decoded pixels, in RGB or 8-bit greyscale."""

    def test_color(self, tmp_path: Path) -> None:
        image = open_image(saved(tmp_path / "a.png", Image.fromarray(SMOOTH)))
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), SMOOTH)

    def test_jpeg_as_pil_decodes_it(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.jpg", Image.fromarray(SMOOTH), quality=80)
        with Image.open(path) as expected:
            assert open_image(path).tobytes() == expected.convert("RGB").tobytes()

    def test_greyscale(self, tmp_path: Path) -> None:
        for suffix in ("png", "bmp", "tif", "gif"):
            image = open_image(saved(tmp_path / f"a.{suffix}", Image.fromarray(SMOOTH[..., 0])))
            assert np.array_equal(np.asarray(image.convert("L")), SMOOTH[..., 0]), suffix
        assert open_image(tmp_path / "a.png").mode == "L"

    def test_cmyk(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.jpg", Image.new("CMYK", (9, 9), (255, 0, 0, 0)), quality=100)
        image = open_image(path)
        assert image.mode == "RGB"
        assert np.abs(np.asarray(image, dtype=int) - (0, 255, 255)).max() <= 3

    def test_palette(self, tmp_path: Path) -> None:
        picture = Image.new("P", (4, 4), 1)
        picture.putpalette([0, 0, 0, 10, 200, 30])
        for suffix in ("png", "gif", "bmp"):
            image = open_image(saved(tmp_path / f"a.{suffix}", picture))
            assert (image.mode, image.getpixel((2, 2))) == ("RGB", (10, 200, 30)), suffix

    def test_transparency_lies_on_white(self, tmp_path: Path) -> None:
        palette = Image.new("P", (4, 4), 1)
        palette.putpalette([0, 0, 0, 10, 200, 30])
        palette.putpixel((0, 0), 0)
        half = Image.new("RGBA", (4, 4), (10, 200, 30, 255))
        half.putpixel((0, 0), (0, 0, 0, 0))
        half.putpixel((1, 0), (0, 0, 0, 51))
        key = Image.new("RGB", (4, 4), (10, 200, 30))
        key.putpixel((0, 0), (1, 2, 3))
        bytes_for_palette = saved(tmp_path / "b.png", palette, transparency=bytes([0, 255]))
        for path in (
            saved(tmp_path / "a.png", palette, transparency=0),
            bytes_for_palette,
            saved(tmp_path / "c.png", half),
            saved(tmp_path / "d.webp", half, lossless=True, exact=True),
            saved(tmp_path / "e.png", key, transparency=(1, 2, 3)),
            saved(tmp_path / "f.gif", palette, transparency=0),
        ):
            image = open_image(path)
            assert (image.mode, image.getpixel((0, 0))) == ("RGB", (255, 255, 255)), path.name
            assert image.getpixel((3, 3)) == (10, 200, 30), path.name
        assert open_image(tmp_path / "c.png").getpixel((1, 0)) == (204, 204, 204)

    def test_grey_with_transparency(self, tmp_path: Path) -> None:
        picture = Image.new("LA", (3, 3), (100, 0))
        picture.putpixel((1, 1), (100, 255))
        image = open_image(saved(tmp_path / "a.png", picture))
        assert (image.mode, image.getpixel((0, 0)), image.getpixel((1, 1))) == ("RGB", (255,) * 3, (100,) * 3)

    def test_two_colors(self, tmp_path: Path) -> None:
        picture = Image.new("1", (9, 3), 1)
        picture.putpixel((4, 1), 0)
        image = open_image(saved(tmp_path / "a.png", picture))
        assert (image.mode, image.getpixel((4, 1)), image.getpixel((0, 0))) == ("L", 0, 255)

    @pytest.mark.parametrize("top", [65535, 4000, 200])
    def test_sixteen_bits_do_not_depend_on_the_brightest_pixel(self, tmp_path: Path, top: int) -> None:
        values = np.linspace(0, top, 60).reshape(6, 10).astype(np.uint16)
        for suffix in ("png", "tif"):
            image = open_image(saved(tmp_path / f"a.{suffix}", Image.fromarray(values)))
            assert image.mode == "L"
            assert np.array_equal(np.asarray(image), np.rint(values / 257)), suffix

    @pytest.mark.parametrize(("top", "scale"), [(1.0, 255), (0.5, 255), (200.0, 1), (1000.0, 255 / 65535)])
    def test_floating_values(self, tmp_path: Path, top: float, scale: float) -> None:
        values = np.linspace(0, top, 60, dtype=np.float32).reshape(6, 10)
        values[0, :3] = np.nan, np.inf, -5
        image = open_image(saved(tmp_path / "a.tif", Image.fromarray(values)))
        expected = values * scale
        expected[0, :3] = 0
        assert image.mode == "L"
        assert np.abs(np.asarray(image) - expected).max() <= 0.51

    def test_whole_numbers_of_32_bits(self, tmp_path: Path) -> None:
        dark = np.array([[0, 1], [1, 0]], dtype=np.int32)
        assert np.array_equal(np.asarray(open_image(saved(tmp_path / "a.tif", Image.fromarray(dark)))), dark)

    def test_the_content_decides_not_the_name(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "n02105855_2933.JPEG", Image.fromarray(SMOOTH), format="PNG")
        assert np.array_equal(np.asarray(open_image(path)), SMOOTH)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_orientation_is_applied_only_if_asked(self, tmp_path: Path, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = saved(tmp_path / "a.png", Image.fromarray(SMOOTH), exif=exif)
        turned = {
            1: SMOOTH,
            2: SMOOTH[:, ::-1],
            3: SMOOTH[::-1, ::-1],
            4: SMOOTH[::-1],
            5: SMOOTH.swapaxes(0, 1),
            6: np.rot90(SMOOTH, -1),
            7: SMOOTH[::-1, ::-1].swapaxes(0, 1),
            8: np.rot90(SMOOTH),
        }[orientation]
        assert np.array_equal(np.asarray(open_image(path)), SMOOTH)
        assert np.array_equal(np.asarray(open_image(path, apply_orientation=True)), turned)

    def test_first_picture_of_several(self, tmp_path: Path) -> None:
        frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
        path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
        assert open_image(path).convert("L").getpixel((0, 0)) == 10

    def test_from_memory_in_its_own_mode(self) -> None:
        picture = Image.new("P", (4, 4), 3)
        picture.putpalette(list(range(12)))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        image = decode_image(buffer, "a mask", plain=False)
        assert (image.mode, image.getpixel((0, 0))) == ("P", 3)
        with pytest.raises(DatasetError, match="a mask: no readable image"):
            decode_image(io.BytesIO(b"x"), "a mask")


class TestDamage:
    """Every damaged file is one clear DatasetError; pytest turns any warning into a failure."""

    @pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "tif", "webp"])
    @pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
    def test_truncated(self, tmp_path: Path, suffix: str, share: float) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        path = saved(tmp_path / f"a.{suffix}", Image.fromarray(noise))
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DatasetError, match=rf"^a\.{suffix}: (no readable|damaged) image") as caught:
            open_image(path)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"not an image at all\n",
            b"\0" * 1000,
            b"<html>404</html>",
            b"\xff\xd8\xff",
            b"GIF89a",
            b"%!PS-Adobe-3.0",
        ],
    )
    def test_no_image(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(DatasetError, match=r"^a\.jpg: (no readable|damaged) image"):
            open_image(tmp_path / "a.jpg")

    def test_formats_that_run_programs_are_not_opened(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        saved(tmp_path / "a.eps", Image.fromarray(SMOOTH))
        (tmp_path / "a.jpg").write_bytes((tmp_path / "a.eps").read_bytes())
        monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program was started"))
        with pytest.raises(DatasetError, match="no readable image"):
            open_image(tmp_path / "a.jpg")

    @pytest.mark.parametrize(
        ("width", "height"),
        [(100_000, 100_000), (MAX_PIXELS + 1, 1), (9_600, 9_600), (20_000, 10_000), (2**31 - 1,) * 2],
    )
    def test_bombs_are_not_decoded(self, tmp_path: Path, width: int, height: int) -> None:
        path = tmp_path / "a.jpg"
        path.write_bytes(png(width, height, zlib.compress(b"\0" * 100)))
        with pytest.raises(DatasetError) as caught:  # 9,600 x 9,600 is allowed, but is not there
            open_image(path)
        allowed = width * height <= MAX_PIXELS
        assert ("pixels" in str(caught.value)) is not allowed, caught.value
        assert ("damaged" in str(caught.value)) is allowed, caught.value

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.sampled_from(["jpg", "png", "gif", "tif", "webp", "bmp"]), st.integers(0, 2**32), st.booleans())
    def test_bits_flipped_anywhere(self, tmp_path: Path, suffix: str, seed: int, orientation: bool) -> None:
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = 6, "a camera"
        buffer = io.BytesIO()
        kept = {"exif": exif} if suffix in ("jpg", "png", "tif", "webp") else {}
        Image.fromarray(SMOOTH).save(buffer, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix), **kept)
        content = bytearray(buffer.getvalue())
        rng = np.random.default_rng(seed)
        for place in rng.integers(0, len(content), rng.integers(1, 9)):
            content[place] ^= 1 << int(rng.integers(8))
        path = tmp_path / f"flipped.{suffix}"
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                told = open_image(path, apply_orientation=orientation).mode
            except DatasetError as error:
                told = str(error)
        assert told in ("RGB", "L") or told.startswith(path.name)

    def test_missing_and_not_regular(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"^a\.jpg: no such file in"):
            open_image(tmp_path / "a.jpg")
        with pytest.raises(DatasetError, match="no regular file"):
            open_image(tmp_path)
        with pytest.raises(DatasetError, match="cannot be read"):
            open_image(tmp_path / "a\0.jpg")
        with pytest.raises(DatasetError, match="cannot be read"):
            open_image(tmp_path / ("a" * 5000))

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
    def test_a_pipe_does_not_hang(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.jpg")
        with pytest.raises(DatasetError, match="no regular file"):
            open_image(tmp_path / "a.jpg")

    def test_many_threads_leave_the_warning_filters_as_they_were(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        paths = [saved(tmp_path / f"{i}.tif", Image.fromarray(SMOOTH), exif=exif) for i in range(8)]
        for path in paths[::2]:
            path.write_bytes(path.read_bytes()[:-30])
        before = list(warnings.filters)

        def read(path: Path) -> str:
            try:
                return open_image(path, apply_orientation=True).mode
            except DatasetError as error:
                return str(error)

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(read, paths * 10))
        assert list(warnings.filters) == before
        assert results[:8] * 10 == results
        assert results[1] == "RGB"


class TestInside:
    @pytest.mark.parametrize(
        "relative",
        ["a.jpg", "sub/a.jpg", "sub\\a.jpg", "./sub//a.jpg", "a b.jpg", "12:30.jpg", "..a.jpg", "sub/...jpg"],
    )
    def test_inside(self, tmp_path: Path, relative: str) -> None:
        assert inside(tmp_path, relative).resolve().is_relative_to(tmp_path.resolve())

    @pytest.mark.parametrize(
        "relative",
        [
            *("/etc/passwd", "\\etc\\passwd", "//host/share", "\\\\host\\share"),
            *("..", "../a.jpg", "sub/../../a.jpg", "sub\\..\\..\\a.jpg", "sub/../a.jpg"),
            *("C:/a.jpg", "c:a.jpg", "C:\\a.jpg", "C:"),
            *("", ".", "./", "a\0.jpg"),
        ],
    )
    def test_outside(self, tmp_path: Path, relative: str) -> None:
        with pytest.raises(DatasetError, match="leads out of"):
            inside(tmp_path, relative)

    @given(st.text(max_size=40))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_never_elsewhere_and_no_other_error(self, tmp_path: Path, relative: str) -> None:
        try:
            path = inside(tmp_path, relative)
        except DatasetError:
            return
        assert path.resolve().is_relative_to(tmp_path.resolve())

    def test_links(self, tmp_path: Path) -> None:
        folder = tmp_path / "data"
        folder.mkdir()
        (tmp_path / "secret.jpg").write_text("secret")
        (folder / "out.jpg").symlink_to(tmp_path / "secret.jpg")
        (folder / "in").mkdir()
        (folder / "in" / "up").symlink_to(tmp_path)
        (tmp_path / "disk").mkdir()
        (tmp_path / "disk" / "out.jpg").symlink_to(tmp_path / "secret.jpg")
        (folder / "val").symlink_to(tmp_path / "disk")
        (folder / "within.jpg").symlink_to(folder / "real.jpg")
        (folder / "round").symlink_to(folder / "round")
        (tmp_path / "other-name").symlink_to(folder)
        for relative in ("out.jpg", "in/up/secret.jpg", "val/out.jpg"):
            with pytest.raises(DatasetError, match="through a link"):
                inside(folder, relative)
        assert inside(folder, "within.jpg") == folder / "within.jpg"
        assert inside(folder, "val") == folder / "val"  # a folder of the dataset that was linked
        assert inside(folder, "val/real.jpg") == folder / "val" / "real.jpg"
        assert inside(tmp_path / "other-name", "real.jpg") == tmp_path / "other-name" / "real.jpg"
        try:  # a circle of links leads nowhere: Python before 3.13 says so, later ones stay inside
            told = str(inside(folder, "round/a.jpg"))
        except DatasetError as error:
            told = str(error)
        assert told == str(folder / "round/a.jpg") or "cannot be followed" in told

    def test_a_neighbour_with_the_same_beginning(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data-other").mkdir()
        (tmp_path / "data-other" / "a.jpg").touch()
        (tmp_path / "data" / "link.jpg").symlink_to(tmp_path / "data-other" / "a.jpg")
        with pytest.raises(DatasetError, match="through a link"):
            inside(tmp_path / "data", "link.jpg")


class TestFolders:
    def test_listing_is_sorted_and_the_same_everywhere(self, tmp_path: Path) -> None:
        for name in ("b/10.jpg", "b/9.JPG", "a.png", "B/x.jpeg", ".hidden.jpg", ".git/x.jpg", "notes.txt", "b/c/d.PNG"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / "b" / "again").symlink_to(tmp_path)  # followed, it would never end
        assert list_files(tmp_path) == ["B/x.jpeg", "a.png", "b/10.jpg", "b/9.JPG", "b/c/d.PNG"]
        assert list_files(tmp_path, (".txt",)) == ["notes.txt"]

    def test_unreadable(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="cannot be read"):
            list_files(tmp_path / "absent")

    def test_a_name_that_is_no_text(self, tmp_path: Path) -> None:
        try:
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).touch()
        except OSError:
            pytest.skip("this file system takes text only")
        with pytest.raises(DatasetError, match="no valid UTF-8; rename it"):
            list_files(tmp_path)

    def test_data_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "data").mkdir()
        (tmp_path / "file").touch()
        assert data_folder("~/data", "coco") == tmp_path / "data"
        for given_dir, words in (
            (None, "--data-dir"),
            ("nowhere", "no folder 'nowhere'"),
            (tmp_path / "file", "no folder"),
        ):
            with pytest.raises(DatasetError, match=f"^coco: .*{words}"):
                data_folder(given_dir, "coco")

    def test_toy_marker(self, tmp_path: Path) -> None:
        assert not is_toy(tmp_path)
        (tmp_path / TOY_MARKER).write_text("generated")
        assert is_toy(tmp_path)


class Counted:
    """Parses a file of numbers, and counts how often."""

    def __init__(self, source: Path) -> None:
        self.source, self.times = source, 0

    def __call__(self) -> pl.DataFrame:
        self.times += 1
        numbers = [int(word) for word in self.source.read_text().split()]
        return pl.DataFrame({"number": numbers, "boxes": [[n, n + 1] for n in numbers]})


class TestCachedTable:
    @pytest.fixture
    def parse(self, tmp_path: Path, cache: Path) -> Counted:
        (tmp_path / "numbers.txt").write_text("1 2 3")
        return Counted(tmp_path / "numbers.txt")

    def test_parsed_once(self, parse: Counted) -> None:
        tables = [cached_table("numbers", [parse.source], parse) for _ in range(3)]
        assert parse.times == 1
        assert all(table.equals(parse()) and table.schema == parse().schema for table in tables)

    @pytest.mark.parametrize("change", ["size", "time", "what", "name", "more"])
    def test_anew_after_a_change(self, parse: Counted, tmp_path: Path, change: str) -> None:
        cached_table("numbers", [parse.source], parse)
        what, files = "numbers", [parse.source]
        if change == "size":
            state = parse.source.stat()
            parse.source.write_text("1 2 30")
            os.utime(parse.source, ns=(state.st_atime_ns, state.st_mtime_ns))
        elif change == "time":
            parse.source.write_text("4 5 6")
            os.utime(parse.source, ns=(1, 1))
        elif change == "what":
            what = "numbers, signed"
        elif change == "name":
            parse.source = parse.source.rename(tmp_path / "others.txt")
            files = [parse.source]
        else:
            (tmp_path / "more.txt").touch()
            files = [parse.source, tmp_path / "more.txt"]
        table = cached_table(what, files, parse)
        assert parse.times == 2
        assert table.equals(parse())

    @pytest.mark.parametrize("damage", ["empty", "text", "half", "flipped", "folder"])
    def test_anew_after_damage(self, parse: Counted, cache: Path, damage: str) -> None:
        cached_table("numbers", [parse.source], parse)
        (kept,) = cache.iterdir()
        content = bytearray(kept.read_bytes())
        content[len(content) // 3] ^= 4
        bad = {"empty": b"", "text": b"hello", "half": content[: len(content) // 2], "flipped": content}
        if damage == "folder":
            kept.unlink()
            kept.mkdir()
        else:
            kept.write_bytes(bad[damage])
        assert cached_table("numbers", [parse.source], parse).equals(parse())
        assert parse.times == 3
        if damage != "folder":
            cached_table("numbers", [parse.source], parse)
            assert parse.times == 3
        assert [path.name for path in cache.iterdir()] == [kept.name]

    def test_where_nothing_can_be_kept(self, parse: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("EALIGN_CACHE_DIR", str(tmp_path / "file"))
        for times in (1, 2):
            assert cached_table("numbers", [parse.source], parse)["number"].to_list() == [1, 2, 3]
            assert parse.times == times

    def test_where_there_is_no_home(self, parse: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
        def homeless() -> Path:
            raise RuntimeError("no home")

        monkeypatch.delenv("EALIGN_CACHE_DIR")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", homeless)
        assert cached_table("numbers", [parse.source], parse)["number"].to_list() == [1, 2, 3]

    @pytest.mark.parametrize("name", ["EALIGN_CACHE_DIR", "XDG_CACHE_HOME"])
    def test_where_it_is_kept(self, parse: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.delenv("EALIGN_CACHE_DIR")
        monkeypatch.setenv(name, str(tmp_path / "kept"))
        cached_table("numbers", [parse.source], parse)
        assert len([path for path in (tmp_path / "kept").rglob("*") if path.is_file()]) == 1

    def test_a_missing_file_and_a_parser_that_fails(self, parse: Counted, tmp_path: Path, cache: Path) -> None:
        with pytest.raises(DatasetError, match=r"absent\.txt: No such file"):
            cached_table("numbers", [tmp_path / "absent.txt"], parse)
        parse.source.write_text("x")
        with pytest.raises(ValueError, match="invalid literal"):
            cached_table("numbers", [parse.source], parse)
        assert not cache.exists()

    def test_many_threads_at_once(self, parse: Counted, cache: Path) -> None:
        barrier = threading.Barrier(8)

        def ask(_: int) -> list[int]:
            barrier.wait()
            return cached_table("numbers", [parse.source], parse)["number"].to_list()

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, range(8))) == [[1, 2, 3]] * 8
        assert len(list(cache.iterdir())) == 1

    def test_several_processes_at_once(self, parse: Counted, cache: Path) -> None:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            results = list(pool.map(_ask, [parse.source] * 4))
        assert results == [[1, 2, 3]] * 4
        assert len(list(cache.iterdir())) == 1


def _ask(source: Path) -> list[int]:
    return cached_table("numbers", [source], Counted(source))["number"].to_list()


class TestFingerprint:
    TABLE = pl.DataFrame({"id": ["a", "b"], "box": [[1, 2], [3, 4]], "size": [1.5, None]})

    def test_frozen(self) -> None:
        """The same on every machine, and with every version of polars."""
        text = '["imagenet", "7"][["id", "box", "size"], 2]{"id":"a","box":[1,2],"size":1.5}\n'
        text += '{"id":"b","box":[3,4],"size":null}\n'
        assert fingerprint_of("imagenet", 7, tables=[self.TABLE]) == hashlib.sha256(text.encode()).hexdigest()

    @pytest.mark.parametrize(
        "change",
        [
            lambda t: t.with_columns(box=pl.Series([[1, 2], [3, 5]])),
            lambda t: t.with_columns(size=pl.Series([1.5, 0.0])),
            lambda t: t.with_columns(id=pl.Series(["a", "c"])),
            lambda t: t.reverse(),
            lambda t: t.rename({"size": "width"}),
            lambda t: t.select("box", "id", "size"),
            lambda t: t.head(1),
            lambda t: t.head(0),
        ],
    )
    def test_changes_with_the_table(self, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        assert fingerprint_of("x", tables=[change(self.TABLE)]) != fingerprint_of("x", tables=[self.TABLE])

    def test_changes_with_the_settings_and_never_runs_together(self) -> None:
        parts = [(), ("",), ("a", "b"), ("ab",), ("a", "b", ""), ("b", "a"), ("a\x1fb",), ('a", "b',)]
        assert len({fingerprint_of(*each) for each in parts}) == len(parts)
        one, two = self.TABLE.head(1), self.TABLE.tail(1)
        assert fingerprint_of(tables=[one, two]) != fingerprint_of(tables=[self.TABLE])

    def test_the_width_of_numbers_does_not_matter(self) -> None:
        narrow = self.TABLE.with_columns(box=pl.col("box").cast(pl.List(pl.Int16)))
        assert fingerprint_of(tables=[narrow]) == fingerprint_of(tables=[self.TABLE])
