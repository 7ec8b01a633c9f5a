"""A training killed at any moment goes on to the very same weights: real processes, really killed.

Run as a script (``python test_training_killed.py FOLDER``) this file trains a small network over and over, in processes
forked for it, each ended by SIGKILL at another moment; the tests look at what is left.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

EPOCHS, STEPS = 5, 6
#: Trainings killed from outside, at moments drawn from a seed.
RANDOM = 2


def trained_once(folder: Path, log: Path, before_batch: Callable[[int], None] = lambda _: None) -> None:
    """Train with everything that has a state: BatchNorm, dropout, Adam's moments, a schedule, the order."""
    import torch
    from torch import nn

    from explanation_alignment.experiments.training import Recipe, StepDecay, trained

    torch.set_num_threads(1)
    images = torch.rand(8 * STEPS, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = (images.mean((1, 2, 3)) > images.mean()).long()
    done = 0

    class Data:
        images = 8 * STEPS

        def batches(
            self, generator: torch.Generator, batch_size: int, device: torch.device
        ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            nonlocal done
            for chosen in torch.randperm(8 * STEPS, generator=generator).split(batch_size):
                before_batch(done)
                yield images[chosen], labels[chosen]
                done += 1
                log.write_text(str(done))

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.4), nn.Flatten(), nn.Linear(144, 2)
        )

    trained(
        build,
        Data(),
        Recipe(EPOCHS, 8, "adam", 0.02, weight_decay=1e-3, schedule=StepDecay(0.3, after=(2, 4))),
        question={"model": "small"},
        checkpoint=folder / "small.safetensors",
        seed=0,
        device=torch.device("cpu"),
        title="small",
        progress=False,
    )


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def nothing(_: int) -> None:
    """No harm: the step goes on."""


def at_step(number: int) -> Callable[[int], None]:
    return lambda step: die() if step == number else None


