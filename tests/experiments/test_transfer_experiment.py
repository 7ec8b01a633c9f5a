from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from small_toys import MODELS, make_small
from torchvision import transforms

import explanation_alignment as ea
from explanation_alignment.classifiers.expansion import ModelSpec
from explanation_alignment.classifiers.paper import published_models
from explanation_alignment.datasets.cifar100 import open_cifar100
from explanation_alignment.datasets.toy import cifar100 as toy
from explanation_alignment.datasets.toy import imagenet as toy_imagenet
from explanation_alignment.errors import ModelError, UnknownNameError, UsageError
from explanation_alignment.experiments.cifar100_transfer import transfer as transferring
from explanation_alignment.experiments.cifar100_transfer.presentation import PREDICTORS, present, relations
from explanation_alignment.experiments.cifar100_transfer.protocol import TOY, Protocol
from explanation_alignment.experiments.cifar100_transfer.results import (
    TRANSFER_FAILURES,
    TRANSFER_SCHEMA,
    one_shots,
    results,
    transfer_scores,
)
from explanation_alignment.experiments.cifar100_transfer.running import kind_of_spec, run_experiment
from explanation_alignment.experiments.cifar100_transfer.transfer import (
    Transfer,
    embed,
    one_shot,
    refuses,
    transfer_preprocessing,
)
from explanation_alignment.experiments.model_kinds import _CNNS, _TRANSFORMERS, kind_of

NAMES = sorted(spec.partition(":")[2] for spec in MODELS)
#: Regressions of few iterations.
QUICK = replace(TOY, max_iter=5)


def reference(values: np.ndarray, labels: np.ndarray, training: np.ndarray, max_iter: int) -> float:
    others = np.setdiff1d(np.arange(len(labels)), training)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(max_iter=max_iter).fit(values[training], labels[training])
    return float(model.score(values[others], labels[others]))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ea.Run]:
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        out = tmp_path_factory.mktemp("transfer") / "run"
        yield run_experiment(None, None, out, toy=True, protocol=QUICK, draws=2, progress=False)


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cifar-files") / "cifar100"
    toy.write(folder, 200, 3)
    return folder


# ------------------------------------------------------------------------------------------ features and regressions


def test_features_are_the_networks_outputs_of_images_as_torchvision_prepares_them(cifar: Path) -> None:
    dataset = open_cifar100(cifar)
    classifier = ea.load_classifier("timm:test_resnet", "random", "cpu")
    classifier.preprocessing = transfer_preprocessing(TOY, 64)
    classifier.module.train()  # as the study's were
    buffers = {name: tensor.clone() for name, tensor in classifier.module.named_buffers()}
    found = embed(classifier, dataset, "logits", batch_size=64, progress=False)
    assert all(torch.equal(tensor, buffers[name]) for name, tensor in classifier.module.named_buffers())
    prepare = transforms.Compose(
        [
            transforms.Resize(73),
            transforms.CenterCrop(64),
            transforms.ToTensor(),
            transforms.Normalize((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
        ]
    )
    images = torch.stack([prepare(dataset[place].image) for place in range(0, 200, 40)])
    with torch.no_grad():
        expected = classifier.module.eval()(images).numpy()
    assert found.shape == (200, 1000)
    np.testing.assert_allclose(found[::40], expected, rtol=1e-3, atol=1e-4)


def test_penultimate_features_are_what_the_head_is_given(cifar: Path) -> None:
    dataset = open_cifar100(cifar)
    for spec in ("timm:test_convnext", "timm:test_vit"):
        classifier = ea.load_classifier(spec, "random", "cpu", input_size=64)
        logits, features = (
            embed(classifier, dataset, kind, batch_size=100, progress=False) for kind in ("logits", "penultimate")
        )
        head = classifier.module.get_classifier()
        with torch.no_grad():
            again = head(torch.from_numpy(features)).numpy()
        assert features.shape[1] < 1000
        np.testing.assert_allclose(again, logits, rtol=1e-3, atol=1e-4)


def test_other_libraries_have_no_penultimate_features(cifar: Path) -> None:
    classifier = ea.load_classifier("torchvision:squeezenet1_1", "random", "cpu", input_size=32)
    with pytest.raises(ModelError, match=r"no timm model.*take logits"):
        embed(classifier, open_cifar100(cifar), "penultimate", progress=False)


def test_a_regression_is_scikit_learns_on_the_other_images() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 10)
    values = rng.normal(size=(40, 6)) + np.eye(4, 6)[labels] * 2
    training = np.array([0, 10, 20, 30])
    others = np.array([place for place in range(40) if place % 10])
    accuracy, iterations = one_shot(values, labels, training)
    assert accuracy == pytest.approx(reference(values, labels, training, 1000))
    assert 0 < iterations < 1000
    assert one_shot(values, labels, training, max_iter=1)[1] == 1
    swapped = labels.copy()
    swapped[others] = (labels[others] + 1) % 4  # only what it is tested on
    assert one_shot(values, swapped, training)[0] <= 1 - accuracy
    with pytest.raises(UsageError, match="none is left"):
        one_shot(values, labels, np.arange(40))


@pytest.mark.parametrize(
    ("spec", "side", "refused"),
    [("timm:test_vit", 64, True), ("timm:test_vit", 160, False), ("timm:test_resnet", 64, False)],
)
def test_which_models_refuse_a_size(spec: str, side: int, refused: bool) -> None:
    classifier = ea.load_classifier(spec, "random", "cpu")
    assert refuses(classifier, side) is refused


def test_a_model_that_says_nothing_of_its_size_is_tried() -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 5))
    classifier = ea.Classifier(module, ea.Preprocessing((3, 16, 16)), device="cpu")
    assert refuses(classifier, 32)
    assert not refuses(classifier, 16)


