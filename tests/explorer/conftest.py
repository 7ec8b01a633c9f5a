"""The explorer as a test's own client asks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from exploring import explored
from starlette.testclient import TestClient

from explanation_alignment.explorer.app import create_app
from explanation_alignment.explorer.computing import Computer
from explanation_alignment.explorer.guarding import Guard, allowed_hosts

Visit = Callable[..., TestClient]


@pytest.fixture(scope="session")
def explored_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with hostile names and a few pictures; only to be read."""
    return explored(tmp_path_factory.mktemp("explored") / "run")


@pytest.fixture
def visit() -> Iterator[Visit]:
    """A function (runs, computer) -> client of an explorer over them."""
    with ExitStack() as stack:

        def open_client(*runs: Path, computer: Computer | None = None) -> TestClient:
            app = create_app(runs, computer=computer, patience=0, board_patience=60)
            guarded = Guard(app, allowed_hosts("127.0.0.1"))
            return stack.enter_context(TestClient(guarded, base_url="http://127.0.0.1:8360"))

        yield open_client
