"""One's own images: every layout, every tool's file, every doubt that has to be asked about, every kind of damage."""

from __future__ import annotations

import base64
import io
import json
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

import explanation_alignment as ea
from explanation_alignment.datasets.folder import Folder
from explanation_alignment.datasets.toy.folder import LAYOUTS, write
from explanation_alignment.errors import DatasetError, UnknownNameError, UsageError

HEIGHT, WIDTH = 4, 6
MASK = np.zeros((HEIGHT, WIDTH), dtype=bool)
MASK[1:3, 2:5] = True
OTHER = np.zeros((HEIGHT, WIDTH), dtype=bool)
OTHER[3, 0] = True


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EALIGN_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


def picture(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT), **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 30)).save(path, **more)
    return path


def pixels(path: Path, values: Any, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.asarray(values)
    image = Image.fromarray(array.astype(np.uint8) * 255 if array.dtype == bool else array)
    (image.convert(mode) if mode else image).save(path)
    return path


def put(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def mask_of(dataset: Any, index: int = 0, region: str = "object") -> Any:
    annotation = dataset[index].annotations[region]
    return None if annotation is None else annotation.to_mask()


def box_mask(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


class TestMasks:
    def test_the_only_folder_beside_the_masks_holds_the_images(self, root: Path) -> None:
        for kind in ("dog", "cat"):
            picture(root / "photos" / kind / f"{kind}1.jpg")
            pixels(root / "masks" / kind / f"{kind}1.png", MASK)
        (root / ".hidden").mkdir()
        dataset = ea.load_dataset("folder", root)
        assert (dataset.ids(), dataset.class_names) == (("cat/cat1", "dog/dog1"), ("cat", "dog"))
        assert dataset.regions == ("object",)

    def test_the_only_folder_beside_the_masks_may_be_a_class(self, root: Path) -> None:
        picture(root / "cat" / "1.jpg")
        pixels(root / "masks" / "cat" / "1.png", MASK)
        assert ea.load_dataset("folder", root).class_names == ("cat",)

    def test_images_beside_the_masks_are_found_before_another_folder(self, root: Path) -> None:
        picture(root / "1.jpg")
        picture(root / "old" / "1b.jpg")
        pixels(root / "masks" / "1.png", MASK)
        put(root / "labels.csv", "image,label\n1.jpg,cat\n")
        assert ea.load_dataset("folder", root).ids() == ("1",)

    def test_class_folders_with_masks_of_the_same_name(self, root: Path) -> None:
        for kind in ("dog", "cat"):
            picture(root / "images" / kind / "1.jpg")
            pixels(root / "masks" / kind / "1.png", MASK if kind == "cat" else OTHER)
        picture(root / "images" / "cat" / "2.jpg")
        dataset = ea.load_dataset("folder", root)
        assert dataset.ids() == ("cat/1", "cat/2", "dog/1")
        assert dataset.class_names == ("cat", "dog")
        assert dataset.labels() == (0, 0, 1)  # type: ignore[attr-defined]
        assert dataset.regions == dataset.evidence == ("object",)
        assert (mask_of(dataset, 0) == MASK).all()
        assert mask_of(dataset, 1) is None
        assert (mask_of(dataset, 2) == OTHER).all()
        assert dataset.name == "mine"

    def test_labels_in_a_table_with_groups_beside(self, root: Path) -> None:
        for name in "abc":
            picture(root / "images" / f"{name}.jpg")
            pixels(root / "masks" / f"{name}.png", MASK)
        put(root / "labels.csv", "\ufeffimage;label;age;sick;site\nb.jpg;dog;7;true;x\na;cat;;false;y\n")
        dataset = Folder(root)
        assert dataset.ids() == ("b", "a")
        assert dataset.labels() == (1, 0)
        assert dataset.attributes() == {"age": (7, None), "sick": (True, False), "site": ("x", "y")}
        assert dataset[0].attributes == {"age": 7, "sick": True, "site": "x"}
        assert "left out: 1 images that labels.csv does not name" in dataset.description()
        assert Folder(root, attributes="site").attributes() == {"site": ("x", "y")}
        assert Folder(root, attributes="none").attributes() == {}
        with pytest.raises(UnknownNameError, match="did you mean 'site'"):
            Folder(root, attributes="sit")

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    @pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
    def test_tables_as_spreadsheets_write_them(self, root: Path, separator: str, encoding: str) -> None:
        picture(root / "images" / "ä.jpg")
        pixels(root / "masks" / "ä.png", MASK)
        lines = [["Filename", "Class", "note"], ["ä.jpg", "Käfer", '"a, b"']]
        (root / "labels.csv").write_bytes("\r\n".join(separator.join(line) for line in lines).encode(encoding))
        dataset = Folder(root)
        assert dataset.class_names == ("Käfer",)
        assert dataset.attributes() == {"note": ("a, b",)}

    @pytest.mark.parametrize("classes", [True, False])
    def test_a_folder_a_region(self, root: Path, classes: bool) -> None:
        below = "cat/" if classes else ""
        for name in "ab":
            picture(root / "images" / f"{below}{name}.jpg")
        pixels(root / "masks" / "object" / f"{below}a.png", MASK)
        pixels(root / "masks" / "marker" / f"{below}a.png", OTHER)
        pixels(root / "masks" / "object" / f"{below}b.png", MASK)
        dataset = Folder(root)
        assert dataset.regions == ("marker", "object")
        assert dataset.evidence == ("object",)
        assert (mask_of(dataset, 0, "marker") == OTHER).all()
        assert mask_of(dataset, 1, "marker") is None
        assert Folder(root, regions="object").regions == ("object",)
        assert Folder(root, regions="marker", evidence="marker").evidence == ("marker",)
        assert Folder(root, evidence="marker+object").evidence == ("marker", "object")
        with pytest.raises(UnknownNameError, match="unknown region 'markr'"):
            Folder(root, regions="markr")
        with pytest.raises(UnknownNameError, match="unknown region"):
            Folder(root, regions="object", evidence="marker")

    def test_masks_may_lie_flat_beside_images_in_folders(self, root: Path) -> None:
        picture(root / "images" / "cat" / "a.jpg")
        picture(root / "images" / "dog" / "b.jpg")
        pixels(root / "masks" / "b.png", MASK)
        dataset = Folder(root)
        assert mask_of(dataset, 0) is None
        assert (mask_of(dataset, 1) == MASK).all()

    def test_a_layout_that_fits_both_ways_is_asked_about(self, root: Path) -> None:
        picture(root / "images" / "cat" / "1.jpg")
        picture(root / "images" / "1.jpg")
        pixels(root / "masks" / "cat" / "1.png", MASK)
        with pytest.raises(UsageError, match="pass layout=same or layout=regions"):
            Folder(root)
        assert (mask_of(Folder(root, layout="same", labels="none"), 1) == MASK).all()
        regions = Folder(root, layout="regions", labels="none")
        assert regions.regions == ("cat",)
        assert (mask_of(regions, 0, "cat") == MASK).all()

    @pytest.mark.parametrize("ending", ["_mask", "_segmentation", "-mask"])
    def test_usual_endings_are_known_and_others_can_be_told(self, root: Path, ending: str) -> None:
        picture(root / "images" / "a.1.jpg")
        pixels(root / "masks" / f"a.1{ending}.png", MASK)
        dataset = Folder(root)
        assert (mask_of(dataset) == MASK).all()
        assert repr(ending) in dataset.description()
        (root / "masks" / f"a.1{ending}.png").rename(root / "masks" / "a.1_lesion.png")
        with pytest.raises(DatasetError, match=r"such as 'a.1_lesion.png'.*pass mask_suffix="):
            Folder(root)
        assert (mask_of(Folder(root, mask_suffix="_lesion")) == MASK).all()

    def test_images_and_masks_in_one_folder(self, root: Path) -> None:
        picture(root / "a.jpg")
        pixels(root / "a_mask.png", MASK)
        with pytest.raises(DatasetError, match=r"if they have another name: folder\(annotations=masks,source=NAME\)"):
            Folder(root)
        with pytest.raises(UsageError, match="mask_suffix="):
            Folder(root, annotations="masks", source=".")
        dataset = Folder(root, annotations="masks", source=".", mask_suffix="_mask")
        assert dataset.ids() == ("a",)
        assert (mask_of(dataset) == MASK).all()

    def test_masks_beside_class_folders_are_no_images(self, root: Path) -> None:
        picture(root / "cat" / "a.jpg")
        pixels(root / "masks" / "cat" / "a.png", MASK)
        dataset = Folder(root)
        assert dataset.ids() == ("cat/a",)
        assert dataset.class_names == ("cat",)

    def test_images_that_differ_in_suffix_keep_it(self, root: Path) -> None:
        picture(root / "images" / "a.jpg")
        picture(root / "images" / "a.png")
        pixels(root / "masks" / "a.png", MASK)
        with pytest.raises(DatasetError, match="two images are called 'a'"):
            Folder(root)
        (root / "masks" / "a.png").unlink()
        put(root / "boxes.csv", "image,x0,y0,x1,y1\na.jpg,0,0,2,2\na.png,1,1,3,3\n")
        (root / "masks").rmdir()
        dataset = Folder(root)
        assert dataset.ids() == ("a.jpg", "a.png")
        assert (mask_of(dataset, 1) == box_mask(1, 1, 3, 3)).all()

    def test_two_masks_for_an_image_are_refused(self, root: Path) -> None:
        picture(root / "images" / "a.jpg")
        pixels(root / "masks" / "a.png", MASK)
        pixels(root / "masks" / "a.bmp", MASK)
        with pytest.raises(DatasetError, match=r"two files for 'a.jpg': 'a.bmp', 'a.png'"):
            Folder(root)

    def test_everything_but_zero_is_the_mask_in_every_mode(self, root: Path) -> None:
        soft = np.where(MASK, 1, 0).astype(np.uint8)
        colored = np.where(MASK[..., None], [0, 0, 7], 0).astype(np.uint8)
        written = {
            "bit": pixels(root / "masks" / "bit.png", MASK, "1"),
            "grey": pixels(root / "masks" / "grey.png", soft),
            "deep": pixels(root / "masks" / "deep.png", soft.astype(np.uint16) * 40_000),
            "tiff": pixels(root / "masks" / "tiff.tif", soft.astype(np.float32) / 2),
            "rgb": pixels(root / "masks" / "rgb.png", colored),
        }
        palette = Image.new("P", (WIDTH, HEIGHT))
        palette.putdata(soft.ravel().tolist())
        palette.putpalette([255, 255, 255, 0, 0, 0])  # index 0 is white, index 1 black
        palette.save(root / "masks" / "palette.png")
        clear = np.dstack([np.full((HEIGHT, WIDTH, 3), 200, np.uint8), MASK.astype(np.uint8) * 255])
        pixels(root / "masks" / "clear.png", clear)
        np.save(root / "masks" / "array.npy", MASK)
        np.savez_compressed(root / "masks" / "packed.npz", soft[None])
        for name in (*written, "palette", "clear", "array", "packed"):
            picture(root / "images" / f"{name}.jpg")
        dataset = Folder(root)
        assert len(dataset) == 9
        for index, name in enumerate(dataset.ids()):
            assert (mask_of(dataset, index) == MASK).all(), name

    def test_masks_in_lossy_formats_are_cut_in_the_middle(self, root: Path) -> None:
        values = np.full((32, 32), 10, dtype=np.uint8)
        values[8:24, 8:24] = 240
        picture(root / "images" / "a.jpg", (32, 32))
        pixels(root / "masks" / "a.jpg", values)
        mask = mask_of(Folder(root))
        assert (mask == (values > 128)).all()

    def test_threshold_and_values(self, root: Path) -> None:
        values = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        values[0], values[1], values[2] = 1, 100, 200
        picture(root / "images" / "a.jpg")
        pixels(root / "masks" / "a.png", values)
        assert (mask_of(Folder(root, mask_threshold="100")) == (values >= 100)).all()
        assert (mask_of(Folder(root, mask_values="1+200")) == np.isin(values, [1, 200])).all()
        assert (mask_of(Folder(root, mask_values=100)) == (values == 100)).all()
        assert (mask_of(Folder(root, mask_values=[0])) == (values == 0)).all()
        with pytest.raises(UsageError, match="not both"):
            Folder(root, mask_values="1", mask_threshold=5)
        with pytest.raises(UsageError, match="whole numbers"):
            Folder(root, mask_values="a:b")
        with pytest.raises(UsageError, match="expected a number"):
            Folder(root, mask_threshold="high")
        prints = {Folder(root, mask_threshold=t).fingerprint for t in (None, 100, 101)}
        assert len(prints) == 3

    def test_one_file_with_a_number_for_every_region(self, root: Path) -> None:
        values = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        values[0], values[1], values[2] = 15, 12, 13
        picture(root / "images" / "a.jpg")
        pixels(root / "masks" / "a.png", values)
        dataset = Folder(root, mask_values="person:15+dog:12+dog:13")
        assert dataset.regions == ("person", "dog")
        assert (mask_of(dataset, 0, "person") == (values == 15)).all()
        assert (mask_of(dataset, 0, "dog") == np.isin(values, [12, 13])).all()
        same = Folder(root, mask_values={"person": 15, "dog": [12, 13]})
        assert same.fingerprint == dataset.fingerprint
        colored = np.dstack([values, values, np.zeros_like(values)])
        pixels(root / "masks" / "a.png", colored)
        with pytest.raises(DatasetError, match="this picture has colours"):
            Folder(root, mask_values="15")[0]

    def test_a_region_whose_number_is_not_in_its_file_has_no_annotation(self, root: Path) -> None:
        for name in "ab":
            picture(root / "images" / f"{name}.jpg")
        pixels(root / "masks" / "a.png", np.zeros_like(MASK))
        pixels(root / "masks" / "b.png", MASK)
        assert not mask_of(Folder(root), 0).any()  # a file for this region alone: a check tells that it is empty
        dataset = Folder(root, mask_values="full:255+empty:7")
        assert (mask_of(dataset, 1, "full") == MASK).all()
        assert mask_of(dataset, 1, "empty") is None

    def test_a_mask_of_another_size_is_an_error_or_scaled(self, root: Path) -> None:
        picture(root / "images" / "a.jpg", (WIDTH * 2, HEIGHT * 2))
        pixels(root / "masks" / "a.png", MASK)
        with pytest.raises(DatasetError, match=r"6 x 4 pixels, the image has 12 x 8; .* folder\(size=scale\)"):
            Folder(root)[0]
        assert (mask_of(Folder(root, size="scale")) == MASK.repeat(2, 0).repeat(2, 1)).all()

    def test_masks_without_images_and_images_without_masks(self, root: Path) -> None:
        for name in "ab":
            picture(root / "images" / f"{name}.jpg")
        pixels(root / "masks" / "a.png", MASK)
        pixels(root / "masks" / "z.png", MASK)
        problems = Folder(root).problems()
        assert [(p.kind, p.serious) for p in problems] == [("orphan_annotation", True), ("orphan_image", False)]
        assert [p.count for p in problems] == [1, 1]
        assert "z.png" in problems[0].message
        assert "'b'" in problems[1].message
        words = "files that match no image: 1, such as masks/z.png: there is no image of that name"
        assert words in Folder(root).description()

    def test_masks_in_a_folder_spelled_otherwise_are_told(self, root: Path) -> None:
        for kind, other in (("circle", "Circles"), ("square", "square")):
            for name in "ab":
                picture(root / "images" / kind / f"{name}.jpg")
                pixels(root / "masks" / other / f"{name}.png", MASK)
        dataset = Folder(root)
        assert "files that match no image: 2, such as masks/Circles/a.png: " in dataset.description()
        assert dataset.unmatched == ("Circles/a.png", "Circles/b.png")
        orphans = [problem.message for problem in dataset.problems() if problem.kind == "orphan_annotation"]
        assert len(orphans) == 2
        assert all(message.endswith("; images lie in 'circle', not in 'Circles'") for message in orphans)

    def test_damage_costs_its_own_row(self, root: Path) -> None:
        for name in ("cut", "empty", "mask", "array", "pickled", "good"):
            picture(root / "images" / f"{name}.png", (64, 64))
        whole = (root / "images" / "cut.png").read_bytes()
        (root / "images" / "cut.png").write_bytes(whole[:60])
        (root / "images" / "empty.png").write_bytes(b"")
        for name in ("cut", "empty", "good"):
            pixels(root / "masks" / f"{name}.png", np.ones((64, 64), dtype=bool))
        put(root / "masks" / "mask.png", "this is no picture")
        (root / "masks" / "array.npy").write_bytes(b"\x93NUMPY\x01\x00")
        np.save(root / "masks" / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
        dataset = Folder(root)
        assert mask_of(dataset, list(dataset.ids()).index("good")).all()
        for index, name in enumerate(dataset.ids()):
            if name != "good":
                with pytest.raises(DatasetError):
                    dataset[index]

    def test_an_array_that_claims_to_be_huge_is_not_read(self, root: Path) -> None:
        picture(root / "images" / "a.png")
        header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"
        header = header.ljust(117) + "\n"
        (root / "masks").mkdir()
        (root / "masks" / "a.npy").write_bytes(
            b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
        )
        with pytest.raises(DatasetError, match=r"expected \(height, width\)"):
            Folder(root, annotations="masks")[0]


class TestHeatmaps:
    def test_strengths_are_taken_as_they_are(self, root: Path) -> None:
        strength = np.linspace(0, 3, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
        for name in "abcd":
            picture(root / "images" / f"{name}.jpg")
        (root / "heatmaps").mkdir()
        np.save(root / "heatmaps" / "a.npy", strength.astype(np.float64)[None])
        np.savez(root / "heatmaps" / "b.npz", attention=strength)
        pixels(root / "heatmaps" / "c.png", (strength * 10).astype(np.uint8))
        pixels(root / "heatmaps" / "d.tif", strength)
        dataset = Folder(root)
        assert dataset.regions == dataset.evidence == ("attention",)
        for index, expected in enumerate([strength, strength, (strength * 10).astype(np.uint8), strength]):
            annotation = dataset[index].annotations["attention"]
            assert isinstance(annotation, ea.Heatmap)
            assert np.array_equal(annotation.strength, expected.astype(np.float32))

    def test_masks_can_be_read_as_heatmaps_and_a_folder_a_region(self, root: Path) -> None:
        picture(root / "images" / "a.jpg")
        pixels(root / "eyes" / "experts" / "a.png", MASK)
        dataset = Folder(root, annotations="heatmaps", source="eyes")
        assert dataset.regions == ("experts",)
        annotation = dataset[0].annotations["experts"]
        assert isinstance(annotation, ea.Heatmap)
        assert annotation.strength.max() == 255

    def test_a_map_of_another_size_is_scaled_on_request(self, root: Path) -> None:
        picture(root / "images" / "a.jpg")
        (root / "heatmaps").mkdir()
        np.save(root / "heatmaps" / "a.npy", np.ones((2, 3)))
        with pytest.raises(DatasetError, match="size=scale"):
            Folder(root)[0]
        annotation = Folder(root, size="scale")[0].annotations["attention"]
        assert isinstance(annotation, ea.Heatmap)
        assert annotation.strength.shape == (HEIGHT, WIDTH)
        assert annotation.strength.min() == annotation.strength.max() == 1

    @pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
    def test_numbers_that_are_no_strengths_are_refused(self, root: Path, bad: float) -> None:
        picture(root / "images" / "a.jpg")
        (root / "heatmaps").mkdir()
        values = np.ones((HEIGHT, WIDTH))
        values[0, 0] = bad
        np.save(root / "heatmaps" / "a.npy", values)
        with pytest.raises(DatasetError, match="finite numbers of at least 0"):
            Folder(root)[0]

    def test_colour_coded_maps_are_refused(self, root: Path) -> None:
        picture(root / "images" / "a.jpg")
        pixels(root / "heatmaps" / "a.png", np.tile(np.array([0, 90, 200], np.uint8), (HEIGHT, WIDTH, 1)))
        with pytest.raises(DatasetError, match="this picture has colours"):
            Folder(root)[0]


class TestTables:
    def test_boxes_with_several_rows_an_image(self, root: Path) -> None:
        for name in "abc":
            picture(root / "images" / f"{name}.jpg")
        put(
            root / "boxes.csv",
            "image,label,x0,y0,x1,y1,region,who\n"
            "a.jpg,cat,1,1,3,3,object,ann\na.jpg,cat,4,0,9,2,object,bob\na.jpg,cat,0,3,1,4,marker,ann\n"
            "b.jpg,dog,,,,,,ann\n",
        )
        dataset = Folder(root)
        assert dataset.ids() == ("a", "b")
        assert dataset.labels() == (0, 1)
        assert dataset.attributes() == {}  # who differs within an image
        assert (mask_of(dataset, 0) == box_mask(1, 1, 3, 3) | box_mask(4, 0, 6, 2)).all()
        assert isinstance(dataset[0].annotations["object"], ea.Boxes)
        assert (mask_of(dataset, 0, "marker") == box_mask(0, 3, 1, 4)).all()
        assert dataset[1].annotations == {"marker": None, "object": None}
        assert "left out: 1 images that boxes.csv does not name" in dataset.description()

    @pytest.mark.parametrize(
        ("header", "row", "arguments"),
        [
            ("file_name,xmin,ymin,xmax,ymax", "a.jpg,1,1,3,4", {}),
            ("path,X,Y,Width,Height", "a.jpg,1,1,2,3", {}),
            ("img,x1,y1,x2,y2", "images/a.jpg,1,1,3,4", {}),
            ("image,left,top,right,bottom", "C:\\data\\a.jpg,1,1,3,4", {}),
            ("image,a,b,c,d", "a,1,1,3,4", {"box_columns": "a+b+c+d"}),
            ("image,a,b,c,d", "a,1,1,2,3", {"box_columns": ["a", "b", "c", "d"], "box_format": "xywh"}),
            ("image,bbox", 'a.jpg,"[1, 1, 3, 4]"', {}),
            ("image,bbox", "a.jpg,1 1 2 3", {"box_format": "xywh"}),
            ("photo,x0,y0,x1,y1", "a.jpg,1,1,3,4", {"image_column": "photo"}),
            ("image,x0,y0,x1,y1", f"a.jpg,{1 / 6},.25,.5,1", {"coordinates": "fractions"}),
            ("image,width,height,xmin,ymin,xmax,ymax", "a.jpg,6,4,1,1,3,4", {}),
            ("image,polygon", 'a.jpg,"[[1, 1], [3, 1], [3, 4], [1, 4]]"', {}),
            ("image,polygon", 'a.jpg,"[1, 1, 3, 1, 3, 4, 1, 4]"', {}),
            ("image,polygon", 'a.jpg,"1,1 3,1 3,4 1,4"', {}),
            ("image,polygon", 'a.jpg,"[[1,1,2,1,2,4,1,4],[2,1,3,1,3,4,2,4]]"', {}),
            ("image,line", 'a.jpg,"1,1 3,1 3,4 1,4"', {"polygon_column": "line"}),
        ],
    )
    def test_the_same_box_written_in_every_way(
        self, root: Path, header: str, row: str, arguments: dict[str, Any]
    ) -> None:
        picture(root / "images" / "a.jpg")
        put(root / "mine.csv", f"{header}\n{row}\n")
        more = {"annotations": "table", "source": "mine.csv"} if "image_column" in arguments else {}
        if "polygon_column" in arguments or "box_columns" in arguments:
            more = {"annotations": "table", "source": "mine.csv"}
        assert (mask_of(Folder(root, **arguments, **more)) == box_mask(1, 1, 3, 4)).all()

    def test_json_and_json_lines(self, root: Path) -> None:
        picture(root / "images" / "a.jpg")
        picture(root / "images" / "b.jpg")
        entries = [
            {"image": "a.jpg", "label": "cat", "bbox": [1, 1, 3, 3], "age": 4},
            {"image": "b.jpg", "label": "dog", "polygon": [[0, 0], [4, 0], [0, 4]], "age": 5},
        ]
        put(root / "mine.json", entries)
        dataset = Folder(root)
        assert (mask_of(dataset, 0) == box_mask(1, 1, 3, 3)).all()
        assert mask_of(dataset, 1).sum() == 6
        assert dataset.attributes() == {"age": (4, 5)}
        (root / "mine.json").unlink()
        put(root / "mine.jsonl", "\n".join(map(json.dumps, entries)))
        assert Folder(root).fingerprint == dataset.fingerprint

    def test_whole_numbers_are_class_indices(self, root: Path) -> None:
        for name in "ab":
            picture(root / "images" / f"{name}.jpg")
        put(root / "boxes.csv", "image,label,x0,y0,x1,y1\na,7,0,0,2,2\nb,2,0,0,2,2\n")
        dataset = Folder(root)
        assert dataset.labels() == (7, 2)
        assert dataset.class_names == tuple("01234567")
        put(root / "classes.txt", "\n".join("abcdefgh"))
        assert Folder(root).class_names == tuple("abcdefgh")
        assert Folder(root).labels() == (7, 2)
        with pytest.raises(DatasetError, match="label '2' is none of the 2 classes"):
            Folder(root, classes=["a", "b"])

    def test_classes_decide_the_order(self, root: Path) -> None:
        for kind in ("10", "9", "cat"):
            picture(root / "images" / kind / "a.jpg")
            pixels(root / "masks" / kind / "a.png", MASK)
        assert Folder(root).class_names == ("10", "9", "cat")  # as torchvision orders folders
        assert "labels: by folder, 3 classes (10, 9, cat)" in Folder(root).description()
        put(root / "order.txt", "cat\n\n9\nzebra\n10\n")
        dataset = Folder(root, classes="order.txt")
        assert dataset.class_names == ("cat", "9", "zebra", "10")
        assert dataset.labels() == (3, 1, 0)
        with pytest.raises(DatasetError, match="label 'cat' is none of"):
            Folder(root, classes=["9", "10"])
        with pytest.raises(DatasetError, match="no file"):
            Folder(root, classes="none.txt")
        (root / "order.txt").write_bytes(b"\xff\xfe\xff")
        with pytest.raises(DatasetError, match="UTF-8"):
            Folder(root, classes="order.txt")

    def test_several_labels_in_an_image_are_asked_about(self, root: Path) -> None:
        picture(root / "images" / "a.jpg")
        put(root / "boxes.csv", "image,class,x0,y0,x1,y1\na,cat,0,0,2,2\na,dog,3,0,5,2\n")
        with pytest.raises(DatasetError, match="pass label_column=none and region_column=class"):
            Folder(root)
        dataset = Folder(root, label_column="none", region_column="class")
        assert dataset.regions == dataset.evidence == ("cat", "dog")
        assert dataset.labels() == (None,)
        one = Folder(root, label_column="none", region_column="none")
        assert (mask_of(one) == box_mask(0, 0, 2, 2) | box_mask(3, 0, 5, 2)).all()

    def test_coordinates_of_at_most_one_are_asked_about(self, root: Path) -> None:
        picture(root / "images" / "a.jpg")
        put(root / "boxes.csv", "image,x0,y0,x1,y1\na,0,0,0.5,0.5\n")
        with pytest.raises(DatasetError, match="pass coordinates=fractions"):
            Folder(root)

    @pytest.mark.parametrize("bad", ["nan", "inf", "abc", "", "1e400", "2e9"])
    def test_a_damaged_box_costs_its_own_image_only(self, root: Path, bad: str) -> None:
        for name in "ab":
            picture(root / "images" / f"{name}.jpg")
        put(root / "boxes.csv", f"image,x0,y0,x1,y1\na,1,{bad},3,3\nb,1,1,3,3\n")
        dataset = Folder(root)
        with pytest.raises(DatasetError, match=r"number|finite"):
            dataset[0]
        assert (mask_of(dataset, 1) == box_mask(1, 1, 3, 3)).all()
        if bad != "2e9":
            assert [(p.kind, p.sample_id) for p in dataset.problems()][:1] == [("bad_box", "a")]

    def test_swapped_corners_mark_nothing_and_are_told(self, root: Path) -> None:
        picture(root / "images" / "a.jpg")
        put(root / "boxes.csv", "image,x0,y0,x1,y1\na,3,3,1,1\n")
        dataset = Folder(root)
        assert not mask_of(dataset).any()
        assert [(p.kind, p.serious) for p in dataset.problems()] == [("bad_box", True)]

    @pytest.mark.parametrize("cell", ["[[1,2],[3]]", "1,2,3", '[["a","b"]]', "[[NaN,1],[2,2],[3,3]]"])
    def test_a_damaged_polygon_costs_its_own_image_only(self, root: Path, cell: str) -> None:
        for name in "ab":
            picture(root / "images" / f"{name}.jpg")
        quoted = cell.replace('"', '""')
        put(root / "shapes.csv", f'image,polygon\na,"{quoted}"\nb,"0,0 4,0 4,4"\n')
        dataset = Folder(root)
        with pytest.raises(DatasetError, match="polygon"):
            dataset[0]
        assert mask_of(dataset, 1).any()

    @pytest.mark.parametrize("name", ["/etc/hostname", "../../secret.jpg", "..\\secret.jpg", "C:\\x\\secret.jpg"])
    def test_paths_in_a_table_are_looked_up_and_never_opened(self, root: Path, name: str) -> None:
        picture(root / "images" / "a.jpg")
        picture(root / "secret.jpg")
        picture(root.parent / "secret.jpg")
        put(root / "boxes.csv", f"image,x0,y0,x1,y1\n{name},1,1,3,3\na.jpg,0,0,2,2\n")
        dataset = Folder(root)
        with pytest.raises(DatasetError, match="no such image"):
            dataset[0]
        assert mask_of(dataset, 1).any()
        assert [p.kind for p in dataset.problems()] == ["missing_image"]

    def test_a_link_out_of_the_folder_is_not_followed(self, root: Path) -> None:
        picture(root.parent / "secret.jpg")
        (root / "images").mkdir()
        (root / "images" / "a.jpg").symlink_to(root.parent / "secret.jpg")
        pixels(root / "masks" / "a.png", MASK)
        with pytest.raises(DatasetError, match="through a link"):
            Folder(root)[0]

    def test_names_that_could_mean_several_images_mean_none(self, root: Path) -> None:
        for kind in ("x", "y"):
            picture(root / "images" / kind / "a.jpg")
        put(root / "boxes.csv", "image,x0,y0,x1,y1\na.jpg,1,1,3,3\n/home/me/y/a.jpg,0,0,2,2\n")
        dataset = Folder(root, labels="none")
        assert dataset.ids() == ("a", "y/a")
        with pytest.raises(DatasetError, match="no such image"):
            dataset[0]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "an empty file"),
            (b"image,x0,y0,x1,y1\n", "without rows"),
            (b"image,label,x0,y0,x1,y1\na.jpg,K\xe4fer,1,1,2,2\n", "line 2 is not UTF-8 text; save the file as UTF-8"),
            (b"image,x0\na,1,2,3,4,5,6\n", "no readable table"),
            (b"image,image\na,b\n", "holds no annotations|no readable table"),
        ],
    )
    def test_damaged_tables_are_refused(self, root: Path, content: bytes, message: str) -> None:
        picture(root / "images" / "a.jpg")
        (root / "boxes.csv").write_bytes(content)
        with pytest.raises((DatasetError, UsageError), match=message):
            Folder(root, source="boxes.csv")

    def test_an_image_named_twice_with_two_labels_is_refused(self, root: Path) -> None:
        picture(root / "images" / "a.jpg")
        put(root / "boxes.csv", "image,label,x0,y0,x1,y1\na.jpg,cat,0,0,2,2\na,dog,0,0,2,2\n")
        with pytest.raises(DatasetError, match="named twice, with the labels cat and dog"):
            Folder(root)

    def test_labels_and_boxes_in_two_tables(self, root: Path) -> None:
        for name in "ab":
            picture(root / "images" / f"{name}.jpg")
        put(root / "labels.csv", "image,label\na,cat\nb,dog\n")
        put(root / "boxes.csv", "image,class,x0,y0,x1,y1\na,head,0,0,2,2\na,tail,3,0,5,2\nz,head,0,0,1,1\n")
        dataset = Folder(root, region_column="class", label_column="label")
        assert dataset.labels() == (0, 1)
        assert dataset.regions == ("head", "tail")
        assert [p.kind for p in dataset.problems()] == ["orphan_annotation", "orphan_image"]


class TestLabelme:
    def shape(self, kind: str, points: Sequence[Sequence[float]], label: str = "thing", **more: Any) -> dict[str, Any]:
        return {"label": label, "points": points, "shape_type": kind, "flags": {}, "group_id": None, **more}

    def file(self, root: Path, *shapes: Any, name: str = "a", **more: Any) -> None:
        content = {"version": "5", "flags": {}, "imagePath": f"{name}.jpg", "imageData": None, "shapes": list(shapes)}
        put(root / f"{name}.json", {**content, "imageHeight": HEIGHT, "imageWidth": WIDTH, **more})

    def test_every_shape(self, root: Path) -> None:
        picture(root / "a.jpg", (40, 30))
        bitmap = io.BytesIO()
        Image.fromarray(np.array([[255, 0], [255, 255]], dtype=np.uint8)).save(bitmap, "PNG")
        self.file(
            root,
            self.shape("polygon", [[1, 1], [4, 1], [4, 4], [1, 4]], "polygon"),
            self.shape("rectangle", [[9, 8], [2, 3]], "rectangle"),
            self.shape("circle", [[20, 15], [20, 20]], "circle"),
            self.shape("mask", [[10, 20], [11, 21]], "mask", mask=base64.b64encode(bitmap.getvalue()).decode()),
            self.shape("point", [[3, 3]], "point"),
            self.shape("linestrip", [[3, 3], [9, 9], [2, 2]], "line"),
            imageHeight=30,
            imageWidth=40,
        )
        dataset = Folder(root)
        assert dataset.regions == ("circle", "line", "mask", "point", "polygon", "rectangle")
        assert dataset.evidence == dataset.regions
        rows, columns = np.mgrid[:30, :40] + 0.5
        assert (mask_of(dataset, 0, "polygon") == (columns > 1) & (columns < 4) & (rows > 1) & (rows < 4)).all()
        assert (mask_of(dataset, 0, "rectangle") == (columns > 2) & (columns < 9) & (rows > 3) & (rows < 8)).all()
        assert (mask_of(dataset, 0, "circle") == ((columns - 20) ** 2 + (rows - 15) ** 2 < 25)).all()
        assert np.argwhere(mask_of(dataset, 0, "mask")).tolist() == [[20, 10], [21, 10], [21, 11]]
        assert mask_of(dataset, 0, "point") is None
        assert mask_of(dataset, 0, "line") is None
        assert [(p.kind, p.serious) for p in dataset.problems()] == [("empty_annotation", False)] * 2
        united = Folder(root, region_column="none")
        assert united.regions == ("object",)
        assert (
            mask_of(united).sum()
            == sum(mask_of(dataset, 0, r).sum() for r in ("rectangle", "circle", "mask"))
            + mask_of(dataset, 0, "polygon").sum()
            - (mask_of(dataset, 0, "polygon") & mask_of(dataset, 0, "rectangle")).sum()
        )

    def test_the_camera_s_orientation_is_applied_as_the_tool_does(self, root: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # shown turned by a quarter
        picture(root / "a.jpg", (HEIGHT, WIDTH), exif=exif)
        with Image.open(root / "a.jpg") as stored:
            assert stored.size == (HEIGHT, WIDTH)
        self.file(root, self.shape("rectangle", [[1, 1], [3, 3]], "object"))
        dataset = Folder(root)
        assert dataset[0].image.size == (WIDTH, HEIGHT)
        assert (mask_of(dataset) == box_mask(1, 1, 3, 3)).all()
        with pytest.raises(DatasetError, match="drawn on an image of 6 x 4 pixels, this one has 4 x 6"):
            Folder(root, orientation="ignore")[0]
        assert Folder(root, orientation="ignore").fingerprint != dataset.fingerprint

    def test_flags_give_the_label(self, root: Path) -> None:
        for name, flags in {"a": {"cat": False, "dog": True}, "b": {"cat": True, "dog": True}}.items():
            picture(root / f"{name}.jpg")
            self.file(root, self.shape("rectangle", [[0, 0], [2, 2]]), name=name, flags=flags)
        dataset = Folder(root)
        assert dataset.labels() == (0, None)
        assert dataset.class_names == ("dog",)
        assert dataset.attributes() == {"cat": (False, True), "dog": (True, True)}

    def test_shapes_give_the_label(self, root: Path) -> None:
        for name, label in {"a": "dog", "b": "cat"}.items():
            picture(root / f"{name}.jpg")
            self.file(root, self.shape("rectangle", [[0, 0], [2, 2]], label), name=name)
        dataset = Folder(root, labels="shapes")
        assert dataset.class_names == ("cat", "dog")
        assert dataset.labels() == (1, 0)
        assert dataset.regions == ("object",)
        self.file(root, self.shape("rectangle", [[0, 0], [2, 2]], "x"), self.shape("point", [[0, 0]], "y"))
        with pytest.raises(DatasetError, match="are called x, y: an image has one label"):
            Folder(root, labels="shapes")

    def test_a_file_that_names_itself_belongs_to_the_image_of_its_name(self, root: Path) -> None:
        picture(root / "a.jpg")
        self.file(root, self.shape("rectangle", [[1, 1], [3, 3]]), imagePath="a.json")
        assert (mask_of(Folder(root), 0, "thing") == box_mask(1, 1, 3, 3)).all()

    def test_what_is_to_be_ignored_is_no_evidence(self, root: Path) -> None:
        picture(root / "a.jpg")
        self.file(root, *(self.shape("rectangle", [[1, 1], [3, 3]], name) for name in ("__ignore__", "cat", "dog")))
        dataset = Folder(root)
        assert dataset.regions == ("__ignore__", "cat", "dog")
        assert dataset.evidence == ("cat", "dog")

    def test_files_in_a_folder_of_their_own(self, root: Path) -> None:
        picture(root / "images" / "cat" / "a.jpg")
        self.file(root / "annotations" / "cat", self.shape("rectangle", [[1, 1], [3, 3]]), imagePath="..\\..\\x\\a.jpg")
        dataset = Folder(root)
        assert dataset.class_names == ("cat",)
        assert (mask_of(dataset, 0, "thing") == box_mask(1, 1, 3, 3)).all()

    @pytest.mark.parametrize(
        "shape",
        [
            {"label": "thing", "shape_type": "polygon"},
            {"label": "thing", "points": [[1, "a"]]},
            {"label": "thing", "points": [[0, 0], [float("nan"), 1], [4, 4]]},
            {"label": "thing", "points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": "no base64!"},
            {"label": "thing", "points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": "aGVsbG8="},
            {"label": "thing", "points": [[0, 0], [1, 1]], "shape_type": "spiral"},
        ],
    )
    def test_a_damaged_shape_costs_its_own_image_only(self, root: Path, shape: Any) -> None:
        for name in "ab":
            picture(root / f"{name}.jpg")
        self.file(root, shape)
        self.file(root, self.shape("rectangle", [[1, 1], [3, 3]]), name="b")
        dataset = Folder(root)
        with pytest.raises(DatasetError):
            dataset[0]
        assert (mask_of(dataset, 1, "thing") == box_mask(1, 1, 3, 3)).all()

    def test_files_of_something_else_are_refused(self, root: Path) -> None:
        picture(root / "a.jpg")
        picture(root / "b.jpg")
        self.file(root, self.shape("rectangle", [[1, 1], [3, 3]]))
        put(root / "b.json", "{")
        with pytest.raises(DatasetError, match=r"b.json: no readable JSON"):
            Folder(root)
        put(root / "b.json", {"shapes": []})
        with pytest.raises(DatasetError, match=r"b.json: no file of labelme's"):
            Folder(root)


class TestVia:
    ENTRIES = (
        ({"name": "rect", "x": 1, "y": 1, "width": 2, "height": 2}, {"type": "head"}),
        ({"name": "polygon", "all_points_x": [0, 2, 2, 0], "all_points_y": [3, 3, 4, 4]}, {"type": {"tail": True}}),
        ({"name": "circle", "cx": 5, "cy": 1, "r": 1.2}, {"type": "head"}),
        ({"name": "ellipse", "cx": 3, "cy": 2, "rx": 2, "ry": 0.6, "theta": 0}, {"type": "wing"}),
        ({"name": "point", "cx": 3, "cy": 2}, {"type": "eye"}),
    )

    def entries(self, numbered: bool = False) -> dict[str, Any]:
        regions = [{"shape_attributes": shape, "region_attributes": given} for shape, given in self.ENTRIES]
        listed: Any = {str(place): region for place, region in enumerate(regions)} if numbered else regions
        return {
            "a.jpg123": {"filename": "a.jpg", "size": 1, "regions": listed, "file_attributes": {"class": "bird"}},
            "b.jpg99": {"filename": "b.jpg", "size": 1, "regions": [], "file_attributes": {"class": "cat", "by": "me"}},
        }

    @pytest.mark.parametrize("form", ["project", "json", "numbered", "csv"])
    def test_every_form_of_file(self, root: Path, form: str) -> None:
        for name in "ab":
            picture(root / "images" / f"{name}.jpg")
        if form == "csv":
            lines = [
                "#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
            ]
            told = json.dumps({"class": "bird"}).replace('"', '""')
            for place, (shape, given) in enumerate(self.ENTRIES):
                cells = [json.dumps(cell).replace('"', '""') for cell in (shape, given)]
                lines.append(f'a.jpg,1,"{told}",5,{place},"{cells[0]}","{cells[1]}"')
            lines.append('b.jpg,1,"{""class"": ""cat"", ""by"": ""me""}",0,0,"{}","{}"')
            put(root / "via.csv", "\n".join(lines))
        else:
            entries = self.entries(form == "numbered")
            put(root / "via.json", {"_via_img_metadata": entries} if form == "project" else entries)
        dataset = Folder(root)
        assert dataset.class_names == ("bird", "cat")
        assert dataset.labels() == (0, 1)
        assert dataset.attributes() == {"by": (None, "me")}
        assert dataset.regions == ("eye", "head", "tail", "wing")
        rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
        circle = (columns - 5) ** 2 + (rows - 1) ** 2 < 1.2**2
        assert (mask_of(dataset, 0, "head") == box_mask(1, 1, 3, 3) | circle).all()
        assert (mask_of(dataset, 0, "tail") == box_mask(0, 3, 2, 4)).all()
        assert (mask_of(dataset, 0, "wing") == (((columns - 3) / 2) ** 2 + ((rows - 2) / 0.6) ** 2 < 1)).all()
        assert mask_of(dataset, 0, "eye") is None
        assert mask_of(dataset, 1, "head") is None

    def test_attributes_can_be_named(self, root: Path) -> None:
        for name in "ab":
            picture(root / "images" / f"{name}.jpg")
        put(root / "via.json", self.entries())
        assert Folder(root, label_column="by").labels() == (None, 0)
        assert Folder(root, region_column="none").regions == ("object",)
        with pytest.raises(UnknownNameError, match="region attribute 'tipe'"):
            Folder(root, region_column="tipe")
        with pytest.raises(UnknownNameError, match="file attribute"):
            Folder(root, label_column="klass")

    @pytest.mark.parametrize(
        "shape", [None, {}, {"name": "rect", "x": 1}, {"name": "blob"}, {"name": "rect", "x": "a", "y": 1}]
    )
    def test_a_damaged_shape_costs_its_own_image_only(self, root: Path, shape: Any) -> None:
        for name in "ab":
            picture(root / "images" / f"{name}.jpg")
        entries = self.entries()
        entries["b.jpg99"]["regions"] = [{"shape_attributes": shape, "region_attributes": {"type": "head"}}]
        put(root / "via.json", entries)
        dataset = Folder(root)
        assert mask_of(dataset, 0, "head").any()
        with pytest.raises(DatasetError):
            dataset[1]


class TestLabelStudio:
    BOX: ClassVar[dict[str, Any]] = {
        "x": 100 / 6,
        "y": 25,
        "width": 100 / 3,
        "height": 50,
        "rotation": 0,
        "rectanglelabels": ["object"],
    }
    SIZE: ClassVar[dict[str, int]] = {"original_width": WIDTH, "original_height": HEIGHT}

    @pytest.mark.parametrize(
        "image",
        [
            "/data/upload/1/0a1b2c3d-a.jpg",
            "/data/local-files/?d=some/images/a.jpg",
            "http://localhost:8080/data/upload/3/0a1b2c3d-a.jpg",
            "s3://bucket/a.jpg",
            "a.jpg",
        ],
    )
    @pytest.mark.parametrize("full", [True, False])
    def test_both_exports_and_every_place_an_image_can_be(self, root: Path, full: bool, image: str) -> None:
        picture(root / "images" / "a.jpg")
        if full:
            result = {"type": "rectanglelabels", "value": self.BOX, **self.SIZE}
            choice = {"type": "choices", "from_name": "class", "value": {"choices": ["cat"]}}
            cancelled = {"was_cancelled": True, "result": []}
            task = {"id": 1, "data": {"image": image}, "annotations": [cancelled, {"result": [result, choice]}]}
        else:
            task = {"image": image, "id": 1, "box": [{**self.BOX, **self.SIZE}], "class": "cat", "annotator": 1}
        put(root / "export.json", [task])
        dataset = Folder(root)
        assert dataset.ids() == ("a",)
        assert dataset.class_names == ("cat",)
        assert dataset.attributes() == {}
        assert (mask_of(dataset) == box_mask(1, 1, 3, 3)).all()
        assert dataset.problems() == []

    def test_other_shapes(self, root: Path) -> None:
        picture(root / "images" / "a.jpg", (40, 20))
        sized = {"original_width": 40, "original_height": 20}
        shapes = [
            {"points": [[0, 0], [50, 0], [50, 50]], "polygonlabels": ["polygon"], **sized},
            {"x": 50, "y": 50, "radiusX": 20, "radiusY": 10, "rotation": 0, "ellipselabels": ["ellipse"], **sized},
            {"x": 50, "y": 20, "width": 20, "height": 20, "rotation": 90, "rectanglelabels": ["turned"], **sized},
            {"x": 50, "y": 20, "width": 1, "keypointlabels": ["point"], **sized},
        ]
        put(root / "export.json", [{"image": "a.jpg", "label": shapes}])
        dataset = Folder(root)
        rows, columns = np.mgrid[:20, :40] + 0.5
        assert (mask_of(dataset, 0, "polygon") == (rows < columns / 2) & (columns < 20)).all()
        assert (mask_of(dataset, 0, "ellipse") == (((columns - 20) / 8) ** 2 + ((rows - 10) / 2) ** 2 < 1)).all()
        # 8 x 4 pixels, turned clockwise by a quarter around their upper left corner (20, 4)
        turned = (columns > 16) & (columns < 20) & (rows > 4) & (rows < 12)
        assert (mask_of(dataset, 0, "turned") == turned).all()
        assert mask_of(dataset, 0, "point") is None

    def test_brush_masks_are_refused_for_their_image(self, root: Path) -> None:
        picture(root / "images" / "a.jpg")
        put(root / "export.json", [{"image": "a.jpg", "b": [{"rle": [1], "brushlabels": ["x"], **self.SIZE}]}])
        with pytest.raises(DatasetError, match="export it as PNG"):
            Folder(root)[0]

    def test_an_image_of_another_size_is_refused(self, root: Path) -> None:
        picture(root / "images" / "a.jpg", (12, 8))
        put(root / "export.json", [{"image": "a.jpg", "b": [{**self.BOX, **self.SIZE}]}])
        with pytest.raises(DatasetError, match="drawn on an image of 6 x 4"):
            Folder(root)[0]


class TestDoubts:
    def test_several_kinds_of_annotations_are_asked_about(self, root: Path) -> None:
        picture(root / "images" / "a.jpg")
        pixels(root / "masks" / "a.png", MASK)
        put(root / "boxes.csv", "image,x0,y0,x1,y1\na,0,0,2,2\n")
        with pytest.raises(UsageError, match=r"annotations=masks,source=masks; annotations=table,source=boxes.csv"):
            Folder(root)
        assert (mask_of(Folder(root, annotations="masks")) == MASK).all()
        assert (mask_of(Folder(root, source="boxes.csv")) == box_mask(0, 0, 2, 2)).all()

    def test_several_tables_of_labels_are_asked_about(self, root: Path) -> None:
        picture(root / "images" / "a.jpg")
        pixels(root / "masks" / "a.png", MASK)
        put(root / "one.csv", "image,label\na,x\n")
        put(root / "two.csv", "image,label\na,y\n")
        put(root / "readme.csv", "hello,world\n1,2\n")
        with pytest.raises(UsageError, match=r"labels could be in one.csv or two.csv; pass labels="):
            Folder(root)
        dataset = Folder(root, labels="two.csv")
        assert dataset.class_names == ("y",)
        assert "not used: one.csv (labels), readme.csv (no column of images)" in dataset.description()

    def test_several_folders_of_images_are_asked_about(self, root: Path) -> None:
        picture(root / "images" / "a.jpg")
        picture(root / "imgs" / "a.jpg")
        pixels(root / "masks" / "a.png", MASK)
        with pytest.raises(UsageError, match="images or imgs; pass images="):
            Folder(root)
        assert len(Folder(root, images="imgs")) == 1

    def test_a_coco_file_points_to_its_dataset(self, root: Path) -> None:
        picture(root / "images" / "a.jpg")
        put(root / "instances.json", {"images": [], "annotations": [], "categories": []})
        with pytest.raises(UsageError, match=r"use the dataset coco with annotations=instances\.json"):
            Folder(root)

    def test_nothing_to_be_found_says_what_was_looked_for(self, root: Path) -> None:
        with pytest.raises(DatasetError, match="no annotations found"):
            Folder(root)
        (root / "masks").mkdir()
        with pytest.raises(DatasetError, match="no images in"):
            Folder(root)
        picture(root / "a.jpg")
        with pytest.raises(DatasetError, match="none of the 0 files in masks/"):
            Folder(root)
        with pytest.raises(DatasetError, match="images=: no folder 'pics'"):
            Folder(root, images="pics")
        with pytest.raises(DatasetError, match="source=: no folder 'x'"):
            Folder(root, source="x")
        with pytest.raises(DatasetError, match="leads out"):
            Folder(root, source="../x")
        with pytest.raises(DatasetError, match="give the folder"):
            Folder(None)

    @pytest.mark.parametrize("argument", ["annotations", "layout", "size", "orientation", "coordinates", "box_format"])
    def test_wrong_arguments_name_the_choices(self, root: Path, argument: str) -> None:
        picture(root / "images" / "a.jpg")
        pixels(root / "masks" / "a.png", MASK)
        with pytest.raises(UsageError, match=rf"{argument}: expected .* \| .*, got 'x'"):
            Folder(root, **{argument: "x"})

    def test_labels_by_folder_need_folders(self, root: Path) -> None:
        picture(root / "images" / "a.jpg")
        pixels(root / "masks" / "a.png", MASK)
        with pytest.raises(DatasetError, match=r"'a\.jpg' lies in no folder"):
            Folder(root, labels="folders")
        put(root / "labels.csv", "image,site\na,x\n")
        with pytest.raises(DatasetError, match="no column of labels among site"):
            Folder(root)
        assert Folder(root, label_column="site").class_names == ("x",)
        assert Folder(root, label_column="none").attributes() == {"site": ("x",)}


class TestFingerprint:
    def test_it_knows_content_and_nothing_of_the_machine(self, tmp_path: Path) -> None:
        write(tmp_path / "one", 6, 0)
        write(tmp_path / "two", 6, 0)
        one = Folder(tmp_path / "one")
        assert one.fingerprint == Folder(tmp_path / "two").fingerprint == pickle.loads(pickle.dumps(one)).fingerprint
        seen = {one.fingerprint}
        path = tmp_path / "two" / "masks" / "disc" / "img_0000.png"
        values = np.asarray(Image.open(path)).copy()
        values[0, 0] ^= 255
        Image.fromarray(values).save(path)  # another mask, perhaps of the same length
        seen.add(Folder(tmp_path / "two").fingerprint)
        path.unlink()
        seen.add(Folder(tmp_path / "two").fingerprint)
        (tmp_path / "two" / "images" / "disc" / "img_0000.jpg").write_bytes(b"longer or shorter")
        seen.add(Folder(tmp_path / "two").fingerprint)
        put(tmp_path / "two" / "classes.txt", "triangle\nsquare\noctagon\ndisc\n")
        seen.add(Folder(tmp_path / "two").fingerprint)
        assert len(seen) == 5

    def test_a_moved_box_changes_it(self, tmp_path: Path) -> None:
        write(tmp_path / "toy", 6, 0, "boxes_csv")
        before = Folder(tmp_path / "toy").fingerprint
        path = tmp_path / "toy" / "boxes.csv"
        lines = path.read_text().splitlines()
        cells = lines[1].split(",")
        cells[2] = str(float(cells[2]) + 1)
        path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
        assert Folder(tmp_path / "toy").fingerprint != before


class TestStandIn:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_every_layout_is_read_and_its_content_is_there(self, tmp_path: Path, layout: str) -> None:
        write(tmp_path / "toy", 8, 1, layout)
        write(tmp_path / "again", 8, 1, layout)
        for file in sorted(path for path in (tmp_path / "toy").rglob("*") if path.is_file()):
            assert file.read_bytes() == (tmp_path / "again" / file.relative_to(tmp_path / "toy")).read_bytes()
        dataset = Folder(tmp_path / "toy")
        assert dataset.toy
        assert dataset.problems() == []
        assert dataset.class_names == ("disc", "octagon", "square", "triangle")
        colors = [(40, 90, 220), (210, 40, 50), (40, 170, 70), (235, 190, 40)]
        for sample in map(dataset.__getitem__, range(8)):
            annotation = sample.annotations[dataset.evidence[0]]
            assert annotation is not None
            assert sample.label is not None
            inside = np.asarray(sample.image)[annotation.to_mask()].astype(int)
            near = np.abs(inside - colors[sample.label]).max(axis=1) < 60
            assert near.mean() > 0.4  # a triangle fills about half of its box
        with pytest.raises(UsageError, match="not empty"):
            write(tmp_path / "toy", 2, 0)

    def test_it_refuses_what_it_cannot_write(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownNameError, match="unknown layout"):
            write(tmp_path / "toy", 2, 0, "class_folder")
        with pytest.raises(UsageError, match="at least 1"):
            write(tmp_path / "toy", 0, 0)
