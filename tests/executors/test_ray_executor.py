"""Ray gives what the local executor gives, whatever dies in between; what cannot work says so."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading
import time
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from ray_cluster import cluster

import explanation_alignment as ea
from explanation_alignment.errors import ExecutorError, ModelError, UnknownNameError, UsageError
from explanation_alignment.evaluation import units
from explanation_alignment.executors import RayExecutor
from explanation_alignment.executors import ray as ray_module
from explanation_alignment.executors.sending import failed
from toys import Patches

__all__ = ["cluster"]

pytestmark = pytest.mark.usefixtures("cluster")

METHODS = ["vanilla_gradients", "gradcam"]
FACES = [ea.ModelSpec("toy:faces", f"random:{seed}", name=f"faces {seed}") for seed in (1, 2)]
UNIT = 8


class Halves(Patches):
    """40 patches of two classes; a process that reads them leaves its number in a folder, and takes its time.

    From the third unit on none is read while there is a file ``closed``.
    """

    name = "halves"
    class_names = ("left", "right")

    def __init__(
        self,
        pids: Path | None = None,
        pause: float = 0.0,
        deadly: int | None = None,
        closed: Path | None = None,
    ) -> None:
        super().__init__(40, bare=[3], empty=[5], broken=[9])
        self._pids, self._pause, self._deadly, self._closed = pids, pause, deadly, closed

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        units.UNIT_SIZE = UNIT  # in a worker

    def __getitem__(self, index: int) -> ea.Sample:
        if self._pids is not None:
            (self._pids / str(os.getpid())).touch()
        if index == self._deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        while self._closed is not None and index >= 2 * UNIT and self._closed.exists():
            time.sleep(0.01)
        time.sleep(self._pause)
        sample = super().__getitem__(index)
        return ea.Sample(sample.id, sample.image, index % 2, sample.annotations, sample.attributes)


@contextmanager
def one_thread() -> Iterator[None]:
    """As a task has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _as_in_a_task(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Units of 8, so that there are five."""
    monkeypatch.setattr(units, "UNIT_SIZE", UNIT)
    with one_thread():
        yield


def sweep(
    out: Path, models: object = FACES, dataset: object = None, executor: object = "ray", **options: Any
) -> ea.Run:
    settings = {"batch_size": 4, "device": "cpu", "progress": False, "methods": METHODS, "cache": "off", **options}
    return ea.evaluate_models(models, dataset or Halves(), out=out, executor=executor, **settings)  # type: ignore[arg-type]


def parts(run: ea.Run) -> dict[str, bytes]:
    return {str(path.relative_to(run.path)): path.read_bytes() for path in run.path.glob("scores/*/*.parquet")}


def when(there: Callable[[], bool], do: Callable[[], None]) -> threading.Thread:
    """Do something, beside the test, as soon as something is there."""

    def wait() -> None:
        deadline = time.monotonic() + 300
        while not there():
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
        do()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def quiet(pids: Path) -> bool:
    """Whether those that read stop reading, for a second, within half a minute."""
    for _ in range(30):
        for file in pids.iterdir():
            file.unlink()
        time.sleep(1)
        if not list(pids.iterdir()):
            return True
    return False


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> ea.Run:
    """What the local executor makes of both."""
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setattr(units, "UNIT_SIZE", UNIT)
        return sweep(tmp_path_factory.mktemp("local"), executor="local")


class TestSameAsLocal:
    def test_parts_are_the_same_to_the_byte_and_the_run_is_whole(self, tmp_path: Path, local: ea.Run) -> None:
        run = sweep(tmp_path)
        assert len(parts(run)) == 10
        assert parts(run) == parts(local)
        assert not run.unfinished
        assert run.summary().equals(local.summary())
        assert run.examples()["sample_id"].unique().sort().equals(local.examples()["sample_id"].unique().sort())
        assert ea.verify(run).ok, ea.verify(run).findings
        assert not list(tmp_path.glob(".ray-*"))

    @pytest.mark.slow
    def test_one_classifier_is_cut_into_shares(self, tmp_path: Path, local: ea.Run) -> None:
        pids = tmp_path / "pids"
        pids.mkdir()
        run = sweep(tmp_path / "run", FACES[0], Halves(pids, pause=0.02))
        assert parts(run) == {name: part for name, part in parts(local).items() if "faces_1" in name}
        assert not run.unfinished
        assert str(os.getpid()) not in {file.name for file in pids.iterdir()}
        assert len(list(pids.iterdir())) >= 2

    def test_one_that_fails_is_recorded_and_the_others_go_on(self, tmp_path: Path, local: ea.Run) -> None:
        wrong = ea.ModelSpec("timm:test_vit", "random", 31)
        run = sweep(tmp_path / "run", [FACES[0], wrong, FACES[1]])
        alone = sweep(tmp_path / "alone", [wrong, FACES[0]], executor="local")
        assert parts(run) == parts(local)
        assert run.failures == alone.failures
        assert list(run.failures) == ["timm:test_vit (random)"]

    def test_of_a_single_one_the_error_is_raised(self, tmp_path: Path) -> None:
        with pytest.raises(ea.ExplanationAlignmentError) as here:
            sweep(tmp_path / "here", ea.ModelSpec("timm:no_such_model"), executor="local")
        with pytest.raises(type(here.value)) as there:
            sweep(tmp_path / "there", ea.ModelSpec("timm:no_such_model"))
        assert str(there.value) == str(here.value)

    @pytest.mark.slow
    def test_what_is_finished_is_not_done_again(
        self, tmp_path: Path, local: ea.Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sweep(tmp_path, FACES[:1], progress=True)
        assert capsys.readouterr().err.splitlines() == ["[1/1] toy:faces (random:1): 40 images"]
        run = sweep(tmp_path, progress=True)
        told = capsys.readouterr().err.splitlines()
        assert told == ["[1/2] toy:faces (random:1): is there already", "[2/2] toy:faces (random:2): 40 images"]
        assert parts(run) == parts(local)

    @pytest.mark.slow
    def test_a_shard_is_cut_further(self, tmp_path: Path, local: ea.Run) -> None:
        first = sweep(tmp_path, shard="2/2")
        assert {Path(name).name for name in parts(first)} == {"unit-000001.parquet", "unit-000003.parquet"}
        assert parts(sweep(tmp_path, shard="1/2")) == parts(local)
        assert not ea.open_run(tmp_path).unfinished

    @pytest.mark.slow
    def test_kept_maps_too(self, tmp_path: Path) -> None:
        run = sweep(tmp_path / "ray", FACES[0], save_maps="float16")
        here = sweep(tmp_path / "local", FACES[0], save_maps="float16", executor="local")
        found = {(one.sample_id, one.method): one.saliency.tobytes() for one in run.maps()}
        assert found == {(one.sample_id, one.method): one.saliency.tobytes() for one in here.maps()}
        assert len(found) == 39 * 2

    def test_a_users_own_files_travel(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "mine.py").write_text(
            textwrap.dedent(
                """
                import warnings
                import explanation_alignment as ea
                from toys import Patches, small_classifier

                class Own(Patches):
                    name = "own"

                def data(): return Own(12)
                def model(): return small_classifier(1, name="mine")
                def brightness(classifier, images, targets):
                    warnings.warn("it is bright")
                    return images.mean(dim=1)
                """
            )
        )
        monkeypatch.chdir(tmp_path)  # relative paths mean the same in a worker
        options = {"methods": ["file:mine.py:brightness"], "progress": True}
        there = sweep(Path("there"), "file:mine.py:model", ea.load_dataset("file:mine.py:data"), **options)
        assert "it is bright" in capsys.readouterr().err
        with pytest.warns(UserWarning, match="bright"):
            here = sweep(
                Path("here"), "file:mine.py:model", ea.load_dataset("file:mine.py:data"), executor="local", **options
            )
        assert parts(there) == parts(here)
        assert len(parts(here)) == 2


class TestDeaths:
    def test_a_killed_worker_changes_nothing(self, tmp_path: Path, local: ea.Run) -> None:
        pids, run = tmp_path / "pids", tmp_path / "run"
        pids.mkdir()
        killed: list[int] = []

        def kill() -> None:
            killed.append(int(max(pids.iterdir(), key=lambda file: file.stat().st_mtime).name))
            os.kill(killed[0], signal.SIGKILL)

        thread = when(lambda: len(list(run.glob("scores/*/unit-*.parquet"))) >= 2, kill)
        found = sweep(run, dataset=Halves(pids, pause=0.02))
        thread.join()
        assert killed
        assert killed[0] != os.getpid()
        assert parts(found) == parts(local)
        assert not found.unfinished
        assert not found.failures
        assert ea.verify(found).ok

    def test_a_worker_that_always_dies_is_its_classifiers_failure(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="its Ray worker died and was not started again"):
            sweep(tmp_path, FACES[0], Halves(deadly=20), executor=RayExecutor(retries=0))
        resumed = sweep(tmp_path, FACES[0])
        assert not resumed.unfinished
        assert len(parts(resumed)) == 5

    def test_ctrl_c_cancels_and_the_same_call_resumes(self, tmp_path: Path, local: ea.Run) -> None:
        run, pids, closed = tmp_path / "run", tmp_path / "pids", tmp_path / "closed"
        pids.mkdir()
        closed.touch()  # so that it cannot end before it is interrupted, however slow this machine is

        def interrupt() -> None:
            interrupt_main()
            time.sleep(1)
            closed.unlink()

        thread = when(lambda: bool(list(run.glob("scores/*/unit-*.parquet"))), interrupt)
        with pytest.raises(KeyboardInterrupt):
            sweep(run, dataset=Halves(pids, pause=0.05, closed=closed))
        thread.join()
        assert quiet(pids)
        before = parts(ea.open_run(run))
        assert len(before) < 10
        assert parts(sweep(run)) == parts(local)


class TestRefused:
    def test_a_worker_that_does_not_see_the_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ray_module, "_PATIENCE", 0.2)
        monkeypatch.setattr(Path, "touch", lambda *_, **__: None)  # what this process makes, no worker finds
        with pytest.raises(ExecutorError, match=r"a worker on .* does not see .*run; give --out on a file system"):
            sweep(tmp_path / "run")
        assert not parts(ea.open_run(tmp_path / "run"))

    def test_what_cannot_be_sent(self, tmp_path: Path) -> None:
        dataset = Halves()
        dataset.lock = threading.Lock()  # type: ignore[attr-defined]
        with pytest.raises(UsageError, match=r"dataset \(Halves\) cannot be sent to Ray's workers: .*lock"):
            sweep(tmp_path, dataset=dataset)

    def test_what_a_worker_cannot_rebuild(self, tmp_path: Path) -> None:
        with pytest.raises(ExecutorError, match=r"cannot be rebuilt in a worker: RuntimeError: not here"):
            sweep(tmp_path, dataset=Homebound())

    def test_more_than_the_cluster_has(self, tmp_path: Path) -> None:
        for executor in (RayExecutor(cpus_per_task=3), RayExecutor(gpus_per_task=1)):
            with pytest.raises(UsageError, match="the whole Ray cluster has 2 and 0"):
                sweep(tmp_path, executor=executor)

    def test_one_gpu_by_its_number(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="cuda:1 names one GPU"):
            sweep(tmp_path, device="cuda:1")
        assert not list(tmp_path.iterdir())

    def test_without_ray(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(UsageError, match=r"pip install 'explanation-alignment\[ray\]'"):
            sweep(tmp_path)

    @pytest.mark.parametrize("address", ["ray://127.0.0.1:1", "127.0.0.1:1", "ray://no-such-host.invalid:10001"])
    def test_nobody_at_the_address(self, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ray.is_initialized", lambda: False)
        start = time.monotonic()
        with pytest.raises(ExecutorError, match=f"no Ray cluster at {address}"):
            sweep(tmp_path, executor=RayExecutor(address))
        assert time.monotonic() - start < 12

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"address": "somewhere"}, "expected auto, local, ray://HOST:PORT"),
            ({"gpus_per_task": 1.5}, "a whole number, or a share of one"),
            ({"gpus_per_task": -1}, "a whole number"),
            ({"cpus_per_task": 0}, "at least 1"),
            ({"retries": -1}, "at least 0"),
        ],
    )
    def test_settings_that_mean_nothing(self, settings: dict[str, Any], words: str) -> None:
        with pytest.raises(UsageError, match=words):
            RayExecutor(**settings)

    def test_an_executor_there_is_not(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownNameError, match="did you mean 'ray'"):
            sweep(tmp_path, executor="rai")


class Homebound(Halves):
    """Goes nowhere."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise RuntimeError("not here")


class TestErrorsThatComeBack:
    def test_ours_keep_their_kind_and_words(self) -> None:
        error = failed(0, UnknownNameError("metric", "iuo", ["iou"]), "trace").error()
        assert isinstance(error, UnknownNameError)
        assert str(error) == "unknown metric 'iuo'; did you mean 'iou'?"
        assert error.__notes__ == ["trace"]

    def test_memory_is_told_apart(self) -> None:
        assert isinstance(failed(0, torch.OutOfMemoryError("CUDA"), "").error(), torch.OutOfMemoryError)
        assert isinstance(failed(0, MemoryError(), "").error(), MemoryError)

    def test_of_others_the_name_stays(self) -> None:
        error = failed(0, KeyError("a"), "").error()
        assert (type(error).__name__, str(error)) == ("KeyError", "'a'")
