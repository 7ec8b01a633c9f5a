"""``ealign evaluate`` with many models, and ``ealign cache``."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import explanation_alignment as ea
from command_line import Ealign

COMMON = "--method vanilla_gradients --device cpu --weights random"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    file = tmp_path / "factories.py"
    file.write_text(
        "from toys import small_classifier\n\n\n"
        "def one():\n    return small_classifier(1, name='one')\n\n\n"
        "def two():\n    return small_classifier(2, name='two')\n\n\n"
        "def broken():\n    raise OSError('no such weights')\n"
    )
    listed = tmp_path / "models.txt"
    listed.write_text(f"# mine\nfile:{file}:one default\nfile:{file}:broken default\nfile:{file}:two default # last\n")
    return listed


def test_several_with_one_that_fails(ealign: Ealign, data: str, models: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = ealign(f"evaluate --model {models} --dataset {data} --out {run} {COMMON} --cache {tmp_path / 'cache'}")
    assert done.code == 1
    assert f"{models}: 3 classifiers" in done.err
    assert "[1/3]" in done.err
    assert "1 classifier could not be evaluated; the same command again tries them again" in done.err
    assert "OSError: no such weights" in " ".join(done.err.split())
    assert max(map(len, done.err.splitlines()[-5:])) <= 100
    assert "model one" in done.out
    assert "model two" in done.out
    assert "failed" not in done.out
    shown = ealign(f"show {run}")
    assert shown.code == 0
    assert "no such weights" in " ".join(shown.err.split())

    factory = tmp_path / "factories.py"
    factory.write_text(factory.read_text().replace("raise OSError('no such weights')", "return small_classifier(3)"))
    again = ealign(f"evaluate --model {models} --dataset {data} --out {run} {COMMON} --cache off")
    assert again.code == 0
    assert "model small" in again.out
    assert "could not be evaluated" not in again.err
    assert ea.open_run(run).failures == {}

    listed = ealign(f"cache list --dir {tmp_path / 'cache'}")
    assert listed.code == 0
    assert "patches" in listed.out
    assert "12 of 12" in listed.out
    assert "freed" in ealign(f"cache clear --dir {tmp_path / 'cache'}").out
    assert "no decoded images" in ealign(f"cache list --dir {tmp_path / 'cache'}").out


def test_all_fail(ealign: Ealign, data: str, models: Path, tmp_path: Path) -> None:
    broken = f"--model file:{tmp_path}/factories.py:broken --model file:{tmp_path}/nowhere.py:x"
    done = ealign(f"evaluate {broken} --dataset {data} --out {tmp_path / 'run'} {COMMON} --cache off")
    assert done.code == 1
    assert "2 classifiers could not be evaluated" in done.err
    assert done.out == ""


def test_a_single_one_that_fails_is_an_error(ealign: Ealign, data: str, models: Path, tmp_path: Path) -> None:
    common = f"--dataset {data} --out {tmp_path / 'run'} {COMMON}"
    done = ealign(f"evaluate --model file:{tmp_path}/factories.py:broken {common}")
    assert (done.code, "error: classifier" in done.err, "no such weights" in done.err) == (1, True, True)
    assert ealign(f"evaluate --model timm:resnet5O {common}").code == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--model 'timm:tst_vit*'", "did you mean 'test_vit'"),
        ("--model 'hf:a/*'", "patterns go with timm:"),
        ("--model '{models}' --name mine", "--name goes with a single --model"),
        ("--model '{models}' --cache-limit lots", "such as 20GB"),
        ("--model '{models}' --sample 1000", "expected 1 to 12"),
    ],
)
def test_used_wrongly(ealign: Ealign, data: str, models: Path, tmp_path: Path, options: str, words: str) -> None:
    done = ealign(f"evaluate {options.format(models=models)} --dataset {data} --out {tmp_path / 'run'} {COMMON}")
    assert done.code == 2
    assert words in done.err
    assert not (tmp_path / "run").exists()


def test_a_sample_says_what_it_is_of(ealign: Ealign, data: str, models: Path, tmp_path: Path) -> None:
    model = f"--model file:{tmp_path}/factories.py:one"
    common = f"--dataset {data} --method vanilla_gradients --device cpu"
    sentence = "patches: a class-balanced sample of 8 of 12 images; intervals are for all 12"
    done = ealign(f"evaluate {model} {common} --sample 8 --out {tmp_path / 'run'}")
    assert done.code == 0
    assert sentence in done.out
    assert sentence in ealign(f"show {tmp_path / 'run'}").out
    assert sentence not in ealign(f"show {tmp_path / 'run'} --cluster class").out
    whole = ealign(f"evaluate {model} {common} --out {tmp_path / 'whole'}")
    assert "sample" not in whole.out
    assert "sample" not in ealign(f"evaluate {model} {common} --sample 12 --out {tmp_path / 'all'}").out


def test_a_runs_summary_is_for_the_whole_dataset(ealign: Ealign, data: str, models: Path, tmp_path: Path) -> None:
    """Patches have three images of each class: the sample of five has two of one class, which count half as much."""
    model = f"--model file:{tmp_path}/factories.py:one"
    ealign(f"evaluate {model} --dataset {data} --method vanilla_gradients --sample 5 --out {tmp_path / 'run'}")
    run = ea.open_run(tmp_path / "run")
    assert run.populations == {("one", 0, "patches", "predicted"): [3, 3, 3, 3, 0]}
    rows = run.scores().filter(run.scores()["region"].cast(str) == "patch")
    by_class = rows.group_by("label").agg(pl.col("iou_coverage").mean())
    row = run.summary().filter(region="patch", metric="iou_coverage").row(0, named=True)
    assert row["ea"] == pytest.approx(by_class["iou_coverage"].mean(), abs=1e-6)
    assert row["ea"] != pytest.approx(rows["iou_coverage"].mean(), abs=1e-6)


def test_a_factory_s_own_precision_stays_unless_another_is_asked_for(ealign: Ealign, data: str, tmp_path: Path) -> None:
    file = tmp_path / "halves.py"
    file.write_text(
        "import explanation_alignment as ea\nfrom toys import small_network\n\n\n"
        "def own():\n"
        "    given = {'precision': 'bf16', 'device': 'cpu', 'name': 'own'}\n"
        "    return ea.Classifier(small_network(), ea.Preprocessing((3, 12, 12)), **given)\n"
    )
    common = f"evaluate --model file:{file}:own --dataset {data} --method vanilla_gradients"
    found = []
    for number, asked in enumerate(("", "--precision fp32 --device cpu")):
        assert ealign(f"{common} {asked} --out {tmp_path / str(number)}").code == 0
        (item,) = ea.open_run(tmp_path / str(number)).evaluations.values()
        found.append(item["question"].get("precision"))
    assert found == ["bf16", None]


def test_a_file_s_neighbours_can_be_imported_and_what_is_undefined_is_told(ealign: Ealign, tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_it.py").write_text(
        "from toys import Patches, small_classifier\n\n\ndef data():\n    return Patches(12, bare=[2, 3], empty=[4])\n"
    )
    (tmp_path / "with_neighbour.py").write_text(
        "from neighbour_of_it import data, small_classifier\n\n\ndef build():\n    return small_classifier()\n"
    )
    done = ealign(
        f"evaluate --model file:{tmp_path}/with_neighbour.py:build --dataset file:{tmp_path}/with_neighbour.py:data "
        f"--method vanilla_gradients --out {tmp_path / 'run'} --device cpu"
    )
    assert done.code == 0, done.err
    told = " ".join(done.err.split())
    assert "undefined scores: 2 no annotation, 1 annotation cropped of 24 (a row an image, method and region)" in told
