"""CIFAR-100: checksums before anything is unpickled, pickles that may hold anything, and the other forms."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import pickletools
import shutil
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.linear_model import LogisticRegression

import explanation_alignment as ea
from explanation_alignment.batches import iterate_batches
from explanation_alignment.classifiers.classifier import Preprocessing
from explanation_alignment.datasets import cifar100
from explanation_alignment.datasets.cifar100 import (
    COARSE_NAMES,
    COARSE_OF_FINE,
    FINE_NAMES,
    TOY_CHECKSUMS,
    CIFAR100Arrays,
    CIFAR100Images,
    open_cifar100,
    read_pickle,
)
from explanation_alignment.datasets.reading.files import TOY_MARKER
from explanation_alignment.datasets.toy import cifar100 as toy
from explanation_alignment.errors import DatasetError, UsageError
from explanation_alignment.geometry import Geometry

#: The group of each class, as it is usually printed.
GROUPS = (
    "4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 "
    "6 13 15 3 15 0 11 1 10 12 14 16 9 11 5 5 19 8 8 15 13 14 17 18 10 "
    "16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10 0 1 16 "
    "12 9 13 15 13 16 19 2 4 6 19 5 5 8 19 18 1 2 15 6 0 17 8 14 13"
)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cifar") / "toy"
    toy.write(folder, 200, 1)
    return folder


@pytest.fixture
def folder(stand_in: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    shutil.copytree(stand_in, tmp_path / "toy")
    return tmp_path / "toy"


def record(folder: Path) -> None:
    """Write the checksums of what is there, as the writer, or an attacker, would."""
    files = sorted((folder / "cifar-100-python").iterdir())
    lines = [f"{hashlib.md5(file.read_bytes()).hexdigest()}  cifar-100-python/{file.name}\n" for file in files]
    (folder / TOY_CHECKSUMS).write_text("".join(lines))


def pack(folder: Path, *, into: Path | None = None, keep: tuple[str, ...] = ("train", "test", "meta")) -> Path:
    """The folder as the archive beside it, and the folder removed."""
    path = (into or folder) / "cifar-100-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in keep:
            archive.add(folder / "cifar-100-python" / name, f"cifar-100-python/{name}")
    shutil.rmtree(folder / "cifar-100-python")
    return path


def published(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the stand-in for the published files: no marker, its checksums in the place of theirs."""
    (folder / TOY_MARKER).unlink()
    sums = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in (folder / "cifar-100-python").iterdir()}
    monkeypatch.setattr(cifar100, "CHECKSUMS", sums)


def test_the_names_and_groups_are_the_published_ones() -> None:
    assert len(FINE_NAMES) == len(set(FINE_NAMES)) == 100
    assert list(FINE_NAMES) == sorted(FINE_NAMES)
    assert list(COARSE_NAMES) == sorted(COARSE_NAMES)
    assert tuple(map(int, GROUPS.split())) == COARSE_OF_FINE
    assert cifar100.CHECKSUMS["cifar-100-python.tar.gz"] == "eb9058c3a382ffc7106e4002c42a8d85"


