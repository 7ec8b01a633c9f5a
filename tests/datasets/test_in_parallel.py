"""Drawing in several processes, however they are started; kept light, since processes import it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator

import pytest

from explanation_alignment.datasets.toy.painting import in_parallel
from explanation_alignment.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def square_of(number: int) -> tuple[int, int]:
    return number**2, os.getpid()


def fails_elsewhere(number: int) -> int:
    if multiprocessing.parent_process() is not None:
        os._exit(3)
    return number + 1


def raises(number: int) -> int:
    raise UsageError(f"number {number}")


@pytest.fixture(params=multiprocessing.get_all_start_methods())
def started(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each way of starting processes this system has."""
    usual = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(request.param, force=True)
    yield
    multiprocessing.set_start_method(usual, force=True)


@pytest.mark.usefixtures("started")
def test_results_come_in_order_from_processes_of_their_own() -> None:
    results = in_parallel(square_of, range(40), enough=10, workers=2)
    assert [value for value, _ in results] == [number**2 for number in range(40)]
    assert os.getpid() not in {process for _, process in results}


@pytest.mark.parametrize(("workers", "count"), [(4, 19), (1, 40), (None, 0)])
def test_few_are_done_here(workers: int | None, count: int) -> None:
    results = in_parallel(square_of, range(count), enough=10, workers=workers)
    assert results == [(number**2, os.getpid()) for number in range(count)]


def test_what_dies_elsewhere_is_done_here() -> None:
    assert in_parallel(fails_elsewhere, range(4), enough=1, workers=2) == [1, 2, 3, 4]


def test_errors_are_told() -> None:
    with pytest.raises(UsageError, match="number 0"):
        in_parallel(raises, range(4), enough=1, workers=2)
