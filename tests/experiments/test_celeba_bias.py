from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scipy.stats import norm
from stopped_runs import stopped

import explanation_alignment as ea
from explanation_alignment.classifiers.layers import find_layer
from explanation_alignment.cli.display.tables import cell, new_table, show_table
from explanation_alignment.datasets.toy.face_groups import group_shares, partition_of
from explanation_alignment.errors import DatasetError, RunError, UnknownNameError, UsageError
from explanation_alignment.experiments.celeba import toy_data
from explanation_alignment.experiments.celeba.bias_presentation import present
from explanation_alignment.experiments.celeba.bias_results import (
    bias_results,
    dose_response_results,
    monotone_within_error,
    performance,
    verdict_counts,
    verdicts,
)
from explanation_alignment.experiments.celeba.bias_running import run_bias_experiment, usual_protocol
from explanation_alignment.experiments.celeba.bias_words import dose_sentences
from explanation_alignment.experiments.celeba.draws import digest_of, open_faces, persons_in_both
from explanation_alignment.experiments.celeba.losses import read_losses
from explanation_alignment.experiments.celeba.models import trained_models
from explanation_alignment.experiments.celeba.protocol import (
    COMMON,
    GROUPS,
    MODELS,
    RARE,
    REPORTED,
    TOY,
    Protocol,
    correlation_model,
    correlation_of,
    group_word,
)
from explanation_alignment.experiments.celeba.toy_data import toy_trees
from explanation_alignment.reporting.presentation import Presentation

QUICK = replace(
    TOY, resize=36, crop=32, train_per_group=12, test_per_group=6, hair_per_group=2, epochs=2, batch_size=16
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ea.Run:
    """Both models, one seed, on generated faces."""
    return run_bias_experiment(None, tmp_path_factory.mktemp("bias") / "run", protocol=QUICK, progress=False)


@pytest.fixture(scope="module")
def trees(run: ea.Run) -> toy_data.ToyTrees:
    """The generated faces of that run."""
    [celeba], [hq] = (list((run.path / "data").glob(f"{name}-*")) for name in ("celeba", "celebamask_hq"))
    return toy_data.ToyTrees(celeba, hq)


@pytest.fixture(scope="module")
def grown(run: ea.Run, tmp_path_factory: pytest.TempPathFactory, trees: toy_data.ToyTrees) -> ea.Run:
    """Two seeds of the dose-response, after the two models with two seeds; the same faces, read as real ones are."""
    out = tmp_path_factory.mktemp("grown") / "run"
    asked: dict[str, Any] = {"hq_dir": trees.celebamask_hq, "protocol": QUICK, "seeds": [0, 1], "progress": False}
    run_bias_experiment(trees.celeba, out, **asked)
    return run_bias_experiment(trees.celeba, out, correlations=[0, 1], **asked)


@pytest.fixture(scope="module")
def shown(grown: ea.Run) -> Presentation:
    return present(grown)


@pytest.fixture(scope="module")
def shown_pair(run: ea.Run) -> Presentation:
    return present(run)


def strings(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(pl.col(pl.Categorical).cast(pl.String))


class TestProtocol:
    def test_defaults_are_the_published_numbers(self) -> None:
        protocol = Protocol()
        assert protocol.training_counts("biased") == {
            ("black", True): 10_000,
            ("blond", False): 10_000,
            ("black", False): 100,
            ("blond", True): 100,
        }
        assert protocol.training_counts("unbiased") == dict.fromkeys(GROUPS, 5_000)
        tests = protocol.biased(protocol.test_per_group, protocol.test_rare_share)
        assert [tests[group] for group in (*COMMON, *RARE)] == [1_000, 1_000, 100, 100]
        assert 4 * protocol.test_per_group == 2_000
        assert 4 * protocol.hair_per_group == 720
        recipe = protocol.recipe()
        assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay) == ("adam", 1e-4, 1e-4)
        assert (recipe.epochs, recipe.batch_size) == (10, 128)
        rates = [
            1e-4 * np.prod([recipe.schedule.factor_after(past) for past in range(1, epoch)]) for epoch in (2, 3, 6)
        ]
        assert rates == pytest.approx([1e-4, 2e-5, 4e-6])

    @given(st.integers(0, 100), st.integers(50, 5000))
    def test_a_correlation_is_the_phi_of_its_counts(self, hundredths: int, per_group: int) -> None:
        counts = Protocol(train_per_group=per_group).training_counts(correlation_model(hundredths / 100))
        a, b, c, d = (counts.get(group, 0) for group in GROUPS)
        assert a + b + c + d == 4 * per_group
        phi = (a * d - b * c) / np.sqrt(float((a + b) * (c + d) * (a + c) * (b + d)))
        assert phi == pytest.approx(hundredths / 100, abs=0.51 / per_group)

    def test_reported_numbers_are_those_of_the_study(self) -> None:
        assert REPORTED["unbiased"]["black", True].iou_coverage == 0.135
        assert REPORTED["unbiased"]["blond", True].accuracy == 0.89
        assert REPORTED["biased"]["black", False].accuracy == 0.10
        assert REPORTED["biased"]["blond", False].iou_coverage == 0.0023

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"train_per_group": 0}, "train_per_group: expected at least 1"),
            ({"test_rare_share": 0}, "test_rare_share: expected more than 0"),
            ({"train_rare_share": 1.5}, "train_rare_share"),
            ({"head": "both"}, "unknown head 'both'"),
            ({"precision": "fp8"}, "unknown precision"),
            ({"epochs": 0}, "epochs"),
            ({"decay_after": (5, 2)}, "increasing"),
            ({"draw_seed": -1}, "draw_seed"),
        ],
    )
    def test_numbers_out_of_range(self, change: dict[str, Any], match: str) -> None:
        with pytest.raises(UsageError, match=match):
            Protocol(**change)

    def test_correlations_and_models_there_cannot_be(self) -> None:
        with pytest.raises(UsageError, match=r"expected 0 to 1, got 1\.5"):
            Protocol().training_counts("correlation-1.5")
        with pytest.raises(UnknownNameError, match="did you mean 'unbiased'"):
            Protocol().training_counts("unbias")

    @given(st.floats(0, 1))
    def test_a_model_s_name_tells_its_correlation(self, value: float) -> None:
        assert correlation_of(correlation_model(value)) == pytest.approx(value, rel=1e-5)
        assert correlation_of("biased") is None


