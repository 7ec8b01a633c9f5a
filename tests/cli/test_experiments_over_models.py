from __future__ import annotations

from pathlib import Path

import pytest

import explanation_alignment as ea
from command_line import Ealign
from explanation_alignment.datasets.toy import cifar100 as toy_cifar100
from explanation_alignment.datasets.toy import imagenet as toy_imagenet
from explanation_alignment.experiments.imagenet.presentation import present


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("images")
    toy_imagenet.write(root / "imagenet", 12, 0)
    toy_cifar100.write(root / "cifar100", 200, 0)
    return root / "imagenet", root / "cifar100"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("imagenet", "give --data-dir"),
        ("imagenet --toy --data-dir x", "give --data-dir"),
        ("imagenet --toy --models resnet50", "--toy brings models of its own"),
        ("imagenet --data-dir x --models resnet5o", "did you mean 'resnet50'"),
        ("imagenet --data-dir x --crop 0", "--crop"),
        ("cifar100-transfer --imagenet-dir x", "give both --imagenet-dir and --cifar-dir"),
        ("cifar100-transfer --toy --cifar-dir x", "give both --imagenet-dir and --cifar-dir"),
        ("cifar100-transfer --toy --weights random", "--toy brings models of its own"),
        ("cifar100-transfer --toy --features logit", "did you mean 'logits'"),
        ("cifar100-transfer --toy --draws 0", "--draws"),
    ],
)
def test_wrong_use_ends_before_anything_is_made(ealign: Ealign, given: str, words: str, tmp_path: Path) -> None:
    done = ealign(f"experiment {given} --out {tmp_path / 'out'}")
    assert done.code == 2
    assert words in done.err
    assert not (tmp_path / "out").exists()


def test_imagenet_names_what_failed_and_ends_with_1(ealign: Ealign, folders: tuple[Path, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("def build():\n    raise ValueError('no such luck')\n")
    command = (
        f"experiment imagenet --data-dir {folders[0]} --out {tmp_path / 'run'} --weights random --resize 74 --crop 64 "
        f"--models timm:test_convnext,file:{broken}:build --cache off --quiet"
    )
    done = ealign(command)
    assert done.code == 1
    assert "test_convnext.random" in done.out
    assert "Generated toy data" in done.out  # the folder says so
    assert "broken.py:build" in done.err
    assert "no such luck" in done.err
    assert "the same command again" in done.err
    run = ea.open_run(tmp_path / "run")
    assert len(run.failures) == 1
    assert any("no such luck" in sentence for sentence in present(run).sentences)
    page = ea.report(run).read_text(encoding="utf-8")
    assert "broken.py:build" in page[page.rindex("What is missing, and why") :]
    done = ealign(command.replace(f",file:{broken}:build", ""))
    assert done.code == 0, done.err  # it is not among the models asked for
    assert "failed:" not in done.err
    broken.write_text(
        "import explanation_alignment as ea\n\n"
        "def build():\n"
        "    return ea.load_classifier('timm:test_byobnet', 'random', 'cpu', name='mended')\n"
    )
    done = ealign(command)
    assert done.code == 0, done.err
    assert "mended" in done.out
    assert "no such luck" not in done.out + done.err
    assert (tmp_path / "run/figures/accuracy_iou.png").is_file()


def test_transfer_ends_with_1_for_the_models_asked_for_alone(
    ealign: Ealign, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("def build():\n    raise ValueError('no such luck')\n")
    command = (
        f"experiment cifar100-transfer --imagenet-dir {folders[0]} --cifar-dir {folders[1]} --out {tmp_path / 'run'} "
        "--weights random --draws 1 --sample 6 --cache off --quiet --models timm:test_convnext"
    )
    done = ealign(f"{command},file:{broken}:build")
    assert done.code == 1
    assert done.err.count(f"failed: file:{broken}:build") >= 2  # in either half
    done = ealign(command)
    assert done.code == 0, done.err
    assert "failed:" not in done.err


def test_transfer_prints_its_tables_and_flags_what_has_its_own_size(
    ealign: Ealign, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    done = ealign(
        f"experiment cifar100-transfer --imagenet-dir {folders[0]} --cifar-dir {folders[1]} --out {tmp_path / 'run'} "
        "--weights random --models timm:test_convnext,timm:test_vit --draws 1 --sample 6 --cache off --quiet"
    )
    assert done.code == 0, done.err
    assert "a class-balanced sample of 6 of 12 images" in done.out
    assert "160+" in done.out
    assert "224 " in done.out
    assert "1 of 2 models refuse the size of the others and were given their own: test_vit.random" in done.out
    assert "cannot be told from 2 models" in done.out.replace("\n", " ")
    assert max(map(len, done.out.replace(str(tmp_path), "").splitlines())) <= 100
