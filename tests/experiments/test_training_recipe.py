"""Recipes: what is refused, and learning rates beside torch's own schedulers."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.experiments.training import Recipe, StepDecay, Training

SOUND: dict[str, Any] = {"epochs": 3, "batch_size": 4, "optimizer": "sgd", "learning_rate": 0.1}


def rates(recipe: Recipe) -> list[float]:
    """The learning rate of each epoch, as a training sets it."""
    training = Training(nn.Linear(2, 2), recipe, torch.Generator())
    found = []
    for _ in range(recipe.epochs):
        found.append(training.optimizer.param_groups[0]["lr"])
        training.end_epoch()
    return found


@given(
    factor=st.floats(0.01, 2, allow_nan=False),
    after=st.none() | st.sets(st.integers(1, 12), max_size=4),
    epochs=st.integers(1, 8),
)
def test_learning_rates_are_those_of_torch(factor: float, after: set[int] | None, epochs: int) -> None:
    schedule = StepDecay(factor, None if after is None else tuple(sorted(after)))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs: Any = (
        torch.optim.lr_scheduler.ExponentialLR(optimizer, factor)
        if after is None
        else torch.optim.lr_scheduler.MultiStepLR(optimizer, sorted(after), factor)
    )
    expected = []
    for _ in range(epochs):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert rates(Recipe(epochs, 4, "sgd", 0.3, schedule=schedule)) == expected


def test_the_published_celeba_schedule() -> None:
    recipe = Recipe(10, 128, "adam", 1e-4, weight_decay=1e-4, schedule=StepDecay(0.2, after=(2, 5)))
    assert rates(recipe) == pytest.approx([1e-4] * 2 + [2e-5] * 3 + [4e-6] * 5)
    group = Training(nn.Linear(2, 2), recipe, torch.Generator()).optimizer.param_groups[0]
    assert group["weight_decay"] == 1e-4


@pytest.mark.parametrize(
    ("optimizer", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_optimizers_are_those_of_torch(optimizer: Any, kind: type) -> None:
    recipe = Recipe(**{**SOUND, "optimizer": optimizer, "weight_decay": 0.02})
    made = Training(nn.Linear(2, 2), recipe, torch.Generator()).optimizer
    assert type(made) is kind
    assert (made.param_groups[0]["lr"], made.param_groups[0]["weight_decay"]) == (0.1, 0.02)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("epochs", [0, -1, 1.5, True, "3", math.nan]),
        ("batch_size", [0, -4, 2.0, None]),
        ("learning_rate", [0, -0.1, math.nan, math.inf, "0.1", True]),
        ("momentum", [1, -0.1, math.nan, 1.5, "a"]),
        ("weight_decay", [-1e-9, math.nan, math.inf, None]),
        ("schedule", [0.5, None]),
    ],
)
def test_numbers_out_of_range_are_named_with_what_was_expected(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(UsageError, match=f"{field}: expected .*got {value!r}".replace("(", r"\(")):
            Recipe(**{**SOUND, field: value})


@pytest.mark.parametrize("factor", [0, -0.5, math.nan, math.inf, "x", True])
def test_factors_that_are_none(factor: Any) -> None:
    with pytest.raises(UsageError, match="factor of the learning rate: expected a number above 0, got"):
        StepDecay(factor)


@pytest.mark.parametrize("after", [(0,), (2, 2), (5, 2), (1.5,), (True,), ("2",), (-1, 3)])
def test_epochs_that_do_not_increase(after: Any) -> None:
    with pytest.raises(UsageError, match="expected increasing whole numbers from 1 on, got"):
        StepDecay(0.5, after)


def test_other_refusals() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown optimizer 'adma'; did you mean 'adam'"):
        Recipe(**{**SOUND, "optimizer": "adma"})
    with pytest.raises(UsageError, match=r"momentum: adam has none of its own, got 0\.9"):
        Recipe(**{**SOUND, "optimizer": "adam", "momentum": 0.9})


def test_recipes_read_from_json_are_equal() -> None:
    assert StepDecay(0.2, [2, 5]) == StepDecay(0.2, (2, 5))  # type: ignore[arg-type]


def test_a_recipe_needs_no_torch() -> None:
    code = (
        "import sys; from explanation_alignment.experiments.training import Recipe, StepDecay; "
        "Recipe(1, 2, 'sgd', 0.1); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_names_of_the_package() -> None:
    from explanation_alignment.experiments import training

    assert set(dir(training)) == set(training.__all__)
    with pytest.raises(AttributeError, match="Schedule"):
        _ = training.Schedule
