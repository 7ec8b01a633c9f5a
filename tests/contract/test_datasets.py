"""Every registered dataset keeps its contract, shown on its own generated stand-in."""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch
import typer.main
from PIL import Image
from torch import nn

import explanation_alignment as ea
from explanation_alignment.cli.app import app
from explanation_alignment.datasets import DATASETS, load_dataset
from explanation_alignment.datasets.checking.check import check_dataset
from explanation_alignment.datasets.reading.files import TOY_MARKER
from explanation_alignment.errors import DatasetError, ExplanationAlignmentError, UsageError
from explanation_alignment.geometry import Geometry
from explanation_alignment.sample import AnnotatedDataset

N = 14
Edit: TypeAlias = Callable[[Path, str], None]


def cut(path: Path) -> None:
    """What a broken download leaves."""
    content = path.read_bytes()
    path.write_bytes(content[: int(0.6 * len(content))])


def other_number(pattern: str) -> Edit:
    """Makes the first number the pattern finds in a text file one smaller; {id} in it is the first sample's."""

    def edit(path: Path, sample_id: str) -> None:
        text = path.read_text()
        match = re.search(pattern.replace("{id}", sample_id), text)
        assert match is not None, text[:500]
        changed = f"{float(match[1]) - 1:.10g}"
        path.write_text(text[: match.start(1)] + changed + text[match.end(1) :])

    return edit