class TestDraws:
    def test_groups_have_the_sizes_asked_for(self, trees: toy_data.ToyTrees) -> None:
        faces = open_faces(trees.celeba, trees.celebamask_hq)
        tests = faces.test_sets(QUICK)
        assert [tests[name].name for name in tests] == ["celeba-biased", "celeba-unbiased", "celeba-hair"]
        assert Counter(tests["biased"].groups) == {
            group_word(group): count for group, count in QUICK.biased(6, QUICK.test_rare_share).items()
        }
        assert Counter(tests["unbiased"].groups) == dict.fromkeys(map(group_word, GROUPS), 6)
        assert Counter(tests["hair"].groups) == dict.fromkeys(map(group_word, GROUPS), 2)
        for model in (*MODELS, "correlation-0.5"):
            wanted = {group_word(group): count for group, count in QUICK.training_counts(model).items()}
            assert Counter(faces.training_set(QUICK, model).groups) == wanted

    def test_draws_are_nested(self, trees: toy_data.ToyTrees) -> None:
        faces = open_faces(trees.celeba)
        biased, unbiased = (faces.training_set(QUICK, model) for model in ("biased", "unbiased"))
        rare = {group_word(group) for group in RARE}
        kept = {name for name, group in zip(biased.ids(), biased.groups, strict=True) if group in rare}
        assert kept < set(unbiased.ids())  # the unbiased draw extends the rare groups ...
        common = {name for name, group in zip(unbiased.ids(), unbiased.groups, strict=True) if group not in rare}
        assert common < set(biased.ids())  # ... and takes part of the common ones
        fewer = faces.training_set(replace(QUICK, train_per_group=5), "unbiased")
        assert set(fewer.ids()) < set(unbiased.ids())

    def test_another_seed_draws_others(self, trees: toy_data.ToyTrees) -> None:
        faces = open_faces(trees.celeba)
        one, other = (faces.test_sets(replace(QUICK, draw_seed=seed))["unbiased"] for seed in (0, 1))
        assert set(one.ids()) != set(other.ids())
        assert digest_of(one.ids()) != digest_of(other.ids())

    def test_a_face_s_sample_tells_its_group(self, trees: toy_data.ToyTrees) -> None:
        tests = open_faces(trees.celeba, trees.celebamask_hq).test_sets(QUICK)
        for place in range(0, len(tests["hair"]), 3):
            sample = tests["hair"][place]
            smiling = sample.attributes["Smiling"]
            assert sample.attributes["group"] == group_word((str(sample.attributes["hair_color"]), bool(smiling)))
            assert sample.attributes["group"] == tests["hair"].attributes()["group"][place]
            assert sample.label == int(bool(smiling))
            assert set(sample.annotations) == {"mouth", "hair"}

    def test_every_pairing_shows_the_same_persons(self, trees: toy_data.ToyTrees) -> None:
        found = {}
        for pairing in ("hq", "crop", "published"):
            hair = open_faces(trees.celeba, trees.celebamask_hq, pairing).test_sets(QUICK)["hair"]  # type: ignore[arg-type]
            assert set(hair.regions) == {"mouth", "hair"}
            assert all(hair[place].annotations["hair"] is not None for place in range(0, len(hair), 3))
            found[hair.name] = Counter(zip(hair.attributes()["identity"], hair.groups, strict=True))
        assert list(found) == ["celeba-hair", "celeba-hair-aligned", "celeba-hair-published_pairing"]
        assert len({frozenset(people.items()) for people in found.values()}) == 1

    def test_training_persons_are_in_no_test_set(
        self, trees: toy_data.ToyTrees, run: ea.Run, shown_pair: Presentation
    ) -> None:
        faces = open_faces(trees.celeba, trees.celebamask_hq)
        training = [faces.training_set(QUICK, model) for model in MODELS]
        tests = faces.test_sets(QUICK)
        assert persons_in_both(training, tests.values()) == 0
        assert persons_in_both(training, [*tests.values(), training[0]]) == len(
            set(training[0].attributes()["identity"])
        )
        assert run.info["experiment"]["settings"]["data"]["persons_in_training_and_test"] == 0
        assert any(line.startswith("No person of the training images") for line in shown_pair.sentences)

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"train_per_group": 500}, r"train partition of celeba has too few faces: \d+ black smiling, 500 wanted"),
            ({"train_per_group": 500}, r"Draw fewer of each with --train-per-group"),
            ({"test_per_group": 500}, r"--test-per-group"),
            ({"hair_per_group": 50}, r"with a mask of the hair: .*50 wanted.*--hair-per-group"),
        ],
    )
    def test_a_group_too_small_is_told_with_its_counts(
        self, trees: toy_data.ToyTrees, tmp_path: Path, change: dict[str, int], match: str
    ) -> None:
        with pytest.raises(UsageError, match=match):
            run_bias_experiment(
                trees.celeba,
                tmp_path / "out",
                hq_dir=trees.celebamask_hq,
                protocol=replace(QUICK, **change),
                progress=False,
            )
        assert not (tmp_path / "out").exists()


