"""Datasets of the Hugging Face library: every column type, both kinds of folder, no network, nothing outside."""

from __future__ import annotations

import builtins
import io
import json
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import datasets
import explanation_alignment as ea
from explanation_alignment.datasets.huggingface import HuggingFaceDataset
from explanation_alignment.datasets.toy.huggingface import write
from explanation_alignment.errors import DatasetError, UnknownNameError, UsageError

HEIGHT, WIDTH = 4, 6
MASK = np.zeros((HEIGHT, WIDTH), dtype=bool)
MASK[1:3, 2:5] = True


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of its own, and no network."""

    def refused(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setenv("EALIGN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(socket.socket, "connect", refused)
    return


def picture(shade: int = 90, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    return Image.new("RGB", size, (shade, shade, shade))


def mask_picture(mask: np.ndarray = MASK) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * 255)


def made(**columns: Any) -> Any:
    features = {"image": datasets.Image()}
    if "mask" in columns and not isinstance(columns["mask"][0], list):
        features["mask"] = datasets.Image()
    count = len(next(iter(columns.values())))
    rows = {"image": [picture(20 * n) for n in range(count)], **columns}
    dataset = datasets.Dataset.from_dict(rows)
    for name, feature in features.items():
        dataset = dataset.cast_column(name, feature)
    return dataset


def mask_of(dataset: Any, index: int = 0, region: str = "object") -> Any:
    annotation = dataset[index].annotations[region]
    return None if annotation is None else annotation.to_mask()


def box_mask(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_masks_labels_ids_and_groups() -> None:
    table = made(mask=[mask_picture(), None, mask_picture(~MASK)], label=["dog", None, "cat"], sex=["f", "m", None])
    dataset = ea.load_dataset("huggingface", table, mask="mask", attributes="sex")
    assert dataset.ids() == ("0", "1", "2")
    assert dataset.class_names == ("cat", "dog")
    assert [dataset[n].label for n in range(3)] == [1, None, 0]
    assert dataset.attributes() == {"sex": ("f", "m", None)}
    assert (mask_of(dataset, 0) == MASK).all()
    assert mask_of(dataset, 1) is None
    assert (mask_of(dataset, 2) == ~MASK).all()
    assert dataset[2].image.getpixel((0, 0)) == (40, 40, 40)
    assert dataset.name == "huggingface"
    assert [(p.kind, p.sample_id, p.serious) for p in dataset.problems()] == [("empty_annotation", "1", False)]  # type: ignore[attr-defined]


def test_ids_are_padded_row_numbers_or_a_column() -> None:
    table = made(mask=[mask_picture()] * 11, name=[f"n{n}" for n in range(11)])
    assert HuggingFaceDataset(table, mask="mask", label="none").ids()[:2] == ("00", "01")
    assert HuggingFaceDataset(table, mask="mask", label="none", id="name").ids()[10] == "n10"
    twice = made(mask=[mask_picture()] * 2, name=["a", "a"])
    with pytest.raises(DatasetError, match="repeated"):
        HuggingFaceDataset(twice, mask="mask", label="none", id="name")


def test_class_labels_keep_their_names_and_minus_one_is_none() -> None:
    table = made(mask=[mask_picture()] * 3, label=[2, -1, 0])
    assert HuggingFaceDataset(table, mask="mask").class_names == ("0", "1", "2")
    named = table.cast_column("label", datasets.ClassLabel(names=["a", "b", "c", "d"]))
    dataset = HuggingFaceDataset(named, mask="mask")
    assert dataset.class_names == ("a", "b", "c", "d")
    assert dataset.labels() == (2, None, 0)
    several = made(mask=[mask_picture()], label=[[1, 2]])
    with pytest.raises(DatasetError, match="expected one class an image"):
        HuggingFaceDataset(several, mask="mask")


def test_order_and_choice_of_rows_are_kept() -> None:
    table = made(mask=[mask_picture(MASK if n % 2 else ~MASK) for n in range(6)], label=list("abcabc"))
    dataset = HuggingFaceDataset(table.select([5, 2, 0]), mask="mask")
    assert dataset.labels() == (1, 1, 0)  # the classes are those of the rows there are
    assert [bool(mask_of(dataset, n)[1, 2]) for n in range(3)] == [True, False, False]
    assert [dataset[n].image.getpixel((0, 0))[0] for n in range(3)] == [100, 40, 0]
    same = HuggingFaceDataset(table.select([5, 2, 0]).flatten_indices(), mask="mask")
    assert same.fingerprint == dataset.fingerprint


def test_masks_as_arrays_and_several_regions() -> None:
    table = made(lesion=[MASK.astype(int).tolist()], hair=[(~MASK).tolist()])
    dataset = HuggingFaceDataset(table, mask="lesion:lesion+hair:hair", label="none", evidence="lesion")
    assert dataset.regions == ("lesion", "hair")
    assert dataset.evidence == ("lesion",)
    assert (mask_of(dataset, 0, "lesion") == MASK).all()
    assert (mask_of(dataset, 0, "hair") == ~MASK).all()
    same = HuggingFaceDataset(table, mask={"lesion": "lesion", "hair": "hair"}, label="none", evidence=["lesion"])
    assert same.fingerprint == dataset.fingerprint
    chosen = HuggingFaceDataset(table, mask="lesion", label="none", mask_values="0")
    assert (mask_of(chosen) == ~MASK).all()


def test_heatmaps() -> None:
    strength = np.linspace(0, 2, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    dataset = HuggingFaceDataset(made(gaze=[strength.tolist()]), heatmap="gaze", label="none")
    annotation = dataset[0].annotations["attention"]
    assert isinstance(annotation, ea.Heatmap)
    assert np.array_equal(annotation.strength, strength.astype(np.float32))
    damaged = HuggingFaceDataset(made(gaze=[(strength - 1).tolist()]), heatmap="gaze", label="none")
    with pytest.raises(DatasetError, match="at least 0"):
        damaged[0]


BOXES = [[1.0, 1.0, 3.0, 4.0], [4.0, 0.0, 9.0, 1.0]]
SIDES = [[1.0, 1.0, 2.0, 3.0], [4.0, 0.0, 5.0, 1.0]]
SHARES = [[1 / 6, 0.25, 0.5, 1.0], [4 / 6, 0.0, 1.5, 0.25]]


@pytest.mark.parametrize(
    ("value", "arguments"),
    [
        (BOXES, {"boxes": "found"}),
        (SIDES, {"boxes": "found", "box_format": "xywh"}),
        (SHARES, {"boxes": "found", "coordinates": "fractions"}),
        ({"bbox": SIDES, "category": [1, 2]}, {"boxes": "found", "box_format": "coco"}),
        ([{"bbox": box, "category": 1} for box in SIDES], {"boxes": "found", "box_format": "coco"}),
        ({"bbox": SIDES, "category": [1, 2]}, {"boxes": "found.bbox", "box_format": "xywh"}),
        ([{"where": box} for box in BOXES], {"boxes": {"object": "found.where"}}),
    ],
)
def test_the_same_boxes_in_every_form(value: Any, arguments: dict[str, Any]) -> None:
    dataset = HuggingFaceDataset(made(found=[value, value]), label="none", **arguments)
    assert (mask_of(dataset, 1) == box_mask(1, 1, 3, 4) | box_mask(4, 0, 6, 1)).all()
    assert dataset.problems() == []


def test_boxes_beside_masks_are_a_region_of_their_own_and_one_box_is_enough() -> None:
    table = made(mask=[mask_picture(), mask_picture()], box=[[0.0, 0.0, 2.0, 2.0], None])
    dataset = HuggingFaceDataset(table, mask="mask", boxes="box", label="none")
    assert dataset.regions == ("object", "object_box")
    assert (mask_of(dataset, 0, "object_box") == box_mask(0, 0, 2, 2)).all()
    assert mask_of(dataset, 1, "object_box") is None


@pytest.mark.parametrize("bad", [[float("nan"), 0.0, 1.0, 1.0], [0.0, 1.0, float("inf"), 2.0], [1.0, 2.0, 3.0]])
def test_a_damaged_box_costs_its_own_row_only(bad: list[float]) -> None:
    dataset = HuggingFaceDataset(made(box=[[bad], [[0.0, 0.0, 2.0, 2.0]]]), boxes="box", label="none")
    with pytest.raises(DatasetError):
        dataset[0]
    assert (mask_of(dataset, 1) == box_mask(0, 0, 2, 2)).all()
    assert [(p.kind, p.sample_id) for p in dataset.problems()] == [("bad_box", "0")]


def test_empty_and_swapped_boxes_mark_nothing() -> None:
    dataset = HuggingFaceDataset(made(box=[[], [[3.0, 3.0, 1.0, 1.0]]]), boxes="box", label="none")
    assert not mask_of(dataset, 0).any()
    assert not mask_of(dataset, 1).any()
    assert [(p.kind, p.sample_id) for p in dataset.problems()] == [("bad_box", "1")]


def test_a_mask_of_another_size_is_an_error_or_scaled() -> None:
    table = made(mask=[mask_picture(np.ones((2, 3), dtype=bool))])
    with pytest.raises(DatasetError, match="size=scale"):
        HuggingFaceDataset(table, mask="mask", label="none")[0]
    assert mask_of(HuggingFaceDataset(table, mask="mask", label="none", size="scale")).all()


def test_damaged_pictures_cost_their_own_row() -> None:
    written = io.BytesIO()
    picture(size=(64, 64)).save(written, "PNG")
    content = [{"bytes": written.getvalue()[:50], "path": None}, {"bytes": b"", "path": None}, None]
    table = made(mask=[mask_picture()] * 3).remove_columns("image").add_column("image", content)
    dataset = HuggingFaceDataset(table.cast_column("image", datasets.Image()), mask="mask", label="none")
    for index in range(3):
        with pytest.raises(DatasetError):
            dataset[index]


@pytest.mark.parametrize("path", ["http://example.org/a.png", "hf://datasets/a/b.png", "s3://bucket/a.png"])
def test_nothing_is_fetched(path: str) -> None:
    table = made(mask=[mask_picture()]).remove_columns("image").add_column("image", [{"bytes": None, "path": path}])
    dataset = HuggingFaceDataset(table.cast_column("image", datasets.Image()), mask="mask", label="none")
    with pytest.raises(DatasetError, match="nothing is fetched"):
        dataset[0]


def test_paths_lead_into_a_dataset_s_folder_only(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = tmp_path / "mine"
    root.mkdir()
    picture(7).save(root / "a.png")
    picture(9).save(tmp_path / "secret.png")
    paths = ["a.png", "../secret.png", str(tmp_path / "secret.png"), None]
    rows = {"image": [{"bytes": None, "path": path} for path in paths], "box": [[0.0, 0.0, 2.0, 2.0]] * 4}
    told = {
        "features": {
            "image": {"_type": "Image"},
            "box": {"feature": {"dtype": "float64", "_type": "Value"}, "_type": "Sequence"},
        }
    }
    schema = pa.schema(
        {"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "box": pa.list_(pa.float64())},
        metadata={"huggingface": json.dumps({"info": told})},
    )
    pq.write_table(pa.table(rows, schema=schema), root / "test.parquet")
    dataset = HuggingFaceDataset(root, boxes="box", label="none")
    assert dataset[0].image.size == (WIDTH, HEIGHT)
    for index in range(1, 4):
        with pytest.raises(DatasetError, match=r"leads out|nothing is fetched"):
            dataset[index]
    # a dataset in memory belongs to the caller, whose own files it may name
    assert HuggingFaceDataset(
        datasets.Dataset.from_dict(
            {"image": [{"bytes": None, "path": str(root / "a.png")}], "box": [[[0.0, 0.0, 2.0, 2.0]]]}
        ).cast_column("image", datasets.Image()),
        boxes="box",
        label="none",
    )[0].image.size == (WIDTH, HEIGHT)


def test_saved_folders_are_read(tmp_path: Path) -> None:
    table = made(mask=[mask_picture()] * 2, label=["a", "b"])
    table.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": table, "test": table.select([1])}).save_to_disk(str(tmp_path / "two"))
    one = HuggingFaceDataset(tmp_path / "one", mask="mask")
    assert one.name == "one"
    assert one.fingerprint == HuggingFaceDataset(table, mask="mask").fingerprint
    with pytest.raises(UsageError, match=r"several splits \(train, test\); pass split="):
        HuggingFaceDataset(tmp_path / "two", mask="mask")
    assert len(HuggingFaceDataset(str(tmp_path / "two"), split="test", mask="mask")) == 1
    with pytest.raises(UnknownNameError, match="did you mean 'test'"):
        HuggingFaceDataset(tmp_path / "two", split="tset", mask="mask")


def test_a_saved_folder_may_name_files_inside_it_only(tmp_path: Path) -> None:
    table = made(mask=[mask_picture()] * 2, label=["a", "b"])
    table.save_to_disk(str(tmp_path / "other"))
    table.save_to_disk(str(tmp_path / "mine"))
    state = json.loads((tmp_path / "mine" / "state.json").read_text())
    state["_data_files"] = [{"filename": "../other/" + state["_data_files"][0]["filename"]}]
    (tmp_path / "mine" / "state.json").write_text(json.dumps(state))
    with pytest.raises(DatasetError, match="leads out"):
        HuggingFaceDataset(tmp_path / "mine", mask="mask")
    (tmp_path / "mine" / "state.json").write_text("{")
    with pytest.raises(DatasetError, match="cannot be read"):
        HuggingFaceDataset(tmp_path / "mine", mask="mask")


def test_parquet_files_of_several_splits(tmp_path: Path) -> None:
    table = made(mask=[mask_picture()] * 4, label=list("abcd"))
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for place in range(2):
        part = table.select([2 * place, 2 * place + 1])
        part.to_parquet(str(tmp_path / "hub" / "data" / f"train-0000{place}-of-00002.parquet"))
    table.select([0]).to_parquet(str(tmp_path / "hub" / "data" / "test-00000-of-00001.parquet"))
    dataset = HuggingFaceDataset(tmp_path / "hub", split="train", mask="mask")
    assert dataset.labels() == (0, 1, 2, 3)
    assert dataset.fingerprint == HuggingFaceDataset(table, mask="mask").fingerprint
    with pytest.raises(UsageError, match="several splits"):
        HuggingFaceDataset(tmp_path / "hub", mask="mask")
    (tmp_path / "hub" / "data" / "test-00000-of-00001.parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(DatasetError, match="cannot be read"):
        HuggingFaceDataset(tmp_path / "hub", split="test", mask="mask")


def test_the_fingerprint_knows_annotations_labels_and_image_sizes() -> None:
    boxes = [[[0.0, 0.0, 2.0, 2.0]], [[1.0, 1.0, 2.0, 2.0]]]
    table = made(mask=[mask_picture(), None], box=boxes, label=["a", "b"])
    one = HuggingFaceDataset(table, mask="mask", boxes="box")
    assert pickle.loads(pickle.dumps(one)).fingerprint == one.fingerprint
    assert (mask_of(pickle.loads(pickle.dumps(one))) == MASK).all()
    seen = {one.fingerprint}
    moved = [[[0.0, 0.0, 2.0, 3.0]], [[1.0, 1.0, 2.0, 2.0]]]
    flipped = MASK.copy()
    flipped[0, 0] = True
    for other in (
        made(mask=[mask_picture(), None], box=moved, label=["a", "b"]),
        made(mask=[mask_picture(flipped), None], box=boxes, label=["a", "b"]),
        made(mask=[None, mask_picture()], box=boxes, label=["a", "b"]),
        made(mask=[mask_picture(), None], box=[[boxes[0][0], boxes[1][0]], []], label=["a", "b"]),
        made(mask=[mask_picture(), None], box=boxes, label=["b", "a"]),
    ):
        seen.add(HuggingFaceDataset(other, mask="mask", boxes="box").fingerprint)
    seen.add(HuggingFaceDataset(table, mask="mask", boxes="box", box_format="xywh").fingerprint)
    seen.add(HuggingFaceDataset(table, mask="mask", boxes="box", evidence="object").fingerprint)
    assert len(seen) == 8


def by_path(folder: Path, shade: int = 90, mask: np.ndarray = MASK) -> HuggingFaceDataset:
    """A dataset in memory whose picture and mask are files in a folder."""
    folder.mkdir(exist_ok=True)
    picture(shade, (WIDTH, HEIGHT)).save(folder / "a.bmp")
    mask_picture(mask).save(folder / "mask.bmp")
    rows = {"image": [str(folder / "a.bmp")] * 2, "mask": [str(folder / "mask.bmp"), None]}
    table = datasets.Dataset.from_dict(rows)
    for column in rows:
        table = table.cast_column(column, datasets.Image())
    return HuggingFaceDataset(table, mask="mask", label="none")


def test_the_fingerprint_knows_what_files_held_by_path_contain(tmp_path: Path) -> None:
    one = by_path(tmp_path / "here")
    assert (mask_of(one) == MASK).all()
    assert by_path(tmp_path / "there").fingerprint == one.fingerprint  # the same on another machine
    changed = by_path(tmp_path / "here", mask=~MASK)
    assert (tmp_path / "here" / "mask.bmp").stat().st_size == (tmp_path / "there" / "mask.bmp").stat().st_size
    assert changed.fingerprint != one.fingerprint
    again = by_path(tmp_path / "here")
    assert again.fingerprint == one.fingerprint
    with (tmp_path / "here" / "a.bmp").open("ab") as file:
        file.write(b"longer")
    table = again._table
    assert HuggingFaceDataset(table, mask="mask", label="none").fingerprint != one.fingerprint
    (tmp_path / "here" / "mask.bmp").unlink()
    lost = HuggingFaceDataset(table, mask="mask", label="none")  # what is missing is told where it is read
    with pytest.raises(DatasetError, match=r"column mask: mask\.bmp"):
        lost[0]


def test_the_path_beside_a_mask_s_bytes_is_that_of_no_machine() -> None:
    written = io.BytesIO()
    mask_picture().save(written, "png")
    seen = set()
    for path in ("mask.png", "/home/me/mask.png", "/home/you/mask.png"):
        table = made(mask=[{"bytes": written.getvalue(), "path": path}])
        seen.add(HuggingFaceDataset(table, mask="mask", label="none").fingerprint)
    assert len(seen) == 1


def test_wrong_arguments_say_what_there_is(tmp_path: Path) -> None:
    table = made(mask=[mask_picture()], label=["a"])
    with pytest.raises(UsageError, match="mask=, boxes= or heatmap="):
        HuggingFaceDataset(made(drawn=[mask_picture()], label=["a"]))
    assert HuggingFaceDataset(table).regions == ("object",)  # a column called mask needs no naming
    with pytest.raises(UnknownNameError, match="column of the dataset 'maske'; did you mean 'mask'"):
        HuggingFaceDataset(table, mask="maske")
    with pytest.raises(UnknownNameError, match="'lable'"):
        HuggingFaceDataset(table, mask="mask", label="lable")
    with pytest.raises(UsageError, match=r"xyxy \| xywh \| coco"):
        HuggingFaceDataset(table, mask="mask", box_format="xy")
    with pytest.raises(UsageError, match="two columns"):
        HuggingFaceDataset(table, mask="object:mask", boxes="object:mask")
    with pytest.raises(UnknownNameError, match="region"):
        HuggingFaceDataset(table, mask="mask", evidence="background")
    with pytest.raises(UsageError, match="no single values"):
        HuggingFaceDataset(made(mask=[mask_picture()], tags=[["a"]]), mask="mask", label="none", attributes="tags")
    with pytest.raises(UsageError, match="whole numbers"):
        HuggingFaceDataset(table, mask="mask", mask_values="a")
    with pytest.raises(UsageError, match=r"expected a datasets\.Dataset"):
        HuggingFaceDataset([1, 2], mask="mask")  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match="no rows"):
        HuggingFaceDataset(table.select([]), mask="mask")
    with pytest.raises(DatasetError, match="neither what save_to_disk writes"):
        HuggingFaceDataset(tmp_path, mask="mask")
    with pytest.raises(DatasetError, match="no folder"):
        HuggingFaceDataset(tmp_path / "none", mask="mask")


def test_without_the_package_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    write(tmp_path / "toy", 2, 0)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DatasetError, match=r"explanation-alignment\[hf\]"):
        HuggingFaceDataset(tmp_path / "toy", mask="mask")


def test_the_stand_in_is_read_and_the_same_every_time(tmp_path: Path) -> None:
    write(tmp_path / "toy", 8, 0)
    write(tmp_path / "again", 8, 0)
    for file in sorted(path for path in (tmp_path / "toy").rglob("*") if path.is_file()):
        assert file.read_bytes() == (tmp_path / "again" / file.relative_to(tmp_path / "toy")).read_bytes()
    spec = "huggingface(mask=mask,boxes=objects,box_format=coco,attributes=background)"
    dataset = ea.load_dataset(spec, tmp_path / "toy")
    again = ea.load_dataset(spec, tmp_path / "again", dataset_name="toy")
    assert again.name == "toy"
    assert dataset.fingerprint == again.fingerprint
    assert getattr(dataset, "toy")  # noqa: B009
    assert dataset.class_names == ("disc", "octagon", "square", "triangle")
    for index in range(8):
        mask, box = mask_of(dataset, index), mask_of(dataset, index, "object_box")
        assert mask.any()
        assert not (mask & ~box).any()
    assert set(dataset.attributes()["background"]) <= {"dark", "light"}
