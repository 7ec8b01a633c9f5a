"""Maps computed elsewhere are scored as our own are; what is missing, damaged or nobody's is said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import explanation_alignment as ea
from explanation_alignment.errors import DatasetError, RunError, UnknownNameError, UsageError
from explanation_alignment.geometry import Geometry
from explanation_alignment.saliency.base import MethodRequest
from explanation_alignment.saliency.explainer import Explainer
from toys import Patches, small_classifier

SMALL = Geometry(resize=(12, 12))
METRICS = ["iou_coverage", "pointing_game", "relevance_mass_accuracy"]


def gradient_maps(data: Patches) -> dict[str, NDArray[np.float32]]:
    """Vanilla gradients of the small classifier by sample id."""
    classifier, names = small_classifier(), data.ids()
    pixels = torch.stack([torch.from_numpy(np.array(data[at].image)).permute(2, 0, 1) for at in range(len(data))])
    with Explainer(classifier, [MethodRequest.parse("vanilla_gradients")]) as explainer:
        images = classifier.preprocessing.normalise(pixels)
        maps = explainer(images, torch.zeros(len(names), dtype=torch.int64), names).maps[0]
    return dict(zip(names, maps.numpy(), strict=True))


def write(folder: Path, maps: Mapping[str, NDArray[np.float32]], *, flat: bool = False, suffix: str = ".npy") -> Path:
    for name, values in maps.items():
        file = folder / f"{name.replace('/', '__') if flat else name}{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".npz":
            np.savez(file, values)
        else:
            np.save(file, values)
    return folder


def score(maps: object, data: object, out: Path, **changes: object) -> ea.Run:
    settings: dict[str, object] = {"geometry": SMALL, "metrics": METRICS, "progress": False, **changes}
    return ea.score(maps, data, out, **settings)


SCORED = [*METRICS, "annotation_area", "salient_area", "status", "center_iou", "label"]


def test_scores_are_those_of_an_evaluation_with_the_same_maps(tmp_path: Path) -> None:
    data = Patches(23, bare=[2], empty=[5])
    run = ea.evaluate(
        small_classifier(), data, ["vanilla_gradients"], tmp_path / "ours", metrics=METRICS, progress=False
    )
    expected = run.scores().sort("sample_id", "region")
    maps = gradient_maps(data)
    predictions = dict(expected.select("sample_id", "prediction").unique().iter_rows())
    folder = write(tmp_path / "maps", maps)
    found = score(folder, data, tmp_path / "theirs", predictions=predictions).scores().sort("sample_id", "region")
    assert found.columns == expected.columns
    assert found.schema == expected.schema
    assert found.select(*SCORED, "prediction", "correct", "attr_even").equals(
        expected.select(*SCORED, "prediction", "correct", "attr_even")
    )
    assert found["confidence"].null_count() == len(found)


@pytest.mark.parametrize("layout", ["nested", "flat", "npz", "in memory", "tensors", "channel first"])
def test_every_layout_gives_the_same_rows(layout: str, tmp_path: Path) -> None:
    data, maps = Patches(9), gradient_maps(Patches(9))
    given: object = maps
    if layout == "nested":
        given = write(tmp_path / "maps", maps)
    elif layout == "flat":
        given = write(tmp_path / "maps", maps, flat=True)
    elif layout == "npz":
        given = write(tmp_path / "maps", maps, suffix=".npz")
    elif layout == "tensors":
        given = {name: torch.from_numpy(values) for name, values in maps.items()}
    elif layout == "channel first":
        given = write(tmp_path / "maps", {name: values[None] for name, values in maps.items()})
    rows = score(given, data, tmp_path / "run").scores()
    expected = score(dict(maps), data, tmp_path / "expected").scores()
    assert rows.equals(expected)
    assert rows["prediction"].null_count() == rows["correct"].null_count() == len(rows)
    assert rows["label"].null_count() == 0


@pytest.mark.parametrize(("mode", "factor"), [("L", 1), ("I;16", 257), ("1", None)])
def test_gray_pictures_are_maps(mode: str, factor: int | None, tmp_path: Path) -> None:
    data = Patches(4)
    (tmp_path / "maps" / "img").mkdir(parents=True)
    for place, name in enumerate(data.ids()):
        mask = data[place].annotations["patch"].to_mask()
        kinds = {"L": np.uint8, "I;16": np.uint16}
        pixels = mask if factor is None else (mask * 200).astype(kinds[mode]) * kinds[mode](factor)
        Image.fromarray(pixels).save(tmp_path / "maps" / f"{name}.png")
    rows = score(tmp_path / "maps", data, tmp_path / "run").scores().filter(pl.col("region") == "patch")
    assert rows["iou_coverage"].to_list() == [1] * 4


def test_a_map_of_another_size_is_brought_to_that_of_the_annotation(tmp_path: Path) -> None:
    data = Patches(8)
    cells = {}
    for place, name in enumerate(data.ids()):
        coarse = np.zeros((2, 2), dtype=np.float32)
        coarse[(place % 4) // 2, place % 2] = 1
        cells[name] = coarse
    rows = score(cells, data, tmp_path / "run", geometry=Geometry(resize=(24, 24))).scores()
    patch = rows.filter(pl.col("region") == "patch")
    assert patch["relevance_mass_accuracy"].min() > 0.2  # of a quarter's mass, 8 x 8 of 12 x 12 and its soft border
    assert patch["map_height"].unique().to_list() == [24]
    assert patch["annotation_area"].unique().to_list() == [64]


class Wide(Patches):
    """The patches in the middle of an image twice as wide, so that a centre crop finds them again."""

    def __getitem__(self, index: int) -> ea.Sample:
        sample = super().__getitem__(index)
        image = Image.new("RGB", (24, 12))
        image.paste(sample.image, (6, 0))
        masks = {}
        for region, annotation in sample.annotations.items():
            mask = np.zeros((12, 24), dtype=bool)
            mask[:, 6:18] = annotation.to_mask()
            masks[region] = ea.Mask(mask)
        return ea.Sample(sample.id, image, sample.label, masks, sample.attributes)


def test_a_map_over_the_image_or_over_what_the_crop_leaves(tmp_path: Path) -> None:
    cropping = Geometry(resize=12, crop=(12, 12))
    maps = gradient_maps(Patches(6))
    expected = score(maps, Patches(6), tmp_path / "a").scores().select(SCORED)
    over_crop = score(maps, Wide(6), tmp_path / "b", geometry=cropping, covers="crop").scores().select(SCORED)
    assert over_crop.equals(expected)
    whole = {name: np.pad(values, ((0, 0), (6, 6)), constant_values=9) for name, values in maps.items()}
    over_image = score(whole, Wide(6), tmp_path / "c", geometry=cropping).scores().select(SCORED)
    assert over_image.equals(expected)


def test_missing_damaged_and_flat_maps_are_rows_with_a_status(tmp_path: Path) -> None:
    data, maps = Patches(10), gradient_maps(Patches(10))
    folder = write(tmp_path / "maps", maps)
    (folder / "img" / "001.npy").unlink()
    (folder / "img" / "002.npy").write_bytes(b"no array")
    np.save(folder / "img" / "003.npy", np.full((12, 12), np.nan))
    np.save(folder / "img" / "004.npy", np.ones((12, 12)))
    np.save(folder / "img" / "005.npy", np.ones((3, 12, 12)))
    np.save(folder / "img" / "006.npy", np.array({"a": 1}, dtype=object), allow_pickle=True)
    Image.new("RGB", (12, 12)).save(folder / "img" / "007.png")
    (folder / "img" / "007.npy").unlink()
    np.save(folder / "other.npy", np.ones((12, 12)))
    run = score(folder, data, tmp_path / "run", max_errors=5)
    rows = run.scores().filter(pl.col("region") == "patch").sort("sample_id")
    assert rows["status"].cast(pl.String).to_list() == [
        "ok",
        *["error"] * 2,
        "flat_map",
        "flat_map",
        *["error"] * 3,
        "ok",
        "ok",
    ]
    messages = rows["message"].to_list()
    assert messages[1] == "no map of this name"
    assert "expected a real map (h, w), got shape (3, 12, 12)" in messages[5]
    assert "one gray channel" in messages[7]
    assert all(messages[place] for place in (2, 6))
    assert rows["label"].to_list() == [place % 4 for place in range(10)]
    (record,) = run.evaluations.values()
    details = record["details"]
    assert (details["maps_missing"], details["maps_unused"], details["maps_unused_first"]) == (1, 1, ["other"])
    with pytest.raises(RunError, match="could not be read"):
        score(folder, data, tmp_path / "strict", max_errors=0.1)


def test_samples_that_cannot_be_read_are_errors_too(tmp_path: Path) -> None:
    run = score(gradient_maps(Patches(10)), Patches(10, broken=[4]), tmp_path / "run", max_errors=1)
    rows = run.scores().filter(pl.col("status") == "error")
    assert rows["sample_id"].unique().to_list() == ["img/004"]
    assert rows["message"].unique().to_list() == ["OSError: broken image"]


def test_the_same_call_resumes_and_other_maps_are_refused(tmp_path: Path) -> None:
    data, maps = Patches(10), gradient_maps(Patches(10))
    first = score(maps, data, tmp_path / "run").scores()
    part = next((tmp_path / "run" / "scores").rglob("*.parquet"))
    before = part.stat().st_mtime_ns
    assert score(maps, data, tmp_path / "run").scores().equals(first)
    assert part.stat().st_mtime_ns == before
    changed = maps | {"img/003": maps["img/003"] * 2}
    with pytest.raises(RunError, match=r"asked differently .*weights"):
        score(changed, data, tmp_path / "run")
    score(changed, data, tmp_path / "run", model="another")
    assert ea.open_run(tmp_path / "run").scores()["model"].n_unique() == 2


def test_the_run_is_like_any_other(tmp_path: Path) -> None:
    maps = gradient_maps(Patches(16))
    predictions = tmp_path / "predictions.csv"
    names = Patches.class_names
    lines = [f"{name},{names[place % 4] if place % 3 else 0},0.75" for place, name in enumerate(maps)]
    predictions.write_text("sample_id,prediction,confidence\n" + "\n".join(lines))
    run = score(maps, Patches(16), tmp_path / "run", predictions=predictions, model="m", method="mine(k=2)", workers=0)
    summary = run.summary()
    assert set(summary["method"]) == {"mine(k=2)"}
    right = np.mean([(place % 4) == 0 or place % 3 > 0 for place in range(16)])
    assert summary["accuracy"].unique().to_list() == pytest.approx([right])
    assert run.scores()["confidence"].unique().to_list() == [0.75]
    assert len(run.examples()) > 0
    assert (ea.report(run)).is_file()


def test_without_predictions_a_run_still_has_summary_and_report(tmp_path: Path) -> None:
    run = score(gradient_maps(Patches(16)), Patches(16), tmp_path / "run")
    assert run.summary()["ea"].null_count() == 0
    assert (ea.report(run)).is_file()


def test_workers_and_a_sample_change_no_row(tmp_path: Path) -> None:
    maps = gradient_maps(Patches(20))
    folder = write(tmp_path / "maps", maps)
    rows = score(folder, Patches(20), tmp_path / "a", sample=8, seed=3).scores()
    assert len(rows) == 16
    assert score(folder, Patches(20), tmp_path / "b", sample=8, seed=3, workers=2).scores().equals(rows)


class Endings(Patches):
    def ids(self) -> list[str]:
        return [f"a/{index}.jpg" for index in range(len(self))]


def test_an_image_s_ending_may_be_left_out(tmp_path: Path) -> None:
    maps = dict(zip(Endings(3).ids(), gradient_maps(Patches(3)).values(), strict=True))
    whole = score(write(tmp_path / "whole", maps), Endings(3), tmp_path / "a").scores()
    short = {name.removesuffix(".jpg"): values for name, values in maps.items()}
    assert score(write(tmp_path / "short", short), Endings(3), tmp_path / "b").scores().equals(whole)
    with pytest.raises(DatasetError, match="both fit"):
        score(write(tmp_path / "whole", short), Endings(3), tmp_path / "c")


class Twins(Patches):
    def ids(self) -> list[str]:
        return ["a.jpg", "a.png", "b.jpg"]


@pytest.mark.parametrize(
    ("maps", "changes", "error", "message"),
    [
        ("absent", {}, DatasetError, "no folder"),
        ("empty", {}, DatasetError, r"it has no \.npy, \.npz, \.png file, the ids are like 'img/000'"),
        ("strange", {}, DatasetError, "it has 'x', the ids are like"),
        ("good", {"covers": "all"}, UnknownNameError, "known: crop, image"),
        ("good", {"geometry": Geometry(resize=12)}, UsageError, "one size"),
        ("good", {"binarization": "std"}, UsageError, "needs a number"),
        ("good", {"metrics": []}, UsageError, "one or more"),
        ("good", {"method": "my method"}, UsageError, "cannot read saliency method"),
        (
            "good",
            {"predictions": {"img/000": 4}},
            DatasetError,
            "expected a class name of patches or an index from 0 to 3",
        ),
        ("good", {"predictions": {"img/000": "up"}}, DatasetError, "'up'"),
        ("good", {"predictions": {"none": 0}}, DatasetError, "none is for an id"),
        ("good", {"predictions": "absent.csv"}, DatasetError, "absent.csv: predictions cannot be read"),
    ],
)
def test_refused(maps: str, changes: dict[str, object], error: type[Exception], message: str, tmp_path: Path) -> None:
    data = Patches(4)
    write(tmp_path / "good", gradient_maps(data))
    (tmp_path / "empty").mkdir()
    write(tmp_path / "strange", {"x": np.ones((2, 2), dtype=np.float32)})
    with pytest.raises(error, match=message):
        score(tmp_path / maps, data, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,prediction\nimg/000,1\n", "expected the columns sample_id, prediction"),
        ("", "got nothing"),
        ("sample_id,prediction\nimg/000,1\nimg/000,2\n", "is there twice"),
        ("sample_id,prediction,confidence\nimg/000,1,80\n", "confidence '80', expected a number from 0 to 1"),
        ("sample_id,prediction\nimg/000,\n", "expected a class name"),
    ],
)
def test_predictions_that_cannot_be_read(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "predictions.csv"
    file.write_text(content)
    with pytest.raises(DatasetError, match=message):
        score(gradient_maps(Patches(4)), Patches(4), tmp_path / "run", predictions=file)


class Numbered(Patches):
    """Its classes are folders' names in the order of words."""

    name, class_names = "numbered", ("1", "10", "2", "x")


