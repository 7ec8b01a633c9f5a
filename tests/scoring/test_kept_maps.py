"""Maps are kept where that is asked for, and scored anew as they were scored; methods of a run stay together."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

import explanation_alignment as ea
from explanation_alignment.datasets.shuffled import ShuffledAnnotations
from explanation_alignment.errors import DatasetError, RunError, UnknownNameError, UsageError
from explanation_alignment.evaluation import units
from toys import Patches, small_classifier

METHODS = ["vanilla_gradients", "gradcam(layer=3)", "gradcam(layer=3,binarize=std:1)"]
EXPLAINED = ("vanilla_gradients", "gradcam(layer=3)")
DATA: dict[str, Any] = {"bare": [2], "empty": [4], "broken": [7, 15]}


@pytest.fixture(autouse=True)
def _small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "UNIT_SIZE", 8)


def evaluate(out: Path, methods: list[Any] = METHODS, data: Any = None, **options: Any) -> ea.Run:
    settings = {"batch_size": 4, "progress": False, "max_errors": 0.5, **options}
    return ea.evaluate(small_classifier(), data or Patches(23, **DATA), methods, out, **settings)


def parts(run: ea.Run) -> dict[str, bytes]:
    return {str(path.relative_to(run.path)): path.read_bytes() for path in run.path.glob("scores/*/*.parquet")}


def map_files(run: ea.Run) -> dict[str, bytes]:
    return {str(path.relative_to(run.path)): path.read_bytes() for path in run.path.glob("maps/*/*.parquet")}


def maps_of(run: ea.Run, **chosen: Any) -> dict[tuple[str, str], NDArray[np.float32]]:
    return {(one.sample_id, one.method): one.saliency for one in run.maps(**chosen)}


def explained(index: int) -> Mapping[str, NDArray[np.float32]]:
    """The maps of one image with plain PyTorch."""
    network = small_classifier().module
    image = torch.tensor(np.array(Patches(23)[index].image)).permute(2, 0, 1)[None].float() / 255
    image.requires_grad_()
    features = network[:4](image)
    features.retain_grad()
    logits = network[4:](features)
    logits[0, int(logits.argmax())].backward()
    cam = (features[0].detach() * features.grad[0].mean(dim=(1, 2))[:, None, None]).sum(0)
    cam = torch.nn.functional.interpolate(cam[None, None], size=(12, 12), mode="bilinear", align_corners=False)[0, 0]
    return {"vanilla_gradients": image.grad[0].abs().sum(0).numpy(), "gradcam(layer=3)": cam.numpy()}


class TestKeeping:
    def test_every_map_is_there_and_is_what_was_explained(self, tmp_path: Path) -> None:
        run = evaluate(tmp_path, save_maps="float32")
        found = maps_of(run)
        read = [place for place in range(23) if place not in DATA["broken"]]
        assert list(found) == [(f"img/{place:03d}", method) for place in read for method in EXPLAINED]
        for place in read:
            for method, values in explained(place).items():
                np.testing.assert_allclose(found[f"img/{place:03d}", method], values, atol=1e-6)
        one = next(run.maps())
        assert (one.model, one.seed, one.dataset, one.target) == ("small", 0, "patches", "predicted")
        assert one.saliency.dtype == np.float32

    @pytest.mark.parametrize(("kind", "share"), [("float16", 2**-11), ("uint8", 1 / 510)])
    def test_how_near_the_smaller_kinds_come(self, kind: str, share: float, tmp_path: Path) -> None:
        exact = maps_of(evaluate(tmp_path / "exact", save_maps="float32"))
        found = maps_of(evaluate(tmp_path / "kind", save_maps=kind))
        assert found.keys() == exact.keys()
        for key, values in exact.items():
            reach = np.abs(values).max() if kind == "float16" else np.ptp(values)
            assert np.abs(found[key] - values).max() <= reach * share * 1.001

    def test_parts_are_the_same_with_and_without(self, tmp_path: Path) -> None:
        assert parts(evaluate(tmp_path / "with", save_maps="uint8")) == parts(evaluate(tmp_path / "without"))

    def test_some_are_read_without_the_others(self, tmp_path: Path) -> None:
        run = evaluate(tmp_path, save_maps="float16")
        every = maps_of(run)
        wanted = ["img/020", "img/003"]
        found = maps_of(run, model="small", method="vanilla_gradients", sample_ids=wanted)
        assert set(found) == {(name, "vanilla_gradients") for name in wanted}
        assert all(np.array_equal(found[key], every[key]) for key in found)
        for wrong in ({"model": "smal"}, {"method": "vanilla"}, {"dataset": "patch"}):
            with pytest.raises(UnknownNameError, match="of this run"):
                next(run.maps(**wrong))

    def test_a_unit_is_done_only_when_its_maps_are_there(self, tmp_path: Path) -> None:
        before = parts(evaluate(tmp_path))
        with pytest.raises(RunError, match=r"holds no maps of these; .*--save-maps"):
            next(ea.open_run(tmp_path).maps())
        run = evaluate(tmp_path, save_maps="float16")  # asked for later
        whole = map_files(run)
        assert len(whole) == 3
        assert parts(run) == before
        names = sorted(whole)
        (tmp_path / names[0]).unlink()
        (tmp_path / names[1]).write_bytes(whole[names[1]][:-50])
        assert map_files(evaluate(tmp_path)).keys() != whole.keys()  # not asked for
        assert map_files(evaluate(tmp_path, save_maps="float16")) == whole
        other = evaluate(tmp_path, save_maps="uint8")  # of another kind
        assert map_files(other) != whole
        assert parts(other) == before

    def test_nothing_is_computed_where_all_is_there(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        class Counted(Patches):
            read = 0

            def __getitem__(self, index: int) -> ea.Sample:
                Counted.read += 1
                return super().__getitem__(index)

        data = Counted(23, **DATA)
        evaluate(tmp_path, data=data, save_maps="float16", progress=True)
        assert "23 decisions x 2 methods x 12 x 12 in float16 are 13.2 kB" in capsys.readouterr().err
        Counted.read = 0
        evaluate(tmp_path, data=data, save_maps="float16", progress=True)
        assert Counted.read == 0
        assert capsys.readouterr().err == ""

    def test_a_part_lost_brings_its_maps_anew_and_nothing_half_is_left(self, tmp_path: Path) -> None:
        class Breaking(Patches):
            broken = False

            def __getitem__(self, index: int) -> ea.Sample:
                if Breaking.broken and index == 14:
                    raise KeyboardInterrupt
                return super().__getitem__(index)

        Breaking.broken = True
        with pytest.raises(KeyboardInterrupt):
            evaluate(tmp_path, data=Breaking(23, **DATA), save_maps="float16")
        folder = next(tmp_path.glob("maps/*"))
        assert [file.name for file in folder.iterdir()] == ["unit-000000.parquet"]
        Breaking.broken = False
        resumed = evaluate(tmp_path, data=Breaking(23, **DATA), save_maps="float16")
        assert map_files(resumed) == map_files(evaluate(tmp_path.with_name("whole"), save_maps="float16"))

    def test_a_sweep_does_them_where_they_are_missing(self, tmp_path: Path) -> None:
        def swept(**options: Any) -> ea.Run:
            settings: dict[str, Any] = {"device": "cpu", "progress": False, "batch_size": 8, **options}
            return ea.evaluate_models(
                ea.ModelSpec("timm:test_vit", "random", 32), Patches(9), METHODS[:1], tmp_path, **settings
            )

        before = parts(swept())
        run = swept(save_maps="float16")
        assert len(map_files(run)) == 2
        assert parts(run) == before
        with pytest.raises(UnknownNameError, match="kind of saved map 'float8'"):
            swept(save_maps="float8")

    def test_another_tool_reads_them(self, tmp_path: Path) -> None:
        """With polars and NumPy alone, as the docs say."""
        run = evaluate(tmp_path, save_maps="float16")
        row = pl.read_parquet(tmp_path / "maps" / "*" / "*.parquet").row(3, named=True)
        pixels = np.frombuffer(row["pixels"], "<f2").reshape(row["height"], row["width"])
        values = (row["low"] + row["scale"] * pixels.astype(np.float64)).astype(np.float32)
        assert np.array_equal(values, maps_of(run)[row["sample_id"], row["method"]])

    def test_reading_them_takes_no_torch(self, tmp_path: Path) -> None:
        evaluate(tmp_path, save_maps="float16")
        code = (
            "import sys; from explanation_alignment.runs.reader import open_run; "
            f"n = len(list(open_run({str(tmp_path)!r}).maps())); sys.exit(n != 42 or 'torch' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        run = evaluate(tmp_path, save_maps="float32")
        path = sorted(tmp_path.glob("maps/*/*.parquet"))[1]
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 0xFF
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"unit-000001\.parquet: cannot be read"):
            list(run.maps())


WORDS = pl.col("model", "dataset", "target", "method", "binarization", "region", "status").cast(pl.String)
ORDER = ["sample_id", "method", "binarization", "region"]


def rows(run: ea.Run) -> pl.DataFrame:
    return run.scores().with_columns(WORDS).sort(ORDER)


def score(run: ea.Run | Path, out: Path, data: Any = None, **options: Any) -> ea.Run:
    return ea.score(run, data or Patches(23, **DATA), out, progress=False, **options)


class TestScoredAnew:
    def test_exact_maps_give_the_same_rows(self, tmp_path: Path) -> None:
        run = evaluate(tmp_path / "run", save_maps="float32", intervene=True)
        again = score(run, tmp_path / "again")
        assert rows(again).equals(rows(run))
        assert again.scores().schema == run.scores().schema
        assert not again.unfinished
        assert again.models().equals(run.models())
        assert ea.verify(again).ok, ea.verify(again).findings
        assert again.examples().height == run.examples().height

    def test_a_run_that_grew_by_a_method_is_scored_whole(self, tmp_path: Path) -> None:
        evaluate(tmp_path / "run", METHODS[:1], save_maps="float32")
        first = parts(score(tmp_path / "run", tmp_path / "again"))
        run = evaluate(tmp_path / "run", save_maps="float32")
        assert len(run.evaluations) == 2
        again = score(run, tmp_path / "again")
        assert rows(again).equals(rows(run))
        assert parts(again).items() > first.items()
        assert ea.verify(again).ok, ea.verify(again).findings
        # the same map under one binarization is one method, whichever evaluation it is of
        asked = [
            f"{method[:-1]},binarize=otsu)" if "(" in method else f"{method}(binarize=otsu)" for method in EXPLAINED
        ]
        grown = evaluate(tmp_path / "run", [*METHODS, "vanilla_gradients(binarize=area)"], save_maps="float32")
        otsu = score(grown, tmp_path / "otsu", binarization="otsu")
        assert rows(otsu).equals(rows(evaluate(tmp_path / "expected", asked)))
        assert "float32 of " in ea.provenance(otsu).asked["maps"]

    def test_maps_of_another_evaluation_are_not_taken_for_those_scored(self, tmp_path: Path) -> None:
        score(evaluate(tmp_path / "fine", METHODS[:1], save_maps="float32"), tmp_path / "again")
        rough = evaluate(tmp_path / "rough", METHODS[:1], save_maps="uint8")
        with pytest.raises(RunError, match=r"differently .*maps: float32 of .* -> uint8 of"):
            score(rough, tmp_path / "again")

    def test_they_are_not_computed_anew(self, tmp_path: Path) -> None:
        data = Patches(23, **DATA)
        again = score(evaluate(tmp_path / "run", save_maps="uint8"), tmp_path / "again")
        found = ea.verify(again, recompute=3, datasets=[data], classifiers={"small": small_classifier()})
        assert found.recomputed is not None
        (reason,) = found.recomputed.skipped.values()
        assert "maps that another run kept" in reason

    @pytest.mark.parametrize(("kind", "pixels"), [("float16", 1), ("uint8", 6)])
    def test_the_smaller_kinds_move_few_pixels(self, kind: str, pixels: int, tmp_path: Path) -> None:
        run = evaluate(tmp_path / "run", save_maps=kind)
        one, other = rows(run), rows(score(run, tmp_path / "again"))
        same = ["label", "prediction", "confidence", "label_rank", "correct", "status", "message", "annotation_area"]
        assert other.select(*ORDER, *same, "attr_even").equals(one.select(*ORDER, *same, "attr_even"))
        assert (other["salient_area"] - one["salient_area"]).abs().max() <= pixels
        assert (other["iou_coverage"] - one["iou_coverage"]).abs().max() <= pixels / 16

    @pytest.mark.parametrize("rule", ["threshold:0.4", "percentile:90", "otsu", "area"])
    def test_another_binarization_is_as_if_asked_for_at_first(self, rule: str, tmp_path: Path) -> None:
        run = evaluate(tmp_path / "run", save_maps="float32")
        metrics = ["relevance_mass_accuracy", "iou_coverage", "heatmap_similarity"]
        again = score(run.path, tmp_path / "again", binarization=rule, metrics=metrics)
        asked = [f"vanilla_gradients(binarize={rule})", f"gradcam(layer=3,binarize={rule})"]
        expected = evaluate(tmp_path / "expected", asked, metrics=metrics)
        assert rows(again).select(rows(expected).columns).equals(rows(expected))

    def test_it_resumes_and_grows(self, tmp_path: Path) -> None:
        run = evaluate(tmp_path / "run", save_maps="float32")
        first = score(run, tmp_path / "again", binarization="otsu")
        before = parts(first)
        next(first.path.glob("scores/*/unit-000001.parquet")).unlink()
        assert parts(score(run, tmp_path / "again", binarization="otsu")) == before
        grown = score(run, tmp_path / "again", binarization="area", method="vanilla_gradients")
        assert parts(grown).items() > before.items()
        assert set(grown.summary()["binarization"]) == {"otsu", "area"}
        with pytest.raises(RunError, match=r"differently \(maps: float32 of .* -> null"):
            evaluate(tmp_path / "again", ["gradcam(layer=3,binarize=otsu)"])

    def test_of_several_models_all_or_one(self, tmp_path: Path) -> None:
        evaluate(tmp_path / "run", save_maps="float32")
        run = ea.evaluate(
            small_classifier(1, name="second"),
            Patches(23, **DATA),
            METHODS[:1],
            tmp_path / "run",
            save_maps="float32",
            batch_size=4,
            max_errors=0.5,
        )
        assert rows(score(run, tmp_path / "both")).equals(rows(run))
        alone = score(run, tmp_path / "one", model="second")
        assert rows(alone).equals(rows(run).filter(pl.col("model") == "second"))

    def test_datasets_made_of_the_one_given(self, tmp_path: Path) -> None:
        data = Patches(23, **DATA)
        run = evaluate(tmp_path / "shuffled", data=ShuffledAnnotations(Patches(12)), save_maps="float32")
        assert rows(score(run, tmp_path / "1", Patches(12))).equals(rows(run))
        run = evaluate(tmp_path / "positives", data=Patches(23, bare=[2]), target="positives", save_maps="float32")
        assert rows(score(run, tmp_path / "2", Patches(23, bare=[2]))).equals(rows(run))
        run = evaluate(tmp_path / "sample", data=Patches(23), sample=11, save_maps="float32")
        assert rows(score(run, tmp_path / "3", Patches(23))).equals(rows(run))
        assert data.name == "patches"

    def test_what_is_missing_or_does_not_fit_is_said(self, tmp_path: Path) -> None:
        run = evaluate(tmp_path / "run", METHODS[:1], save_maps="float32")
        wrong: list[tuple[type[Exception], str, dict[str, Any]]] = [
            (DatasetError, "not as it was when", {"data": Patches(22)}),
            (UsageError, "predictions, seed: come from the run", {"predictions": {}, "seed": 3}),
            (UnknownNameError, "model of this run 'smal'; did you mean 'small'", {"model": "smal"}),
            (UnknownNameError, "method of this run", {"method": "gradcam"}),
            (UnknownNameError, "binarization", {"binarization": "otsi"}),
            (UnknownNameError, "metric", {"metrics": ["iuo"]}),
            (UsageError, "is the run the maps are from", {"out": tmp_path / "run"}),
        ]
        for kind, words, options in wrong:
            with pytest.raises(kind, match=words):
                score(run, **{"out": tmp_path / "out", **options})
        assert not (tmp_path / "out").exists()
        next(tmp_path.glob("run/maps/*/unit-000001.parquet")).unlink()
        with pytest.raises(RunError, match="maps of 1 of 3 units of small on patches are not there"):
            score(run, tmp_path / "out")

    def test_maps_of_other_samples_are_found_out(self, tmp_path: Path) -> None:
        run = evaluate(tmp_path / "run", METHODS[:1], save_maps="float32")
        other = evaluate(tmp_path / "other", METHODS[:1], data=Patches(23, bare=[1]), save_maps="float32")
        assert other.evaluations.keys() != run.evaluations.keys()
        [here], [there] = (sorted(one.path.glob("maps/*")) for one in (run, other))
        shutil.copy(there / "unit-000001.parquet", here / "unit-000001.parquet")
        with pytest.raises(RunError, match="maps of 1 of 3 units"):
            score(run, tmp_path / "out")


def test_methods_that_share_a_binarization_write_the_same_bytes_each_time(tmp_path: Path) -> None:
    methods = ["vanilla_gradients", "input_x_gradient", "gradcam(layer=3,binarize=std:1)", "gradcam(layer=3)"]
    written = [parts(evaluate(tmp_path / str(turn), methods)) for turn in range(4)]
    assert all(one == written[0] for one in written)


def test_fewer_methods_than_a_run_has_take_nothing_away(tmp_path: Path) -> None:
    run = evaluate(tmp_path)
    before = parts(run)
    assert parts(evaluate(tmp_path, METHODS[:1])) == before
    next(tmp_path.glob("scores/*/unit-000001.parquet")).unlink()
    assert parts(evaluate(tmp_path, METHODS[1:])) == before  # a unit has the rows of all


def test_but_one_of_somebodys_own_has_to_be_asked_for_too(tmp_path: Path) -> None:
    def brightness(classifier: ea.Classifier, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=1)

    before = parts(evaluate(tmp_path, ["vanilla_gradients", brightness]))
    with pytest.raises(RunError, match="was evaluated by brightness together with what is asked for"):
        evaluate(tmp_path, ["vanilla_gradients"])
    assert parts(ea.open_run(tmp_path)) == before


def test_run_json_says_that_maps_are_kept_and_the_identity_does_not(tmp_path: Path) -> None:
    [kept] = evaluate(tmp_path / "with", save_maps="uint8").evaluations.values()
    [plain] = evaluate(tmp_path / "without").evaluations.values()
    assert kept["details"]["saved_maps"] == "uint8"
    assert kept["identity"] == plain["identity"]
    assert json.dumps(kept["question"]) == json.dumps(plain["question"])
