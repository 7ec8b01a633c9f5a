"""Opens the explorer: a server on this machine, and a browser that shows it."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from explanation_alignment.errors import ExplanationAlignmentError, RunError, UsageError
from explanation_alignment.runs.reader import Run

__all__ = ["explore"]

#: The first port that is tried where none is asked for, and how many.
_PORT: Final = 8360
_TRIED: Final = 20


def explore(
    run: Run | str | Path,
    other: Run | str | Path | None = None,
    *,
    port: int | None = None,
    host: str = "127.0.0.1",
    open_browser: bool = True,
    data_dir: str | Path | None = None,
    datasets: Sequence[str] = (),
    announce: Callable[[str], object] = print,
) -> None:
    """Show one or two runs in a browser until it is interrupted (Ctrl-C).

    Args:
        run: a run, or its folder.
        other: a second one, to compare models of both.
        port: to listen on; by default the first free one from 8360.
        host: address to listen on; anything but this machine's own lets others look at the run.
        open_browser: whether to open the page.
        data_dir: folder with the dataset's files, to compute pictures that the run does not hold.
        datasets: names with arguments, for the same.
        announce: told the page's address.

    Raises:
        RunError: a folder is no run.
        ExplanationAlignmentError: the extra ``explorer`` is not installed, or the port is in use.
    """
    try:
        import uvicorn

        from explanation_alignment.explorer.app import create_app
    except ModuleNotFoundError as error:
        raise ExplanationAlignmentError(
            f"the explorer needs {error.name}; install it with: pip install 'explanation-alignment[explorer]'"
        ) from error
    from explanation_alignment.explorer.computing import Computer
    from explanation_alignment.explorer.guarding import Guard, allowed_hosts

    folders = [one.path if isinstance(one, Run) else Path(one) for one in (run, other) if one is not None]
    app = create_app(folders, computer=Computer(data_dir, datasets))
    listening = _listen(host, port)
    everywhere = host in ("0.0.0.0", "::")
    guarded: Any = Guard(app, allowed_hosts(host), addresses=everywhere)
    settings = uvicorn.Config(
        guarded, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(settings)
    address = _address(host, listening)
    announce(address)
    if open_browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    with listening, contextlib.suppress(KeyboardInterrupt, SystemExit):  # the signal that ended it, handed on
        server.run(sockets=[listening])


def _address(host: str, listening: socket.socket) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{name}]' if ':' in name else name}:{listening.getsockname()[1]}/"


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens; on the next free port where none is asked for.

    Raises:
        RunError: the port is in use, or this machine has no such address.
        UsageError: there is no such port.
    """
    if port is not None and not 0 <= port < 65536:
        raise UsageError(f"--port {port}: expected a number from 1 to 65535, or 0 for any free one")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for one in [port] if port is not None else [*range(_PORT, _PORT + _TRIED), 0]:
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, one))
            listening.listen(128)
        except OSError as error:
            listening.close()
            if error.errno == errno.EADDRINUSE and port is None:
                continue
            if error.errno == errno.EADDRINUSE:
                raise RunError(f"port {port} is in use; give another --port, or none for the next free one") from error
            reason = error.strerror or error
            raise RunError(f"cannot listen on {host}, port {one} ({reason}); give another --host or --port") from error
        return listening
    raise RunError(f"no port from {_PORT} to {_PORT + _TRIED - 1} is free; give --port")
