"""What processes that send say to the one that writes down, and are told by it.

A frame is its length (four bytes, big end first) and MessagePack. A sender says hello first. One that wants it is given
its part then; the others know theirs. From then on it sends batches, and is told to end by the end of the stream.

All instants are of the sender's CLOCK_MONOTONIC. That is one and the same for every process of a machine; for a sender
on another machine the hub adds the difference, which it takes from the hello. No latency depends on that difference,
since each is between two instants of one clock: it only places a request on the common axis, as exactly as the way
there is short.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import msgspec

from headway.domain.load_shapes import LoadShape
from headway.ports.load_generator import LoadRequest

PLACE: Final = "HEADWAY_LOAD_PLACE"
"""Environment variable: where the hub is. A path of a Unix socket, ``HOST:PORT``, or ``fd:N`` for a descriptor on which
hello was said already."""
TOKEN: Final = "HEADWAY_LOAD_TOKEN"
"""Environment variable: what a sender on another machine has to show."""
HEAD: Final = Struct(">I")
MOST_BYTES: Final = 64 * 1024 * 1024


class Hello(msgspec.Struct, array_like=True, kw_only=True):
    """The first that a sender says."""

    token: str
    now_s: float
    wants_part: bool


class Batch(msgspec.Struct, array_like=True, kw_only=True):
    """Requests that were answered since the last one, and how the sender stands."""

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
    done: bool = False
    """The last one: all was sent, or the sender was told to end."""
    raised: dict[str, int] = {}
    """What a locustfile's own code raised since the last batch, with how often."""
    notes: list[str] = []
    """What whoever reads the figures has to know; told once."""


class Part(msgspec.Struct, kw_only=True, tag="requests"):
    """What a worker of the open-loop generator is told: the whole load, and which part of it is its own."""

    model: str
    url: str
    token: str | None
    shape: LoadShape
    requests: list[LoadRequest]
    """Each once."""
    turns: list[int]
    """Places in ``requests``, in the order in which they are sent."""
    place: int
    parts: int
    timeout_s: float
    begin_at_s: float
    """The same for all: parts of one timetable have one beginning."""


class LocustPart(msgspec.Struct, kw_only=True, tag="users"):
    """What Locust's processes are told: the load. ``own_users``: there is no locustfile, so the plugin brings users."""

    url: str
    token: str | None
    shape: LoadShape
    requests: list[LoadRequest]
    timeout_s: float
    own_users: bool
    locustfile: bytes | None = None
    """For a worker on another machine, which does not have the file."""
    port: int = 0
    """For the same: where Locust's master listens."""


def frame(message: msgspec.Struct) -> bytes:
    """As bytes for the socket."""
    body = msgspec.msgpack.encode(message)
    return HEAD.pack(len(body)) + body


def batch_of(body: bytes) -> Batch:
    """Raises ``msgspec.MsgspecError`` for what is none."""
    return msgspec.msgpack.decode(body, type=Batch)