def test_names_that_look_like_numbers_are_names(tmp_path: Path) -> None:
    maps = gradient_maps(Patches(4))
    file = tmp_path / "predictions.csv"
    file.write_text("sample_id,prediction\nimg/000,10\nimg/001,2\nimg/002,x\nimg/003,0\n")
    run = score(maps, Numbered(4), tmp_path / "run", predictions=file)
    rows = run.scores().unique("sample_id").sort("sample_id")
    assert rows["prediction"].to_list() == [1, 2, 3, 0]
    given = dict(zip(maps, [1, np.int64(2), 3, 0], strict=True))  # integers are places whatever the names
    rows = score(maps, Numbered(4), tmp_path / "places", predictions=given).scores().unique("sample_id")
    assert rows.sort("sample_id")["prediction"].to_list() == [1, 2, 3, 0]


def test_a_word_that_is_a_name_and_the_place_of_another_is_refused(tmp_path: Path) -> None:
    maps, file = gradient_maps(Patches(4)), tmp_path / "predictions.csv"
    file.write_text("sample_id,prediction\nimg/000,1\n")
    for given in (file, {"img/000": "1"}):
        with pytest.raises(DatasetError, match=r"has '1', .*name of class 0 and the index of '10'; give indices as"):
            score(maps, Numbered(4), tmp_path / "run", predictions=given)