def test_the_share_of_the_image_that_is_kept_does_not_depend_on_the_size() -> None:
    for side in (64, 224, 256, 384):
        geometry = transfer_preprocessing(Protocol(), side).geometry
        assert geometry.crop == (side, side)
        assert isinstance(geometry.resize, int)
        assert side / geometry.resize == pytest.approx(224 / 256, abs=0.002)
    assert transfer_preprocessing(Protocol(), 224).geometry.resize == 256


# --------------------------------------------------------------------------------------------------------- the run


def test_both_halves_are_there_for_every_model(run: ea.Run) -> None:
    scores = transfer_scores(run)
    assert scores.height == 5 * 2
    assert sorted(set(scores["model"])) == NAMES
    assert set(scores["n_train"]) == {100}
    assert set(scores["n_test"]) == {100}
    sizes = dict(scores.select("model", "input_size").unique().iter_rows())
    assert sizes == {name: 96 if name == "test_vit" else 64 for name in NAMES}
    assert scores.filter(pl.col("own_size"))["model"].unique().to_list() == ["test_vit"]
    for item in run.evaluations.values():
        methods = [method["method"] for method in item["methods"]]
        cnn = item["question"]["model"] != "test_vit"
        assert methods == ["vanilla_gradients", *(["gradcam(layer=last_conv)"] if cnn else [])]
        assert item["question"]["input_size"] == [3, 96, 96]  # on ImageNet each its own
    assert run.info["transfer"]["samples"] == 200


def test_draws_are_the_same_for_all_models_and_differ_from_each_other(run: ea.Run) -> None:
    from explanation_alignment.datasets.base import draw_balanced

    dataset = open_cifar100(run.path / "data/cifar100")
    places = {name: place for place, name in enumerate(dataset.ids())}
    labels = np.array(dataset.labels())
    scores = transfer_scores(run)
    found = {}
    for draw in (0, 1):
        chosen = [places[name] for name in draw_balanced(dataset, by="label", n=1, seed=draw)]
        assert sorted(labels[chosen]) == list(range(100))
        found[draw] = chosen
        for file in sorted((run.path / "transfer/features").glob("*.npz")):
            with np.load(file) as content:
                values, about = content["values"], str(content["about"])
            [name] = [name for name in NAMES if f'"{name}"' in about]
            accuracy = scores.filter(model=name, draw=draw)["accuracy"].item()
            assert accuracy == pytest.approx(reference(values, labels, np.array(chosen), QUICK.max_iter))
        if draw:
            assert found[0] != found[1]


def test_one_shot_accuracy_is_the_mean_over_draws_with_students_interval(run: ea.Run) -> None:
    table = one_shots(run)
    for row in table.iter_rows(named=True):
        values = transfer_scores(run).filter(model=row["model"])["accuracy"].to_numpy()
        assert row["one_shot"] == pytest.approx(values.mean())
        assert row["one_shot_sd"] == pytest.approx(values.std(ddof=1))
        if values.std() > 0:
            low, high = stats.t.interval(0.95, 1, loc=values.mean(), scale=stats.sem(values))
            assert row["one_shot_low"] == pytest.approx(max(low, 0))
            assert row["one_shot_high"] == pytest.approx(min(high, 1))


