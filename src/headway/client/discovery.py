"""Where the control API is and which token to show it.

In this order: what the caller says; ``HEADWAY_URL`` and ``HEADWAY_TOKEN``; the home directory, where a running control
plane leaves ``control.json`` and where ``admin.token`` is readable by its owner alone. That token is the home's own and
never leaves the machine: it is shown to the address in ``control.json`` and to loopback addresses, to no other.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError

from headway.domain.errors import ControlUnreachable, InvalidInput, Unauthenticated
from headway.settings import Settings, is_loopback

START = "headway up --detach"


@dataclass(frozen=True, slots=True)
class Place:
    """A control API and, where it is known beforehand, its gateway."""

    control_url: str
    token: str | None = field(repr=False)
    gateway_url: str | None = None
    token_for_gateway: bool = True
    """False: the token is the home's own, and the gateway is one that somebody named elsewhere."""


def discover(url: str | None, token: str | None, home: Path | None, gateway_url: str | None) -> Place:
    """The place to talk to. ``ControlUnreachable`` when nothing runs, ``InvalidInput`` for a URL that is none."""
    settings = _settings()
    folder = (home or settings.home).expanduser().absolute()
    named = url or settings.url or None
    announced = _announced(folder)
    own = str(announced.get("control_url", "")) or None
    if named is None:
        if own is None:
            raise ControlUnreachable(f"no control plane is running on {folder}", hint=START)
        _check_alive(announced, folder)
    where = _checked(named or own or "", "HEADWAY_URL")
    local = own is not None and where == _checked(own, "control.json")
    shown = token or settings.token or None
    of_home = shown is None
    if shown is None and (local or is_loopback(httpx.URL(where).host)):
        shown = _home_token(folder)
    own_gateway = str(announced.get("gateway_url", "")) or None if local else None
    gateway = _checked(gateway_url or own_gateway or "", "gateway_url") if gateway_url or own_gateway else None
    stranger = gateway_url is not None and gateway != own_gateway and not is_local(gateway or "")
    return Place(where, _sane(shown), gateway, token_for_gateway=not (of_home and stranger))


def is_local(url: str) -> bool:
    """Whether ``url`` leads to this machine: such requests never go through a proxy."""
    return is_loopback(httpx.URL(url).host)


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        variable = f"HEADWAY_{'_'.join(str(part) for part in first['loc']).upper()}"
        raise InvalidInput(first["msg"], where=variable, hint="unset it or correct it") from None


def _announced(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "control.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_alive(announced: dict[str, Any], folder: Path) -> None:
    """A crash leaves ``control.json`` behind, and anybody may listen on the port by now."""
    pid = announced.get("pid")
    if not isinstance(pid, int) or pid < 1:
        return
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        raise ControlUnreachable(
            f"the control plane of {folder} does not run any more (process {pid} ended)", hint=START
        ) from None
    except PermissionError:
        return  # it runs as somebody else


def _home_token(folder: Path) -> str | None:
    path = folder / "admin.token"
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Unauthenticated(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}",
            hint="run it as the owner of that home, or set HEADWAY_TOKEN",
        ) from None


def _checked(url: str, where: str) -> str:
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL:
        found = httpx.URL("")
    if found.scheme not in ("http", "https") or not found.host:
        raise InvalidInput(f"{url[:200]!r} is not a URL", where=where, hint="such as http://127.0.0.1:8421")
    return str(found).rstrip("/")


def _sane(token: str | None) -> str | None:
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise Unauthenticated("the token holds characters that no token has", hint="see headway token create")
    return token
