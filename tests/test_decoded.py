"""Decoded images are what decoding gives, whatever happened to the files they are kept in."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import explanation_alignment as ea
from explanation_alignment.batches import Batch, iterate_batches
from explanation_alignment.decoded import (
    DecodedCache,
    DecodedImages,
    bytes_of,
    clear_cache,
    default_folder,
    in_bytes,
    list_cache,
)
from explanation_alignment.errors import RunError, UsageError
from explanation_alignment.geometry import Geometry
from toys import Patches, small_classifier

PREPROCESSING = ea.Preprocessing((3, 10, 9), Geometry(resize=(10, 9)))
CUTS = [[0, 1, 2, 3], [9, 4, 4, 22], [5], list(range(6, 20))]
DATASET = Patches(broken=[2], bare=[5], empty=[7])


def read(
    decoded: DecodedImages | None,
    cuts: Sequence[Sequence[int]] = CUTS,
    dataset: ea.AnnotatedDataset = DATASET,
    preprocessing: ea.Preprocessing = PREPROCESSING,
    **options: int,
) -> list[Batch]:
    return list(iterate_batches(dataset, dataset.ids(), cuts, preprocessing, decoded=decoded, **options))


def images(
    folder: Path, dataset: ea.AnnotatedDataset = DATASET, preprocessing: ea.Preprocessing = PREPROCESSING
) -> DecodedImages:
    found = DecodedCache(folder).images(dataset, dataset.ids(), preprocessing, range(len(dataset)))
    assert found is not None
    return found


def assert_same(one: Sequence[Batch], other: Sequence[Batch]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert list(a.ids) == list(b.ids)
        assert dict(a.errors) == dict(b.errors)
        for name in ("images", "labels", "annotations", "annotation_status"):
            first, second = getattr(a, name), getattr(b, name)
            assert first.dtype == second.dtype
            assert first.is_contiguous() == second.is_contiguous()
            torch.testing.assert_close(first, second, rtol=0, atol=0)


class Unreadable(Patches):
    """The same dataset, of which nothing can be read any more but the labels."""

    def labels(self) -> list[int | None]:
        return [None if index == 2 else index % 4 for index in range(23)]

    def __getitem__(self, index: int) -> ea.Sample:
        raise AssertionError("decoded again")


def nothing_left_to_read() -> Unreadable:
    return Unreadable(broken=[2], bare=[5], empty=[7])


class TestReading:
    def test_cold_warm_and_off_are_the_same(self, tmp_path: Path) -> None:
        off = read(None)
        assert_same(read(images(tmp_path)), off)
        warm = images(tmp_path)
        assert warm.held(CUTS[0]).all()
        assert_same(read(warm), off)
        assert_same(read(warm, dataset=nothing_left_to_read()), off)

    def test_other_cuts_are_read_from_it_too(self, tmp_path: Path) -> None:
        read(images(tmp_path))
        others = [[22, 0], [3, 9, 17]]
        assert_same(read(images(tmp_path), others, nothing_left_to_read()), read(None, others))

    def test_a_batch_that_is_there_in_part_is_decoded_in_part(self, tmp_path: Path) -> None:
        read(images(tmp_path), [[0, 1]])

        class Counted(Patches):
            asked: list[int] = []  # noqa: RUF012

            def __getitem__(self, index: int) -> ea.Sample:
                self.asked.append(index)
                return super().__getitem__(index)

        dataset = Counted(broken=[2], bare=[5], empty=[7])
        assert_same(read(images(tmp_path), [[0, 1, 2, 3]], dataset), read(None, [[0, 1, 2, 3]]))
        assert dataset.asked == [2, 3]

    @pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:.*multi-threaded:DeprecationWarning")
    def test_workers_change_nothing(self, tmp_path: Path) -> None:
        assert_same(read(images(tmp_path), workers=2), read(None))
        assert_same(read(images(tmp_path), dataset=nothing_left_to_read(), workers=2), read(None))

    def test_can_be_pickled(self, tmp_path: Path) -> None:
        first = images(tmp_path)
        read(first)
        assert_same(read(pickle.loads(pickle.dumps(first)), dataset=nothing_left_to_read()), read(None))
        assert len(pickle.dumps(first)) < 2000

    def test_grey_classifiers_and_odd_widths(self, tmp_path: Path) -> None:
        grey = ea.Preprocessing((1, 7, 13), Geometry(resize=(7, 13)), mean=(0.5,), std=(0.5,))
        for _ in range(2):
            assert_same(read(images(tmp_path, preprocessing=grey), preprocessing=grey), read(None, preprocessing=grey))

    def test_real_valued_annotations_go_past_it(self, tmp_path: Path) -> None:
        decoded = images(tmp_path)
        [batch] = iterate_batches(DATASET, DATASET.ids(), [[0, 1]], PREPROCESSING, strengths=True, decoded=decoded)
        assert batch.strengths is not None
        assert not decoded.held([0, 1]).any()


class TestErrors:
    def test_are_remembered_with_their_message(self, tmp_path: Path) -> None:
        read(images(tmp_path))
        [batch] = read(images(tmp_path), [[1, 2]], nothing_left_to_read())
        assert batch.errors == {1: "OSError: broken image"}
        assert batch.labels.tolist() == [1, -1]
        assert not batch.images[1].any()

    @pytest.mark.parametrize(
        "error", [FileNotFoundError(2, "No such file"), MemoryError(), OSError(24, "Too many open files")]
    )
    def test_that_may_pass_are_not(self, tmp_path: Path, error: Exception) -> None:
        class Failing(Patches):
            def __getitem__(self, index: int) -> ea.Sample:
                try:
                    raise error
                except type(error) as cause:
                    raise ea.ExplanationAlignmentError("img cannot be read") from cause

        failing = Failing()
        [batch] = read(images(tmp_path, failing), [[3]], failing)
        assert batch.errors
        assert_same(read(images(tmp_path, failing), [[3]], Patches()), read(None, [[3]], Patches()))

    def test_longer_than_an_image_are_not(self, tmp_path: Path) -> None:
        class Failing(Patches):
            def __getitem__(self, index: int) -> ea.Sample:
                raise OSError("no" * 1000)

        failing = Failing()
        for _ in range(2):
            [batch] = read(images(tmp_path, failing), [[3]], failing)
            assert batch.errors == {0: f"OSError: {'no' * 1000}"}
        assert not images(tmp_path, failing).held([3]).any()


class TestDamage:
    @pytest.mark.parametrize("name", ["samples", "checks"])
    @pytest.mark.parametrize("how", ["truncated", "emptied", "flipped", "zeroed", "removed"])
    def test_is_found_and_decoded_again(self, tmp_path: Path, name: str, how: str) -> None:
        folder = images(tmp_path).folder
        read(images(tmp_path))
        path = folder / name
        content = bytearray(path.read_bytes())
        half = len(content) // 2
        if how == "flipped":
            for place in range(0, len(content), 97):
                content[place] ^= 1
        if how == "zeroed":
            content[half:] = bytes(len(content) - half)
        if how in ("flipped", "zeroed"):
            path.write_bytes(content)
        elif how == "truncated":
            os.truncate(path, half)
        elif how == "emptied":
            os.truncate(path, 0)
        else:
            path.unlink()
        off = read(None)
        assert_same(read(images(tmp_path)), off)
        assert_same(read(images(tmp_path), dataset=nothing_left_to_read()), off)

    def test_of_one_sample_costs_that_sample_only(self, tmp_path: Path) -> None:
        first = images(tmp_path)
        read(first)
        path = first.folder / "samples"
        content = bytearray(path.read_bytes())
        content[3 * (len(content) // 23) + 40] ^= 255  # within the fourth sample
        path.write_bytes(content)
        again = images(tmp_path)
        assert again.read([0, 1], DATASET.ids()) is not None
        assert again.read([3], DATASET.ids()) is None
        assert again.held([0, 1, 3]).tolist() == [True, True, False]

    def test_a_full_disk_is_told_once_and_costs_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[str] = []

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("explanation_alignment.decoded._put_at", full)
        decoded = DecodedCache(tmp_path, say=told.append).images(DATASET, DATASET.ids(), PREPROCESSING, range(23))
        assert_same(read(decoded), read(None))
        assert [text for text in told if "No space" in text] == [
            f"no more decoded images are kept in {tmp_path}: No space left on device"
        ]

    def test_a_folder_that_cannot_be_written_is_gone_without(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        told: list[str] = []
        cache = DecodedCache(tmp_path / "file" / "folder", say=told.append)
        assert cache.images(DATASET, DATASET.ids(), PREPROCESSING, range(23)) is None
        assert told[0].startswith("decoded images are not kept: ")


def test_two_processes_at_once_write_the_same(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys, time
        from test_decoded import CUTS, images, read
        from pathlib import Path
        folder = Path(sys.argv[1])
        (folder / f"ready{sys.argv[2]}").touch()
        while not all((folder / f"ready{number}").is_file() for number in (1, 2)):
            time.sleep(0.005)
        for _ in range(20):
            read(images(folder / "cache"), CUTS[::-1] if sys.argv[2] == "1" else CUTS)
            for path in (folder / "cache").rglob("checks"):
                with path.open("r+b") as file:
                    file.write(bytes(path.stat().st_size))
        read(images(folder / "cache"))
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(number)], env=environment)
        for number in (1, 2)
    ]
    assert [each.wait() for each in started] == [0, 0]
    off = read(None)
    assert_same(read(images(tmp_path / "cache")), off)
    assert_same(read(images(tmp_path / "cache"), dataset=nothing_left_to_read()), off)


class TestCache:
    def test_what_differs_is_kept_apart(self, tmp_path: Path) -> None:
        class Renamed(Patches):
            def ids(self) -> list[str]:
                return [f"other/{index:03d}" for index in range(23)]

        class Region(Patches):
            regions = ("patch",)

        others = [
            images(tmp_path),
            images(tmp_path, Patches(bare=[1])),
            images(tmp_path, Renamed(broken=[2], bare=[5], empty=[7])),
            images(tmp_path, Region(broken=[2], bare=[5], empty=[7])),
            images(tmp_path, preprocessing=ea.Preprocessing((3, 10, 9), Geometry(resize=(10, 9), interpolation="box"))),
            images(tmp_path, preprocessing=ea.Preprocessing((3, 9, 9), Geometry(resize=(9, 9)))),
            images(tmp_path, preprocessing=ea.Preprocessing((1, 10, 9), Geometry(resize=(10, 9)), (0.0,), (1.0,))),
        ]
        assert len({each.folder for each in others}) == len(others)

    def test_what_does_not_is_shared(self, tmp_path: Path) -> None:
        normalised = ea.Preprocessing((3, 10, 9), Geometry(resize=(10, 9)), (0.5,) * 3, (0.2,) * 3)
        assert images(tmp_path).folder == images(tmp_path, preprocessing=normalised).folder

    def test_is_bounded(self, tmp_path: Path) -> None:
        told: list[str] = []
        assert (
            DecodedCache(tmp_path, 5000, told.append).images(DATASET, DATASET.ids(), PREPROCESSING, range(23)) is None
        )
        assert "over the limit of 5.0 kB" in told[0]
        assert DecodedCache(tmp_path, 5000).images(DATASET, DATASET.ids(), PREPROCESSING, range(3)) is not None
        read(images(tmp_path))
        # what is there already may be read, whatever the limit
        assert (
            DecodedCache(tmp_path, 0).images(DATASET, DATASET.ids(), PREPROCESSING, range(23)) is None
        )  # one is short
        assert DecodedCache(tmp_path, 0).images(DATASET, DATASET.ids(), PREPROCESSING, [0, 1, 2]) is not None

    def test_list_and_clear(self, tmp_path: Path) -> None:
        assert list_cache(tmp_path) == []
        read(images(tmp_path))
        images(tmp_path, Patches())
        (tmp_path / "notes.txt").write_text("mine")
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "about.json").write_text("{}")
        first, second = list_cache(tmp_path)
        assert (first.dataset, first.input_size, first.images, first.samples) == ("patches", (3, 10, 9), 21, 23)
        assert (second.images, second.size) == (0, 0)
        # holes take no room: 21 samples, rounded up to the blocks they lie in
        assert 20 * 300 < first.size < 40_000
        assert clear_cache(tmp_path) == first.size
        assert list_cache(tmp_path) == []
        assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "other"]

    def test_size_is_said_before(self, tmp_path: Path) -> None:
        told: list[str] = []
        cache = DecodedCache(tmp_path, say=told.append)
        decoded = cache.images(DATASET, DATASET.ids(), PREPROCESSING, range(23))
        assert decoded is not None
        assert told == [
            f"decoded images of patches (3 x 10 x 9) are kept in {tmp_path}: "
            f"{in_bytes(23 * decoded.record_size)} for 23, {in_bytes(23 * decoded.record_size)} of them new"
        ]
        cache.images(DATASET, DATASET.ids(), PREPROCESSING, range(23))
        assert len(told) == 1

    def test_default_is_below_the_users_cache(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("EALIGN_CACHE_DIR", str(tmp_path))
        assert default_folder() == tmp_path / "decoded"
        assert DecodedCache().folder == tmp_path / "decoded"

    @pytest.mark.parametrize(
        ("text", "size"),
        [("20GB", 20 * 10**9), ("1.5 kB", 1500), (7, 7), ("2MiB", 2 * 2**20), ("3 tb", 3 * 10**12), ("12 B", 12)],
    )
    def test_sizes(self, text: str | int, size: int) -> None:
        assert bytes_of(text) == size

    @pytest.mark.parametrize("text", ["", "GB", "3 furlongs", "-1GB", "1e9"])
    def test_what_is_no_size_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="such as 20GB"):
            bytes_of(text)

    def test_sizes_in_words(self) -> None:
        assert [in_bytes(size) for size in (0, 999, 1000, 123456, 5 * 10**6, 10**13)] == [
            "0 B",
            "999 B",
            "1.0 kB",
            "123 kB",
            "5.0 MB",
            "10.0 TB",
        ]


def parts(run: ea.Run) -> dict[str, bytes]:
    return {str(path.relative_to(run.path)): path.read_bytes() for path in run.path.glob("scores/*/*.parquet")}


@pytest.mark.parametrize("intervene", [False, True])
def test_an_evaluation_writes_the_same_bytes_with_and_without(tmp_path: Path, intervene: bool) -> None:
    dataset = Patches(broken=[2], bare=[5], empty=[7])
    options = {"batch_size": 8, "progress": False, "sample": 15, "max_errors": 5, "intervene": intervene}
    off = ea.evaluate(small_classifier(), dataset, out=tmp_path / "off", **options)  # type: ignore[arg-type]
    cache = tmp_path / "cache"
    cold = ea.evaluate(small_classifier(), dataset, out=tmp_path / "cold", cache=cache, **options)  # type: ignore[arg-type]
    gone = nothing_left_to_read()
    warm = ea.evaluate(small_classifier(), gone, out=tmp_path / "warm", cache=cache, **options)  # type: ignore[arg-type]
    assert parts(off) == parts(cold) == parts(warm)
    assert list_cache(cache)[0].images >= 15


def test_no_file_is_opened_for_the_second_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for index in range(6):
        place = folder / ("cat" if index % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(place / f"{index}.png")
    boxes = [f"{'cat' if index % 2 else 'dog'}/{index}.png,2,2,8,9" for index in range(6)]
    (folder / "boxes.csv").write_text("\n".join(["image,x0,y0,x1,y1", *boxes]) + "\n")
    dataset = ea.load_dataset("folder", folder)
    ea.evaluate(small_classifier(), dataset, out=tmp_path / "run", cache=tmp_path / "cache", progress=False)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an image was opened")

    monkeypatch.setattr(Image, "open", refuse)
    second = small_classifier(1, name="second")
    run = ea.evaluate(second, dataset, out=tmp_path / "run", cache=tmp_path / "cache", progress=False)
    assert set(run.scores()["status"].cast(str)) == {"ok"}
    with pytest.raises(RunError, match="an image was opened"):  # the check can fail
        ea.evaluate(small_classifier(2, name="third"), dataset, out=tmp_path / "run", progress=False)
