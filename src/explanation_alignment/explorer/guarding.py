"""What a request must be to be answered: for this server, from its own pages, of a size that can be meant."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

__all__ = ["Guard", "allowed_hosts"]

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

_LONGEST_QUERY: Final = 32_768
_POLICY: Final = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}


def allowed_hosts(host: str) -> frozenset[str]:
    """Names under which a server on this address may be asked for: itself, this machine, and its own name.

    A page elsewhere can make its name point here; its name is still in the request, and not among these.
    """
    names = {host, "localhost", "127.0.0.1", "::1"}
    if not _is_loopback(host):
        names |= {socket.gethostname(), socket.getfqdn()}
    return frozenset(name.lower() for name in names)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Answers what must not be answered, and adds to every answer what a browser must not do with it.

    Args:
        app: the application.
        hosts: names under which it may be asked for.
        addresses: whether any numeric address will do, as for a server that listens on all of them.
    """

    def __init__(self, app: _App, hosts: Iterable[str], *, addresses: bool = False) -> None:
        self._app, self._hosts, self._addresses = app, frozenset(hosts), addresses

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._problem(scope)
        if problem is not None:
            await _refuse(send, *problem)
            return
        await self._app(scope, receive, _with_headers(send))

    def _problem(self, scope: _Scope) -> tuple[int, str] | None:
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return 421, "This explorer is not asked for under that name; use the address it printed."
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "The explorer only shows; use GET."
        if len(scope["query_string"]) > _LONGEST_QUERY:
            return 414, f"The address is longer than {_LONGEST_QUERY:,} characters."
        site = headers.get("sec-fetch-site", ["none"])[0]
        mode = headers.get("sec-fetch-mode", ["navigate"])[0]
        if site in ("cross-site", "same-site") and (mode != "navigate" or scope["method"] == "POST"):
            return 403, "Other sites may link to the explorer, and no more."
        if scope["method"] == "POST":
            origin = headers.get("origin", [f"http://{hosts[0]}"])
            if origin != [f"http://{hosts[0]}"]:
                return 403, "This was not sent from one of the explorer's own pages."
        return None

    def _is_ours(self, host: str) -> bool:
        name = host.lower()
        if name.startswith("["):
            name, _, port = name[1:].partition("]")
            port = port.removeprefix(":")
        else:
            name, _, port = name.partition(":")
        if port and not (port.isascii() and port.isdecimal()):
            return False
        if name in self._hosts:
            return True
        if not self._addresses:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _with_headers(send: _Send) -> _Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message.get("headers", [])}
            more = [(name.encode(), value.encode()) for name, value in _HEADERS.items() if name.encode() not in given]
            message["headers"] = [*message.get("headers", []), *more]
        await send(message)

    return sending


async def _refuse(send: _Send, status: int, words: str) -> None:
    body = words.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    start = {"type": "http.response.start", "status": status, "headers": headers}
    await _with_headers(send)(start)
    await send({"type": "http.response.body", "body": body})
