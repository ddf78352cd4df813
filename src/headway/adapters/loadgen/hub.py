"""Hub: takes the batches of all sending processes and makes one load of them.

Processes of this machine come through a Unix socket in a folder that is ours alone. Others come through a :class:`Door`
and have to show its token.
"""

from __future__ import annotations

import asyncio
import hmac
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from headway.adapters.loadgen.wire import HEAD, MOST_BYTES, Batch, Hello, batch_of, frame
from headway.ports.load_generator import GeneratorState, Load

HELLO_S: Final = 10.0
MOST_HELLO_BYTES: Final = 4096
MOST_RAISED: Final = 5
"""Different things that a locustfile's code raised, told of in a report."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where senders on other machines are let in."""

    host: str
    port: int
    token: str = field(repr=False)
    locust_port: int = 5557
    """Of the same host: where Locust's master listens for its workers."""
    patience_s: float = 300.0
    """How long to wait until all are there."""


@dataclass(slots=True, eq=False)
class Sender:
    """A process that sends."""

    writer: asyncio.StreamWriter
    shift_s: float
    """What to add to its instants for ours."""
    wants_part: bool
    latest: Batch | None = None
    gone: bool = False

    @property
    def done(self) -> bool:
        """Whether it has sent all that it had."""
        return self.latest is not None and self.latest.done


class Hub:
    """Use as an asynchronous context manager around the life of the processes."""

    def __init__(self, load: Load, door: Door | None = None) -> None:
        self._load = load
        self._door = door
        self._folder = tempfile.TemporaryDirectory(prefix="headway-load-")
        self._servers: list[asyncio.Server] = []
        self._senders: list[Sender] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._held: list[tuple[Sender, Batch]] = []
        self._changed = asyncio.Event()
        self.began_s: float | None = None
        self.failures: list[str] = []
        self._raised: Counter[str] = Counter()
        self._notes: list[str] = []
        self._ended_s: float | None = None

    @property
    def path(self) -> str:
        """The socket's."""
        return str(Path(self._folder.name) / "s")

    @property
    def folder(self) -> Path:
        """Goes with the hub."""
        return Path(self._folder.name)

    async def __aenter__(self) -> Hub:
        self._servers.append(await asyncio.start_unix_server(partial(self._serve, None), self.path))
        if self._door is not None:
            serve = partial(self._serve, self._door.token)
            self._servers.append(await asyncio.start_server(serve, self._door.host, self._door.port))
        return self

    async def __aexit__(self, *failure: object) -> None:
        for server in self._servers:
            server.close()
        for writer in tuple(self._writers):
            writer.close()
        for server in self._servers:
            await server.wait_closed()
        self._folder.cleanup()

    # -- those who send ------------------------------------------------------------------------------

    def workers(self) -> list[Sender]:
        """Those that want a part, or have one, in the order in which they came; without those that left before."""
        return [one for one in self._senders if one.wants_part and not (one.gone and one.latest is None)]

    def lost(self) -> list[Sender]:
        """Those that have left before they were done."""
        return [one for one in self.workers() if one.gone and not one.done]

    async def until(self, fact: Callable[[], bool]) -> None:
        """``fact`` is looked at whenever a sender came, told something or left."""
        while not fact():
            self._changed.clear()
            await self._changed.wait()

    async def give(self, sender: Sender, part: msgspec.Struct) -> None:
        """Tell it what to send; one that has left hears nothing."""
        with suppress(ConnectionError):
            sender.writer.write(frame(part))
            await sender.writer.drain()

    def end(self) -> None:
        """Tell all that it is over."""
        for sender in self._senders:
            if not sender.gone:
                with suppress(OSError):
                    sender.writer.write_eof()

    async def drain(self, timeout_s: float) -> None:
        """Wait until every sender has closed its end: no batch is under way any more."""
        self._ended_s = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.until(lambda: all(one.gone for one in self._senders))

    def state(self) -> GeneratorState:
        """Of all senders together."""
        latest = [one.latest for one in self._senders if one.latest is not None]
        users = [one.users for one in latest if one.users is not None]
        flights = [one.in_flight for one in latest if one.in_flight is not None]
        elapsed_s = (self._ended_s or time.monotonic()) - (self.began_s or 0.0)
        busiest_s = max((one.cpu_s for one in latest), default=0.0)
        return GeneratorState(
            users=sum(users) if users else None,
            sent=sum(one.sent for one in latest),
            waited=sum(one.waited for one in latest),
            in_flight=sum(flights) if flights else None,
            oldest_s=max((one.oldest_s for one in latest), default=0.0),
            cpu_share=busiest_s / elapsed_s if self.began_s is not None and elapsed_s > 0.5 else None,
            notes=(*self._notes, *(_raised_text(*one) for one in self._raised.most_common(MOST_RAISED))),
        )

    def all_done(self) -> bool:
        """Whether the load began, and all who sent have sent what they had."""
        return self.began_s is not None and all(one.done for one in self._senders)

    # -- what they say -------------------------------------------------------------------------------

    async def _serve(self, token: str | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        sender: Sender | None = None
        try:
            async with asyncio.timeout(HELLO_S):
                hello = msgspec.msgpack.decode(await _frame(reader, MOST_HELLO_BYTES), type=Hello)
            if token is not None and not hmac.compare_digest(hello.token.encode(), token.encode()):
                return
            shift_s = 0.0 if token is None else time.monotonic() - hello.now_s
            sender = Sender(writer, shift_s, hello.wants_part)
            self._senders.append(sender)
            self._changed.set()
            while True:
                self._take(sender, batch_of(await _frame(reader, MOST_BYTES)))
        except (asyncio.IncompleteReadError, TimeoutError, ConnectionError, msgspec.MsgspecError):
            return  # it has ended; how, its last batch tells
        finally:
            if sender is not None:
                sender.gone = True
            self._changed.set()
            self._writers.discard(writer)
            writer.close()

    def _take(self, sender: Sender, batch: Batch) -> None:
        sender.latest = batch
        self._changed.set()
        if batch.failure:
            self.failures.append(batch.failure)
        self._raised.update(batch.raised)
        self._notes += batch.notes
        if self.began_s is None and batch.began_s is not None:
            self.began_s = batch.began_s + sender.shift_s
            self._load.began(self.began_s)
            held, self._held = self._held, []
            for one in held:
                self._write(*one, self.began_s)
        if self.began_s is None:
            self._held.append((sender, batch))
        else:
            self._write(sender, batch, self.began_s)

    def _write(self, sender: Sender, batch: Batch, began_s: float) -> None:
        samples, shift_s = self._load.samples, sender.shift_s - began_s
        for due_s, sent_s, done_s, status in zip(batch.due_s, batch.sent_s, batch.done_s, batch.status, strict=True):
            # Another machine's clock is known to within a way's length: nothing is due before the begin.
            by_s = max(shift_s, -due_s)
            samples.add(due_s + by_s, sent_s + by_s, done_s + by_s, status)
        if batch.faults:
            # Of those without a status ``add`` has counted nothing: it was not told why.
            samples.faults.update(batch.faults)
        self._load.lags_s.extend(batch.lags_s)


def _raised_text(what: str, count: int) -> str:
    return f"code of the locustfile raised, {count:,} x: {what}"


async def _frame(reader: asyncio.StreamReader, most: int) -> bytes:
    """Raises ``MsgspecError`` for one that is too large."""
    (size,) = HEAD.unpack(await reader.readexactly(HEAD.size))
    if size > most:
        raise msgspec.ValidationError(f"a frame of {size} bytes")
    return await reader.readexactly(size)
