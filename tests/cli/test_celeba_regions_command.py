from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from safetensors.torch import save_file

import explanation_alignment as ea
from command_line import Ealign
from explanation_alignment.classifiers.face_network import FaceNetwork
from explanation_alignment.experiments.celeba.draws import digest_of, open_faces
from explanation_alignment.experiments.celeba.protocol import MODELS, TOY
from explanation_alignment.experiments.celeba.toy_data import toy_trees
from explanation_alignment.runs.writer import RunWriter

TRAINING = replace(TOY, train_per_group=5, test_per_group=2, hair_per_group=3, epochs=1)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """CelebA's and CelebAMask-HQ's generated stand-ins."""
    made = toy_trees(tmp_path_factory.mktemp("faces"), TRAINING)
    return made.celeba, made.celebamask_hq


def test_any_classifier_is_ranked_and_the_tables_printed(
    ealign: Ealign, trees: tuple[Path, Path], tmp_path: Path
) -> None:
    done = ealign(
        f"experiment celeba-regions --hq-dir {trees[1]} --model toy:faces --weights random --test-per-group 2 "
        f"--out {tmp_path / 'run'} --quiet"
    )
    assert done.code == 0, done.err
    for part in ("Which region is first?", "Regions by rank: celebamask_hq-unbiased, gradcam", "Generated toy data"):
        assert part in done.out
    assert max(len(line) for line in done.out.splitlines() if str(tmp_path) not in line) <= 100
    settings = ea.open_run(tmp_path / "run").info["experiment"]["settings"]
    assert settings["test_per_group"] == 2
    assert settings["rare_share"] == 0.25


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        ("", 2, "give --hq-dir"),
        ("--toy --hq-dir {hq}", 2, "give --hq-dir"),
        ("--toy --data-dir {celeba}", 2, "goes with --hq-dir"),
        ("--hq-dir {hq}", 2, "give --data-dir"),
        ("--hq-dir {hq} --data-dir {celeba} --toy-seed 1", 2, "give --toy"),
        ("--hq-dir {hq} --model toy:faces --weights random --seeds 0,1", 2, "are trained"),
        ("--hq-dir {hq} --model toy:faces --weights random --models {celeba}", 2, "are trained"),
        ("--toy --weights random", 2, "goes with --model"),
        ("--toy --images alined", 2, "did you mean 'aligned'"),
        ("--toy --test-per-group 0", 2, "test_per_group"),
        ("--hq-dir {celeba} --data-dir {celeba}", 1, "no CelebA-HQ-img"),
        ("--hq-dir {hq} --data-dir {celeba} --models {celeba}", 2, "is not a run"),
    ],
)
def test_wrong_use_is_told_in_a_line_and_leaves_nothing_behind(
    ealign: Ealign, trees: tuple[Path, Path], tmp_path: Path, options: str, code: int, told: str
) -> None:
    given = options.format(celeba=trees[0], hq=trees[1])
    done = ealign(f"experiment celeba-regions {given} --out {tmp_path / 'run'}")
    assert told in " ".join(done.err.split())
    assert done.code == code
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_models_of_the_usual_folder_are_found_and_used(
    ealign: Ealign, trees: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    faces = open_faces(trees[0])
    sets = [faces.training_set(TRAINING, model) for model in MODELS]
    draws = {item.name: f"{len(item)} faces {digest_of(item.ids())}" for item in sets}
    settings = {**asdict(TRAINING), "decay_after": list(TRAINING.decay_after), "data": {"draws": draws}}
    usual = tmp_path / "runs/celeba-bias"
    RunWriter(usual, experiment={"name": "celeba-bias", "settings": settings}, toy=True)
    (usual / "checkpoints").mkdir()
    for model in MODELS:
        save_file(FaceNetwork().state_dict(), usual / f"checkpoints/{model}-seed3.safetensors")
    done = ealign(
        f"experiment celeba-regions --data-dir {trees[0]} --hq-dir {trees[1]} --test-per-group 2 --seed 3 --out new"
    )
    assert done.code == 0, done.err
    assert "models: those of runs/celeba-bias" in " ".join(done.err.split())
    assert "Kept out of the test images" in done.err
    assert not (tmp_path / "new/checkpoints").exists()  # nothing was trained
    assert ea.open_run(tmp_path / "new").models()["seed"].to_list() == [3, 3]
