"""The loop: the steps are torch's, what was trained is reused, what cannot go well ends with a message."""

from __future__ import annotations

import io
import pickle
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from explanation_alignment.errors import ModelError, RunWarning, UnknownNameError, UsageError
from explanation_alignment.experiments.training import Recipe, StepDecay, Training, fit, state, trained

CPU = torch.device("cpu")
RECIPE = Recipe(4, 8, "sgd", 0.05, momentum=0.9, weight_decay=1e-3, schedule=StepDecay(0.5, (1, 3)))
IMAGES = torch.rand(30, 3, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = (IMAGES.mean((1, 2, 3)) > IMAGES.mean()).long()


class Data:
    """The images above in an order of the generator's; counts the epochs."""

    images = 30

    def __init__(self, interrupt: Callable[[int], None] = lambda _: None) -> None:
        self.epochs = 0
        self._interrupt = interrupt

    def batches(
        self, generator: torch.Generator, batch_size: int, device: torch.device
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        self.epochs += 1
        self._interrupt(self.epochs)
        for chosen in torch.randperm(30, generator=generator).split(batch_size):
            yield IMAGES[chosen].to(device), LABELS[chosen].to(device)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(64, 2)
    )


def train(folder: Path, data: Data | None = None, recipe: Recipe = RECIPE, **changes: Any) -> nn.Module:
    settings: dict[str, Any] = {"question": {"model": "a"}, "seed": 0, "device": CPU, "title": "a", "progress": False}
    settings |= changes
    build = settings.pop("build", network)
    return trained(build, data or Data(), recipe, checkpoint=folder / "a.safetensors", **settings)


def equal(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def weights(folder: Path) -> bytes:
    return (folder / "a.safetensors").read_bytes()


class StoppedError(Exception):
    pass


def stopped(folder: Path, epoch: int = 3, **changes: Any) -> Path:
    """A training that was broken off in an epoch; the path of its state."""

    def interrupt(now: int) -> None:
        if now == epoch:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(folder, Data(interrupt), **changes)
    assert files(folder) == ["a.resume.pt"]
    return folder / "a.resume.pt"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was not interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("after", [None, (1, 3)])
def test_the_steps_are_those_of_a_loop_written_with_torch(optimizer: Any, after: tuple[int, ...] | None) -> None:
    momentum = 0.9 if optimizer == "sgd" else 0.0
    recipe = Recipe(4, 8, optimizer, 0.01, momentum, 0.05, StepDecay(0.3, after))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        ours = network()
        fit(Training(ours, recipe, torch.Generator().manual_seed(2)), Data(), title="", progress=False)
        torch.manual_seed(1)
        theirs = network()
        kind: Any = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
        extra = {"momentum": momentum} if momentum else {}
        stepper = kind(theirs.parameters(), lr=0.01, weight_decay=0.05, **extra)
        rates: Any = (
            torch.optim.lr_scheduler.ExponentialLR(stepper, 0.3)
            if after is None
            else torch.optim.lr_scheduler.MultiStepLR(stepper, list(after), 0.3)
        )
        generator = torch.Generator().manual_seed(2)
        for _ in range(4):
            for chosen in torch.randperm(30, generator=generator).split(8):
                stepper.zero_grad()
                F.cross_entropy(theirs(IMAGES[chosen]), LABELS[chosen]).backward()
                stepper.step()
            rates.step()
    assert equal(ours, theirs)


def test_a_trained_network_is_reused(tmp_path: Path) -> None:
    first = train(tmp_path)
    assert not first.training
    assert files(tmp_path) == ["a.safetensors"]
    stamp = (tmp_path / "a.safetensors").stat().st_mtime_ns
    again = Data()
    second = train(tmp_path, again)
    assert again.epochs == 0
    assert not second.training
    assert (tmp_path / "a.safetensors").stat().st_mtime_ns == stamp
    assert equal(first, second)


def test_what_fills_from_a_checkpoint_needs_no_weights_to_start_from(tmp_path: Path) -> None:
    def fetch() -> nn.Module:
        raise ModelError("no route to host")

    with pytest.raises(ModelError, match="no route"):
        train(tmp_path, build=fetch, outline=network)
    kept = train(tmp_path)
    again = train(tmp_path, build=fetch, outline=network)
    assert equal(kept, again)


@pytest.mark.parametrize(
    "change",
    [
        {"question": {"model": "a", "data": "other"}},
        {"question": {"model": "b"}},
        {"seed": 1},
        {"precision": "bf16"},
        {"recipe": Recipe(4, 8, "sgd", 0.05, 0.9, 1e-3, StepDecay(0.5, (1, 2)))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_question_is_trained_anew(tmp_path: Path, change: dict[str, Any]) -> None:
    train(tmp_path)
    before, again = weights(tmp_path), Data()
    train(tmp_path, again, **change)
    assert again.epochs == 4
    assert weights(tmp_path) != before


def test_the_seed_decides_the_weights(tmp_path: Path, whole: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(99)
        before = torch.get_rng_state()
        train(tmp_path)
        assert torch.equal(torch.get_rng_state(), before)
    assert weights(tmp_path) == weights(whole)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_a_training_broken_off_goes_on_to_the_same_weights(tmp_path: Path, optimizer: Any, epoch: int) -> None:
    recipe = Recipe(4, 8, optimizer, 0.01, schedule=StepDecay(0.5))
    train(tmp_path / "whole", recipe=recipe)
    for folder, first in ((tmp_path / "once", epoch), (tmp_path / "twice", epoch)):
        stops = [first, 2] if folder.name == "twice" and epoch == 1 else [first]
        for turn in stops:

            def interrupt(now: int, turn: int = turn) -> None:
                if now == turn:
                    raise StoppedError

            with pytest.raises(StoppedError):
                train(folder, Data(interrupt), recipe=recipe)
        torch.manual_seed(5)  # what the process did before must not matter
        rest = Data()
        train(folder, rest, recipe=recipe)
        assert rest.epochs == 4 - sum(turn - 1 for turn in stops)
        assert weights(folder) == weights(tmp_path / "whole")
        assert files(folder) == ["a.safetensors"]


def test_the_state_is_tensors_and_plain_values(tmp_path: Path) -> None:
    content = torch.load(stopped(tmp_path), weights_only=True)
    assert set(content) == {"question", "epoch", "module", "optimizer", "order", "torch"}
    assert content["epoch"] == 2
    assert content["optimizer"]["param_groups"][0]["lr"] == 0.025


def damaged_in_the_middle(path: Path) -> None:
    """One bit of a weight's bytes."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        data = archive.read(largest)
    content = bytearray(path.read_bytes())
    place = bytes(content).index(data)
    content[place + len(data) // 2] ^= 1
    path.write_bytes(content)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def of_another_kind(path: Path) -> None:
    torch.save(torch.zeros(3), path)


def without_its_parts(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    del content["optimizer"]
    torch.save(content, path)


def of_another_network(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["module"]["0.weight"] = torch.zeros(4, 3, 5, 5)
    torch.save(content, path)


def beyond_the_end(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["epoch"] = 17
    torch.save(content, path)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (damaged_in_the_middle, r"cannot be read \(.* is damaged\)"),
        (truncated, "cannot be read"),
        (emptied, "cannot be read"),
        (of_another_kind, "cannot be read"),
        (without_its_parts, "does not fit"),
        (of_another_network, "does not fit"),
        (beyond_the_end, r"does not fit \(epoch 17 of 4\)"),
    ],
)
def test_a_damaged_state_is_passed_over_with_a_warning(
    tmp_path: Path, whole: Path, harm: Callable[[Path], None], said: str
) -> None:
    harm(stopped(tmp_path))
    data = Data()
    with pytest.warns(RunWarning, match=rf"a\.resume\.pt {said}.*: training starts anew"):
        train(tmp_path, data)
    assert data.epochs == 4
    assert weights(tmp_path) == weights(whole)
    assert files(tmp_path) == ["a.safetensors"]


def test_a_state_of_another_question_is_passed_over_with_a_warning(tmp_path: Path, whole: Path) -> None:
    stopped(tmp_path, seed=1)
    with pytest.warns(RunWarning, match="was kept by a training with other settings or data: training starts anew"):
        train(tmp_path)
    assert weights(tmp_path) == weights(whole)


class Evil:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("unpickled"),)


@pytest.mark.parametrize("packed", [True, False], ids=["as torch packs it", "bare"])
def test_nothing_is_unpickled(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    monkeypatch.chdir(tmp_path)
    path = stopped(tmp_path)
    if packed:
        content = torch.load(path, weights_only=True)
        torch.save({**content, "epoch": Evil()}, path)
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path, weights_only=True)
    else:
        path.write_bytes(pickle.dumps(Evil()))
    with pytest.warns(RunWarning, match="cannot be read"):
        train(tmp_path)
    assert not Path("unpickled").exists()
    assert weights(tmp_path) == weights(whole)


def test_a_state_left_behind_a_finished_training_goes(tmp_path: Path, whole: Path) -> None:
    stopped(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(weights(whole))
    (tmp_path / ".a.safetensors.12-34.tmp").write_bytes(b"half")
    (tmp_path / ".a.resume.pt.12-34.tmp").write_bytes(b"half")
    (tmp_path / ".ab.resume.pt.12-34.tmp").write_bytes(b"another's")
    data = Data()
    train(tmp_path, data)
    assert data.epochs == 0
    assert files(tmp_path) == [".ab.resume.pt.12-34.tmp", "a.safetensors"]


class Exploding(nn.Module):
    """Gives logits that are no numbers from some step on."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.head = nn.Linear(108, 2)
        self._left = step

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self._left -= 1
        output: torch.Tensor = self.head(images.flatten(1))
        return output * float("nan") if self._left < 0 else output


@pytest.mark.parametrize(("step", "epoch"), [(0, 1), (2, 1), (5, 2), (15, 4)])
def test_a_loss_that_is_no_number_ends_the_training_in_that_epoch(tmp_path: Path, step: int, epoch: int) -> None:
    data = Data()
    message = rf"a, epoch {epoch}/4: the loss is nan at learning rate .*; try a lower learning rate"
    with pytest.raises(ModelError, match=message):
        train(tmp_path, data, build=lambda: Exploding(step))
    assert data.epochs == epoch
    assert files(tmp_path) == []


def test_weights_that_are_no_numbers_after_the_last_step_are_not_kept(tmp_path: Path) -> None:
    recipe = Recipe(1, 30, "sgd", 1e38, weight_decay=1e3)  # one step; its loss is that of the weights before it
    with pytest.raises(ModelError, match=r"a weight is not finite at learning rate 1e\+38; try a lower"):
        train(tmp_path, recipe=recipe)
    assert files(tmp_path) == []


class Several(nn.Module):
    """Returns its logits among other things, as networks with auxiliary heads do."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(108, 2)

    def forward(self, images: torch.Tensor) -> Any:
        from collections import namedtuple

        return namedtuple("Outputs", ["logits", "other"])(self.head(images.flatten(1)), None)


def test_logits_among_other_outputs(tmp_path: Path) -> None:
    assert isinstance(train(tmp_path, build=Several), Several)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: nn.Conv2d(3, 2, 3), r"Conv2d returned \(8, 2, 4, 4\), expected logits of shape \(8, at least 2\)"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 1)), r"returned \(8, 1\), expected logits"),
    ],
)
def test_what_is_no_logits(tmp_path: Path, build: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        train(tmp_path, build=build)


def test_more_classes_than_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "LABELS", LABELS * 7)
    with pytest.raises(ModelError, match="a, epoch 1/4: the data has label 7, the network 2 outputs"):
        train(tmp_path)


def test_too_little_memory_on_the_device(tmp_path: Path) -> None:
    class Hungry(Exploding):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ModelError, match=r"8 images a step do not fit into the memory of cpu; lower the batch size"):
        train(tmp_path, build=lambda: Hungry(0))


def test_what_cannot_be_meant(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown precision 'bf17'; did you mean 'bf16'"):
        train(tmp_path, precision="bf17")
    with pytest.raises(UsageError, match="expected the model's name under 'model', got data"):
        train(tmp_path, question={"data": "x"})
    with pytest.raises(UsageError, match=r"expected a \.safetensors file"):
        trained(
            network, Data(), RECIPE, question={"model": "a"}, checkpoint=tmp_path / "a.pt", seed=0, device=CPU, title=""
        )
    assert files(tmp_path) == []


def test_in_bf16_the_network_runs_in_bf16_and_the_weights_stay_fp32(tmp_path: Path) -> None:
    seen = []

    class Watched(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            output = super().forward(input)
            seen.append(output.dtype)
            return output

    build = lambda: nn.Sequential(nn.Flatten(), Watched(108, 2))  # noqa: E731
    module = train(tmp_path, build=build, precision="bf16")
    assert set(seen) == {torch.bfloat16}
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert next(iter(load_file(tmp_path / "a.safetensors").values())).dtype == torch.float32
    seen.clear()
    train(tmp_path / "plain", build=build)
    assert set(seen) == {torch.float32}


def test_bf16_learns_what_fp32_learns(tmp_path: Path) -> None:
    recipe = Recipe(30, 8, "adam", 0.02)
    build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 2))  # noqa: E731
    for precision in ("fp32", "bf16"):
        module = train(tmp_path / precision, recipe=recipe, build=build, precision=precision)
        assert (module(IMAGES).argmax(1) == LABELS).float().mean() > 0.9


def test_without_a_terminal_there_is_a_line_an_epoch(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, progress=True, title="training a")
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 4
    for epoch, line in enumerate(lines, 1):
        assert re.fullmatch(
            rf"training a: epoch {epoch}/4, loss \d\.\d{{3}}, accuracy [01]\.\d{{3}}, 0:00:\d\d spent, "
            r"about 0:00:\d\d left",
            line,
        )
    train(tmp_path / "quiet", progress=False)
    assert capfd.readouterr() == ("", "")


def test_lines_tell_the_epochs_mean_loss_and_accuracy(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Fixed(Exploding):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[2.0, 0.0]]).repeat(len(images), 1) + 0 * self.head(images.flatten(1))

    train(tmp_path, build=lambda: Fixed(0), progress=True)
    loss = F.cross_entropy(torch.tensor([[2.0, 0.0]]).repeat(30, 1), LABELS).item()
    accuracy = (LABELS == 0).float().mean().item()
    assert f"loss {loss:.3f}, accuracy {accuracy:.3f}" in capfd.readouterr().err


def test_on_a_terminal_there_is_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    stopped(tmp_path)
    train(tmp_path, progress=True, title="training a")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.getvalue())
    assert "120/120" in text  # images of all epochs, those of the training broken off among them
    assert re.search(r"epoch 4/4  loss \d\.\d{3}  accuracy [01]\.\d{3}", text)
    assert "spent" not in text


def test_tensors_that_share_memory_are_kept(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(108, 108), nn.Linear(108, 108)
            self.two.weight = self.one.weight
            self.head = nn.Linear(108, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.head(self.two(self.one(images.flatten(1))))
            return output

    first = train(tmp_path, build=Tied)
    again = Data()
    second = train(tmp_path, again, build=Tied)
    assert again.epochs == 0
    assert equal(first, second)


def test_a_state_is_kept_after_each_epoch_but_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    real = state.write_state

    def watch(checkpoint: Path, training: Training, asked: Any) -> None:
        kept.append(training.epoch)
        real(checkpoint, training, asked)

    monkeypatch.setattr("explanation_alignment.experiments.training.loop.write_state", watch)
    train(tmp_path)
    assert kept == [1, 2, 3]
