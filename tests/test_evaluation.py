from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from torch import nn
from torch.nn import functional as F

import explanation_alignment as ea
from explanation_alignment.classifiers.digit_network import DIGIT_PREPROCESSING, DigitNetwork
from explanation_alignment.datasets.colored_mnist import ColoredMNIST, InkImages
from explanation_alignment.errors import ModelError, RunError, RunWarning, UsageError
from explanation_alignment.evaluation.units import UNIT_SIZE
from explanation_alignment.experiments.mnist.running import PaintedTraining
from explanation_alignment.experiments.training import Recipe, StepDecay, Training, fit
from explanation_alignment.runs.schema import KEY_COLUMNS
from toys import Patches, small_classifier, small_network

METRICS = ["iou_coverage", "ground_truth_coverage", "saliency_coverage", "pointing_game"]


def evaluate(out: Path, dataset: object = None, classifier: ea.Classifier | None = None, **options: object) -> ea.Run:
    return ea.evaluate(
        classifier or small_classifier(),
        dataset or Patches(),  # type: ignore[arg-type]
        out=out,
        **{"batch_size": 8, **options},  # type: ignore[arg-type]
    )


def scores_by_hand(dataset: Patches, network: nn.Module, index: int) -> dict[tuple[str, str], dict[str, float]]:
    """One decision scored with plain loops and NumPy, apart from everything in the package but the dataset."""
    sample = dataset[index]
    image = torch.tensor(np.array(sample.image)).permute(2, 0, 1)[None].float() / 255
    image.requires_grad_()
    features = network[:4](image)
    features.retain_grad()
    logits = network[4:](features)
    predicted = int(logits.argmax())
    logits[0, predicted].backward()
    saliency = {"vanilla_gradients": image.grad[0].abs().sum(0).double().numpy()}
    weights = features.grad[0].mean(dim=(1, 2))
    cam = (features[0].detach() * weights[:, None, None]).sum(0)
    cam = F.interpolate(cam[None, None], size=(12, 12), mode="bilinear", align_corners=False)[0, 0]
    saliency["gradcam"] = cam.double().numpy()
    rows = {}
    for method, values in saliency.items():
        cut = values.mean() + values.std() if method == "vanilla_gradients" else (values.min() + values.max()) / 2
        salient = {(r, c) for r in range(12) for c in range(12) if values[r, c] >= cut}
        first = min(range(144), key=lambda place: (-values[place // 12, place % 12], place))
        for region in dataset.regions:
            mask = sample.annotations[region].to_mask()
            marked = {(r, c) for r in range(12) for c in range(12) if mask[r, c]}
            rows[method, region] = {
                "prediction": predicted,
                "iou_coverage": len(salient & marked) / len(salient | marked),
                "ground_truth_coverage": len(salient & marked) / len(marked),
                "saliency_coverage": len(salient & marked) / len(salient),
                "pointing_game": float((first // 12, first % 12) in marked),
                "annotation_area": len(marked),
                "salient_area": len(salient),
            }
    return rows


def test_every_row_equals_a_recomputation_by_hand(tmp_path: Path) -> None:
    dataset, classifier = Patches(), small_classifier()
    # the last Tanh, so that the layer is the one the recomputation takes
    run = evaluate(tmp_path, dataset, classifier, methods=["vanilla_gradients", "gradcam(layer=3)"])
    rows = run.scores().with_columns(pl.col("method", "region").cast(pl.String))
    assert rows.height == 23 * 2 * 2
    for index, name in enumerate(dataset.ids()):
        for (method, region), expected in scores_by_hand(dataset, classifier.module, index).items():
            row = rows.filter(
                pl.col("sample_id") == name, pl.col("method").str.starts_with(method), pl.col("region") == region
            ).row(0, named=True)
            for column, value in expected.items():
                assert row[column] == pytest.approx(value, abs=1e-6), (name, method, region, column)
            assert row["label"] == index % 4
            assert row["correct"] == (row["prediction"] == row["label"])
            assert row["attr_even"] == (index % 2 == 0)
            assert (row["map_height"], row["map_width"]) == (12, 12)
            assert 1 <= row["label_rank"] <= 4
            assert (row["label_rank"] == 1) == row["correct"]


def test_keys_are_unique_and_rows_of_a_sample_stand_together(tmp_path: Path) -> None:
    rows = evaluate(tmp_path).scores()
    assert rows.select(KEY_COLUMNS).is_duplicated().sum() == 0
    assert rows["sample_id"].to_list() == [name for name in Patches().ids() for _ in range(4)]


def test_summary_is_the_mean_of_the_rows(tmp_path: Path) -> None:
    run = evaluate(tmp_path, Patches(bare=[3, 4]))
    rows = run.scores().with_columns(pl.col("method", "region").cast(pl.String))
    summary = run.summary()
    assert summary.height == 2 * 2 * len(METRICS)
    for item in summary.iter_rows(named=True):
        values = [
            row[item["metric"]]
            for row in rows.iter_rows(named=True)
            if row["method"] == item["method"] and row["region"] == item["region"]
        ]
        defined = [value for value in values if value is not None]
        assert item["ea"] == pytest.approx(sum(defined) / len(defined), abs=1e-6)
        assert (item["n"], item["n_undefined"]) == (len(defined), len(values) - len(defined))
        assert item["ci_low"] <= item["ea"] <= item["ci_high"]
    correct = rows.unique("sample_id")["correct"]
    assert set(summary["accuracy"]) == {correct.sum() / len(correct)}
    assert_frame_equal(pl.read_parquet(tmp_path / "summary.parquet").drop("slug"), summary)


def test_other_tools_read_the_same_rows(tmp_path: Path) -> None:
    run = evaluate(tmp_path)
    rows = f"FROM '{tmp_path}/scores/*/*.parquet'"
    with_duckdb = duckdb.sql(f"SELECT method, region, avg(iou_coverage), count(*) {rows} GROUP BY ALL").fetchall()
    means = {(row["method"], row["region"]): row for row in run.summary().filter(metric="iou_coverage").to_dicts()}
    assert len(with_duckdb) == len(means) == 4
    for method, region, ea_value, n in with_duckdb:
        assert ea_value == pytest.approx(means[method, region]["ea"], abs=1e-6)
        assert n == 23


def part_bytes(run: ea.Run) -> dict[str, bytes]:
    return {str(p.relative_to(run.path)): p.read_bytes() for p in sorted(run.path.glob("scores/*/*.parquet"))}


def test_same_question_gives_identical_files(tmp_path: Path) -> None:
    first, second = evaluate(tmp_path / "a"), evaluate(tmp_path / "b")
    assert part_bytes(first) == part_bytes(second)
    assert (tmp_path / "a/summary.parquet").exists() is False
    first.summary(), second.summary()
    assert (tmp_path / "a/summary.parquet").read_bytes() == (tmp_path / "b/summary.parquet").read_bytes()


def digit_classifier() -> ea.Classifier:
    """A digit network that has learned something: an untrained one has ties on the white paper."""
    images = InkImages.from_digits("train")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DigitNetwork()
        recipe = Recipe(3, 32, "sgd", 0.03, momentum=0.9, schedule=StepDecay(0.9))
        training = Training(network, recipe, torch.Generator().manual_seed(0))
        fit(training, PaintedTraining(images, "uncorrelated"), title="", progress=False)
    return ea.Classifier(network, DIGIT_PREPROCESSING, images.class_names, name="digits", device="cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Which kernels run, and so how they round, depends on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_batch_sizes_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At most one row in 2,000 may differ, by rounding in the network; those that do are listed."""
    dataset = ColoredMNIST(coloring="uncorrelated-1")
    classifier = digit_classifier()
    tables = {
        size: evaluate(tmp_path / str(size), dataset, classifier, batch_size=size, output="log_prob").scores()
        for size in (1, 7, 512)
    }
    columns = ["prediction", "status", "annotation_area", "salient_area", *METRICS]
    for size in (1, 7):
        differs = pl.any_horizontal(tables[size][name].ne_missing(tables[512][name]) for name in columns)
        listed = tables[size].filter(pl.select(differs).to_series())
        with capsys.disabled():
            print(f"\nbatch {size} against 512: {listed.height} of {tables[512].height} rows differ")
            if listed.height:
                print(listed.select("sample_id", "method", "region", *columns))
        assert listed.height <= tables[512].height / 2000
        assert_frame_equal(tables[size].select("confidence"), tables[512].select("confidence"), abs_tol=1e-5)


def test_whole_batch_reading_changes_nothing(tmp_path: Path) -> None:
    dataset = ColoredMNIST(coloring="correlated")

    class OneByOne(Patches):
        name, class_names, regions = dataset.name, dataset.class_names, dataset.regions
        evidence, fingerprint = dataset.evidence, dataset.fingerprint

        def __init__(self) -> None:
            pass

        __len__ = lambda self: 60  # noqa: E731
        ids = lambda self: dataset.ids()[:60]  # noqa: E731
        attributes = lambda self: {"block_color": dataset.attributes()["block_color"][:60]}  # noqa: E731
        __getitem__ = lambda self, index: dataset[index]  # noqa: E731

    class Whole(OneByOne):
        read_batch = lambda self, indices: dataset.read_batch(indices)  # noqa: E731

    classifier = ea.load_classifier("paper:mnist", "random", device="cpu")
    slow = evaluate(tmp_path / "slow", OneByOne(), classifier, workers=1)
    quick = evaluate(tmp_path / "quick", Whole(), classifier)
    assert part_bytes(slow) == part_bytes(quick)


def test_statuses(tmp_path: Path) -> None:
    """Every row is there; a score is a number or null with a reason."""
    dataset = Patches(broken=[2], bare=[5], empty=[7])
    rows = evaluate(tmp_path, dataset).scores().with_columns(pl.col("status", "region").cast(pl.String))
    assert rows.height == 23 * 4
    by_sample = {name: part for (name,), part in rows.group_by("sample_id")}
    broken = by_sample["img/002"]
    assert set(broken["status"]) == {"error"}
    assert broken["message"].str.contains("broken image").all()
    assert (
        broken.select("prediction", "correct", "confidence", "label", "salient_area", *METRICS).null_count().row(0)
        == (4,) * 9
    )
    for name, status, area in (("img/005", "no_annotation", None), ("img/007", "annotation_cropped", 0)):
        patch = by_sample[name].filter(region="patch")
        assert set(patch["status"]) == {status}
        assert set(patch["annotation_area"]) == {area}
        assert patch.select(METRICS).null_count().row(0) == (2,) * 4
        assert patch["prediction"].null_count() == 0
        assert set(by_sample[name].filter(region="corner")["status"]) == {"ok"}
    rest = rows.filter(~pl.col("sample_id").is_in(["img/002", "img/005", "img/007"]))
    assert set(rest["status"]) == {"ok"}
    assert rest.select(METRICS).null_count().row(0) == (0,) * 4
    assert ea.open_run(tmp_path).info["evaluations"].popitem()[1]["status_counts"] == {
        "ok": 84,
        "error": 4,
        "no_annotation": 2,
        "annotation_cropped": 2,
    }


def test_flat_maps_are_no_scores(tmp_path: Path) -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.conv(images).mean(dim=(2, 3)) * torch.tensor([1.0, 0.5, 0.25, 0.125])

    # the gradient of a mean over pixels is the same everywhere
    classifier = ea.Classifier(Flat(), ea.Preprocessing((3, 12, 12)), name="flat", device="cpu")
    rows = evaluate(tmp_path, classifier=classifier, methods=["vanilla_gradients"]).scores()
    assert set(rows["status"].cast(pl.String)) == {"flat_map"}
    assert rows.select("salient_area", *METRICS).null_count().row(0) == (rows.height,) * 5
    summary = ea.open_run(tmp_path).summary()
    assert summary["ea"].null_count() == summary.height
    assert set(summary["n_undefined"]) == {23}


def test_too_many_errors_stop_the_run_and_keep_what_is_done(tmp_path: Path) -> None:
    dataset = Patches(broken=[0, 1, 2])
    with pytest.raises(RunError, match=r"3 samples of patches could not be read.*broken image"):
        evaluate(tmp_path, dataset)
    assert ea.open_run(tmp_path).scores().height == 92
    assert evaluate(tmp_path / "allowed", dataset, max_errors=3).scores().height == 92
    with pytest.raises(RunError, match="limit 2"):
        evaluate(tmp_path / "refused", dataset, max_errors=2)


def test_run_grows_with_models_datasets_and_methods(tmp_path: Path) -> None:
    evaluate(tmp_path, methods=["vanilla_gradients"])
    before = part_bytes(ea.open_run(tmp_path))
    evaluate(tmp_path, classifier=small_classifier(1, name="other"), methods=["vanilla_gradients"])
    run = evaluate(tmp_path, methods=["vanilla_gradients", "gradcam"])
    assert run.scores().select("model", "method").unique().height == 3
    assert len(run.evaluations) == 3
    after = part_bytes(run)
    assert all(after[name] == content for name, content in before.items())
    assert run.models()["model"].to_list() == ["other", "small"]
    together = evaluate(tmp_path / "together", methods=["vanilla_gradients", "gradcam"])
    small = run.scores().filter(pl.col("model").cast(pl.String) == "small").sort("sample_id", "method", "region")
    assert_frame_equal(small, together.scores().sort("sample_id", "method", "region"), categorical_as_str=True)


def test_another_question_under_the_same_key_is_refused(tmp_path: Path) -> None:
    evaluate(tmp_path)
    before = part_bytes(ea.open_run(tmp_path))
    with pytest.raises(RunError, match=r"asked differently \(output: logit -> log_prob\); choose another --out, or"):
        evaluate(tmp_path, output="log_prob")
    with pytest.raises(RunError, match=r"weights: .*choose another --out or another --name, or ask the same"):
        evaluate(tmp_path, classifier=small_classifier(1))
    with pytest.raises(RunError, match="dataset_fingerprint: "):
        evaluate(tmp_path, Patches(bare=[1]))
    assert part_bytes(ea.open_run(tmp_path)) == before


def test_a_name_stands_for_one_dataset_and_one_set_of_weights_in_a_run(tmp_path: Path) -> None:
    run = evaluate(tmp_path, sample=8)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    few = ea.Subset(Patches(), Patches().ids()[:8])
    with pytest.raises(RunError, match=r"holds other data under the name patches \(dataset_fingerprint: .*which small"):
        evaluate(tmp_path, few, small_classifier(1, name="other"))
    with pytest.raises(RunError, match=r"holds other weights under the name small \(seed 0; weights: .*--name"):
        evaluate(tmp_path, classifier=small_classifier(1), target="label", sample=8)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    evaluate(tmp_path, classifier=small_classifier(1), sample=8, seed=1)  # its row is another
    assert ea.verify(run.path).findings == ()


def test_what_was_begun_and_given_up_keeps_no_name(tmp_path: Path) -> None:
    class Failing(Patches):
        def __getitem__(self, index: int) -> ea.Sample:
            if index:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    data = Failing()
    data.fingerprint = "failing"
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path, data)
    assert len(ea.open_run(tmp_path).evaluations) == 1
    run = evaluate(tmp_path, classifier=small_classifier(1, name="other"))
    assert [item["question"]["model"] for item in run.evaluations.values()] == ["other"]


@pytest.fixture
def several_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explanation_alignment.evaluation.units.UNIT_SIZE", 8)


@pytest.mark.usefixtures("several_units")
def test_missing_and_damaged_parts_are_made_again(tmp_path: Path) -> None:
    whole = part_bytes(evaluate(tmp_path))
    assert len(whole) == 3
    first, second, third = sorted(whole)
    (tmp_path / first).unlink()
    (tmp_path / second).write_bytes(whole[second][:-200])
    stamp = (tmp_path / third).stat().st_mtime_ns
    with pytest.warns(RunWarning, match=rf"{Path(second).name}: .* bytes, .* were written; it is computed anew"):
        assert part_bytes(evaluate(tmp_path)) == whole
    assert (tmp_path / third).stat().st_mtime_ns == stamp


@pytest.mark.usefixtures("several_units")
def test_shards_make_the_whole(tmp_path: Path) -> None:
    whole = part_bytes(evaluate(tmp_path / "whole"))
    half = evaluate(tmp_path / "shards", shard="2/2")
    assert half.unfinished
    assert half.scores().height == 8 * 4
    both = evaluate(tmp_path / "shards", shard="1/2")
    assert not both.unfinished
    assert part_bytes(both) == whole


def test_a_killed_run_resumes_to_the_same_files(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys, time
        import explanation_alignment as ea, explanation_alignment.evaluation.units as units
        from toys import Patches, small_classifier
        units.UNIT_SIZE = 8
        class Slow(Patches):
            def __getitem__(self, index):
                time.sleep(float(sys.argv[2]))
                return super().__getitem__(index)
        ea.evaluate(small_classifier(), Slow(40), out=sys.argv[1], batch_size=4)
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}

    def start(out: str, pause: float) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", script, str(tmp_path / out), str(pause)], env=environment)

    assert start("whole", 0).wait() == 0
    killed = start("killed", 0.03)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("killed/scores/*/unit-*.parquet")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    partial = ea.open_run(tmp_path / "killed")
    assert partial.unfinished
    assert 0 < partial.scores().height < 160
    assert start("killed", 0).wait() == 0
    resumed = ea.open_run(tmp_path / "killed")
    assert not resumed.unfinished
    assert part_bytes(resumed) == part_bytes(ea.open_run(tmp_path / "whole"))


def test_sample_is_balanced_seeded_and_independent_of_order(tmp_path: Path) -> None:
    dataset = Patches(40)
    rows = evaluate(tmp_path / "a", dataset, sample=12).scores().unique("sample_id")
    assert rows["label"].value_counts()["count"].to_list() == [3, 3, 3, 3]
    again = evaluate(tmp_path / "b", dataset, sample=12).scores().unique("sample_id")
    assert set(again["sample_id"]) == set(rows["sample_id"])
    other = evaluate(tmp_path / "c", dataset, sample=12, seed=1).scores().unique("sample_id")
    assert set(other["sample_id"]) != set(rows["sample_id"])
    larger = evaluate(tmp_path / "d", dataset, sample=20).scores().unique("sample_id")
    assert set(rows["sample_id"]) < set(larger["sample_id"])


def test_labels_that_only_reading_tells_are_read_once(tmp_path: Path) -> None:
    class Counted(Patches):
        read = 0

        def __getitem__(self, index: int) -> ea.Sample:
            Counted.read += 1
            return super().__getitem__(index)

    evaluate(tmp_path / "plain", Counted(), methods=["vanilla_gradients"], intervene=True)
    once = Counted.read
    Counted.read = 0
    evaluate(tmp_path / "sampled", Counted(), methods=["vanilla_gradients"], intervene=True, sample=23)
    assert Counted.read == once  # nor is a sample balanced, or its classes counted, by reading them again


def test_examples_show_what_was_scored(tmp_path: Path) -> None:
    import io

    from PIL import Image

    run = evaluate(tmp_path)
    examples = run.examples()
    assert examples["sample_id"].n_unique() == 23
    for row in examples.iter_rows(named=True):
        salient = np.array(Image.open(io.BytesIO(row["salient"])))
        annotation = np.array(Image.open(io.BytesIO(row["annotation"])))
        assert salient.sum() == row["salient_area"]
        assert annotation.sum() == row["annotation_area"]
        assert (salient & annotation).sum() / (salient | annotation).sum() == pytest.approx(row["iou_coverage"])
        image = np.array(Image.open(io.BytesIO(row["image"])))
        assert np.array_equal(image, np.array(Patches()[int(row["sample_id"][-3:])].image))


@pytest.mark.parametrize("methods", [["vanilla_gradients", "gradcam"], ["vanilla_gradients(binarize=area)"]])
def test_examples_are_the_same_whether_their_maps_were_kept_or_explained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, methods: list[str]
) -> None:
    kept = evaluate(tmp_path / "kept", Patches(bare=[3]), methods=methods)
    monkeypatch.setattr("explanation_alignment.evaluation.pictures._LIMIT", 0)
    again = evaluate(tmp_path / "again", Patches(bare=[3]), methods=methods)
    assert kept.examples().equals(again.examples())


def test_kept_maps_save_the_second_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    classifier = small_classifier()
    classifier.module.register_forward_hook(lambda *_: seen.append(1))
    evaluate(tmp_path / "kept", classifier=classifier)
    kept = len(seen)
    monkeypatch.setattr("explanation_alignment.evaluation.pictures._LIMIT", 0)
    evaluate(tmp_path / "again", classifier=classifier)
    assert len(seen) - kept > kept


def test_an_interrupted_evaluation_keeps_the_same_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explanation_alignment.evaluation.units.UNIT_SIZE", 8)
    whole = evaluate(tmp_path / "whole", Patches(23))
    evaluate(tmp_path / "parts", Patches(23), shard="1/2")
    parts = evaluate(tmp_path / "parts", Patches(23))
    assert whole.examples().equals(parts.examples())


def test_low_precision_changes_the_question_and_hardly_the_numbers(tmp_path: Path) -> None:
    plain = evaluate(tmp_path / "plain", Patches(23))
    network = small_classifier()
    low = ea.Classifier(network.module, network.preprocessing, name="small", device="cpu", precision="bf16")
    run = evaluate(
        tmp_path / "low", Patches(23), classifier=low, methods=["vanilla_gradients", "gradcam++", "deeplift"]
    )
    assert next(iter(run.evaluations.values()))["question"]["precision"] == "bf16"
    assert "precision" not in next(iter(plain.evaluations.values()))["question"]
    rows = run.scores().filter(pl.col("status").cast(pl.String) == "ok")
    assert np.isfinite(rows["iou_coverage"].to_numpy()).all()
    ours, theirs = (
        one.summary().filter(pl.col("method") == "vanilla_gradients", pl.col("metric") == "iou_coverage")["ea"]
        for one in (plain, run)
    )
    assert np.abs((ours - theirs).to_numpy()).max() < 0.02
    with pytest.raises(ea.ExplanationAlignmentError, match="fp32 or bf16"):
        small_network_of_precision("fp8")
    with pytest.raises(ea.ExplanationAlignmentError, match="asked differently"):
        evaluate(tmp_path / "plain", Patches(23), classifier=low)


def small_network_of_precision(precision: str) -> ea.Classifier:
    network = small_classifier()
    return ea.Classifier(network.module, network.preprocessing, device="cpu", precision=precision)


class TwoHeads(nn.Module):
    """Two networks that do not agree, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList([small_network(0), small_network(1)])

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(head(images) for head in self.heads)


def two_heads(**options: object) -> ea.Classifier:
    preprocessing = small_classifier().preprocessing
    return ea.Classifier(TwoHeads(), preprocessing, name="heads", device="cpu", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({"outputs": 0}, {"outputs": 1}, "outputs: 0 -> 1"),
        ({}, {"outputs": 1}, "outputs: null -> 1"),
        ({"outputs": 0}, {"outputs": 0, "multi_label": True}, "multi_label: null -> true"),
    ],
)
def test_which_output_and_what_it_means_are_part_of_the_question(
    first: dict[str, object], second: dict[str, object], words: str, tmp_path: Path
) -> None:
    run = evaluate(tmp_path, classifier=two_heads(**first), methods=["vanilla_gradients"])
    before = part_bytes(run)
    with pytest.raises(RunError, match=f"asked differently .*{words}"):
        evaluate(tmp_path, classifier=two_heads(**second), methods=["vanilla_gradients"])
    assert part_bytes(run) == before
    plain = evaluate(tmp_path / "plain", methods=["vanilla_gradients"])
    assert not {"outputs", "multi_label"} & next(iter(plain.evaluations.values()))["question"].keys()


def test_an_evaluation_whose_every_image_is_broken_ends_without_examples(tmp_path: Path) -> None:
    run = evaluate(tmp_path, Patches(3, broken=[0, 1, 2]), max_errors=3)
    assert not run.unfinished
    assert run.examples().is_empty()
    assert run.scores()["status"].cast(pl.String).unique().to_list() == ["error"]


def test_examples_are_shared_out_among_evaluations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explanation_alignment.runs.examples.MAX_EXAMPLES", 12)
    for number in range(3):
        run = evaluate(tmp_path, classifier=small_classifier(number, name=f"model{number}"))
    counts = run.examples().group_by("model").agg(pl.col("sample_id").n_unique())
    assert counts["sample_id"].to_list() == [4, 4, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"methods": []}, "at least one"),
        ({"methods": "gradcam"}, "expected a list"),
        ({"methods": ["gradcam", "gradcam()"]}, "2 times"),
        ({"methods": ["grad-cam"]}, "did you mean 'gradcam'"),
        ({"metrics": ["iou"]}, "unknown"),
        ({"metrics": []}, "metrics"),
        ({"target": "best"}, "target"),
        ({"target": "9"}, "classes 0..3"),
        ({"output": "probability"}, "output"),
        ({"sample": 24}, "1 to 23"),
        ({"shard": "3/2"}, "I/N"),
    ],
)
def test_arguments_that_mean_nothing(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate(tmp_path / "run", **options)


def test_outputs_that_are_no_numbers_are_no_decisions(tmp_path: Path) -> None:
    class Overflowing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_network()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.inner(images)
            broken = (torch.arange(len(images)) % 2 == 1)[:, None] & (torch.arange(4) == 2)
            return logits.masked_fill(broken, torch.nan)

    classifier = ea.Classifier(Overflowing(), small_classifier().preprocessing, name="overflowing", device="cpu")
    run = evaluate(tmp_path, classifier=classifier, methods=["vanilla_gradients"], batch_size=32, max_errors=11)
    rows = run.scores().with_columns(pl.col("status").cast(pl.String))
    undecided = rows.filter(pl.col("status") == "error")
    assert undecided["sample_id"].unique().sort().to_list() == [f"img/{at:03d}" for at in range(1, 23, 2)]
    assert undecided["message"].unique().to_list() == ["its outputs make no finite probabilities (NaN or infinite)"]
    assert undecided.select("prediction", "confidence", "label_rank", "correct", "iou_coverage").null_count().row(
        0
    ) == ((undecided.height,) * 5)
    assert not rows.filter(pl.col("status") != "error")["confidence"].is_nan().any()
    assert ea.verify(run).ok
    with pytest.raises(RunError, match=r"11 samples .*first: img/001: its outputs make no finite"):
        evaluate(tmp_path / "strict", classifier=classifier, methods=["vanilla_gradients"], batch_size=32)


def test_a_classifier_that_decides_on_nothing_is_at_fault_itself(tmp_path: Path) -> None:
    network = small_network()
    with torch.no_grad():
        network[-1].bias[2] = torch.nan
    classifier = ea.Classifier(network, small_classifier().preprocessing, name="broken", device="cpu")
    with pytest.raises(ModelError, match=r"broken: its outputs make no finite .* for each of 22 images, first img/000"):
        evaluate(tmp_path, Patches(broken=[3]), classifier, methods=["vanilla_gradients"])
    assert not list(tmp_path.glob("scores/*/*.parquet"))


def test_an_image_that_cannot_be_read_needs_no_finite_output(tmp_path: Path) -> None:
    class OfDark(nn.Module):
        """Black, which stands for what cannot be read, divided by its own brightness."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = small_network()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.inner(images / images.mean(dim=(1, 2, 3), keepdim=True))
            return logits

    classifier = ea.Classifier(OfDark(), small_classifier().preprocessing, name="dark", device="cpu")
    run = evaluate(tmp_path, Patches(broken=[3]), classifier, methods=["vanilla_gradients"], max_errors=2)
    rows = run.scores().filter(pl.col("status").cast(pl.String) == "error")
    assert rows["sample_id"].unique().to_list() == ["img/003"]


def test_labels_beyond_the_outputs(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"label 3, small has outputs 0\.\.2"):
        evaluate(tmp_path, classifier=small_classifier(classes=3))


class LabelsTold(Patches):
    """Patches whose labels can be had without reading them."""

    def labels(self) -> list[int | None]:
        return [self[place].label for place in range(len(self))]


@pytest.mark.parametrize("methods", [["vanilla_gradients"], ["gradcam"]])
def test_a_classifier_that_does_not_fit_leaves_no_folder(tmp_path: Path, methods: list[str]) -> None:
    few = small_classifier(classes=3)
    with pytest.raises(ModelError, match=r"label 3, small has outputs 0\.\.2: it was trained on other classes"):
        evaluate(tmp_path / "run", LabelsTold(), few, methods=methods)
    with pytest.raises(UsageError, match=r"target 3: small has classes 0\.\.2"):
        evaluate(tmp_path / "run", Patches(), few, methods=methods, target="3")
    few.class_names = ("a", "b")
    with pytest.raises(ModelError, match="small has 3 outputs, its class_names are 2"):
        evaluate(tmp_path / "run", Patches(), few, methods=methods)
    assert not (tmp_path / "run").exists()


CORNERS = ("upper left", "upper right", "lower left", "lower right")


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (CORNERS, False),
        (tuple(name.upper() for name in CORNERS), False),
        (("a", "b", "c", "d"), False),
        (("lower left", "b", "c", "d"), False),  # another list: a word may mean another thing there
        (("upper right", "upper left", "lower left", "lower right"), True),
        (("Upper Right", "upper left", "lower left", "lower right"), True),
    ],
)
def test_classes_that_both_name_have_one_order(tmp_path: Path, names: tuple[str, ...], refused: bool) -> None:
    classifier = small_classifier()
    classifier.class_names = names
    if not refused:
        evaluate(tmp_path / "run", classifier=classifier, methods=["vanilla_gradients"])
        return
    with pytest.raises(
        ModelError, match=r"number their classes otherwise: 0 is '[uU]pper [rR]ight' among the outputs and"
    ):
        evaluate(tmp_path / "run", classifier=classifier, methods=["vanilla_gradients"])
    assert not (tmp_path / "run").exists()


def test_images_that_do_not_get_the_size_of_the_input_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    other = replace(small_classifier().preprocessing, input_size=(3, 16, 16))
    with pytest.raises(UsageError, match=r"img/000: the geometry gives 12 x 12, the classifier takes 16 x 16; give"):
        evaluate(tmp_path / "run", classifier=ea.Classifier(AnySize(), other, name="any", device="cpu"))
    assert not (tmp_path / "run").exists()
    fitting = replace(other, geometry=ea.Geometry(resize=(16, 16)))
    run = evaluate(tmp_path / "run", classifier=ea.Classifier(AnySize(), fitting, name="any", device="cpu"))
    assert set(run.scores()["status"].cast(pl.String)) == {"ok"}


class AnySize(nn.Module):
    """A network for images of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.conv(images)).mean(dim=(2, 3))


def test_a_network_on_its_own_is_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"got Sequential, expected ea\.Classifier; wrap a module: ea\.Classifier"):
        ea.evaluate(small_network(), Patches(), out=tmp_path / "run")  # type: ignore[arg-type]


def test_outputs_that_are_no_class_of_the_dataset_are_told_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = small_classifier(classes=9)
    many.class_names = None
    evaluate(tmp_path / "run", LabelsTold(), many, methods=["vanilla_gradients"])
    classes = len(LabelsTold().class_names)
    told = " ".join(capsys.readouterr().err.split())
    assert f"small has 9 outputs, patches has {classes} classes: a prediction of another output counts as wrong" in told
    many.class_names = tuple("abcdefghi")  # which says what they are
    evaluate(tmp_path / "named", LabelsTold(), many, methods=["vanilla_gradients"])
    assert "outputs" not in capsys.readouterr().err


def test_out_that_cannot_be_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    with pytest.raises(RunError, match=r"cannot use .*: it is a file"):
        evaluate(tmp_path / "file")
    with pytest.raises(RunError, match="cannot use"):
        evaluate(tmp_path / "file" / "below")
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.tex").write_text("hello")
    with pytest.raises(RunError, match=r"not empty and holds no run\.json"):
        evaluate(tmp_path / "papers")
    assert [item.name for item in (tmp_path / "papers").iterdir()] == ["thesis.tex"]


def test_a_full_disk_is_said_and_resumed_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", full)
        with pytest.raises(RunError, match="No space left on device"):
            evaluate(tmp_path)
    assert not list(tmp_path.glob("scores/*/*"))
    assert not evaluate(tmp_path).unfinished


def test_the_classifier_is_left_as_it_was(tmp_path: Path) -> None:
    classifier = small_classifier()
    classifier.module.train()
    evaluate(tmp_path, classifier=classifier)
    assert all(part.training for part in classifier.module.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in classifier.module.parameters())
    assert not any(part._forward_hooks for part in classifier.module.modules())


def test_unit_size_is_what_docs_say() -> None:
    assert UNIT_SIZE == 1024


def test_an_evaluation_whose_every_sample_fails_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    """What is wrong is found, mended, and the same command goes on."""
    preprocessing = ea.Preprocessing((3, 12, 12), geometry=ea.Geometry(resize=(10, 10)))
    wrong = ea.Classifier(small_classifier().module, preprocessing, name="small", device="cpu")
    away = Patches(broken=range(23))
    away.fingerprint = Patches().fingerprint
    with pytest.raises(RunError, match=r"^23 samples of patches could not be read .*img/000: OSError: broken image"):
        ea.evaluate(wrong, away, ["sobel"], tmp_path / "run", progress=False)
    run = ea.evaluate(small_classifier(), Patches(), ["sobel"], tmp_path / "run", progress=False)
    assert run.scores()["status"].cast(pl.String).unique().to_list() == ["ok"]
    assert len(run.evaluations) == 1