def test_a_sample_speaks_of_the_whole_dataset_as_an_evaluation_s_does(tmp_path: Path) -> None:
    class Unlabelled(Patches):
        """Classes of very different size, which only reading tells."""

        def __getitem__(self, index: int) -> ea.Sample:
            sample = super().__getitem__(index)
            return ea.Sample(sample.id, sample.image, int(index < 4), sample.annotations, sample.attributes)

    data = Unlabelled(20)
    run = score(gradient_maps(Patches(20)), data, tmp_path / "run", sample=8, model="maps")
    assert list(run.populations.values()) == [[16, 4, 0]]
    ours = ea.evaluate(small_classifier(), data, ["sobel"], tmp_path / "ours", sample=8, progress=False)
    for order in ([run, ours], [ours, run]):
        merged = ea.merge(order, tmp_path / f"from {order[0].path.name}")
        assert list(merged.populations.values()) == [[16, 4, 0]] * 2


def test_attributes_of_mixed_types_are_named_before_a_run_is_begun(tmp_path: Path) -> None:
    data = Patches(4)
    data.attributes = lambda: {"odd": ["a", 1, None, None]}  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="attribute 'odd' of patches mixes types"):
        score(gradient_maps(Patches(4)), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_model_s_row_has_the_geometry_that_was_given(tmp_path: Path) -> None:
    geometry = Geometry(resize=(12, 12), crop=(12, 12), interpolation="bicubic", fit="inside")
    (row,) = score(gradient_maps(Patches(4)), Patches(4), tmp_path / "run", geometry=geometry).models().to_dicts()
    assert (row["resize"], row["interpolation"], row["fit"]) == ("(12, 12)", "bicubic", "inside")


def test_one_map_cannot_be_that_of_two_samples(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"fits both 'a\.jpg' and 'a\.png'"):
        score(write(tmp_path / "maps", {"a": np.ones((2, 2), dtype=np.float32)}), Twins(3), tmp_path / "run")


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    folder = write(tmp_path / "maps", gradient_maps(Patches(4)))
    np.save(folder / "img" / "002.npy", np.array([Trap(tmp_path / "trapped")], dtype=object), allow_pickle=True)
    rows = score(folder, Patches(4), tmp_path / "run", max_errors=1).scores()
    assert rows.filter(pl.col("status") == "error")["sample_id"].unique().to_list() == ["img/002"]
    assert not (tmp_path / "trapped").exists()