class TestArchive:
    def test_the_stand_in_is_what_python_2_would_have_written(self, stand_in: Path) -> None:
        content = pickle.loads((stand_in / "cifar-100-python" / "test").read_bytes(), encoding="latin1")
        assert sorted(content) == ["batch_label", "coarse_labels", "data", "filenames", "fine_labels"]
        assert content["batch_label"] == "testing batch 1 of 1"
        assert content["data"].shape == (200, 3072)
        dataset = open_cifar100(stand_in)
        assert dataset.toy
        assert isinstance(dataset, CIFAR100Arrays)
        assert dataset.labels() == tuple(content["fine_labels"])
        for index in (0, 57, 199):
            pixels = content["data"][index].reshape(3, 32, 32).transpose(1, 2, 0)
            assert np.array_equal(np.asarray(dataset[index].image), pixels)
            assert dataset.attributes()["coarse"][index] == COARSE_NAMES[content["coarse_labels"][index]]

    def test_every_form_of_it_holds_the_same(self, folder: Path) -> None:
        first = open_cifar100(folder)
        for place in (folder / "cifar-100-python", str(folder)):
            assert open_cifar100(place).fingerprint == first.fingerprint
        archive = pack(folder)
        assert open_cifar100(folder).fingerprint == first.fingerprint
        assert open_cifar100(archive).fingerprint == first.fingerprint
        assert open_cifar100(archive).ids()[:2] == ("test-00000", "test-00001")

    def test_labels_and_splits(self, stand_in: Path) -> None:
        fine, coarse = open_cifar100(stand_in), open_cifar100(stand_in, labels="coarse")
        train = open_cifar100(stand_in, split="train")
        assert (fine.name, coarse.name, train.name) == ("cifar100", "cifar100-coarse", "cifar100-train")
        assert coarse.labels() == tuple(COARSE_OF_FINE[place] for place in fine.labels() if place is not None)
        assert coarse.class_names == COARSE_NAMES
        assert len({fine.fingerprint, coarse.fingerprint, train.fingerprint}) == 3
        assert sorted(fine.labels()[:100]) == list(range(100))
        with pytest.raises(UsageError, match="test"):
            open_cifar100(stand_in, split="val")
        with pytest.raises(UsageError, match="coarse"):
            open_cifar100(stand_in, labels="super")

    def test_files_of_other_content_are_refused_unread(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = folder / "cifar-100-python" / "test"
        path.write_bytes(path.read_bytes()[:-1] + b"x")

        def never(*_: object) -> None:
            raise AssertionError("unpickled")

        monkeypatch.setattr(cifar100, "read_pickle", never)
        with pytest.raises(DatasetError, match=r"test has the MD5 .*not unpickled"):
            open_cifar100(folder)
        (folder / TOY_MARKER).unlink()
        with pytest.raises(DatasetError, match="expected f0ef6b0ae62326f3e7ffdfab6717acfc"):
            open_cifar100(folder)
        pack(folder)
        with pytest.raises(DatasetError, match="expected eb9058c3a382ffc7106e4002c42a8d85"):
            open_cifar100(folder)

    def test_files_of_the_published_checksums_are_read(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = open_cifar100(folder)
        published(folder, monkeypatch)
        dataset = open_cifar100(folder)
        assert not dataset.toy
        assert dataset.fingerprint == first.fingerprint

    def test_a_stand_in_without_its_checksums_is_refused(self, folder: Path) -> None:
        (folder / TOY_CHECKSUMS).unlink()
        with pytest.raises(DatasetError, match=TOY_CHECKSUMS):
            open_cifar100(folder)
        (folder / TOY_CHECKSUMS).write_text("nothing here\n")
        with pytest.raises(DatasetError, match="expected none"):
            open_cifar100(folder)

    def test_nothing_there_says_what_was_expected(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"no test images .*cifar-100-python\.tar\.gz"):
            open_cifar100(tmp_path)
        with pytest.raises(DatasetError, match="give the folder"):
            open_cifar100(None)

    def test_a_member_that_is_missing_or_no_file_is_refused(self, folder: Path) -> None:
        source = folder / "cifar-100-python" / "test"
        content = source.read_bytes()
        pack(folder, keep=("train", "meta"))
        with pytest.raises(DatasetError, match="no cifar-100-python/test"):
            open_cifar100(folder)
        outside = folder.parent / "outside"
        outside.write_bytes(content)
        with tarfile.open(folder / "cifar-100-python.tar.gz", "w:gz") as archive:
            for name, kind, link in (
                ("cifar-100-python/test", tarfile.SYMTYPE, str(outside)),
                ("../cifar-100-python/test", tarfile.REGTYPE, ""),
                ("/cifar-100-python/test", tarfile.REGTYPE, ""),
            ):
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, link
                archive.addfile(member)
        with pytest.raises(DatasetError, match="no cifar-100-python/test"):
            open_cifar100(folder)
        assert sorted(path.name for path in folder.parent.iterdir()) == ["outside", "toy"]

    @pytest.mark.parametrize("keep", [0, 1, 10, 500, -9])
    def test_an_archive_cut_short_is_refused(self, folder: Path, keep: int) -> None:
        path = pack(folder)
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(DatasetError):
            open_cifar100(folder)

    def test_an_archive_that_unpacks_to_far_more_is_refused(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = pack(folder)
        monkeypatch.setattr(cifar100, "_MAX_BYTES", 3_000_000)
        path.write_bytes(gzip.compress(bytes(4_000_000)))
        with pytest.raises(DatasetError, match="unpacks to more than 3,000,000"):
            open_cifar100(folder)
        path.write_bytes(bytes(3_000_001))
        with pytest.raises(DatasetError, match="larger than"):
            open_cifar100(folder)


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


class TestPickles:
    def test_a_hostile_pickle_in_a_folder_that_says_toy_runs_nothing(self, folder: Path, tmp_path: Path) -> None:
        proof = tmp_path / "ran"
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            hostile = pickle.dumps({"data": Command(proof)}, protocol=protocol)
            for name in ("test", "meta"):
                before = (folder / "cifar-100-python" / name).read_bytes()
                (folder / "cifar-100-python" / name).write_bytes(hostile)
                record(folder)
                with pytest.raises(DatasetError, match="nothing was run"):
                    open_cifar100(folder)
                (folder / "cifar-100-python" / name).write_bytes(before)
        assert not proof.exists()
        pickle.loads(hostile)
        assert proof.exists()  # it would have

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(b"cos\nsystem\n(S'true'\ntR.", id="protocol 0"),
            pytest.param(b"(S'true'\nios\nsystem\n.", id="inst"),
            pytest.param(b"\x80\x02cbuiltins\neval\n.", id="eval"),
            pytest.param(b"\x80\x02cbuiltins\ngetattr\n.", id="getattr"),
            pytest.param(b"\x80\x02cnumpy\nload\n.", id="another name of numpy"),
            pytest.param(b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.", id="attribute of an allowed name"),
            pytest.param(b"\x80\x02\x82\x01.", id="extension"),
            pytest.param(b"\x80\x02U\x01aQ.", id="persistent id"),
            pytest.param(b"\x80\x02cnumpy\ndtype\n)\x81.", id="new object"),
            pytest.param(b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b".", id="bytearray"),
            pytest.param(b"\x80\x02Nr" + struct.pack("<I", 2**31 - 1) + b".", id="a place far off in its memory"),
        ],
    )
    def test_other_instructions_and_names_are_refused(self, content: bytes) -> None:
        with pytest.raises(DatasetError):
            read_pickle(content, "test")

    def test_the_stand_ins_for_functions_cannot_be_changed(self) -> None:
        state = b"\x80\x02c_codecs\nencode\nN}U\x0c__defaults__N\x86s\x86b."
        with pytest.raises(DatasetError):
            read_pickle(state, "test")
        again = pickle.dumps({"a": b"\xff\x00"}, protocol=2)
        assert read_pickle(again, "test") == {"a": b"\xff\x00"}

    @pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
    def test_what_python_3_pickles_is_read_too(self, protocol: int) -> None:
        values = np.arange(24, dtype=np.uint8).reshape(4, 6)
        for array in (values, np.asfortranarray(values)):
            content = {"data": array.copy(order="K"), "fine_labels": [1, 2, 300, -7], "name": "text"}
            pickled = pickle.dumps(content, protocol=protocol)
            if any(op.name == "NEXT_BUFFER" or op.name == "BYTEARRAY8" for op, _, _ in pickletools.genops(pickled)):
                continue
            read = read_pickle(pickled, "test")
            assert np.array_equal(read.pop("data"), values)
            assert read == {"fine_labels": [1, 2, 300, -7], "name": "text"}

    def test_arrays_of_anything_else_are_refused(self) -> None:
        for array in (np.zeros(3), np.array(["a"]), np.array([{}], dtype=object), np.zeros(2, dtype=[("a", "u1")])):
            with pytest.raises(DatasetError):
                read_pickle(pickle.dumps({"data": array}, protocol=2), "test")
        right = pickle.dumps({"data": np.zeros((2, 3), dtype=np.uint8)}, protocol=2)
        assert read_pickle(right, "test")["data"].shape == (2, 3)
        with pytest.raises(DatasetError, match="with 6 bytes"):
            read_pickle(right.replace(b"K\x02K\x03\x86", b"K\x02K\x09\x86"), "test")

    @given(st.data())
    def test_damaged_pickles_end_in_an_error_or_in_plain_values(self, data: st.DataObject) -> None:
        content = bytearray(pickle.dumps({"data": np.zeros((2, 3), dtype=np.uint8), "fine_labels": [1, 2]}, protocol=2))
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        try:
            value = read_pickle(bytes(content[: data.draw(st.integers(1, len(content)))]), "test")
        except DatasetError:
            return
        assert isinstance(value, dict | list | int | float | str | bytes | np.ndarray | type(None))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"data": [1, 2]}, "no array 'data'"),
            ({"data": np.zeros((2, 3000), dtype=np.uint8)}, "no array 'data'"),
            ({"data": np.zeros((0, 3072), dtype=np.uint8)}, "no array 'data'"),
            ({"fine_labels": [0]}, "has not 2 labels 0 to 99"),
            ({"fine_labels": [0, 100]}, "has not 2 labels 0 to 99"),
            ({"fine_labels": [0, True]}, "has not 2 labels 0 to 99"),
            ({"coarse_labels": None}, "has not 2 labels 0 to 19"),
        ],
    )
    def test_wrong_content_is_named(self, folder: Path, change: dict[str, object], message: str) -> None:
        content = {"data": np.zeros((2, 3072), dtype=np.uint8), "fine_labels": [0, 1], "coarse_labels": [0, 1]}
        (folder / "cifar-100-python" / "test").write_bytes(pickle.dumps(content | change, protocol=4))
        record(folder)
        with pytest.raises(DatasetError, match=message):
            open_cifar100(folder)

    def test_wrong_names_are_refused(self, folder: Path) -> None:
        content = {"fine_label_names": ["a"] * 100, "coarse_label_names": list(COARSE_NAMES)}
        (folder / "cifar-100-python" / "meta").write_bytes(pickle.dumps(content, protocol=2))
        record(folder)
        with pytest.raises(DatasetError, match="'fine_label_names' of 100"):
            open_cifar100(folder)


