from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_toys import MODELS, make_small

import explanation_alignment as ea
from explanation_alignment.classifiers.paper import published_models
from explanation_alignment.datasets.toy import imagenet as toy
from explanation_alignment.errors import DatasetError, RunError, UnknownNameError, UsageError
from explanation_alignment.experiments.imagenet import presentation as presented
from explanation_alignment.experiments.imagenet.presentation import present
from explanation_alignment.experiments.imagenet.protocol import METRICS, TOY, Protocol, reported_values
from explanation_alignment.experiments.imagenet.results import reported_beside, results
from explanation_alignment.experiments.imagenet.running import run_experiment
from explanation_alignment.experiments.many_models import requested_models

CHOSEN = (*MODELS[:1], *MODELS[-3:])
NAMES = [spec.partition(":")[2] for spec in CHOSEN]
#: Small images, for models of random weights.
SMALL = Protocol(resize=74, crop=64)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ea.Run]:
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch, CHOSEN)
        yield run_experiment(None, tmp_path_factory.mktemp("imagenet") / "run", toy=True, progress=False)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imagenet-files") / "images"
    toy.write(folder, 16, 2)
    return folder


def test_every_model_sees_the_same_crop_with_imagenets_normalisation(run: ea.Run) -> None:
    assert sorted(item["question"]["model"] for item in run.evaluations.values()) == sorted(NAMES)
    for item in run.evaluations.values():
        question = item["question"]
        assert question["geometry"] == {"resize": 110, "crop": [96, 96], "interpolation": "bilinear"}
        assert question["mean"] == [0.485, 0.456, 0.406]
        assert question["std"] == [0.229, 0.224, 0.225]
        assert [method["binarization"] for method in item["methods"]] == ["threshold:0.5"]
    assert not run.unfinished
    assert run.info["toy"] is True


def test_the_published_protocol_is_the_default() -> None:
    assert (Protocol().resize, Protocol().crop) == (256, 224)
    assert Protocol().methods(published_layer=True) == ("gradcam(layer=paper, binarize=threshold:0.5)",)
    assert TOY.crop / TOY.resize == pytest.approx(224 / 256, abs=0.01)


def test_results_are_those_of_the_rows(run: ea.Run) -> None:
    rows = run.scores().with_columns(pl.col("model", "status").cast(pl.String))
    table = results(run)
    assert table["model"].to_list() == table.sort("top1", "model", descending=[True, False])["model"].to_list()
    for item in table.iter_rows(named=True):
        own = rows.filter(model=item["model"])
        assert item["top1"] == pytest.approx(100 * own["correct"].mean())
        assert item["top5"] == pytest.approx(100 * (own["label_rank"] <= 5).mean())
        for metric in METRICS:
            assert item[f"ea_{metric}"] == pytest.approx(own[metric].mean(), abs=1e-6)
        assert item["no_annotation"] == 2  # each thirteenth of 26
        assert item["ok"] + item["flat_map"] == 24
        assert item["reported_accuracy"] is None
    assert set(table["family"]) == {"cnn", "transformer"}
    assert table["layer"].null_count() == 0


def test_the_same_question_changes_nothing_and_builds_nothing(run: ea.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("built")

    monkeypatch.setattr("explanation_alignment.sweeps.doing.load_classifier", refuse)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.is_file()}
    again = run_experiment(None, run.path, toy=True, progress=False)
    after = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.is_file()}
    changed = {path.name for path in before if after.get(path) != before[path]}
    assert changed <= {".lock", "summary.parquet"}
    assert not again.failures


def test_other_settings_in_the_same_folder_are_refused(run: ea.Run) -> None:
    with pytest.raises(RunError, match=r"settings.crop: 96 -> 80.*choose another --out"):
        run_experiment(None, run.path, toy=True, protocol=replace(TOY, crop=80), progress=False)


def test_presentation_shows_every_figure_and_says_toy(run: ea.Run) -> None:
    shown = present(run)
    assert [item.name for item in shown.illustrations] == ["accuracy_iou", "accuracy_pointing_game", "image_model_grid"]
    for item in shown.illustrations:
        assert any("toy" in text.get_text().lower() for text in item.figure.texts)
    assert "2 have none at all" in shown.sentences[0]
    assert "0 have no annotation left after the crop" in shown.sentences[0]
    assert any("With 4 models it cannot be told" in sentence for sentence in shown.sentences)
    assert all("study" not in sentence for sentence in shown.sentences)
    [table] = shown.tables
    assert all(len(row) == len(table.headings) for row in table.rows)
    assert "study" not in json.dumps(table.rows)


@pytest.mark.slow
def test_report_needs_no_torch(run: ea.Run) -> None:
    code = "import sys, explanation_alignment as ea; ea.report(sys.argv[1]); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Similar accuracy, different reasons?" in (run.path / "report.html").read_text()
    assert (run.path / "figures/image_model_grid.png").stat().st_size > 5_000


