from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from stopped_runs import stopped

import explanation_alignment as ea
from explanation_alignment.cli.display.results import print_experiment
from explanation_alignment.errors import ModelError, RunError, UnknownNameError, UsageError
from explanation_alignment.experiments.celeba.draws import GroupedFaces, digest_of, open_faces
from explanation_alignment.experiments.celeba.protocol import COMMON, GROUPS, RARE, TOY, Protocol, group_word
from explanation_alignment.experiments.celeba.regions_faces import draw_region_faces
from explanation_alignment.experiments.celeba.regions_models import models_of_run, models_to_rank
from explanation_alignment.experiments.celeba.regions_presentation import present, verdict_sentences
from explanation_alignment.experiments.celeba.regions_protocol import (
    PUBLISHED_PER_GROUP,
    KeptOut,
    RegionsProtocol,
    kind_of_test,
)
from explanation_alignment.experiments.celeba.regions_results import accuracies, first_regions, region_results
from explanation_alignment.experiments.celeba.regions_running import run_regions_experiment
from explanation_alignment.runs.writer import RunWriter
from explanation_alignment.statistics.relying.region_reliance import reliance

REGIONS = {"hair", "eye", "mouth", "neck", "nose", "skin", "cloth"}
TRAINING = replace(TOY, train_per_group=10, test_per_group=5, hair_per_group=3, epochs=1)
QUICK = RegionsProtocol(test_per_group=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ea.Run:
    out = tmp_path_factory.mktemp("regions") / "run"
    return run_regions_experiment(None, None, out, protocol=QUICK, training=TRAINING, progress=False)


@pytest.fixture(scope="module")
def trees(run: ea.Run) -> tuple[Path, Path]:
    """CelebA's and CelebAMask-HQ's generated stand-ins."""
    [celeba] = (run.path / "data").glob("celeba-*")
    [hq] = (run.path / "data").glob("celebamask_hq-*")
    return celeba, hq


@pytest.fixture(scope="module")
def trained_on(trees: tuple[Path, Path]) -> list[GroupedFaces]:
    faces = open_faces(trees[0])
    return [faces.training_set(TRAINING, model) for model in ("unbiased", "biased")]


def persons_of(celeba: Path) -> dict[str, str]:
    """Image -> person, from the list itself."""
    lines = (celeba / "Anno/identity_CelebA.txt").read_text().splitlines()
    return dict(line.split() for line in lines)  # type: ignore[arg-type]


def images_of(hq: Path) -> dict[str, str]:
    """CelebAMask-HQ's index -> image of CelebA, from the mapping itself."""
    lines = (hq / "CelebA-HQ-to-CelebA-mapping.txt").read_text().splitlines()[1:]
    return {f"{int(index):05d}": file for index, _, file in (line.split() for line in lines)}


def test_run_holds_both_models_on_both_test_sets_with_seven_regions(run: ea.Run) -> None:
    rows = run.scores().with_columns(pl.col("model", "dataset", "region", "method").cast(pl.String))
    assert set(rows["region"]) == REGIONS
    assert set(rows["model"]) == {"unbiased", "biased"}
    images = rows.group_by("dataset").agg(pl.col("sample_id").n_unique()).sort("dataset")
    assert images.rows() == [("celebamask_hq-biased", 2 * 4 + 2 * 1), ("celebamask_hq-unbiased", 16)]
    assert rows.height == (10 + 16) * 2 * 2 * 7
    groups = rows.filter(dataset="celebamask_hq-biased").select("sample_id", "attr_group").unique()
    counts = dict(groups.group_by("attr_group").agg(pl.len()).rows())
    assert counts == {group_word(g): 4 for g in COMMON} | {group_word(g): 1 for g in RARE}
    assert rows["exchange_flip"].is_not_null().any()  # so that the rule can confirm
    assert not run.unfinished
    assert run.info["toy"]
    assert run.evidence == ("mouth",)
    settings = run.info["experiment"]["settings"]
    assert settings["test_per_group"] == 4
    assert settings["training"]["epochs"] == 1


def test_absent_parts_have_no_annotation_and_are_no_misses(run: ea.Run, trees: tuple[Path, Path]) -> None:
    rows = run.scores().filter(pl.col("status").cast(pl.String) == "no_annotation")
    masks = trees[1] / "CelebAMask-HQ-mask-anno/0"
    parts = {"eye": ("l_brow", "r_brow", "l_eye", "r_eye"), "mouth": ("l_lip", "u_lip", "mouth")}
    for row in run.scores().unique(["sample_id", "region"]).iter_rows(named=True):
        names = parts.get(row["region"], (row["region"],))
        there = any((masks / f"{row['sample_id']}_{name}.png").is_file() for name in names)
        assert (row["status"] != "no_annotation") == there
    assert rows["iou_coverage"].null_count() == rows.height


def test_nobody_the_models_were_trained_on_is_in_a_test_image(
    run: ea.Run, trees: tuple[Path, Path], trained_on: list[GroupedFaces]
) -> None:
    persons, images = persons_of(trees[0]), images_of(trees[1])
    known = {persons[f"{name}.jpg"] for faces in trained_on for name in faces.ids()}
    tested = {persons[images[name]] for name in run.scores()["sample_id"].unique()}
    assert tested
    assert not tested & known
    kept_out = run.info["experiment"]["settings"]["data"]["kept_out"]
    assert (kept_out["rule"], kept_out["persons"]) == ("persons", len(known))
    assert kept_out["images"] == sum(persons[file] in known for file in images.values())  # no other hair in the toy
    assert kept_out["images"] + kept_out["left"] == len(images)
    for name, faces in zip(("unbiased", "biased"), trained_on, strict=True):
        drawn = pl.read_csv(run.path / f"draws/celeba-train-{name}.csv", schema_overrides={"sample_id": pl.String})
        assert drawn["sample_id"].to_list() == list(faces.ids())
        drawn = pl.read_csv(run.path / f"draws/celebamask_hq-{name}.csv", schema_overrides={"sample_id": pl.String})
        rows = run.scores().filter(pl.col("dataset").cast(pl.String) == f"celebamask_hq-{name}")
        assert set(drawn["sample_id"]) == set(rows["sample_id"])


def test_the_same_question_changes_nothing(run: ea.Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.is_file()}
    again = run_regions_experiment(None, None, run.path, protocol=QUICK, training=TRAINING, progress=False)
    changed = {path for path, stamp in before.items() if path.stat().st_mtime_ns != stamp}
    assert changed <= {run.path / ".lock"}
    assert again.scores().equals(run.scores())


def test_trees_on_disk_give_the_same_tables(run: ea.Run, trees: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(run.path / "checkpoints", tmp_path / "run/checkpoints")
    (tmp_path / "run/run.json").write_text((run.path / "run.json").read_text())
    with RunWriter(tmp_path / "run", toy=True).updating() as info:
        info |= {"evaluations": {}, "datasets": {}}
    again = run_regions_experiment(
        *trees, tmp_path / "run", protocol=QUICK, training=TRAINING, progress=False, eval_batch_size=16
    )
    assert_frame_equal(again.scores(), run.scores())


def test_other_settings_in_the_same_folder_are_refused(run: ea.Run, trees: tuple[Path, Path]) -> None:
    changed = replace(QUICK, test_per_group=3)
    with pytest.raises(RunError, match=r"test_per_group: 4 -> 3.*choose another --out"):
        run_regions_experiment(*trees, run.path, protocol=changed, training=TRAINING, progress=False)


# ---------------------------------------------------------------------------------------------------- the draws


def test_draws_are_nested_and_of_the_groups_asked_for(trees: tuple[Path, Path], trained_on: list[GroupedFaces]) -> None:
    small = draw_region_faces(trees[1], trees[0], replace(QUICK, test_per_group=2), trained_on)
    large = draw_region_faces(trees[1], trees[0], QUICK, trained_on)
    for name in ("unbiased", "biased"):
        assert set(small.test_sets[name].ids()) < set(large.test_sets[name].ids())
    groups = large.test_sets["unbiased"].groups
    assert {group_word(group): groups.count(group_word(group)) for group in GROUPS} == {
        group_word(group): 4 for group in GROUPS
    }
    other = draw_region_faces(trees[1], trees[0], replace(QUICK, draw_seed=1), trained_on)
    assert set(other.test_sets["unbiased"].ids()) != set(large.test_sets["unbiased"].ids())


def test_as_many_as_there_are_unless_told_how_many(trees: tuple[Path, Path], trained_on: list[GroupedFaces]) -> None:
    drawn = draw_region_faces(trees[1], trees[0], RegionsProtocol(), trained_on)
    everyone = draw_region_faces(trees[1], trees[0], RegionsProtocol(keep_training_identities=True), trained_on)
    assert 4 <= drawn.per_group < everyone.per_group < PUBLISHED_PER_GROUP
    groups = drawn.test_sets["biased"].groups
    rare = [groups.count(group_word(group)) for group in RARE]
    assert rare == [round(drawn.per_group / 4)] * 2
    assert everyone.kept_out == KeptOut("nothing", 0, everyone.kept_out.left)
    assert "as published" in everyone.kept_out.sentence()


def test_a_group_too_small_is_told_with_counts_and_what_to_do(
    trees: tuple[Path, Path], trained_on: list[GroupedFaces]
) -> None:
    with pytest.raises(UsageError) as raised:
        draw_region_faces(trees[1], trees[0], RegionsProtocol(test_per_group=500), trained_on)
    text = str(raised.value)
    for part in ("blond smiling, 500 wanted", "were kept out", "--test-per-group", "--keep-training-identities"):
        assert part in text
    with pytest.raises(UsageError) as raised:
        draw_region_faces(trees[1], trees[0], RegionsProtocol(test_per_group=500), None)
    assert "--keep-training-identities" not in str(raised.value)


def test_without_a_list_of_persons_the_training_partition_is_kept_out(trees: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(trees[0], tmp_path / "celeba")
    (tmp_path / "celeba/Anno/identity_CelebA.txt").unlink()
    faces = open_faces(tmp_path / "celeba")
    sets = [faces.training_set(TRAINING, model) for model in ("unbiased", "biased")]
    drawn = draw_region_faces(trees[1], tmp_path / "celeba", QUICK, sets)
    lines = (trees[0] / "Eval/list_eval_partition.txt").read_text().splitlines()
    partition = dict(line.split() for line in lines)
    images = images_of(trees[1])
    assert all(partition[images[name]] != "0" for test in drawn.test_sets.values() for name in test.ids())
    assert drawn.kept_out.rule == "training partition"
    assert drawn.kept_out.images == sum(partition[file] == "0" for file in images.values())
    assert "no list of persons" in drawn.kept_out.sentence()


def test_the_published_pairing_is_named(trees: tuple[Path, Path], trained_on: list[GroupedFaces]) -> None:
    drawn = draw_region_faces(trees[1], trees[0], replace(QUICK, images="aligned"), trained_on)
    test = drawn.test_sets["unbiased"]
    assert test.name == "celebamask_hq-published_pairing-unbiased"
    assert kind_of_test(test.name) == "unbiased"
    assert test[0].image.size == (178, 218)  # type: ignore[union-attr]
    same = draw_region_faces(trees[1], trees[0], QUICK, trained_on).test_sets["unbiased"]
    assert test.ids() == same.ids()


def test_published_counts_and_numbers_out_of_range() -> None:
    protocol = RegionsProtocol()
    assert sum(protocol.test_counts("unbiased", PUBLISHED_PER_GROUP).values()) == 8000
    biased = protocol.test_counts("biased", PUBLISHED_PER_GROUP)
    assert sum(biased.values()) == 5000
    assert [biased[group] for group in (*COMMON, *RARE)] == [2000, 2000, 500, 500]
    for wrong in ({"test_per_group": 0}, {"rare_share": 0}, {"rare_share": 2}, {"draw_seed": -1}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            RegionsProtocol(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="'aligned'"):
        RegionsProtocol(images="alined")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="test set"):
        protocol.test_counts("hair", 1)


# --------------------------------------------------------------------------------------------------- the models


def bias_run(folder: Path, run: ea.Run, trained_on: list[GroupedFaces], **changed: object) -> Path:
    """What the first experiment leaves: its record and its checkpoints."""
    draws = {faces.name: f"{len(faces)} faces {digest_of(faces.ids())}" for faces in trained_on}
    settings = {**asdict(TRAINING), "decay_after": list(TRAINING.decay_after), "data": {"draws": draws}} | changed
    RunWriter(folder, experiment={"name": "celeba-bias", "settings": settings}, toy=True)
    shutil.copytree(run.path / "checkpoints", folder / "checkpoints")
    return folder


def test_models_are_those_of_the_first_experiment(
    run: ea.Run, trees: tuple[Path, Path], trained_on: list[GroupedFaces], tmp_path: Path
) -> None:
    folder = bias_run(tmp_path / "bias", run, trained_on)
    source = models_of_run(folder)
    assert source.protocol == TRAINING
    device = torch.device("cpu")
    loaded = list(models_to_rank(source, open_faces(trees[0]), seeds=[0], out=tmp_path / "out", device=device))
    digests = {(row["model"], row["seed"]): row["weights_digest"] for row in run.models().iter_rows(named=True)}
    assert {(one.name, seed): one.weights_digest() for seed, one in loaded} == digests
    assert not (tmp_path / "out").exists()  # nothing was trained


def test_what_the_run_lacks_is_trained_here_and_nothing_is_written_there(
    run: ea.Run, trees: tuple[Path, Path], trained_on: list[GroupedFaces], tmp_path: Path
) -> None:
    folder = bias_run(tmp_path / "bias", run, trained_on)
    (folder / "checkpoints/biased-seed0.safetensors").unlink()
    before = sorted(folder.rglob("*"))
    faces, device = open_faces(trees[0]), torch.device("cpu")
    source = models_of_run(folder)
    made = models_to_rank(source, faces, seeds=[0], out=tmp_path / "out", device=device, progress=False)
    names = [(seed, one.name) for seed, one in made]
    assert names == [(0, "unbiased"), (0, "biased")]
    assert [path.name for path in tmp_path.glob("out/checkpoints/*")] == ["biased-seed0.safetensors"]
    assert sorted(folder.rglob("*")) == before


def test_models_of_other_faces_or_another_experiment_are_refused(
    run: ea.Run, trees: tuple[Path, Path], trained_on: list[GroupedFaces], tmp_path: Path
) -> None:
    other = {"draws": {"celeba-train-unbiased": f"40 faces {'0' * 64}"}}
    folder = bias_run(tmp_path / "bias", run, trained_on, data=other)
    with pytest.raises(UsageError, match="trained on other faces"):
        run_regions_experiment(*trees, tmp_path / "out", models=folder, protocol=QUICK, progress=False)
    with pytest.raises(UsageError, match="run of celeba-regions; expected one of celeba-bias"):
        models_of_run(run.path)
    with pytest.raises(RunError, match="no folder"):
        models_of_run(tmp_path / "nowhere")
    RunWriter(tmp_path / "real", experiment={"name": "celeba-bias", "settings": asdict(Protocol())})
    with pytest.raises(UsageError, match="trained on real faces, these are generated"):
        run_regions_experiment(*trees, tmp_path / "out", models=tmp_path / "real", protocol=QUICK, progress=False)


def test_a_checkpoint_of_another_network_is_refused(
    run: ea.Run, trees: tuple[Path, Path], trained_on: list[GroupedFaces], tmp_path: Path
) -> None:
    folder = bias_run(tmp_path / "bias", run, trained_on, network="timm:test_resnet")
    source = models_of_run(folder)
    with pytest.raises(ModelError, match=r"unbiased-seed0.safetensors"):
        next(models_to_rank(source, open_faces(trees[0]), seeds=[0], out=tmp_path, device=torch.device("cpu")))


def test_any_classifier_can_be_asked(trees: tuple[Path, Path], tmp_path: Path) -> None:
    classifier = ea.load_classifier("toy:faces", "random", "cpu")
    protocol = replace(QUICK, test_per_group=2)
    found = run_regions_experiment(
        None, trees[1], tmp_path / "run", classifiers=[classifier], protocol=protocol, progress=False
    )
    settings = found.info["experiment"]["settings"]
    assert settings["training"] is None
    assert settings["data"]["kept_out"]["rule"] == "unknown"
    shown = present(found)
    assert any("is not known here" in sentence for sentence in shown.sentences)
    assert any(f"{classifier.name} has accuracy" in sentence for sentence in shown.sentences)


def test_what_does_not_go_together_is_refused(run: ea.Run, trees: tuple[Path, Path], tmp_path: Path) -> None:
    celeba, hq = trees
    classifier = ea.load_classifier("toy:faces", "random", "cpu")
    with pytest.raises(UsageError, match="seeds"):
        run_regions_experiment(celeba, hq, tmp_path / "out", seeds=[1, 1])
    with pytest.raises(UsageError, match="not both"):
        run_regions_experiment(celeba, hq, tmp_path / "out", classifiers=[classifier], models=run.path)
    with pytest.raises(UsageError, match="different names"):
        run_regions_experiment(celeba, hq, tmp_path / "out", classifiers=[classifier, classifier])
    with pytest.raises(UsageError, match="goes with hq_dir"):
        run_regions_experiment(celeba, None, tmp_path / "out")
    with pytest.raises(UsageError, match="need data_dir"):
        run_regions_experiment(None, hq, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ----------------------------------------------------------------------------------------------- what is shown


def test_results_are_the_ranking_of_the_run_and_its_first_regions(run: ea.Run) -> None:
    results = region_results(run)
    assert_frame_equal(results.select(ea.rank_regions(run).columns), ea.rank_regions(run), check_row_order=False)
    assert results["test"].unique(maintain_order=True).to_list() == ["unbiased", "biased"]
    assert results["model"].unique(maintain_order=True).to_list() == ["unbiased", "biased"]
    firsts = first_regions(run)
    assert firsts.height == 2 * 2 * 2 * 4
    for row in firsts.iter_rows(named=True):
        keys = ("test", "method", "model", "statistic")
        own = results.filter(*(pl.col(key) == row[key] for key in keys)).sort("rank", "region", nulls_last=True)
        best = own.row(0, named=True)
        assert [row[name] for name in ("region", "first", "rank_low", "rank_high")] == [
            best[name] for name in ("region", "first", "rank_low", "rank_high")
        ]
        assert (row["times_first"], row["seeds"], row["tau_mean"]) == (1, 1, None)


def test_accuracies_are_plain_shares_of_right_images(run: ea.Run) -> None:
    rows = (
        run.scores().with_columns(pl.col("model", "dataset").cast(pl.String)).unique(["model", "dataset", "sample_id"])
    )
    for row in accuracies(run).iter_rows(named=True):
        own = rows.filter(pl.col("model") == row["model"], pl.col("dataset").str.ends_with(f"-{row['test']}"))
        assert row["accuracy"] == pytest.approx(own["correct"].cast(pl.Float64).mean())
        assert (row["images"], row["seeds"], row["accuracy_sd"]) == (own.height, 1, None)


def two_seeds(run: ea.Run, tmp_path: Path) -> ea.Run:
    """The run with every row a second time under seed 1, some scores changed, so that seeds are told."""
    shutil.copytree(run.path / "scores", tmp_path / "scores")
    shutil.copytree(run.path / "examples", tmp_path / "examples")
    RunWriter(tmp_path / "new")  # the form of a record
    shutil.copy(run.path / "run.json", tmp_path / "run.json")
    with RunWriter(tmp_path, toy=True).updating() as info:
        for slug, item in list(info["evaluations"].items()):
            info["evaluations"][f"{slug}-1"] = {**item, "question": {**item["question"], "seed": 1}}
    for slug in list(run.evaluations):
        for part in (tmp_path / "scores" / slug).glob("*.parquet"):
            other = tmp_path / "scores" / f"{slug}-1" / part.name
            other.parent.mkdir()
            table = pl.read_parquet(part).with_columns(
                seed=pl.lit(1, pl.Int64), iou_coverage=pl.col("iou_coverage") / 2
            )
            table.write_parquet(other)
    return ea.open_run(tmp_path)


@pytest.mark.parametrize("several", [False, True])
def test_tables_and_words_fit_a_terminal_and_say_what_the_numbers_say(
    run: ea.Run, tmp_path: Path, several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = two_seeds(run, tmp_path) if several else ea.open_run(run.path)
    shown = present(opened)
    monkeypatch.setattr("explanation_alignment.reporting.presentation.present", lambda _: shown)
    monkeypatch.setattr("explanation_alignment.reporting.build.report", lambda *_: opened.path / "report.html")
    text = StringIO()
    with redirect_stdout(text):
        print_experiment(opened)
    lines = text.getvalue().splitlines()
    assert max(len(line) for line in lines if str(opened.path) not in line) <= 100
    assert "Generated toy data" in lines[-1]
    firsts = first_regions(opened).filter(test="unbiased", method="gradcam", model="biased")
    told = {row["statistic"]: row for row in firsts.iter_rows(named=True)}
    [sentence] = [s for s in shown.sentences if " biased's Grad-CAM" in s]
    assert f"rank {told['excess']['region']} first" in sentence
    assert (
        f"by lift {told['lift']['region']}, IoU {told['iou']['region']} and hits {told['hits']['region']}" in sentence
    )
    assert ("of 2 seeds" in sentence) == several
    if not several:
        assert f"{100 * told['excess']['first']:.0f} % of resamples" in sentence
    assert [item.name for item in shown.illustrations] == [
        "region_cutouts",
        "region_ranking",
        "four_rankings",
        "reliance_bars",
    ]
    assert len(shown.tables) == 3
    assert len(shown.tables[1].rows) == 2 * 7
    for words in ("Kept out of the test images", "Of all pairs of model, seed and region outside the evidence"):
        assert any(words in sentence for sentence in shown.sentences)
    assert not any("published_pairing" in sentence for sentence in shown.sentences)


def test_many_flags_are_counted_and_few_are_told_one_by_one(run: ea.Run) -> None:
    found = reliance(run).filter(pl.col("seed") == 0)
    where = (pl.col("dataset") == "celebamask_hq-unbiased") & (pl.col("method") == "gradcam")
    few = found.with_columns(
        verdict=pl.when(where & (pl.col("region") == "hair")).then(pl.lit("confirmed")).otherwise(pl.lit("unknown")),
        is_evidence=pl.col("region") == "mouth",
    )
    lines = verdict_sentences(few, "celebamask_hq-unbiased", "gradcam", ["unbiased", "biased"])
    assert [line.split(" relies on ")[0] for line in lines[:-1]] == ["unbiased", "biased"]
    assert lines[-1].endswith("10 unknown, 2 confirmed.")
    many = pl.concat([few.with_columns(seed=pl.lit(seed, pl.Int64)) for seed in range(6)])
    lines = verdict_sentences(many, "celebamask_hq-unbiased", "gradcam", ["unbiased", "biased"])
    assert lines[0].startswith("unbiased and hair: confirmed in 6 seeds (IoU over centre ")
    assert len(lines) == 3


def test_the_published_pairing_is_said_in_words(run: ea.Run) -> None:
    opened = ea.open_run(run.path)
    opened.info["experiment"]["settings"]["images"] = "aligned"
    assert any("published_pairing" in sentence for sentence in present(opened).sentences)


@pytest.mark.slow
def test_report_and_its_words_need_no_torch(run: ea.Run) -> None:
    code = "import sys, explanation_alignment as ea; ea.report(sys.argv[1]); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (run.path / "report.html").read_text()
    for part in (
        "Which part of the face do they rely on?",
        "Generated toy data",
        "No reported numbers of this are known",
    ):
        assert part in page
    for name in ("region_cutouts", "region_ranking", "four_rankings", "reliance_bars"):
        assert (run.path / f"figures/{name}.png").stat().st_size > 5_000
        assert (run.path / f"figures/{name}.svg").stat().st_size > 5_000


@pytest.mark.parametrize("examples", [True, False], ids=["examples", "no-examples"])
@pytest.mark.parametrize("test", ["unbiased", "biased"])
def test_a_stopped_experiment_has_a_report_of_what_there_is(
    run: ea.Run, tmp_path: Path, test: str, examples: bool
) -> None:
    part = stopped(
        run,
        tmp_path / "part",
        lambda asked: asked["model"] == "unbiased" and asked["dataset"].endswith(f"-{test}"),
        examples=examples,
    )
    assert "Not finished" in ea.report(part).read_text(encoding="utf-8")