def test_results_put_transfer_beside_alignment(run: ea.Run) -> None:
    table = results(run)
    summary = run.summary()
    assert sorted(table["model"]) == NAMES
    for row in table.iter_rows(named=True):
        own = summary.filter(model=row["model"], metric="iou_coverage")
        gradients = own.filter(method="vanilla_gradients")
        assert row["iou_coverage_gradients"] == pytest.approx(gradients["ea"].item())
        assert row["accuracy"] == pytest.approx(gradients["accuracy"].item())
        if row["model"] == "test_vit":
            assert row["family"] == "transformer"
            assert row["iou_coverage_gradcam"] is None
        else:
            gradcam = own.filter(method="gradcam(layer=last_conv)")
            assert row["iou_coverage_gradcam"] == pytest.approx(gradcam["ea"].item())
    assert table["one_shot"].to_list() == sorted(table["one_shot"], reverse=True)


def forbid_building(patch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("built")

    patch.setattr("explanation_alignment.sweeps.doing.load_classifier", refuse)
    patch.setattr("explanation_alignment.classifiers.load.load_classifier", refuse)


def test_more_draws_need_no_model_and_leave_the_others_alone(run: ea.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = transfer_scores(run)
    features = {path: path.stat().st_mtime_ns for path in (run.path / "transfer/features").iterdir()}
    forbid_building(monkeypatch)
    again = run_experiment(None, None, run.path, toy=True, protocol=QUICK, draws=3, progress=False)
    assert not again.info.get(TRANSFER_FAILURES)
    after = transfer_scores(again)
    assert after.height == 15
    assert after.filter(pl.col("draw") < 2).equals(before)
    assert {path: path.stat().st_mtime_ns for path in features} == features
    unchanged = {path: path.stat().st_mtime_ns for path in again.path.rglob("transfer/**/*") if path.is_file()}
    run_experiment(None, None, run.path, toy=True, protocol=QUICK, draws=3, progress=False)
    assert {path: path.stat().st_mtime_ns for path in unchanged} == unchanged


def test_what_was_killed_between_features_and_regressions_goes_on_from_the_features(
    cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ModelSpec("timm:test_convnext", "random")
    transfer = Transfer(tmp_path, open_cifar100(cifar), QUICK, "logits", torch.device("cpu"))
    with monkeypatch.context() as patch:
        patch.setattr(transferring, "one_shot", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            transfer.measure(model, "cnn", None, 1, None, False)
    assert transfer.missing(model, None, 1) == [0]
    forbid_building(monkeypatch)
    transfer.measure(model, "cnn", None, 1, None, False)
    assert transfer.missing(model, None, 1) == []


def test_damaged_and_foreign_files_are_made_anew(cifar: Path, tmp_path: Path) -> None:
    model = ModelSpec("timm:test_convnext", "random")
    transfer = Transfer(tmp_path, open_cifar100(cifar), QUICK, "logits", torch.device("cpu"))
    transfer.measure(model, "cnn", None, 1, None, False)
    [features], [scores] = tmp_path.glob("transfer/features/*"), tmp_path.glob("transfer/scores/*")
    whole, table = features.read_bytes(), pl.read_parquet(scores)
    digest = table["weights_digest"].item()
    assert transfer.missing(model, digest, 1) == []
    for damage in (whole[: len(whole) // 2], b"", whole[:5000] + bytes(50) + whole[5050:]):
        features.write_bytes(damage)
        assert transfer.kept_embedding(model, None) is None
    scores.write_bytes(b"PAR1")
    assert transfer.missing(model, None, 1) == [0]
    transfer.measure(model, "cnn", digest, 1, None, False)
    assert features.read_bytes() == whole
    assert pl.read_parquet(scores).equals(table)
    # other weights under the same name
    assert transfer.missing(model, "0" * 64, 1) == [0]
    assert transfer.kept_embedding(model, "0" * 64) is None
    # another question
    other = Transfer(tmp_path, open_cifar100(cifar), Protocol(resize=64, crop=64), "logits", torch.device("cpu"))
    assert other.missing(model, None, 1) == [0]
    scores.rename(other._score_path(model))
    assert other.missing(model, None, 1) == [0]


def test_a_checkpoint_counts_by_its_content(cifar: Path, tmp_path: Path) -> None:
    transfer = Transfer(tmp_path, open_cifar100(cifar), QUICK, "logits", torch.device("cpu"))
    identities = []
    for content in (b"one", b"two", b"one"):
        (tmp_path / "weights.safetensors").write_bytes(content)
        identities.append(transfer._identity(ModelSpec("timm:test_vit", str(tmp_path / "weights.safetensors"))))
    assert identities[0] == identities[2] != identities[1]


def test_a_model_that_fails_in_one_half_is_recorded_and_stays_in_the_other(cifar: Path, tmp_path: Path) -> None:
    toy_imagenet.write(tmp_path / "imagenet", 12, 0)
    own = tmp_path / "own.py"
    own.write_text(
        "import torch, explanation_alignment as ea\n\n"
        "def build():\n"
        "    torch.manual_seed(0)\n"
        "    conv = torch.nn.Conv2d(3, 4, 3)\n"
        "    module = torch.nn.Sequential(conv, torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.LazyLinear(1000))\n"
        "    module(torch.zeros(1, 3, 24, 24))\n"
        "    preprocessing = ea.Preprocessing((3, 24, 24), ea.Geometry(resize=(24, 24)))\n"
        "    return ea.Classifier(module, preprocessing, name='own', device='cpu')\n"
    )
    run = run_experiment(
        tmp_path / "imagenet",
        cifar,
        tmp_path / "run",
        models=[f"file:{own}:build", "timm:test_convnext"],
        weights="random",
        features="penultimate",
        draws=1,
        protocol=QUICK,
        cache="off",
        progress=False,
    )
    [(name, reason)] = run.info[TRANSFER_FAILURES].items()
    assert "own.py" in name
    assert "no timm model" in reason
    table = results(run, "penultimate")
    assert sorted(table["model"]) == ["own", "test_convnext.random"]
    rows = {row["model"]: row for row in table.iter_rows(named=True)}
    assert rows["own"]["one_shot"] is None
    assert rows["own"]["iou_coverage_gradients"] is not None
    assert rows["test_convnext.random"]["one_shot"] is not None
    assert any("no timm model" in sentence for sentence in present(run).sentences)


def test_accuracies_of_other_weights_than_were_explained_do_not_count(run: ea.Run, tmp_path: Path) -> None:
    scores = transfer_scores(run)
    folder = tmp_path / "transfer/scores"
    folder.mkdir(parents=True)
    other = scores.with_columns(weights_digest=pl.lit("0" * 64), accuracy=pl.lit(1.0))
    other.write_parquet(folder / "a.parquet")
    scores.write_parquet(folder / "b.parquet")
    (tmp_path / "models.parquet").write_bytes((run.path / "models.parquet").read_bytes())
    (tmp_path / "run.json").write_bytes((run.path / "run.json").read_bytes())
    assert transfer_scores(ea.open_run(tmp_path)).equals(scores)


# ------------------------------------------------------------------------------------------------- what is shown


def test_presentation_shows_the_four_figures_and_the_relation_and_says_toy(run: ea.Run) -> None:
    shown = present(run)
    names = [item.name for item in shown.illustrations]
    assert names[:4] == ["accuracy_iou", "accuracy_pointing_game", "one_shot_gradients", "one_shot_gradcam"]
    for item in shown.illustrations:
        assert any("toy" in text.get_text().lower() for text in item.figure.texts)
    gradients, gradcam = shown.illustrations[2:4]
    assert "one-shot" in gradients.figure.axes[0].get_xlabel()
    assert "5 models" in " ".join(text.get_text() for text in gradients.figure.texts)
    assert "4 models" in " ".join(text.get_text() for text in gradcam.figure.texts)  # convolutional ones only
    assert any("it cannot be told whether" in sentence for sentence in shown.sentences)
    assert any("given their own: test_vit" in sentence for sentence in shown.sentences)
    for table in shown.tables:
        assert all(len(row) == len(table.headings) for row in table.rows)


@pytest.mark.slow
def test_report_needs_no_torch(run: ea.Run) -> None:
    code = "import sys, explanation_alignment as ea; ea.report(sys.argv[1]); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Do aligned models transfer better?" in (run.path / "report.html").read_text()


def test_relations_are_partial_rank_correlations(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    n = 24
    accuracy, size, alignment = rng.random(n), rng.lognormal(16, 1, n), rng.random(n)
    shot = 0.5 * accuracy + 0.8 * alignment + 0.05 * rng.random(n)
    table = pl.DataFrame(
        {"model": [f"m{i}" for i in range(n)], "one_shot": shot, "accuracy": accuracy, "parameters": size}
        | dict.fromkeys(PREDICTORS, alignment)
    ).with_columns(iou_coverage_gradcam=pl.when(pl.int_range(n) < 3).then(0.5))
    found = relations(table)
    assert set(found["predictor"]) == {"iou_coverage_gradients", "pointing_game_gradients"}  # three are too few
    row = found.filter(predictor="iou_coverage_gradients", statistic="partial spearman").row(0, named=True)
    ranks = np.column_stack([stats.rankdata(column) for column in (accuracy, size)])
    design = np.column_stack([np.ones(n), ranks])
    residuals = [
        stats.rankdata(column) - design @ np.linalg.lstsq(design, stats.rankdata(column), rcond=None)[0]
        for column in (shot, alignment)
    ]
    assert row["coefficient"] == pytest.approx(stats.pearsonr(*residuals).statistic)
    assert row["ci_low"] > 0
    assert row["controls"] == "accuracy, parameters"


def test_models_without_a_shared_draw_are_not_mixed(run: ea.Run, tmp_path: Path) -> None:
    """A model with fewer draws sets how many count, so that all are measured on the same."""
    scores = transfer_scores(run)
    folder = tmp_path / "transfer/scores"
    folder.mkdir(parents=True)
    kept = scores.filter((pl.col("model") != "test_vit") | (pl.col("draw") == 0))
    kept.cast(TRANSFER_SCHEMA).write_parquet(folder / "all.parquet")  # type: ignore[arg-type]

    class Elsewhere:
        path = tmp_path

    table = one_shots(Elsewhere())  # type: ignore[arg-type]
    assert set(table["draws"]) == {1}
    assert table["one_shot_low"].null_count() == table.height


# --------------------------------------------------------------------------------------------------- kinds of models


def test_kinds_are_told_from_modules_that_exist() -> None:
    from importlib.util import find_spec

    for name in (*_CNNS.split(), *_TRANSFORMERS.split()):
        assert find_spec(f"timm.models.{name}") or find_spec(f"torchvision.models.{name}"), name
    assert kind_of(None) == "other"
    assert kind_of("something_new") == "other"


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("paper:timm/resnet18", "cnn"),
        ("paper:timm/beit_base_patch16_224", "transformer"),
        ("paper:torchvision/resnet50", "cnn"),
        ("paper:torchvision/nothing", "other"),
        ("timm:resnet50.a1_in1k", "cnn"),
        ("timm:vit_tiny_patch16_224", "transformer"),
        ("timm:test_coatnet", "other"),
        ("torchvision:swin_t", "transformer"),
        ("file:model.py:build", "other"),
    ],
)
def test_the_kind_of_a_model_is_known_before_it_is_built(spec: str, kind: str) -> None:
    assert kind_of_spec(spec) == kind


def test_modules_and_the_published_list_agree_on_nearly_all_kinds() -> None:
    import timm

    models = published_models("timm").values()
    differ = {
        model.name
        for model in models
        if kind_of_spec(f"timm:{model.weights}") != model.family and timm.is_model(model.architecture)
    }
    assert len(differ) <= 0.1 * len(models), sorted(differ)


# ------------------------------------------------------------------------------------------------------ wrong use


def test_bad_input_ends_before_anything_is_made(tmp_path: Path, cifar: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="give the folders"):
        run_experiment(None, cifar, out)
    with pytest.raises(UsageError, match="draws"):
        run_experiment(None, None, out, toy=True, draws=0)
    with pytest.raises(UnknownNameError, match="logits"):
        run_experiment(None, None, out, toy=True, features="logit")
    with pytest.raises(UnknownNameError, match="did you mean"):
        run_experiment("nowhere", cifar, out, models=["resnet5O"])
    assert not out.exists()


@pytest.mark.parametrize("name", ["resize", "crop", "images_per_class", "max_iter"])
def test_numbers_out_of_range(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        Protocol(**{name: 0})
