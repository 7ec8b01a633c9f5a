"""Many classifiers: one that fails stops none, what is finished is not built, a kill changes no table."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

import explanation_alignment as ea
from explanation_alignment.decoded import DecodedCache, list_cache
from explanation_alignment.errors import DatasetError, ModelError, RunError, RunWarning, UnknownNameError, UsageError
from explanation_alignment.sweeps import doing
from toys import Patches, small_classifier

VIT = ea.ModelSpec("timm:test_vit", "random", 32)
FACES = ea.ModelSpec("toy:faces", "random")


class Halves(Patches):
    """Patches of two classes, as many as the smallest of the classifiers has."""

    name = "halves"
    class_names = ("left", "right")

    def __getitem__(self, index: int) -> ea.Sample:
        sample = super().__getitem__(index)
        return ea.Sample(sample.id, sample.image, index % 2, sample.annotations, sample.attributes)


@pytest.fixture
def factories(tmp_path: Path) -> str:
    """A file of functions that make small classifiers, or fail."""
    file = tmp_path / "models.py"
    file.write_text(
        textwrap.dedent(
            """
            import torch
            from torch import nn
            import explanation_alignment as ea
            from toys import small_classifier

            def one(): return small_classifier(1, name="one")
            def two(): return small_classifier(2, name="two")
            def three(): return small_classifier(3, name="three")
            def raising(): raise RuntimeError("no luck\\ntoday")
            def too_few(): return small_classifier(4, name="too few", classes=2)

            class Greedy(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.conv = nn.Conv2d(3, 4, 3)
                def forward(self, images):
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

            def greedy(): return ea.Classifier(Greedy(), ea.Preprocessing((3, 12, 12)), name="greedy", device="cpu")
            """
        )
    )
    return f"file:{file}"


def sweep(models: object, out: Path, dataset: object = None, **options: object) -> ea.Run:
    settings = {"batch_size": 8, "device": "cpu", "progress": False, "methods": ["vanilla_gradients"]}
    dataset = dataset if dataset is not None else Halves()
    return ea.evaluate_models(models, dataset, out=out, **(settings | options))  # type: ignore[arg-type]


def parts(run: ea.Run) -> dict[str, bytes]:
    return {str(path.relative_to(run.path)): path.read_bytes() for path in run.path.glob("scores/*/*.parquet")}


class TestFailures:
    @pytest.mark.filterwarnings("ignore:greedy. out of memory")
    def test_one_that_fails_is_recorded_and_the_others_go_on(self, tmp_path: Path, factories: str) -> None:
        names = ("one", "raising", "too_few", "greedy", "two")
        run = sweep([f"{factories}:{name}" for name in names], tmp_path / "run", Patches())
        assert run.scores()["model"].cast(str).unique().sort().to_list() == ["one", "two"]
        assert set(run.failures) == {f"{factories}:{name}" for name in ("raising", "too_few", "greedy")}
        assert run.failures[f"{factories}:raising"].endswith("RuntimeError: no luck")
        assert "label 3, too few has outputs 0..1" in run.failures[f"{factories}:too_few"]
        assert run.failures[f"{factories}:greedy"].startswith("greedy: out of memory with one image at once (CUDA out")
        alone = sweep([f"{factories}:one", f"{factories}:two"], tmp_path / "alone", Patches())
        assert parts(run) == parts(alone)
        assert alone.failures == {}
        assert "failures" not in alone.info

    def test_a_single_one_is_recorded_where_a_run_is_there_to_say_so(self, tmp_path: Path, factories: str) -> None:
        out = tmp_path / "run"
        with pytest.raises(ModelError, match="label 3"):  # these labels are only known from the samples
            sweep([f"{factories}:too_few"], out, Patches())
        with pytest.raises(RunError, match=r"holds no scores yet; .*too_few: patches has the label 3, too few has"):
            ea.open_run(out).summary()
        with pytest.raises(ModelError, match="no luck"):
            sweep([f"{factories}:raising"], tmp_path / "none")
        assert not (tmp_path / "none").exists()

    def test_it_is_tried_again_and_forgotten_when_it_works(self, tmp_path: Path, factories: str) -> None:
        models = [f"{factories}:one", f"{factories}:raising"]
        assert len(sweep(models, tmp_path / "run").failures) == 1
        path = tmp_path / "models.py"
        path.write_text(path.read_text().replace('raise RuntimeError("no luck\\ntoday")', "return two()"))
        run = sweep(models, tmp_path / "run")
        assert run.failures == {}
        assert run.models()["model"].to_list() == ["one", "two"]

    def test_on_another_dataset_does_not_hide_it(self, tmp_path: Path, factories: str) -> None:
        class Others(Halves):
            name = "others"

        models = [f"{factories}:one", f"{factories}:too_few"]
        sweep(models, tmp_path / "run", Patches())
        assert set(sweep(models, tmp_path / "run", Others()).failures) == {f"{factories}:too_few"}
        run = sweep(models[::-1], tmp_path / "run", Others(17))
        assert set(run.failures) == {f"{factories}:too_few", *(f"{name} on others" for name in models)}
        assert "asked differently" in run.failures[f"{factories}:one on others"]

    def test_of_a_single_one_the_error_is_raised(self, tmp_path: Path, factories: str) -> None:
        with pytest.raises(ea.ExplanationAlignmentError, match="no luck"):
            sweep(f"{factories}:raising", tmp_path / "run")
        assert not (tmp_path / "run").exists()
        sweep(f"{factories}:one", tmp_path / "run")
        with pytest.raises(ea.ExplanationAlignmentError, match="no luck"):
            sweep(f"{factories}:raising", tmp_path / "run")
        assert ea.open_run(tmp_path / "run").failures == {}

    def test_what_no_classifier_escapes_is_raised_before_any_is_built(
        self, tmp_path: Path, factories: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("built")

        monkeypatch.setattr(doing, "load_classifier", refuse)
        models = [f"{factories}:one", f"{factories}:two"]
        wrong: Sequence[tuple[type[Exception], dict[str, object]]] = [
            (UnknownNameError, {"methods": ["vanila_gradients"]}),
            (UnknownNameError, {"metrics": ["iuo"]}),
            (UsageError, {"sample": 1000}),
            (UsageError, {"shard": "3/2"}),
            (UsageError, {"batch_size": 0}),
            (UsageError, {"name": "both"}),
            (UsageError, {"cache_limit": "lots"}),
            (UsageError, {"models": []}),
        ]
        for kind, options in wrong:
            with pytest.raises(kind):
                sweep(**{"models": models, "out": tmp_path / "run", **options})  # type: ignore[arg-type]
        assert not (tmp_path / "run").exists()
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "file").write_text("")
        with pytest.raises(RunError):
            sweep(models, tmp_path / "full")

    def test_a_dataset_that_fails_is_no_classifiers_fault(self, tmp_path: Path, factories: str) -> None:
        class Gone(Patches):
            def attributes(self) -> dict[str, list[str]]:  # type: ignore[override]
                raise DatasetError("the disk is gone")

        with pytest.raises(DatasetError, match="the disk is gone"):
            sweep([f"{factories}:one", f"{factories}:two"], tmp_path / "run", Gone())


class TestFinished:
    @pytest.fixture
    def built(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Specs that were built."""
        built: list[str] = []
        load = doing.load_classifier

        def loaded(spec: str, *arguments: object, **options: object) -> ea.Classifier:
            built.append(spec)
            return load(spec, *arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(doing, "load_classifier", loaded)
        return built

    def test_is_not_built_again(self, tmp_path: Path, built: list[str]) -> None:
        first = sweep([VIT, FACES], tmp_path)
        assert built == ["timm:test_vit", "toy:faces"]
        before = parts(first)
        assert parts(sweep([FACES, VIT], tmp_path)) == before
        assert built == ["timm:test_vit", "toy:faces"]

    @pytest.mark.parametrize(
        "changed",
        [
            {"methods": ["vanilla_gradients", "input_x_gradient"]},
            {"seed": 1},
            {"target": "label"},
            {"dataset": Halves(bare=[1])},
            {"models": [ea.ModelSpec("toy:faces", "random:7")]},
            {"input_size": 24},
            {"sample": 9},
            {"metrics": ["iou_coverage"]},
            {"output": "log_prob"},
        ],
        ids=lambda changed: next(iter(changed)),
    )
    def test_but_where_anything_else_is_asked(self, tmp_path: Path, built: list[str], changed: dict) -> None:
        sweep([FACES], tmp_path)
        try:
            sweep(**{"models": [FACES], "out": tmp_path, **changed})
        except RunError as error:
            assert "asked differently" in str(error)  # noqa: PT017 - it was built, and then refused
        assert len(built) == 2

    def test_but_where_a_part_or_the_end_is_missing(self, tmp_path: Path, built: list[str]) -> None:
        whole = parts(sweep([FACES], tmp_path))
        [name] = whole
        (tmp_path / name).write_bytes(whole[name][:-100])
        with pytest.warns(RunWarning, match="bytes, .* were written; it is computed anew"):
            assert parts(sweep([FACES], tmp_path)) == whole
        assert len(built) == 2
        info = json.loads((tmp_path / "run.json").read_text())
        next(iter(info["evaluations"].values()))["finished"] = None
        (tmp_path / "run.json").write_text(json.dumps(info))
        assert not sweep([FACES], tmp_path).unfinished
        assert len(built) == 3

    def test_a_checkpoint_counts_by_its_content(self, tmp_path: Path, built: list[str]) -> None:
        for seed in (0, 1):
            module = ea.load_classifier("toy:faces", f"random:{seed}", device="cpu").module
            torch.save(module.state_dict(), tmp_path / f"{seed}.pt")
        model = ea.ModelSpec("toy:faces", str(tmp_path / "0.pt"))
        sweep([model], tmp_path / "run")
        shutil.copy(tmp_path / "0.pt", tmp_path / "same.pt")
        sweep([ea.ModelSpec("toy:faces", str(tmp_path / "same.pt"))], tmp_path / "run")
        assert len(built) == 1
        shutil.copy(tmp_path / "1.pt", tmp_path / "0.pt")
        with pytest.raises(RunError, match="weights: "):
            sweep([model], tmp_path / "run")
        assert len(built) == 2

    def test_a_function_in_a_file_may_make_anything(self, tmp_path: Path, factories: str, built: list[str]) -> None:
        model = [f"{factories}:one"]
        assert parts(sweep(model, tmp_path / "run")) == parts(sweep(model, tmp_path / "run"))
        assert len(built) == 2

    def test_another_word_for_the_same_is_told_once(self, tmp_path: Path, built: list[str]) -> None:
        tagged = ea.ModelSpec("timm:test_vit.r160_in1k", "random", 32)
        sweep([VIT], tmp_path)
        with pytest.raises(RunError, match="weights"):  # another spec draws other random weights: no other word for it
            sweep([tagged], tmp_path)
        sweep([VIT], tmp_path)
        assert len(built) == 2

    def test_shards_know_what_is_theirs(
        self, tmp_path: Path, built: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("explanation_alignment.evaluation.units.UNIT_SIZE", 8)
        whole = parts(sweep([FACES], tmp_path / "whole"))
        for _ in range(2):
            assert sweep([FACES], tmp_path / "run", shard="1/2").unfinished
        assert len(built) == 2
        assert parts(sweep([FACES], tmp_path / "run", shard="2/2")) == whole
        assert len(built) == 3
        assert not sweep([FACES], tmp_path / "run").unfinished
        assert len(built) == 3


def test_each_is_freed_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[nn.Module]] = []

    def loaded(spec: str, *_: object, **__: object) -> ea.Classifier:
        gc.collect()
        assert all(each() is None for each in alive)
        classifier = small_classifier(len(alive), name=spec)
        alive.append(weakref.ref(classifier.module))
        return classifier

    monkeypatch.setattr(doing, "load_classifier", loaded)
    run = sweep(["file:a.py:a", "file:a.py:b", "file:a.py:c"], tmp_path)
    assert not run.failures
    assert len(alive) == 3
    assert alive[-1]() is None


def test_methods_may_differ_between_classifiers(tmp_path: Path) -> None:
    def methods(model: ea.ModelSpec) -> list[str]:
        return ["vanilla_gradients"] if model == FACES else ["input_x_gradient"]

    rows = sweep([FACES, VIT], tmp_path, methods=methods).scores()
    assert rows.select("model", "method").unique().sort("model").rows() == [
        ("faces", "vanilla_gradients"),
        ("test_vit.random", "input_x_gradient"),
    ]


class Counted(Halves):
    """Counts what is decoded."""

    def __init__(self, n: int) -> None:
        super().__init__(n, broken=[2])
        self.decoded = 0

    def __getitem__(self, index: int) -> ea.Sample:
        self.decoded += 1
        return super().__getitem__(index)


class TestCache:
    def test_the_second_classifier_decodes_nothing(self, tmp_path: Path, factories: str) -> None:
        models = [f"{factories}:{name}" for name in ("one", "two", "three")]
        dataset = Counted(23)
        cached = sweep(models, tmp_path / "on", dataset, cache=tmp_path / "cache")
        assert dataset.decoded == 23
        without = Counted(23)
        plain = sweep(models, tmp_path / "off", without, cache="off")
        assert without.decoded >= 69
        again = Counted(23)
        warm = sweep(models, tmp_path / "warm", again, cache=tmp_path / "cache")
        assert again.decoded == 0
        assert parts(cached) == parts(plain) == parts(warm)

    def test_not_for_a_sample_either(self, tmp_path: Path, factories: str) -> None:
        models = [f"{factories}:{name}" for name in ("one", "two", "three")]
        dataset = Counted(23)
        sweep(models, tmp_path / "on", dataset, cache=tmp_path / "cache", sample=8)
        assert dataset.decoded == 23 + 8  # once for the labels, which this dataset does not tell

    def test_auto_keeps_for_several_only(self, tmp_path: Path, factories: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EALIGN_CACHE_DIR", str(tmp_path / "cache"))
        sweep([f"{factories}:one"], tmp_path / "one")
        assert list_cache() == []
        sweep([f"{factories}:one", f"{factories}:two"], tmp_path / "two")
        assert [entry.dataset for entry in list_cache()] == ["halves"]

    def test_what_would_not_fit_is_not_kept_and_said(
        self, tmp_path: Path, factories: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        models = [f"{factories}:one", f"{factories}:two"]
        run = sweep(models, tmp_path / "run", cache=tmp_path / "cache", cache_limit="1kB", progress=True)
        assert capsys.readouterr().err.count("over the limit of 1.0 kB") == 1
        assert [entry.images for entry in list_cache(tmp_path / "cache")] == [0]
        assert parts(run) == parts(sweep(models, tmp_path / "off", cache="off"))

    def test_heatmap_metrics_go_without_and_say_so(
        self, tmp_path: Path, factories: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cache = DecodedCache(tmp_path / "cache", say=print)
        sweep([f"{factories}:one", f"{factories}:two"], tmp_path / "run", cache=cache, metrics=["heatmap_similarity"])
        assert capsys.readouterr().out.count("real-valued annotations") == 1
        assert list_cache(tmp_path / "cache") == []


def test_a_line_a_classifier_where_there_is_no_terminal(
    tmp_path: Path, factories: str, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [FACES, f"{factories}:raising", f"{factories}:one"]
    sweep(models, tmp_path / "run", progress=True, cache="off")
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 4, told
    first, second, note, third = told
    assert note == "one has 4 outputs, halves has 2 classes: a prediction of another output counts as wrong"
    assert first.startswith("[1/3] toy:faces (random): 23 images in ")
    assert second.startswith(f"[2/3] {factories}:raising: failed: ")
    assert third.startswith(f"[3/3] {factories}:one: 23 images in ")
    sweep(models, tmp_path / "run", progress=True, cache="off")
    assert capsys.readouterr().err.splitlines()[0] == "[1/3] toy:faces (random): is there already"
    sweep(models, tmp_path / "quiet", progress=False)
    assert capsys.readouterr().err == ""


def test_bars_on_a_terminal(tmp_path: Path, factories: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from rich.console import Console

    screen = io.StringIO()
    monkeypatch.setattr(
        "explanation_alignment.sweeps.watching.Console",
        lambda **_: Console(file=screen, force_terminal=True, width=100, legacy_windows=False),
    )
    sweep([f"{factories}:{name}" for name in ("one", "raising", "two")], tmp_path / "run", progress=True)
    shown = screen.getvalue()
    assert "2 done, 1 failed, 0 left" in shown
    assert "images/s" in shown
    assert "to go" in shown
    assert f"[2/3] {factories}:raising: failed: " in shown.replace("\n", "")


KILLED = """
    import sys, time
    import explanation_alignment as ea, explanation_alignment.evaluation.units as units
    from test_sweeps import Halves
    units.UNIT_SIZE = 8
    class Slow(Halves):
        def __getitem__(self, index):
            time.sleep(float(sys.argv[3]))
            return super().__getitem__(index)
    names = ("one", "raising", "two", "three")
    ea.evaluate_models([ea.ModelSpec("toy:faces", "random"), *(f"{sys.argv[2]}:{name}" for name in names)],
                       Slow(24), ["vanilla_gradients"], out=sys.argv[1], batch_size=4, device="cpu",
                       cache=sys.argv[1] + "-cache")
"""


def test_a_killed_sweep_ends_in_the_same_tables(tmp_path: Path, factories: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}

    def start(out: str, pause: float) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / out), factories, str(pause)]
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    killed = start("killed", 0.02)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("killed/scores/*/unit-*.parquet"))) < 4:  # three a classifier: in the second one
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    partial = ea.open_run(tmp_path / "killed")
    assert partial.unfinished
    assert len(partial.evaluations) < 4
    assert start("killed", 0).wait() == 0
    assert start("whole", 0).wait() == 0
    resumed, whole = ea.open_run(tmp_path / "killed"), ea.open_run(tmp_path / "whole")
    assert not resumed.unfinished
    assert len(parts(whole)) == 12
    assert parts(resumed) == parts(whole)
    assert resumed.failures == whole.failures
    assert list(resumed.failures) == [f"{factories}:raising"]
    assert resumed.summary().equals(whole.summary())