def encoded(index: int, side: int = 32) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), index, dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


class TestOtherForms:
    @pytest.mark.parametrize(
        "name", ["data/test-00000-of-00001.parquet", "cifar100/test/0000.parquet", "cifar100-test.parquet"]
    )
    @pytest.mark.parametrize("column", ["img", "image"])
    def test_a_parquet_export(self, tmp_path: Path, name: str, column: str) -> None:
        rows = {
            column: [{"bytes": encoded(index), "path": None} for index in range(3)],
            "fine_label": [4, 0, 99],
            "coarse_label": [0, 4, 13],
        }
        for place in (name, name.replace("test", "train")):
            (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
            pl.DataFrame(rows).write_parquet(tmp_path / place)
            rows["fine_label"] = [1, 1, 1]
        dataset = open_cifar100(tmp_path)
        assert isinstance(dataset, CIFAR100Images)
        assert dataset.labels() == (4, 0, 99)
        assert dataset.ids() == ("test-00000", "test-00001", "test-00002")
        assert np.asarray(dataset[2].image)[0, 0].tolist() == [2, 2, 2]
        assert dataset[0].attributes == {"fine": "beaver", "coarse": "aquatic_mammals"}
        assert open_cifar100(tmp_path, split="train").labels() == (1, 1, 1)

    def test_a_parquet_export_without_groups_or_with_bare_bytes(self, tmp_path: Path) -> None:
        table = pl.DataFrame(
            {"image": [encoded(0), None, encoded(1, side=31), b"no image"], "fine_label": [4, 0, 99, 1]}
        )
        table.write_parquet(tmp_path / "test.parquet")
        dataset = open_cifar100(tmp_path, labels="coarse")
        assert dataset.labels() == (0, 4, 13, 1)
        assert dataset[0].image.size == (32, 32)
        for index, message in ((1, "no image there"), (2, "31 x 31"), (3, "test-00003")):
            with pytest.raises(DatasetError, match=message):
                dataset[index]
        assert pickle.loads(pickle.dumps(dataset)).fingerprint == dataset.fingerprint

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"label": [1]}, "expected img and fine_label, got label"),
            ({"img": ["text"], "fine_label": [1]}, "expected the images as encoded bytes"),
            ({"img": [b""], "fine_label": [100]}, "has not 1 labels 0 to 99"),
            ({"img": [b""], "fine_label": [None]}, "has not 1 labels 0 to 99"),
            (None, "no readable Parquet"),
        ],
    )
    def test_other_tables_are_refused(
        self, tmp_path: Path, content: dict[str, list[object]] | None, message: str
    ) -> None:
        path = tmp_path / "test.parquet"
        if content is None:
            path.write_bytes(b"PAR1 and no more")
        else:
            pl.DataFrame(content).write_parquet(path)
        with pytest.raises(DatasetError, match=message):
            open_cifar100(tmp_path)

    def test_folders_of_images(self, tmp_path: Path) -> None:
        for split, name, index in (
            ("test", "apple/b", 5),
            ("test", "apple/a", 6),
            ("test", "worm/a", 7),
            ("train", "sea/a", 8),
        ):
            path = tmp_path / split / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(index))
        dataset = open_cifar100(tmp_path)
        assert dataset.ids() == ("test/apple/a.png", "test/apple/b.png", "test/worm/a.png")
        assert dataset.labels() == (0, 0, 99)
        assert np.asarray(dataset[1].image)[0, 0, 0] == 5
        assert dataset.attributes()["coarse"][2] == "non-insect_invertebrates"
        shutil.copytree(tmp_path / "test", tmp_path / "other" / "cifar100" / "test")
        assert open_cifar100(tmp_path / "other").fingerprint == dataset.fingerprint
        (tmp_path / "test" / "apple" / "a.png").write_bytes(encoded(6, side=31))
        changed = open_cifar100(tmp_path)
        assert changed.fingerprint != dataset.fingerprint
        with pytest.raises(DatasetError, match="31 x 31"):
            changed[0]
        (tmp_path / "test" / "aple").mkdir()
        (tmp_path / "test" / "aple" / "a.png").write_bytes(encoded(1))
        with pytest.raises(DatasetError, match="'aple' is no class"):
            open_cifar100(tmp_path)


