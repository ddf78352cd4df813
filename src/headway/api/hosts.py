"""HostCheck: only requests that were meant for this listener.

Against DNS rebinding: a web page whose name is made to point at 127.0.0.1 can send requests here, but its
``Host`` header still carries its own name. Loopback names always pass, with any port, because tunnels and
port forwards change ports; an IP address can only be somebody's true address, so on a listener that has all
addresses every one of them passes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from headway.domain.errors import InvalidInput
from headway.settings import is_loopback

ALL_ADDRESSES = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared with, not listened on


class HostCheck:
    """Refuses requests whose ``Host`` is neither a loopback name nor one of ``hosts``.

    ``hosts`` are the address that the listener is bound to and the names it is reached by.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str]) -> None:
        self._app = app
        given = {host.strip("[]").rstrip(".").lower() for host in hosts}
        self._any_address = bool(given & ALL_ADDRESSES)
        self._hosts = frozenset(_canonical(host) for host in given - ALL_ADDRESSES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            sent = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if len(sent) != 1 or not self.serves(sent[0]):
                shown = repr(sent[0][:80]) if sent else "missing"
                raise InvalidInput(
                    f"this listener is not known by that name ({shown})",
                    where="header Host",
                    hint="use the address that the control listener is bound to, or localhost",
                )
        await self._app(scope, receive, send)

    def serves(self, header: str) -> bool:
        """Whether a ``Host`` header of this value is meant for here."""
        host = _host_of(header)
        if host is None:
            return False
        if is_loopback(host) or _canonical(host) in self._hosts:
            return True
        return self._any_address and _is_address(host)


def _host_of(header: str) -> str | None:
    """``name[:port]`` or ``[v6][:port]`` -> the name or address; None when it is neither."""
    text = header.strip().lower()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        return None
    return host.rstrip(".") or None


def _canonical(host: str) -> str:
    """One spelling per address: ``::0:1`` and ``::1`` are the same."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
