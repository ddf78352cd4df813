"""What a runtime and a template process say to each other: one JSON object a line on the template's Unix socket.

The runtime asks (:data:`Request`), the template tells (:data:`Notice`). A template talks to one runtime at a time: who
comes later takes over. Both run the same release of Headway, since the release is part of what names a template.
"""

from __future__ import annotations

from typing import Final

import msgspec

TEMPLATE: Final = "--template"
"""Last on the command line of a template process, whose config is a replica's but for name, socket and files."""
MARK: Final = "+template."
"""What ``HEADWAY_REPLICA`` begins with in a template: no replica's name can."""
MARK_BYTES: Final = 96
"""Length of that value, filled up with ``+``: a replica's name replaces it in place, and names are shorter."""


class Fork(msgspec.Struct, frozen=True, tag="fork", kw_only=True):
    """Make a replica of the config file ``config``."""

    serial: int
    """Repeated in the answer."""
    config: str


class Reap(msgspec.Struct, frozen=True, tag="reap", kw_only=True):
    """How did ``pid``, which has ended, end? Asked once: after that its number may be another's."""

    pid: int


class Hello(msgspec.Struct, frozen=True, tag="hello", kw_only=True):
    """The model is loaded. The first thing that is said on a connection."""

    load_s: float
    """How long import and load took."""
    obstacle: str | None
    """Why it cannot be forked; then the process itself becomes the replica that it is asked for, or says that it will
    not."""


class Forked(msgspec.Struct, frozen=True, tag="forked", kw_only=True):
    """A process of its own session, with the replica's name in its environment, is on its way to serve."""

    serial: int
    pid: int
    same: bool
    """It is the template itself, which is none any more: nothing else is said on this connection."""


class NotForked(msgspec.Struct, frozen=True, tag="not_forked", kw_only=True):
    """No process came to be."""

    serial: int
    message: str


class Listening(msgspec.Struct, frozen=True, tag="listening", kw_only=True):
    """The replica of process ``pid`` serves its socket."""

    pid: int


class Ended(msgspec.Struct, frozen=True, tag="ended", kw_only=True):
    """The answer to :class:`Reap`; both None: it is not known (any more)."""

    pid: int
    code: int | None
    signal: int | None


Request = Fork | Reap
Notice = Hello | Forked | NotForked | Listening | Ended


def encode(message: Request | Notice) -> bytes:
    """One line."""
    return msgspec.json.encode(message) + b"\n"


def mark_of(key: str) -> str:
    """``HEADWAY_REPLICA`` of the template ``key``."""
    return f"{MARK}{key}".ljust(MARK_BYTES, "+")


def key_of(mark: str) -> str | None:
    """The template that carries this ``HEADWAY_REPLICA``; None for a replica's."""
    return mark.removeprefix(MARK).rstrip("+") if mark.startswith(MARK) else None