class TestToyTrees:
    @given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 40))
    def test_there_are_enough_faces_for_every_draw(self, train: int, test: int, hair: int) -> None:
        shares = group_shares(toy_data.CORRELATION, 0.0)
        protocol = replace(TOY, train_per_group=train, test_per_group=test, hair_per_group=hair)
        n = max(toy_data._enough(train, toy_data._TRAIN), toy_data._enough(test, toy_data._TEST))
        hq = toy_data._enough(hair, toy_data._TEST)
        for faces, partition, counts in (
            (n, 0, protocol.training_counts("biased")),
            (n, 0, protocol.training_counts("unbiased")),
            (n, 2, protocol.biased(test, protocol.test_rare_share)),
            (hq, 2, dict.fromkeys(GROUPS, hair)),
        ):
            of_partition = sum(partition_of(number) == partition for number in range(1, faces + 1))
            for group, count in counts.items():
                assert (
                    int(of_partition * Fraction(shares[group])) >= count
                )  # a group has its share, rounded down at worst

    def test_a_tree_half_written_is_written_anew(
        self, trees: toy_data.ToyTrees, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = toy_data.celeba.write

        def killed(folder: Path, *arguments: Any) -> None:
            whole(folder, 10, 0)
            raise KeyboardInterrupt

        few = replace(QUICK, train_per_group=1, test_per_group=1, hair_per_group=1)
        monkeypatch.setattr(toy_data.celeba, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            toy_trees(tmp_path, few)
        assert not any(path.name.startswith("celeba") for path in tmp_path.iterdir())
        monkeypatch.undo()
        found = toy_trees(tmp_path, few)
        assert found.celeba.name == "celeba-40-seed0"
        ids = open_faces(found.celeba).train.ids()
        assert len(ids) == 24
        assert (found.celeba / "Img/img_align_celeba" / f"{ids[-1]}.jpg").read_bytes() == (
            trees.celeba / "Img/img_align_celeba" / f"{ids[-1]}.jpg"
        ).read_bytes()  # a smaller tree shows the first faces of a larger one


class TestRun:
    def test_both_models_are_explained_on_every_test_set(self, run: ea.Run) -> None:
        rows = strings(run.scores())
        biased, unbiased, hair = 2 * 12 + 2 * 3, 4 * 6, 4 * 2
        counts = rows.group_by("model", "dataset").agg(rows=pl.len())
        assert {(model, name): n for model, name, n in counts.rows()} == {
            **{(model, "celeba-biased"): 2 * biased for model in MODELS},
            **{(model, "celeba-unbiased"): 2 * unbiased for model in (*MODELS, "untrained")},
            **{(model, "celeba-hair"): 2 * 2 * hair for model in (*MODELS, "untrained")},
        }
        assert rows.filter(pl.col("exchange_flip").is_null()).is_empty()
        assert not run.unfinished
        assert run.info["toy"]
        assert run.info["experiment"]["settings"]["network"] == "toy:faces"

    def test_the_draws_are_recorded_by_id(self, run: ea.Run, trees: toy_data.ToyTrees) -> None:
        recorded = run.info["experiment"]["settings"]["data"]["draws"]
        faces = open_faces(trees.celeba, trees.celebamask_hq)
        drawn = [*(faces.training_set(QUICK, model) for model in MODELS), *faces.test_sets(QUICK).values()]
        assert set(recorded) == {faces.name for faces in drawn}
        for part in drawn:
            table = pl.read_csv(run.path / "draws" / f"{part.name}.csv", schema_overrides={"sample_id": pl.String})
            assert table["sample_id"].to_list() == list(part.ids())
            assert table["group"].to_list() == list(part.groups)
            assert recorded[part.name] == f"{len(part)} faces {digest_of(part.ids())}"

    def test_the_same_question_changes_nothing(self, run: ea.Run) -> None:
        before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.is_file()}
        again = run_bias_experiment(None, run.path, protocol=QUICK, progress=False)
        changed = {path for path, stamp in before.items() if path.stat().st_mtime_ns != stamp}
        assert changed <= {run.path / ".lock"}
        assert_frame_equal(again.scores(), run.scores())

    def test_generated_faces_read_as_files_give_the_same_tables(self, run: ea.Run, grown: ea.Run) -> None:
        mine = run.scores()
        theirs = grown.scores().filter(pl.col("seed") == 0, ~pl.col("model").cast(pl.String).str.contains("corr"))
        order = ["model", "dataset", "sample_id", "method", "region"]
        assert_frame_equal(strings(mine).sort(order), strings(theirs).sort(order))
        assert_frame_equal(bias_results(run), bias_results(ea.open_run(run.path)))
        for model in MODELS:
            place = f"checkpoints/{model}-seed0.safetensors"
            assert (run.path / place).read_bytes() == (grown.path / place).read_bytes()

    @pytest.mark.parametrize("calls", [1, 4])
    def test_a_run_that_was_broken_off_goes_on(
        self, run: ea.Run, trees: toy_data.ToyTrees, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
    ) -> None:
        import explanation_alignment.evaluation as evaluation

        whole, done = evaluation.evaluate, []

        def broken(*arguments: Any, **options: Any) -> ea.Run:
            done.append(arguments)
            if len(done) > calls:
                raise KeyboardInterrupt
            return whole(*arguments, **options)

        asked: dict[str, Any] = {"hq_dir": trees.celebamask_hq, "protocol": QUICK, "progress": False}
        monkeypatch.setattr(evaluation, "evaluate", broken)
        with pytest.raises(KeyboardInterrupt):
            run_bias_experiment(trees.celeba, tmp_path, **asked)
        monkeypatch.undo()
        again = run_bias_experiment(trees.celeba, tmp_path, **asked)
        order = ["model", "dataset", "sample_id", "method", "region"]
        assert_frame_equal(strings(again.scores()).sort(order), strings(run.scores()).sort(order))
        assert_frame_equal(read_losses(again), read_losses(run))

    def test_a_run_killed_while_its_faces_were_written_goes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def killed(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        few = replace(QUICK, train_per_group=1, test_per_group=1, hair_per_group=1)
        monkeypatch.setattr(toy_data.celebamask_hq, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            run_bias_experiment(None, tmp_path / "run", protocol=few, progress=False)
        info = ea.open_run(tmp_path / "run").info
        assert info["experiment"] is None
        monkeypatch.undo()
        again = run_bias_experiment(None, tmp_path / "run", protocol=few, progress=False)
        assert again.info["experiment"]["name"] == "celeba-bias"
        assert not again.unfinished

    def test_other_settings_in_the_same_folder_are_refused(self, run: ea.Run) -> None:
        with pytest.raises(RunError, match=r"settings.epochs: 2 -> 3.*choose another --out"):
            run_bias_experiment(None, run.path, protocol=replace(QUICK, epochs=3), progress=False)
        with pytest.raises(RunError, match=r"settings.data.*choose another --out"):
            run_bias_experiment(None, run.path, protocol=QUICK, hair_pairing="published", progress=False)

    def test_a_run_of_something_else_is_not_taken_over(
        self, run: ea.Run, trees: toy_data.ToyTrees, tmp_path: Path
    ) -> None:
        faces = open_faces(trees.celeba)
        classifier = ea.load_classifier("toy:faces", "random", "cpu")
        ea.evaluate(classifier, faces.test_sets(QUICK)["biased"], ["gradcam"], tmp_path, progress=False)
        with pytest.raises(RunError, match="made by ealign evaluate"):
            run_bias_experiment(trees.celeba, tmp_path, protocol=QUICK, progress=False)

    def test_without_masks_no_hair_is_tested_and_it_is_said(self, trees: toy_data.ToyTrees, tmp_path: Path) -> None:
        quick = replace(QUICK, epochs=1)
        alone = run_bias_experiment(trees.celeba, tmp_path, protocol=quick, progress=False)
        assert set(alone.info["datasets"]) == {"celeba-biased", "celeba-unbiased"}
        assert any("No masks of the hair were given" in line for line in present(alone).sentences)
        assert set(verdicts(alone)["test"]) == {"unbiased"}

    def test_generated_faces_bring_their_own_numbers(self, trees: toy_data.ToyTrees, tmp_path: Path) -> None:
        assert usual_protocol(None) == TOY
        assert usual_protocol(trees.celeba) == TOY
        real = tmp_path / "real"
        (real / "Anno").mkdir(parents=True)
        (real / "Img/img_align_celeba").mkdir(parents=True)
        (real / "Anno/list_attr_celeba.txt").write_text("")
        assert usual_protocol(real) == Protocol()

    @pytest.mark.parametrize(
        ("asked", "match"),
        [
            ({"seeds": [0, 0]}, "seeds: expected different"),
            ({"seeds": []}, "got none"),
            ({"correlations": [0.5, 0.5]}, "correlations: expected different"),
            ({"correlations": [2]}, "expected 0 to 1, got 2"),
            ({"hq_dir": "there"}, "hq_dir goes with data_dir"),
            ({"hair_pairing": "close"}, r"hair pairing: expected hq \| crop \| published, got 'close'"),
            ({"device": "tpu"}, "device"),
        ],
    )
    def test_bad_input_ends_before_anything_is_made(self, tmp_path: Path, asked: dict[str, Any], match: str) -> None:
        with pytest.raises(UsageError, match=match):
            run_bias_experiment(None, tmp_path / "out", progress=False, **asked)
        with pytest.raises(DatasetError, match="celeba: no folder"):
            run_bias_experiment(tmp_path / "nowhere", tmp_path / "out", progress=False)
        assert not (tmp_path / "out").exists()


class TestModels:
    def test_an_imagenet_head_keeps_all_its_outputs(self, trees: toy_data.ToyTrees, tmp_path: Path) -> None:
        protocol = replace(QUICK, network="timm:test_resnet", head="imagenet", epochs=1)
        [classifier] = trained_models(
            open_faces(trees.celeba),
            protocol,
            seeds=[0],
            out=tmp_path,
            device=CPU,
            models=["biased"],
            progress=False,
        )
        assert classifier.class_names is None
        assert classifier.logits(torch.zeros(2, 3, 32, 32)).shape == (2, 1000)
        assert classifier.preprocessing.mean == (0.0, 0.0, 0.0)
        assert classifier.preprocessing.std == (1.0, 1.0, 1.0)

    def test_weights_are_reused_by_what_was_asked(self, run: ea.Run, trees: toy_data.ToyTrees, tmp_path: Path) -> None:
        def digests(protocol: Protocol) -> list[str]:
            found = trained_models(
                open_faces(trees.celeba),
                protocol,
                seeds=[0, 1],
                out=tmp_path,
                device=CPU,
                models=["biased"],
                progress=False,
            )
            return [classifier.weights_digest() for classifier in found]

        first = digests(QUICK)
        stamp = (tmp_path / "checkpoints/biased-seed0.safetensors").stat().st_mtime_ns
        assert digests(QUICK) == first
        assert (tmp_path / "checkpoints/biased-seed0.safetensors").stat().st_mtime_ns == stamp
        assert first[0] != first[1]
        assert first[0] == run.models().filter(model="biased")["weights_digest"][0]
        assert digests(replace(QUICK, draw_seed=1)) != first

    def test_a_resnet_s_own_layer_is_the_published_one(self) -> None:
        classifier = ea.load_classifier("torchvision:resnet50", "random", "cpu", input_size=64)
        own, published = find_layer(classifier), find_layer(classifier, "layer4.2")
        seen: dict[str, torch.Tensor] = {}
        modules = dict(classifier.module.named_modules())
        hooks = [
            modules[layer.name].register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
            for name, layer in (("own", own), ("published", published))
        ]
        classifier.logits(torch.rand(1, 3, 64, 64))
        assert torch.equal(seen["own"], seen["published"])
        for hook in hooks:
            hook.remove()


class TestResults:
    @pytest.mark.parametrize("group", ["all", "black not smiling"])
    def test_alignment_is_the_mean_over_images_then_seeds(self, grown: ea.Run, group: str) -> None:
        rows = strings(grown.scores())
        table = bias_results(grown).filter(pl.col("group") == group, pl.col("metric") == "iou_coverage")
        assert table.height == 2 * (
            2 * 4 + 3 + 2 * 3
        )  # methods x (two models; the untrained; two of the dose-response)
        for item in table.iter_rows(named=True):
            part = rows.filter(
                pl.col("model") == item["model"],
                pl.col("dataset") == f"celeba-{item['test']}",
                pl.col("method") == item["method"],
                pl.col("region") == item["region"],
            )
            part = part if group == "all" else part.filter(pl.col("attr_group") == group)
            means = part.group_by("seed").agg(pl.col("iou_coverage").mean())["iou_coverage"]
            assert item["ea"] == pytest.approx(means.mean(), abs=1e-6)
            assert item["sd_seeds"] == pytest.approx(means.std(), abs=1e-6)
            assert item["ci_low"] is None
            excess = (part["iou_coverage"] - part["center_iou"]).mean()
            assert item["excess"] == pytest.approx(excess, abs=1e-6)
            assert item["n"] + item["n_undefined"] == part.height
            before = rows.filter(
                pl.col("model") == "untrained",
                pl.col("dataset") == f"celeba-{item['test']}",
                pl.col("method") == item["method"],
                pl.col("region") == item["region"],
            )
            before = before if group == "all" else before.filter(pl.col("attr_group") == group)
            if item["test"] == "biased":
                assert item["untrained"] is None
            else:
                assert item["untrained"] == pytest.approx(before["iou_coverage"].mean(), abs=1e-6)

    def test_one_seed_has_an_interval_and_no_spread(self, run: ea.Run) -> None:
        table = bias_results(run).filter(pl.col("n") > 0, pl.col("metric") == "iou_coverage")
        assert table["sd_seeds"].null_count() == table.height
        assert (table["ci_low"] <= table["ea"]).all()
        assert (table["ci_high"] >= table["ea"]).all()

    def test_accuracy_and_its_interval(self, run: ea.Run) -> None:
        rows = strings(run.scores()).unique(["model", "dataset", "sample_id"])
        for item in performance(run).iter_rows(named=True):
            part = rows.filter(pl.col("model") == item["model"], pl.col("dataset") == f"celeba-{item['test']}")
            part = part if item["group"] == "all" else part.filter(pl.col("attr_group") == item["group"])
            share, n = part["correct"].mean(), part.height
            assert (item["accuracy"], item["n"]) == (pytest.approx(share), n)
            z = norm.ppf(0.975)  # Wilson's bounds are where the score test's statistic is z
            for bound in (item["accuracy_low"], item["accuracy_high"]):
                if 0 < bound < 1:
                    assert abs(share - bound) / np.sqrt(bound * (1 - bound) / n) == pytest.approx(z, rel=1e-6)

    def test_loss_is_the_cross_entropy_of_the_label(self, run: ea.Run) -> None:
        decided = strings(run.scores()).unique(["model", "dataset", "sample_id"])
        joined = read_losses(run).join(decided, on=["model", "seed", "dataset", "sample_id"], how="inner")
        assert joined.height == read_losses(run).height == 2 * (30 + 24 + 8)
        confident = pl.col("confidence").cast(pl.Float64)  # of two classes, so that the other one has the rest
        expected = joined.select(-pl.when("correct").then(confident).otherwise(1 - confident).log())
        np.testing.assert_allclose(joined["loss"], expected.to_series(), rtol=1e-3, atol=1e-5)
        table = performance(run).filter(model="biased", test="unbiased", group="blond smiling")
        mine = joined.filter(model="biased", dataset="celeba-unbiased", attr_group="blond smiling")
        assert table["loss"][0] == pytest.approx(mine["loss"].mean())
        assert table["loss_low"][0] <= table["loss"][0] <= table["loss_high"][0]

    def test_verdicts_are_of_the_trained_models_on_the_images_with_hair(self, grown: ea.Run) -> None:
        table = verdicts(grown)
        assert set(table["dataset"]) == {"celeba-hair"}
        assert set(table["model"]) == {"unbiased", "biased", "correlation-0", "correlation-1"}
        assert set(table["region"]) == {"mouth", "hair"}
        assert set(table.filter(pl.col("region") == "mouth")["verdict"]) == {"evidence"}
        assert table["intervention"].null_count() == 0
        counts = verdict_counts(grown)
        assert (counts.group_by("model", "method", "region").agg(pl.col("seeds").sum())["seeds"] == 2).all()
        assert (counts["of"] == 2).all()

    def test_reported_numbers_stand_beside_those_of_real_faces_only(
        self, run: ea.Run, shown_pair: Presentation
    ) -> None:
        assert bias_results(run)["reported"].null_count() == bias_results(run).height
        assert performance(run)["reported"].null_count() == performance(run).height
        cells = [cell for table in shown_pair.tables for row in table.rows for cell in row]
        assert not any("study" in line for cell in cells for line in cell)
        real = ea.open_run(run.path)
        real.info["toy"] = False
        table = bias_results(real).drop_nulls("reported")
        assert table.height == 2 * 4
        assert set(table["test"]) == {"biased"}
        assert set(table["method"]) == {"gradcam"}
        assert table.filter(model="unbiased", group="black smiling")["reported"][0] == 0.135
        rates = performance(real).drop_nulls("reported")
        assert rates.filter(test="unbiased")["reported"].to_list() == [0.9155]
        assert rates.filter(model="biased", group="blond smiling")["reported"].to_list() == [0.45]
        lines = [line for table in present(real).tables for row in table.rows for cell in row for line in cell]
        assert "study .450" in lines


class TestDoseResponse:
    def test_points_are_means_over_seeds(self, grown: ea.Run) -> None:
        table = dose_response_results(grown)
        assert set(table["quantity"]) == {"accuracy common", "accuracy rare", "excess mouth", "excess hair"}
        assert set(table["correlation"]) == {0.0, 1.0}
        rows = strings(grown.scores())
        for item in table.iter_rows(named=True):
            kind, what = item["quantity"].split()
            test = "celeba-unbiased" if kind == "accuracy" else "celeba-hair"
            part = rows.filter(
                pl.col("model") == correlation_model(item["correlation"]),
                pl.col("dataset") == test,
                pl.col("method") == "gradcam",
            )
            if kind == "accuracy":
                groups = [group_word(group) for group in (COMMON if what == "common" else RARE)]
                part = part.filter(pl.col("attr_group").is_in(groups))
                value = pl.col("correct").cast(pl.Float64)
            else:
                part = part.filter(pl.col("region") == what)
                value = (pl.col("iou_coverage") - pl.col("center_iou")).cast(pl.Float64)
            means = part.group_by("seed").agg(value=value.mean())["value"]
            assert item["value"] == pytest.approx(means.mean(), abs=1e-6)
            assert item["sd"] == pytest.approx(means.std(), abs=1e-6)
            assert item["high"] - item["low"] == pytest.approx(2 * means.std(), abs=1e-6)
            assert item["seeds"] == 2

    @pytest.mark.parametrize(("sd", "told"), [([0.01, 0.39, 0.19], "0.5 (SD .390)."), ([0.01, 0.1, None], None)])
    def test_seeds_that_disagree_are_named(self, sd: list[float | None], told: str | None) -> None:
        doses = [0.0, 0.5, 1.0]
        columns = {"correlation": doses, "value": [0.99, 0.6, 0.0], "sd": sd, "low": doses, "high": doses}
        said = dose_sentences(pl.DataFrame({"quantity": "accuracy rare", **columns, "seeds": 3}))
        assert "2 of 2 steps fall" in said[0]
        assert [told in sentence for sentence in said[1:]] == ([True] if told else [])

    def test_a_run_of_the_two_models_has_none(self, run: ea.Run, shown_pair: Presentation) -> None:
        assert dose_response_results(run).is_empty()
        assert [item.name for item in shown_pair.illustrations] == ["examples", "groups", "reliance"]

    def test_the_models_of_the_dose_are_not_explained_on_biased_images(self, grown: ea.Run) -> None:
        rows = strings(grown.scores()).filter(pl.col("model").str.starts_with("correlation"))
        assert set(rows["dataset"]) == {"celeba-unbiased", "celeba-hair"}
        assert set(rows["seed"]) == {0, 1}

    @pytest.mark.parametrize(
        ("values", "sd", "falls", "expected"),
        [
            ([1.0, 0.8, 0.2, 0.0], 0.0, True, (3, 3)),
            ([1.0, 0.8, 0.85, 0.0], 0.0, True, (2, 3)),
            ([1.0, 0.8, 0.85, 0.0], 0.1, True, (3, 3)),
            ([1.0, 0.8, 0.2, 0.0], 0.01, False, (0, 3)),
            ([0.1, 0.3, 0.9, 0.9], 0.0, False, (3, 3)),
        ],
    )
    def test_steps_are_counted_within_their_error(
        self, values: list[float], sd: float, falls: bool, expected: tuple[int, int]
    ) -> None:
        n = len(values)
        table = pl.DataFrame(
            {
                "quantity": ["q"] * n,
                "correlation": [0.1 * place for place in range(n)],
                "value": values,
                "sd": [sd] * n,
                "low": [value - sd for value in values],
                "high": [value + sd for value in values],
                "seeds": [3] * n,
            }
        ).sample(n, shuffle=True, seed=1)
        assert monotone_within_error(table, "q", falls=falls) == expected
        one = table.with_columns(sd=pl.lit(None, pl.Float64), low=pl.col("value") - 0.2, high=pl.col("value") + 0.2)
        assert monotone_within_error(one, "q", falls=True)[0] >= expected[0] if falls else True


class TestPresentation:
    def test_it_says_what_the_numbers_say(self, grown: ea.Run, shown: Presentation) -> None:
        table = performance(grown).filter(model="biased", test="unbiased")
        common = table.filter(pl.col("group").is_in([group_word(group) for group in COMMON]))["accuracy"].mean()
        [said] = [line for line in shown.sentences if line.startswith("The biased model is right on")]
        assert f"{common:.3f}".lstrip("0") in said
        assert [item.name for item in shown.illustrations] == ["examples", "groups", "reliance", "dose_response"]
        assert shown.subtitle == "generated faces: two models and 2 correlations of hair and smile, seeds 0, 1"

    def test_tables_fit_a_hundred_columns(self, shown: Presentation, capsys: pytest.CaptureFixture[str]) -> None:
        for item in shown.tables:
            assert all(len(row) == len(item.headings) for row in item.rows)
            table = new_table(item.title, item.headings, len(item.headings))
            for row in item.rows:
                table.add_row(*(cell(*lines) for lines in row))
            show_table(table)
            printed = capsys.readouterr().out
            assert max(map(len, printed.splitlines())) <= 100
            for row in item.rows:
                for lines in row:
                    assert all(line in printed for line in lines)  # nothing is broken to fit

    def test_report_needs_no_torch(self, run: ea.Run) -> None:
        code = "import sys, explanation_alignment as ea; ea.report(sys.argv[1]); assert 'torch' not in sys.modules"
        done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        page = (run.path / "report.html").read_text()
        assert "Is a smile told by the mouth" in page
        assert "study&#39;s numbers are not shown" in page
        for name in ("examples", "groups", "reliance"):
            assert (run.path / f"figures/{name}.png").stat().st_size > 5_000

    def test_there_is_an_example_of_each_group_and_model(self, run: ea.Run) -> None:
        from explanation_alignment.experiments.celeba.bias_figures import _examples

        table = _examples(run, MODELS)
        assert table.select("model", "dataset").n_unique() == 8
        assert set(table["dataset"]) == {group_word(group) for group in GROUPS}


@pytest.mark.slow
def test_a_run_killed_in_training_and_in_evaluation_ends_in_the_same_tables(tmp_path: Path) -> None:
    """SIGKILL twice while a model is being trained and once while it is being explained."""
    options = (
        *("--resize", "36", "--crop", "32", "--train-per-group", "60", "--test-per-group", "20"),
        *("--hair-per-group", "3", "--epochs", "5", "--batch-size", "16", "--device", "cpu", "--quiet"),
    )
    line = [sys.executable, "-m", "explanation_alignment", "experiment", "celeba-bias", "--toy", *options]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run([*line, "--out", str(whole)], check=True, capture_output=True)
    killed = 0
    for sign in (
        "checkpoints/unbiased-seed0.resume.pt",
        "checkpoints/biased-seed0.resume.pt",
        "scores/biased--celeba-biased--seed0--*/*.parquet",
    ):
        with subprocess.Popen([*line, "--out", str(broken)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            while process.poll() is None and not list(broken.glob(sign)):
                time.sleep(0.005)
            killed += process.poll() is None
            process.kill()
    assert killed == 3
    assert ea.open_run(broken).unfinished
    subprocess.run([*line, "--out", str(broken)], check=True, capture_output=True)
    mine, theirs = ea.open_run(broken), ea.open_run(whole)
    assert not mine.unfinished
    order = ["model", "dataset", "sample_id", "method", "region"]
    assert_frame_equal(strings(mine.scores()).sort(order), strings(theirs.scores()).sort(order))
    assert_frame_equal(bias_results(mine), bias_results(theirs))
    assert_frame_equal(performance(mine), performance(theirs))
    assert_frame_equal(verdicts(mine), verdicts(theirs))


@pytest.mark.parametrize("examples", [True, False], ids=["examples", "no-examples"])
@pytest.mark.parametrize(
    ("models", "tests"),
    [(["unbiased"], ["biased"]), (["unbiased"], ["unbiased"]), (["unbiased"], ["biased", "unbiased", "hair"])],
    ids=["a-biased-test", "an-unbiased-test", "one-model"],
)
def test_a_stopped_experiment_has_a_report_of_what_there_is(
    run: ea.Run, tmp_path: Path, models: list[str], tests: list[str], examples: bool
) -> None:
    part = stopped(
        run,
        tmp_path / "part",
        lambda asked: asked["model"] in models and asked["dataset"].split("-")[1] in tests,
        examples=examples,
    )
    page = ea.report(part).read_text(encoding="utf-8")
    assert "Not finished" in page
    said = " ".join(present(part).sentences)
    assert "No masks of the hair were given" not in said
    assert ("not judged yet" in said) == ("hair" not in tests)


def test_a_run_without_masks_of_the_hair_says_so(run: ea.Run, tmp_path: Path) -> None:
    part = stopped(run, tmp_path / "part", lambda asked: not asked["dataset"].startswith("celeba-hair"))
    info = json.loads((part.path / "run.json").read_text())
    info["experiment"]["settings"]["data"]["hair_pairing"] = None
    (part.path / "run.json").write_text(json.dumps(info))
    said = " ".join(present(ea.open_run(part.path)).sentences)
    assert "No masks of the hair were given" in said