def test_an_annotation_cropped_away_is_counted_and_left_out_of_alignment(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    [file] = folder.rglob("ILSVRC2012_val_00000001.xml")
    text = file.read_text()
    start, end = text.index("<bndbox>"), text.index("</bndbox>")
    corner = "<xmin>0</xmin><ymin>0</ymin><xmax>6</xmax><ymax>6</ymax>"
    file.write_text(text[: start + 8] + corner + text[end:])
    run = run_experiment(
        folder, tmp_path / "run", models=["timm:test_convnext"], weights="random", protocol=SMALL, progress=False
    )
    [row] = results(run).rows(named=True)
    assert row["annotation_cropped"] == 1
    assert row["n_images"] == 16
    assert row["ea_iou_coverage_n"] == 16 - 1 - row["no_annotation"] - row["flat_map"]
    assert "1 have no annotation left after the crop" in present(run).sentences[0]


def test_published_models_are_explained_at_their_published_layer(images: Path, tmp_path: Path) -> None:
    protocol = Protocol(resize=74, crop=64)
    run = run_experiment(
        images, tmp_path / "run", models=["resnet50"], weights="random", sample=4, protocol=protocol, progress=False
    )
    [item] = run.evaluations.values()
    [method] = item["methods"]
    assert method["method"] == "gradcam(layer=paper)"
    assert method["layer"] == published_models("torchvision")["resnet50"].cam_layer
    assert item["question"]["sample"] == 4
    assert results(run)["reported_accuracy"].null_count() == 1  # random weights are not the study's


def as_real(run: ea.Run) -> ea.Run:
    """The run as if it were of real images under the published crop."""
    run = ea.open_run(run.path)
    run.info["toy"] = False
    run.info["experiment"]["settings"] |= {"resize": 256, "crop": 224}
    return run


def test_reported_values_stand_beside_real_images_only(run: ea.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"test_resnet": reported_values()["resnet50"]}
    monkeypatch.setattr("explanation_alignment.experiments.imagenet.results.reported_values", lambda: known)
    assert reported_beside(results(run), "iou_coverage") is None
    real = as_real(run)
    beside = reported_beside(results(real), "iou_coverage")
    assert beside is not None
    assert beside.rows() == [("test_resnet", 0.8042, 0.422)]
    shown = presented._tabulate(real, results(real))
    [row] = [row for row in shown.rows if row[0] == ["test_resnet"]]
    assert row[1][-1] == "study .804"
    assert row[3][-1] == "study .422"
    assert row[6][-1] == "study .833"
    assert "185 of 50,000" in presented._annotation_sentences(real, results(real))[0]
    real.info["toy"] = True  # whatever the crop
    assert reported_beside(results(real), "iou_coverage") is None
    real.info["toy"] = False
    real.info["experiment"]["settings"]["crop"] = 192
    assert reported_beside(results(real), "iou_coverage") is None


def test_reported_values_are_those_of_the_study() -> None:
    assert len(reported_values()) == 22
    assert reported_values()["convnext_tiny"].iou_coverage == 0.353
    assert reported_values()["regnet_y_128gf"].accuracy == 0.8597


def test_models_are_read_from_names_patterns_and_specs() -> None:
    def specs(*models: str) -> list[str]:
        return [model.spec for model in requested_models(models, "torchvision")]

    assert len(specs("paper:torchvision")) == 22
    assert specs("resnet50, resnet101", "resnet50") == ["paper:torchvision/resnet50", "paper:torchvision/resnet101"]
    assert specs("wide*") == ["paper:torchvision/wide_resnet50_2", "paper:torchvision/wide_resnet101_2"]
    assert specs("timm:resnet18.a1_in1k") == ["timm:resnet18.a1_in1k"]
    with pytest.raises(UnknownNameError, match="'resnet50'"):
        specs("resnet5o")
    with pytest.raises(UnknownNameError, match="'resnet152'"):
        specs("paper:torchvision/resnet153")
    with pytest.raises(UsageError, match="expected names"):
        specs(" , ")


def test_a_missing_folder_ends_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder"):
        run_experiment(tmp_path / "nowhere", tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["resize", "crop"])
def test_numbers_out_of_range(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        Protocol(**{name: 0})


def test_a_stand_in_of_more_classes_needs_outline_and_colour(tmp_path: Path) -> None:
    from explanation_alignment.datasets.imagenet import ImageNet

    toy.write(tmp_path / "twelve", 24, 0, classes=12)
    dataset = ImageNet(tmp_path / "twelve")
    assert len(set(dataset.labels())) == 12
    pixels = {}
    for place in (0, 1, 2, 12, 13, 14):  # neither grey nor CMYK; of three classes
        sample = dataset[place]
        annotation = sample.annotations["object"]
        assert annotation is not None
        rows, columns = annotation.to_mask().nonzero()
        if place % 3 != 1:  # which have a second object
            pixel = np.array(sample.image.getpixel((int(columns.mean()), int(rows.mean()))))
            pixels.setdefault(str(sample.attributes["synset"]), []).append(pixel)
    for same in pixels.values():
        assert all(np.abs(pixel - same[0]).max() < 16 for pixel in same)
    with pytest.raises(UsageError, match="4 to 12 classes, got 13"):
        toy.write(tmp_path / "thirteen", 4, 0, classes=13)
