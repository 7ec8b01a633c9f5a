"""COCO files: every way an instance can be written, every place files can be, every way they can be damaged."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from PIL import Image

import explanation_alignment as ea
from explanation_alignment.datasets.coco import Coco
from explanation_alignment.datasets.toy.coco import write
from explanation_alignment.errors import DatasetError, UnknownNameError, UsageError

HEIGHT, WIDTH = 6, 8


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EALIGN_CACHE_DIR", str(tmp_path / "cache"))


def square(x: float, y: float, w: float, h: float) -> list[float]:
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def rows(text: str) -> np.ndarray:
    return np.array([[character == "#" for character in line] for line in text.split()])


def instance(image: int, category: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    entry = {"image_id": image, "category_id": category, "iscrowd": 0, "segmentation": segmentation}
    return {**entry, "bbox": [0, 0, 1, 1], "area": 1.0, **more}


def content(*annotations: Mapping[str, Any], images: int = 3) -> dict[str, Any]:
    return {
        "info": {"contributor": "é [{"},
        "licenses": [],
        "images": [
            {"id": 70 + number, "file_name": f"{70 + number:012d}.jpg", "height": HEIGHT, "width": WIDTH}
            for number in range(images)
        ],
        "annotations": list(annotations),
        "categories": [
            {"id": 90, "name": "toothbrush", "supercategory": "indoor"},
            {"id": 1, "name": "person", "supercategory": "person"},
            {"id": 18, "name": "dog", "supercategory": "animal"},
        ],
    }


def folder_of(tmp_path: Path, told: Any, name: str = "coco", images: int = 3) -> Path:
    root = tmp_path / name
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    text = told if isinstance(told, str) else json.dumps(told)
    (root / "annotations" / "instances_val2017.json").write_text(text, encoding="utf-8")
    for number in range(images):
        pixels = np.full((HEIGHT, WIDTH, 3), 40 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(root / "val2017" / f"{70 + number:012d}.jpg")
    return root


def mask_of(dataset: Coco, index: int, region: str = "object") -> np.ndarray | None:
    annotation = dataset[index].annotations[region]
    return None if annotation is None else annotation.to_mask()


COUNTS = [2, 2, 6, 2, 36]  # columns 0 and 1 of 6 rows: pixels 2, 3 and 10, 11 down the columns
RUNS = rows("........ ........ #....... #....... .#...... .#......")


def test_class_indices_are_places_among_sorted_category_ids(tmp_path: Path) -> None:
    told = content(instance(70, 90, [square(0, 0, 2, 2)]), instance(71, 1, [square(0, 0, 2, 2)]))
    dataset = Coco(folder_of(tmp_path, told))
    assert dataset.class_names == ("person", "dog", "toothbrush")
    assert dataset.labels() == (2, 0, None)
    assert dataset.ids() == ("000000000070", "000000000071", "000000000072")
    assert dataset.name == "coco-val2017"
    assert dataset.attributes()["supercategory"] == ("indoor", "person", None)
    assert dataset[2].annotations == {"object": None}


def test_polygons_are_united_and_filled(tmp_path: Path) -> None:
    told = content(instance(70, 18, [square(0, 0, 2, 2), square(1, 1, 3, 2)]), instance(70, 18, [square(6, 4, 9, 9)]))
    expected = rows("##...... ####.... .###.... ........ ......## ......##")
    assert (mask_of(Coco(folder_of(tmp_path, told)), 0) == expected).all()


def test_a_polygon_without_its_outer_list_is_read(tmp_path: Path) -> None:
    told = content(instance(70, 18, square(0, 0, 2, 1)))
    mask = mask_of(Coco(folder_of(tmp_path, told)), 0)
    assert mask is not None
    assert mask.sum() == 2


def test_run_lengths_in_numbers_and_packed_give_the_same_mask(tmp_path: Path) -> None:
    packed = coco_mask.frPyObjects({"size": [HEIGHT, WIDTH], "counts": COUNTS}, HEIGHT, WIDTH)["counts"].decode()
    told = content(
        instance(70, 18, {"size": [HEIGHT, WIDTH], "counts": COUNTS}),
        instance(71, 18, {"size": [HEIGHT, WIDTH], "counts": packed}),
    )
    dataset = Coco(folder_of(tmp_path, told))
    assert (mask_of(dataset, 0) == RUNS).all()
    assert (mask_of(dataset, 1) == RUNS).all()


def test_the_label_is_the_category_of_the_largest_instance_that_is_no_crowd(tmp_path: Path) -> None:
    told = content(
        instance(70, 1, [square(0, 0, 2, 2)], area=5.0),
        instance(70, 18, [square(4, 0, 2, 2)], area=9.0),
        instance(70, 90, [square(4, 4, 2, 2)], area=9.0),  # as large, but later
        instance(70, 1, {"size": [HEIGHT, WIDTH], "counts": COUNTS}, area=500.0, iscrowd=1),
        instance(71, 1, [square(0, 0, 2, 2)], area=None, bbox=[0, 0, 5, 5]),  # no area: its box's
        instance(71, 18, [square(4, 0, 2, 2)], area=20.0),
        instance(72, 1, {"size": [HEIGHT, WIDTH], "counts": COUNTS}, area=500.0, iscrowd=1),
    )
    dataset = Coco(folder_of(tmp_path, told))
    assert dataset.labels() == (1, 0, None)
    assert (mask_of(dataset, 0) == rows("....##.. ....##.. ........ ........ ........ ........")).all()
    assert mask_of(dataset, 2) is None
    assert dataset.attributes()["n_objects"] == (3, 2, 0)
    assert dataset.attributes()["n_categories"] == (3, 2, 0)
    assert dataset.attributes()["has_crowd"] == (True, False, True)
    assert dataset.attributes()["object_size"] == ("small", "small", None)


def test_every_category_shown_is_positive_and_read_by_itself(tmp_path: Path) -> None:
    told = content(
        instance(70, 1, [square(0, 0, 2, 2)], area=5.0),
        instance(70, 18, [square(4, 0, 2, 2)], area=9.0),
        instance(70, 1, {"size": [HEIGHT, WIDTH], "counts": COUNTS}, area=500.0, iscrowd=1),
        instance(71, 90, {"size": [HEIGHT, WIDTH], "counts": COUNTS}, area=500.0, iscrowd=1),
    )
    dataset = Coco(folder_of(tmp_path, told))
    assert dataset.positives() == [(0, 1), (), ()]
    person = dataset.read_for(0, 0)
    assert person.label == 0
    assert person.annotations["object"] is not None
    assert (
        person.annotations["object"].to_mask() == rows("##...... ##...... ........ ........ ........ ........")
    ).all()


def test_crowds_are_kept_on_request_and_never_give_a_label(tmp_path: Path) -> None:
    told = content(
        instance(70, 1, [square(6, 0, 1, 1)], area=1.0),
        instance(70, 1, {"size": [HEIGHT, WIDTH], "counts": COUNTS}, area=500.0, iscrowd=1),
        instance(71, 18, {"size": [HEIGHT, WIDTH], "counts": COUNTS}, iscrowd=1),
    )
    root = folder_of(tmp_path, told)
    kept = Coco(root, crowd="keep", regions="dog")
    assert kept.labels() == Coco(root).labels() == (0, None, None)
    expected = RUNS.copy()
    expected[0, 6] = True
    assert (mask_of(kept, 0) == expected).all()
    assert (mask_of(kept, 1, "dog") == RUNS).all()
    assert mask_of(Coco(root, regions="dog"), 1, "dog") is None
    assert kept.fingerprint != Coco(root, regions="dog").fingerprint


def test_objects_all_and_regions_by_category_and_box(tmp_path: Path) -> None:
    told = content(
        instance(70, 1, [square(0, 0, 2, 2)], area=9.0, bbox=[0, 0, 2.4, 2.6]),
        instance(70, 18, [square(4, 4, 2, 2)], bbox=[4, 4, 2, 2]),
    )
    root = folder_of(tmp_path, told)
    person = rows("##...... ##...... ........ ........ ........ ........")
    dog = rows("........ ........ ........ ........ ....##.. ....##..")
    dataset = Coco(root, objects="all", regions="dog+object_box+toothbrush")
    assert dataset.regions == ("object", "dog", "object_box", "toothbrush")
    assert dataset.evidence == ("object", "object_box")
    assert (mask_of(dataset, 0) == person | dog).all()
    assert (mask_of(dataset, 0, "dog") == dog).all()
    assert mask_of(dataset, 0, "toothbrush") is None
    box = person | dog
    box[2, :2] = True  # the box ends at 2.6, beyond the centre of row 2
    assert (mask_of(dataset, 0, "object_box") == box).all()
    assert isinstance(dataset[0].annotations["object_box"], ea.Boxes)
    assert dataset.attributes()["has_dog"] == (True, False, False)
    assert (mask_of(Coco(root, regions=["dog"]), 0) == person).all()
    without = Coco(root, label="none")
    assert without.labels() == (None, None, None)
    assert (mask_of(without, 0) == person | dog).all()


def test_a_file_of_boxes_only_is_annotated_by_boxes(tmp_path: Path) -> None:
    told = content(instance(70, 1, [], bbox=[1, 1, 3, 2], area=6))
    dataset = Coco(folder_of(tmp_path, told))
    assert (mask_of(dataset, 0) == rows("........ .###.... .###.... ........ ........ ........")).all()
    assert "no instance has an outline" in dataset.description()
    assert dataset.problems() == []


def test_an_instance_without_outline_among_others_marks_nothing(tmp_path: Path) -> None:
    told = content(instance(70, 1, []), instance(71, 1, [square(0, 0, 1, 1)]), instance(71, 1, None))
    dataset = Coco(folder_of(tmp_path, told))
    assert mask_of(dataset, 0) is None
    mask = mask_of(dataset, 1)
    assert mask is not None
    assert mask.sum() == 1
    assert [(p.kind, p.sample_id) for p in dataset.problems()] == [
        ("empty_annotation", "000000000070"),
        ("empty_annotation", "000000000071"),
    ]


@pytest.mark.parametrize("place", [".", "annotations", "val2017"])
def test_files_are_found_from_the_folder_and_those_below(tmp_path: Path, place: str) -> None:
    root = folder_of(tmp_path, content(instance(70, 1, [square(0, 0, 2, 2)])))
    assert Coco(root / place).fingerprint == Coco(root).fingerprint
    assert Coco(root / place)[0].image.size == (WIDTH, HEIGHT)


def test_other_layouts_are_found(tmp_path: Path) -> None:
    root = folder_of(tmp_path, content(instance(70, 1, [square(0, 0, 2, 2)])))
    expected = Coco(root)
    (root / "images").mkdir()
    shutil.move(root / "val2017", root / "images" / "val2017")
    assert Coco(root).fingerprint == expected.fingerprint
    assert Coco(root.parent / "coco" / "..").fingerprint == expected.fingerprint  # the folder around
    shutil.move(root / "annotations" / "instances_val2017.json", root / "mine.json")
    dataset = Coco(root, annotations="mine.json", images="images/val2017")
    assert dataset.name == "coco-mine"
    with pytest.raises(DatasetError, match=r"there is mine.json: pass split= or annotations="):
        Coco(root)


def test_exports_with_paths_are_read(tmp_path: Path) -> None:
    told = content(instance(70, 1, [square(0, 0, 2, 2)]), images=2)
    told["images"][0]["file_name"] = "JPEGImages\\a.jpg"
    told["images"][1]["file_name"] = "JPEGImages/a.png"
    root = tmp_path / "export"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "_annotations.coco.json").write_text(json.dumps(told))
    for name in ("a.jpg", "a.png"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(root / "JPEGImages" / name)
    dataset = Coco(root)
    assert dataset.ids() == ("JPEGImages/a.jpg", "JPEGImages/a.png")
    assert dataset[1].image.size == (WIDTH, HEIGHT)


def test_the_fingerprint_knows_content_and_nothing_of_the_machine(tmp_path: Path) -> None:
    told = content(instance(70, 1, [square(0, 0, 2, 2)], bbox=[0, 0, 2, 2]))
    one, same = Coco(folder_of(tmp_path, told)), Coco(folder_of(tmp_path, json.dumps(told, indent=3), "elsewhere"))
    assert one.fingerprint == same.fingerprint == pickle.loads(pickle.dumps(one)).fingerprint
    told["annotations"][0]["bbox"][2] = 3
    assert Coco(folder_of(tmp_path, told, "box")).fingerprint != one.fingerprint
    told["annotations"][0]["bbox"][2] = 2
    told["annotations"][0]["segmentation"][0][0] = 0.5
    assert Coco(folder_of(tmp_path, told, "outline")).fingerprint != one.fingerprint
    assert Coco(tmp_path / "coco", regions="dog").fingerprint != one.fingerprint


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    root = folder_of(tmp_path, content(instance(70, 1, [square(0, 0, 2, 2)])))
    assert Coco(root).labels()[0] == 0
    file = root / "annotations" / "instances_val2017.json"
    file.write_text(json.dumps(content(instance(70, 18, [square(0, 0, 2, 2)]))))
    os.utime(file, ns=(1, 1))
    assert Coco(root).labels()[0] == 1


@pytest.mark.parametrize(
    "segmentation",
    [
        [[0, 0, float("nan"), 4, 4, 4]],
        [[0, 0, 4, 4, 4]],
        [["a", "b", "c", "d", "e", "f"]],
        "text",
        {"counts": "5", "size": [HEIGHT, WIDTH]},
        {"counts": [4], "size": [2, 2]},
        {"size": [HEIGHT, WIDTH]},
        [[0, 0, 1e300, 4, 4, 4]],
    ],
)
def test_a_damaged_outline_costs_its_own_image_only(tmp_path: Path, segmentation: Any) -> None:
    told = content(instance(70, 1, segmentation), instance(71, 1, [square(0, 0, 2, 2)]))
    dataset = Coco(folder_of(tmp_path, told))
    with pytest.raises(DatasetError):
        dataset[0]
    assert mask_of(dataset, 1) is not None


@pytest.mark.parametrize("box", [[0, 0, float("nan"), 4], [0, 0, "a", 4], [0, 0, 4], None])
def test_a_damaged_box_costs_its_own_image_only(tmp_path: Path, box: Any) -> None:
    told = content(instance(70, 1, [square(0, 0, 2, 2)], bbox=box), instance(71, 1, [square(0, 0, 2, 2)]))
    root = folder_of(tmp_path, told)
    dataset = Coco(root, regions="object_box")
    with pytest.raises(DatasetError, match="finite pixel coordinates"):
        dataset[0]
    assert mask_of(dataset, 1, "object_box") is not None
    assert [(p.kind, p.sample_id, p.serious) for p in dataset.problems()] == [("bad_box", "000000000070", True)]
    assert mask_of(Coco(root), 0) is not None  # asked for masks, boxes do not matter
    assert not Coco(root).problems()[0].serious


def test_damaged_images_and_sizes_cost_their_own_row(tmp_path: Path) -> None:
    told = content(*(instance(70 + n, 1, [square(0, 0, 2, 2)]) for n in range(4)), images=4)
    root = folder_of(tmp_path, told)
    whole = (root / "val2017" / "000000000070.jpg").read_bytes()
    (root / "val2017" / "000000000070.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "val2017" / "000000000071.jpg").write_bytes(b"")
    Image.new("RGB", (WIDTH + 1, HEIGHT)).save(root / "val2017" / "000000000072.jpg")
    dataset = Coco(root)
    for index, message in enumerate(["damaged image|no readable", "no readable image", "says 8 x 6", "no such file"]):
        with pytest.raises(DatasetError, match=message):
            dataset[index]
    assert [(p.kind, p.sample_id) for p in dataset.problems()] == [("missing_image", "000000000073")]


def test_an_image_header_of_any_size_is_not_decoded(tmp_path: Path) -> None:
    root = folder_of(tmp_path, content(instance(70, 1, [square(0, 0, 2, 2)])))
    picture = root / "val2017" / "000000000070.jpg"
    Image.new("L", (1, 1)).save(picture, "PNG")
    raw = bytearray(picture.read_bytes())
    raw[16:24] = (100_000).to_bytes(4, "big") * 2
    raw[29:33] = zlib.crc32(raw[12:29]).to_bytes(4, "big")
    picture.write_bytes(bytes(raw))
    with pytest.raises(DatasetError, match="more than 100,000,000 pixels"):
        Coco(root)[0]


@pytest.mark.parametrize("name", ["/etc/hostname", "../secret.jpg", "..\\secret.jpg", "C:/secret.jpg", "a/../../b.jpg"])
def test_paths_out_of_the_folder_are_not_followed(tmp_path: Path, name: str) -> None:
    told = content(instance(70, 1, [square(0, 0, 2, 2)]))
    told["images"][0]["file_name"] = name
    root = folder_of(tmp_path, told)
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "secret.jpg")
    dataset = Coco(root)
    with pytest.raises(DatasetError, match="leads out of"):
        dataset[0]
    assert dataset[1].image.size == (WIDTH, HEIGHT)


def test_strangers_are_counted(tmp_path: Path) -> None:
    told = content(instance(70, 5, [square(0, 0, 2, 2)]), instance(999, 1, [square(0, 0, 2, 2)]))
    root = folder_of(tmp_path, told)
    Image.new("RGB", (2, 2)).save(root / "val2017" / "extra.jpg")
    problems = Coco(root).problems()
    assert [(p.kind, p.serious) for p in problems] == [("orphan_image", False), ("orphan_annotation", True)]
    assert "extra.jpg" in problems[0].message
    assert problems[1].message.startswith("2 instances")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ends too early"),
        ("[]", "Expecting '{'"),
        ("{}", "no list 'images', 'annotations', 'categories'"),
        ('{"images": [], "annotations": [], "categories": 5}', "no list 'categories'"),
        ('{"images": [{"id": 1', "no JSON"),
        ('{"images": [], "annotations": [], "categories": []', "ends too early"),
        ('{"images": [{"id": 1} {"id": 2}], "annotations": [], "categories": []}', "no entry of a COCO file|no JSON"),
        ('{"images": [7], "annotations": [], "categories": []}', r"images\[0\] is no entry"),
        ('{"images": [{"id": "1", "file_name": "a"}], "annotations": [], "categories": []}', "whole number"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "file_name"),
        ('{"images": [], "annotations": [{}], "categories": []}', r"annotations\[0\] is no entry"),
        ('{"a":' + "[" * 100_000, "nested too deeply|no JSON"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        Coco(folder_of(tmp_path, text))


def test_repeated_ids_are_refused(tmp_path: Path) -> None:
    told = content()
    told["images"][1]["id"] = 70
    with pytest.raises(DatasetError, match="several images of id 70"):
        Coco(folder_of(tmp_path, told))
    told = content()
    told["images"][1]["file_name"] = told["images"][0]["file_name"]
    with pytest.raises(DatasetError, match="twice"):
        Coco(folder_of(tmp_path, told, "names"))
    told = content()
    told["categories"][1]["id"] = 90
    with pytest.raises(DatasetError, match="several categories"):
        Coco(folder_of(tmp_path, told, "categories"))


def test_files_that_are_not_text_are_refused(tmp_path: Path) -> None:
    root = folder_of(tmp_path, content())
    (root / "annotations" / "instances_val2017.json").write_bytes(b'{"images": "\xff\xfe"}')
    with pytest.raises(DatasetError, match="not UTF-8"):
        Coco(root)


def test_missing_files_say_where_they_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no annotations/instances_val2017.json.*Expected: annotations/"):
        Coco(tmp_path)
    root = folder_of(tmp_path, content(), images=0)
    with pytest.raises(DatasetError, match=r"none of the images .* under val2017, images/val2017.*pass images="):
        Coco(root)
    with pytest.raises(DatasetError, match="leads out"):
        Coco(root, annotations="../x.json")


def test_wrong_arguments_name_the_choices(tmp_path: Path) -> None:
    root = folder_of(tmp_path, content())
    for argument in ({"label": "first"}, {"objects": "some"}, {"crowd": "yes"}):
        with pytest.raises(UsageError, match=r" \| "):
            Coco(root, **argument)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="objects=all with label=none"):
        Coco(root, label="none", objects="own")
    with pytest.raises(UnknownNameError, match="did you mean 'person'"):
        Coco(root, regions="persn")


def test_the_stand_in_is_read_by_name_and_the_same_every_time(tmp_path: Path) -> None:
    write(tmp_path / "toy", 12, 3)
    write(tmp_path / "again", 12, 3)
    dataset = ea.load_dataset("coco(regions=object_box+stop sign)", tmp_path / "toy")
    again = Coco(tmp_path / "again", regions="object_box+stop sign")
    assert dataset.fingerprint == again.fingerprint
    assert again.toy
    assert again.problems() == []
    for file in sorted(path for path in (tmp_path / "toy").rglob("*") if path.is_file()):
        assert file.read_bytes() == (tmp_path / "again" / file.relative_to(tmp_path / "toy")).read_bytes()
    write(tmp_path / "other", 12, 4)
    assert Coco(tmp_path / "other").fingerprint != Coco(tmp_path / "toy").fingerprint
    colors = {"stop sign": (210, 40, 50), "sports ball": (40, 90, 220), "kite": (40, 170, 70), "pizza": (235, 190, 40)}
    for index in range(12):
        sample = dataset[index]
        annotation = sample.annotations["object"]
        if annotation is None:
            assert sample.label is None
            continue
        assert sample.label is not None
        inside = np.asarray(sample.image)[annotation.to_mask()].astype(int)
        near = np.abs(inside - colors[dataset.class_names[sample.label]]).max(axis=1) < 60
        assert near.mean() > 0.85
    with pytest.raises(UsageError, match="not empty"):
        write(tmp_path / "toy", 2, 0)