class TestUse:
    def test_batches_hold_what_samples_hold(self, stand_in: Path) -> None:
        dataset = open_cifar100(stand_in)
        assert isinstance(dataset, CIFAR100Arrays)
        batch = dataset.read_batch([3, 199, 0])
        assert list(batch.ids) == ["test-00003", "test-00199", "test-00000"]
        assert batch.labels.tolist() == [dataset.labels()[place] for place in (3, 199, 0)]
        for place, index in enumerate((3, 199, 0)):
            image = np.asarray(dataset[index].image)
            assert np.array_equal(batch.images[place].permute(1, 2, 0).numpy(), image)
        assert batch.images.dtype == torch.uint8

    @pytest.mark.parametrize("side", [32, 48])
    def test_without_regions_batches_come_all_the_same(self, stand_in: Path, side: int) -> None:
        dataset = open_cifar100(stand_in)
        geometry = Geometry(resize=side) if side != 32 else Geometry()
        size = Preprocessing(input_size=(3, side, side), geometry=geometry, mean=(0, 0, 0), std=(1, 1, 1))
        (batch,) = iterate_batches(dataset, dataset.ids(), [[0, 1, 2]], size)
        assert batch.images.shape == (3, 3, side, side)
        assert batch.annotations.shape == (0, 3, side, side)
        assert batch.annotation_status.shape == (0, 3)
        assert not batch.errors

    def test_evaluating_it_says_why_that_cannot_be(self, stand_in: Path, tmp_path: Path) -> None:
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(3600, 100))
        size = Preprocessing(input_size=(3, 32, 32), geometry=Geometry(), mean=(0, 0, 0), std=(1, 1, 1))
        classifier = ea.Classifier(network, preprocessing=size, class_names=FINE_NAMES, name="small")
        with pytest.raises(UsageError, match="cifar100 has no annotated regions"):
            ea.evaluate(classifier, open_cifar100(stand_in), out=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_it_can_be_pickled_and_drawn_from(self, stand_in: Path) -> None:
        dataset = ea.load_dataset("cifar100(split=train)", stand_in)
        again = pickle.loads(pickle.dumps(dataset))
        assert again.fingerprint == dataset.fingerprint
        assert len(again.balanced(n=1)) == 100
        assert json.loads(json.dumps(dataset.attributes()))["fine"][0] in FINE_NAMES

    def test_groups_can_be_told_apart_in_the_stand_in(self, stand_in: Path) -> None:
        """Colours alone tell more than chance; the rest is for a network."""
        train, test = open_cifar100(stand_in, split="train"), open_cifar100(stand_in)
        assert isinstance(train, CIFAR100Arrays)
        assert isinstance(test, CIFAR100Arrays)
        colors = [
            part.read_batch(range(200)).images[:, :, 8:24, 8:24].float().flatten(2).median(dim=2).values.numpy() / 255
            for part in (train, test)
        ]
        members = [[place for place in range(100) if COARSE_OF_FINE[place] == group] for group in range(20)]
        ranks = [[members[COARSE_OF_FINE[label]].index(label) for label in part.labels()] for part in (train, test)]
        score = LogisticRegression(max_iter=500).fit(colors[0], ranks[0]).score(colors[1], ranks[1])
        assert score > 0.8

    def test_the_same_seed_writes_the_same_bytes(self, tmp_path: Path) -> None:
        for name, seed in (("a", 5), ("b", 5), ("c", 6)):
            toy.write(tmp_path / name, 3, seed)
        for file in ("train", "test", "meta"):
            contents = [(tmp_path / name / "cifar-100-python" / file).read_bytes() for name in "abc"]
            assert contents[0] == contents[1]
            assert (contents[0] == contents[2]) == (file == "meta")

    def test_classes_without_an_image_are_worth_saying(self, tmp_path: Path) -> None:
        toy.write(tmp_path / "few", 3, 0)
        (problem,) = open_cifar100(tmp_path / "few").problems()
        assert (problem.kind, problem.serious) == ("empty_class", False)
