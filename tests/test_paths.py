"""Words for a path that was given and is not there."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from explanation_alignment.errors import DatasetError, ModelError, RunError
from explanation_alignment.paths import not_found


def test_the_whole_path_and_the_nearest_name_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("data/pics", "data/masks"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data" / "pisc.txt").write_text("a file is no folder")
    error = not_found(DatasetError, "folder", "data/pisc")
    assert str(error) == f"folder: no folder 'data/pisc' ({tmp_path}/data/pisc); did you mean 'data/pics'?"
    assert str(not_found(DatasetError, "images=", "pisc", below=tmp_path / "data")).endswith("did you mean 'pics'?")
    assert str(not_found(ModelError, "weights", "data/pics.txt", folder=False)).endswith(
        "did you mean 'data/pisc.txt'?"
    )


def test_nothing_near_and_nowhere_at_all(tmp_path: Path) -> None:
    (tmp_path / "quite other").mkdir()
    for given in (tmp_path / "runs", tmp_path / "a" / "b" / "runs"):
        error = not_found(RunError, "run", given, hint="expected one that ealign wrote")
        assert str(error) == f"run: no folder '{given}'; expected one that ealign wrote"


@pytest.mark.parametrize(
    ("folder", "words"), [(True, "is no folder, it is a file"), (False, "is no file, it is a folder")]
)
def test_of_the_other_kind(tmp_path: Path, folder: bool, words: str) -> None:
    path = tmp_path / "there"
    if folder:
        path.write_text("")
    else:
        path.mkdir()
    assert words in str(not_found(RunError, "run", path, folder=folder))


def test_it_ends_a_command_as_one_used_wrongly_in_another_process_too() -> None:
    error = not_found(RunError, "run", "nowhere")
    assert (type(error), error.exit_code) == (RunError, 2)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.exit_code) == (str(error), 2)
    assert RunError("something failed").exit_code == 1