def writing_state(number: int) -> Callable[[int], None]:
    """Die in the middle of writing the state, the so-many-th time."""
    import torch

    real, count = torch.save, 0

    def save(content: Any, handle: Any) -> None:
        nonlocal count
        count += 1
        if count == number:
            whole = io.BytesIO()
            real(content, whole)
            handle.write(whole.getvalue()[: whole.tell() // 2])
            handle.flush()
            die()
        real(content, handle)

    torch.save = save
    return nothing


def state_written(number: int) -> Callable[[int], None]:
    """Die as soon as the state is there."""
    from explanation_alignment.experiments.training import loop

    real, count = loop.write_state, 0

    def write(*arguments: Any) -> None:
        nonlocal count
        real(*arguments)
        count += 1
        if count == number:
            die()

    loop.write_state = write
    return nothing


def writing_checkpoint(_: int) -> Callable[[int], None]:
    """Die with the checkpoint written under another name."""
    from explanation_alignment.experiments.training import state

    real = state.save_file

    def save(*arguments: Any, **named: Any) -> None:
        real(*arguments, **named)
        die()

    state.save_file = save
    return nothing


def checkpoint_written(_: int) -> Callable[[int], None]:
    """Die with the checkpoint there and the state not yet removed."""
    from explanation_alignment.experiments.training import loop

    loop.remove_leftovers = lambda _: die()
    return nothing


def forked(run: Callable[[], None], after: float | None = None) -> int:
    """Run in a process of its own, killed from here after so many seconds if given; how it ended."""
    process = os.fork()
    if process == 0:
        try:
            run()
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


MOMENTS: dict[str, list[tuple[Callable[[int], Callable[[int], None]], int]]] = {
    "in the first epoch, twice": [(at_step, 3), (at_step, STEPS - 1)],
    "in a later epoch, twice": [(at_step, STEPS + 2), (at_step, 2 * STEPS + 1)],
    "in the last epoch": [(at_step, EPOCHS * STEPS - 1)],
    "writing the first state": [(writing_state, 1)],
    "writing later states": [(writing_state, 2), (writing_state, 3)],
    "with the state just written": [(state_written, 1), (state_written, 2)],
    "with the last state just written": [(state_written, EPOCHS - 1)],
    "writing the checkpoint": [(writing_checkpoint, 0), (writing_checkpoint, 0)],
    "with the checkpoint just written": [(checkpoint_written, 0)],
}
#: Steps the last process is to make: those of the epochs that were not finished.
LEFT = {
    "in the first epoch, twice": EPOCHS,
    "in a later epoch, twice": EPOCHS - 3,
    "in the last epoch": 1,
    "writing the first state": EPOCHS,
    "writing later states": EPOCHS - 3,
    "with the state just written": EPOCHS - 3,
    "with the last state just written": 1,
    "writing the checkpoint": 1,
    "with the checkpoint just written": 0,
}


def attempt(folder: Path, harm: Callable[[int], Callable[[int], None]], number: int) -> Callable[[], None]:
    return lambda: trained_once(folder, folder.with_suffix(".log"), harm(number))


def main(base: Path) -> None:
    import warnings

    import torch

    import explanation_alignment.experiments.training.loop  # noqa: F401

    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]).zero_grad()  # what torch imports late it imports once here
    warnings.simplefilter("error")
    found: dict[str, Any] = {}
    whole = base / "whole"
    started = time.monotonic()
    assert forked(lambda: trained_once(whole, base / "whole.log")) == 0
    lasted = time.monotonic() - started
    for number, (name, harms) in enumerate(MOMENTS.items()):
        folder = base / str(number)
        folder.mkdir()
        ends = [forked(attempt(folder, harm, at)) for harm, at in harms]
        log = folder.with_suffix(".log")
        log.write_text("0")
        ends.append(forked(lambda folder=folder, log=log: trained_once(folder, log)))  # type: ignore[misc]
        found[name] = {"folder": str(folder), "ends": ends, "steps": int(log.read_text())}
    moments = random.Random(7)
    for number in range(RANDOM):
        folder, ends = base / f"random{number}", []
        folder.mkdir()
        for _ in range(3):  # slowed down, so that a moment is somewhere in the training
            slow = lambda _: time.sleep(lasted / 30)  # noqa: E731
            run = lambda folder=folder, slow=slow: trained_once(folder, base / "random.log", slow)  # noqa: E731
            ends.append(forked(run, moments.uniform(0.1, 1) * lasted))
        ends.append(forked(lambda folder=folder: trained_once(folder, base / "random.log")))  # type: ignore[misc]
        found[f"at random, {number}"] = {"folder": str(folder), "ends": ends, "steps": None}

    def with_little_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        (base / "full").mkdir()
        trained_once(base / "full", base / "full.log")

    found["full"] = {"ends": [forked(with_little_room)]}
    (base / "found.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (folder / "stderr").write_text(done.stderr)
    return folder


@pytest.fixture(scope="module")
def found(base: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((base / "found.json").read_text())
    return content


def same_as_uninterrupted(base: Path, folder: Path) -> bool:
    assert [path.name for path in folder.iterdir()] == ["small.safetensors"]
    return (folder / "small.safetensors").read_bytes() == (base / "whole" / "small.safetensors").read_bytes()


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_gone_on(base: Path, found: dict[str, Any], moment: str) -> None:
    told = found[moment]
    assert told["ends"] == [-signal.SIGKILL] * len(MOMENTS[moment]) + [0]
    assert same_as_uninterrupted(base, Path(told["folder"]))
    assert told["steps"] == LEFT[moment] * STEPS


@pytest.mark.parametrize("number", range(RANDOM))
def test_killed_from_outside_at_random_moments(base: Path, found: dict[str, Any], number: int) -> None:
    told = found[f"at random, {number}"]
    assert -signal.SIGKILL in told["ends"]
    assert told["ends"][-1] == 0
    assert same_as_uninterrupted(base, Path(told["folder"]))


def test_a_disk_without_room_ends_the_training_with_words(base: Path, found: dict[str, Any]) -> None:
    assert found["full"]["ends"] == [1]
    assert "RunError: cannot write" in (base / "stderr").read_text()
    assert "small.resume.pt: File too large" in (base / "stderr").read_text()
    assert not list((base / "full").iterdir())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
