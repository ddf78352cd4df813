"""Batches: what a process that sends tells the one that writes down. Over a Unix socket, one after the other.

A frame is its length (four bytes, big end first) and MessagePack. All instants are of CLOCK_MONOTONIC, which is one and
the same for every process of a machine.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import msgspec

from headway.domain.load_shapes import LoadShape
from headway.ports.load_generator import LoadRequest

SOCKET: Final = "HEADWAY_LOAD_SOCKET"
"""Environment variable that names the socket."""
HEAD: Final = Struct(">I")
MOST_BYTES: Final = 64 * 1024 * 1024


class Batch(msgspec.Struct, array_like=True, kw_only=True):
    """Requests that were answered since the last one, and how the sender stands."""

    sender: int
    """Its process."""
    began_s: float | None = None
    """When its load began; in every batch from then on."""
    due_s: list[float] = []
    sent_s: list[float] = []
    done_s: list[float] = []
    status: list[int] = []
    faults: dict[str, int] = {}
    """Why requests of this batch failed, other than by their status."""
    lags_s: list[float] = []
    users: int | None = None
    sent: int = 0
    waited: int = 0
    in_flight: int | None = None
    oldest_s: float = 0.0
    cpu_s: float = 0.0
    """Processor time since the load began."""
    failure: str = ""
    """Why it cannot go on."""


class Part(msgspec.Struct, kw_only=True):
    """What a worker of the open-loop generator is told: the whole load, and which part of it is its own."""

    model: str
    url: str
    token: str | None
    shape: LoadShape
    requests: list[LoadRequest]
    place: int
    parts: int
    timeout_s: float
    begin_at_s: float
    """The same for all: parts of one timetable have one beginning."""


def frame(batch: Batch) -> bytes:
    """As bytes for the socket."""
    body = msgspec.msgpack.encode(batch)
    return HEAD.pack(len(body)) + body


def batch_of(body: bytes) -> Batch:
    """Raises ``msgspec.MsgspecError`` for what is none."""
    return msgspec.msgpack.decode(body, type=Batch)