def other_pixel(path: Path, _: str) -> None:
    """Turns the middle of a mask, which is marked, into nothing."""
    with Image.open(path) as image:
        mask = np.array(image)
    row, column = np.argwhere(mask > 0)[len(np.argwhere(mask > 0)) // 2][:2]
    mask[row, column] = 0
    Image.fromarray(mask).save(path)


def other_byte(path: Path, _: str) -> None:
    content = bytearray(path.read_bytes())
    content[-400] ^= 1
    path.write_bytes(content)


def other_mask_of_a_table(path: Path, _: str) -> None:
    """Gives a row of a Parquet file the next row's mask."""
    import polars as pl

    table = pl.read_parquet(path)
    mask = table["mask"].to_list()
    pl.DataFrame(table).with_columns(pl.Series("mask", [mask[1], *mask[1:]], dtype=table.schema["mask"])).write_parquet(
        path
    )


#: Where an image is (of the first sample, {id} and {number}), where an annotation is, and how to change that one.
FILES: dict[str, tuple[str, str, Edit]] = {
    "colored_mnist": ("t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte", other_byte),
    "imagenet": ("**/{id}.JPEG", "**/{id}.xml", other_number(r"<xmax>(\d+)<")),
    "voc": ("**/JPEGImages/{id}.jpg", "**/Annotations/{id}.xml", other_number(r"<xmax>([\d.]+)<")),
    "celeba": ("**/{id}.jpg", "**/list_landmarks_align_celeba.txt", other_number(r"{id}\.jpg +(?:\d+ +){6}(\d+)")),
    "celebamask_hq": ("**/{number}.jpg", "**/{id}_l_lip.png", other_pixel),
    "cifar100": ("cifar-100-python/test", "cifar-100-python/test", other_byte),
    "coco": (
        "val2017/*{number}.jpg",
        "annotations/instances_val2017.json",
        other_number(r'"bbox": ?\[[\d.]+, ?([\d.]+)'),
    ),
    "folder": ("images/{id}.jpg", "masks/{id}.png", other_pixel),
    "huggingface": ("data/*.parquet", "data/*.parquet", other_mask_of_a_table),
}
#: No annotations, so that nothing can be explained against them.
BARE = {"cifar100"}


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function name -> folder with its stand-in, written once."""
    root = tmp_path_factory.mktemp("toys")

    def folder(name: str) -> Path:
        if not (root / name).exists():
            DATASETS[name].write_toy(root / name, N, 0)
        return root / name

    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EALIGN_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


def first_whole(dataset: AnnotatedDataset) -> str:
    """Id of the first sample that has all annotations."""
    return next(
        sample.id for sample in dataset if all(annotation is not None for annotation in sample.annotations.values())
    )


def place_of(pattern: str, folder: Path, sample_id: str) -> Path:
    """The one file the pattern names."""
    stem = re.sub(r"\.\w+$", "", sample_id)
    (found,) = folder.glob(pattern.format(id=stem, number=re.sub(r"\D", "", stem).lstrip("0") or "0"))
    return found


@pytest.fixture(params=list(DATASETS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_dataset_is_described_here(name: str) -> None:
    entry = DATASETS[name]
    assert name in FILES, "say in FILES where its images and annotations are"
    assert entry.toy, "every dataset has a generated stand-in"
    assert entry.summary
    assert entry.source
    assert entry.licence
    assert all(entry.arguments.values())


def test_keeps_the_protocol(name: str, toys: Callable[[str], Path]) -> None:
    dataset = load_dataset(name, toys(name))
    assert isinstance(dataset, ea.AnnotatedDataset)
    assert dataset.toy is True
    assert isinstance(dataset.name, str)
    assert dataset.name
    ids = list(dataset.ids())
    assert 0 < len(ids) == len(dataset) == len(set(ids))
    for one in ids:
        assert isinstance(one, str)
        assert one
        assert "\\" not in one
        assert str(toys(name)) not in one
        assert not one.startswith(("/", "~", ".."))
    for names in (dataset.class_names, dataset.regions, dataset.evidence):
        assert all(isinstance(each, str) for each in names)
        assert len(set(names)) == len(names)
    assert set(dataset.evidence) <= set(dataset.regions)
    assert bool(dataset.evidence) == (name not in BARE)
    assert re.fullmatch("[0-9a-f]{64}", dataset.fingerprint)
    assert len(dataset.labels()) == len(ids)
    attributes = dataset.attributes()
    assert all(len(column) == len(ids) for column in attributes.values())
    for place, sample in enumerate(dataset):
        assert sample.id == ids[place]
        assert sample.label == dataset.labels()[place]
        assert sample.label is None or (type(sample.label) is int and 0 <= sample.label < len(dataset.class_names))
        assert sample.image.mode in ("RGB", "L")
        assert set(sample.annotations) == set(dataset.regions)
        assert dict(sample.attributes) == {key: column[place] for key, column in attributes.items()}
        for value in sample.attributes.values():
            assert value is None or isinstance(value, (str, int, float, bool))
            assert not isinstance(value, np.generic)
        for annotation in sample.annotations.values():
            if annotation is not None:
                mask = annotation.to_mask()
                assert mask.dtype == np.bool_
                assert mask.shape == annotation.size == (sample.image.height, sample.image.width)
    for place in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError):
            dataset[place]


def test_samples_are_the_same_each_time_and_after_pickling(name: str, toys: Callable[[str], Path]) -> None:
    dataset = load_dataset(name, toys(name))
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.fingerprint == dataset.fingerprint
    assert list(copy.ids()) == list(dataset.ids())
    for one, other in ((dataset[0], copy[0]), (dataset[-1], dataset[len(dataset) - 1])):
        assert (one.id, one.label, one.attributes) == (other.id, other.label, other.attributes)
        assert one.image.tobytes() == other.image.tobytes()
        for region, annotation in one.annotations.items():
            assert (annotation is None) == (other.annotations[region] is None)
            if annotation is not None:
                assert np.array_equal(annotation.to_mask(), other.annotations[region].to_mask())


def test_columns_are_known_without_decoding_an_image(
    name: str, toys: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = toys(name)
    load_dataset(name, folder)  # indexes may look at images once; then they are kept

    def refuse(self: object) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse)
    dataset = load_dataset(name, folder)
    assert len(dataset.ids()) == len(dataset.labels()) == len(dataset)
    assert isinstance(dataset.attributes(), dict)
    _ = dataset.fingerprint
    if callable(getattr(dataset, "problems", None)):
        dataset.problems()
    drawn = dataset.balanced(by="label", n=1)
    assert len(set(drawn.labels())) == len(drawn)


def test_fingerprint_is_of_the_content(name: str, toys: Callable[[str], Path], tmp_path: Path) -> None:
    dataset = load_dataset(name, toys(name))
    for each in ("one", "another/place", "changed"):
        shutil.copytree(toys(name), tmp_path / each / "same-name")
    one, another = (load_dataset(name, tmp_path / each / "same-name") for each in ("one", "another/place"))
    assert one.fingerprint == another.fingerprint
    assert list(one.ids()) == list(another.ids()) == list(dataset.ids())
    _, pattern, edit = FILES[name]
    folder, sample_id = tmp_path / "changed" / "same-name", first_whole(dataset)
    edit(place_of(pattern, folder, sample_id), sample_id)
    if name == "cifar100":
        with pytest.raises(DatasetError, match="MD5"):  # what is to be unpickled must be the very file
            load_dataset(name, folder)
    else:
        assert load_dataset(name, folder).fingerprint != one.fingerprint


def test_toys_are_the_same_from_the_same_seed_and_say_what_they_are(
    name: str, toys: Callable[[str], Path], tmp_path: Path
) -> None:
    entry = DATASETS[name]
    entry.write_toy(tmp_path / "again", N, 0)
    entry.write_toy(tmp_path / "other", N, 1)
    contents = [
        {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        for folder in (toys(name), tmp_path / "again", tmp_path / "other")
    ]
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]
    assert f"ealign datasets toy {name} DIR --n {N} --seed 0" in contents[0][TOY_MARKER].decode()
    assert load_dataset(name, toys(name)).fingerprint == load_dataset(name, tmp_path / "again").fingerprint
    with pytest.raises(UsageError, match="not empty"):
        entry.write_toy(tmp_path / "again", N, 0)


def test_a_fresh_toy_is_clean_and_a_cut_image_is_found(
    name: str, toys: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = toys(name)
    assert ealign("datasets", "check", name, str(folder), "--sheet", "sheet.png") == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 1000
    shutil.copytree(folder, tmp_path / "cut")
    cut(place_of(FILES[name][0], tmp_path / "cut", first_whole(load_dataset(name, folder))))
    assert ealign("datasets", "check", name, str(tmp_path / "cut"), "--no-sheet") == 1


@pytest.mark.parametrize("name", [name for name in DATASETS if name not in BARE])
def test_annotations_survive_the_usual_geometry(name: str, toys: Callable[[str], Path]) -> None:
    dataset = load_dataset(name, toys(name))
    report = check_dataset(dataset, Geometry(resize=(32, 32)))
    assert report.ok, report.problems
    evidence = [region for region in report.regions if region.evidence]
    assert sum(region.annotated - region.cropped for region in evidence) > 0
    assert all(0 < area < 1 for region in evidence for area in region.area)


@pytest.mark.parametrize("name", [name for name in DATASETS if name not in BARE])
def test_can_be_evaluated(name: str, toys: Callable[[str], Path], tmp_path: Path) -> None:
    dataset = load_dataset(name, toys(name))
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(6, 6, 3, stride=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(6 * 15 * 15, max(2, len(dataset.class_names))),
    )
    preprocessing = ea.Preprocessing((3, 32, 32), Geometry(resize=(32, 32)))
    classifier = ea.Classifier(network, preprocessing, dataset.class_names, name="small", device="cpu")
    run = ea.evaluate(classifier, dataset, out=tmp_path / "run", batch_size=5, progress=False)
    assert not run.unfinished
    scores = run.scores()
    assert set(scores["sample_id"]) == set(dataset.ids())
    assert scores.height == len(dataset) * len(dataset.regions) * 2
    statuses = set(scores["status"].cast(str))
    assert "ok" in statuses
    assert "error" not in statuses, scores.filter(scores["status"].cast(str) == "error")["message"][0]
    assert run.info["toy"] is True


@pytest.mark.parametrize("wrong", ["nowhere", "empty", "file", None])
def test_a_folder_that_is_not_it_is_told(name: str, tmp_path: Path, wrong: str | None) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder")
    if wrong is None and name == "colored_mnist":
        return  # it brings data of its own
    with pytest.raises(ExplanationAlignmentError) as caught:
        load_dataset(name, None if wrong is None else tmp_path / wrong)
    assert len(str(caught.value)) > 20


def test_unknown_arguments_are_told(name: str, toys: Callable[[str], Path]) -> None:
    with pytest.raises(UsageError, match="nonsense"):
        load_dataset(name, toys(name), nonsense="1")


def ealign(*words: str) -> int:
    """The exit code of a command."""
    try:
        return int(typer.main.get_command(app).main(list(words), standalone_mode=False) or 0)
    except ExplanationAlignmentError as error:
        return error.exit_code
