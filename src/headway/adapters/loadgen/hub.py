"""Hub: takes the batches of all sending processes and makes one load of them."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from headway.adapters.loadgen.wire import HEAD, MOST_BYTES, Batch, batch_of
from headway.ports.load_generator import GeneratorState, Load


class Hub:
    """Use as an asynchronous context manager around the life of the processes."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._folder = tempfile.TemporaryDirectory(prefix="headway-load-")
        self._server: asyncio.Server | None = None
        self._latest: dict[int, Batch] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._held: list[Batch] = []
        self._reading = 0
        self._idle = asyncio.Event()
        self.began_s: float | None = None
        self.failures: list[str] = []
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
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *failure: object) -> None:
        if self._server is not None:
            self._server.close()
            for writer in tuple(self._writers):
                writer.close()
            await self._server.wait_closed()
        self._folder.cleanup()

    async def drain(self, timeout_s: float) -> None:
        """Wait until every sender has closed its end: no batch is under way any more."""
        self._ended_s = time.monotonic()
        if self._reading:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._idle.wait()

    def state(self) -> GeneratorState:
        """Of all senders together."""
        latest = self._latest.values()
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
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self._reading += 1
        self._idle.clear()
        try:
            while True:
                (size,) = HEAD.unpack(await reader.readexactly(HEAD.size))
                if size > MOST_BYTES:
                    return
                self._take(batch_of(await reader.readexactly(size)))
        except (asyncio.IncompleteReadError, ConnectionError, msgspec.MsgspecError):
            return  # it has ended; how, its exit code tells
        finally:
            self._reading -= 1
            if not self._reading:
                self._idle.set()
            self._writers.discard(writer)
            writer.close()

    def _take(self, batch: Batch) -> None:
        self._latest[batch.sender] = batch
        if batch.failure:
            self.failures.append(batch.failure)
        if self.began_s is None and batch.began_s is not None:
            self.began_s = batch.began_s
            self._load.began(batch.began_s)
            held, self._held = self._held, []
            for one in held:
                self._write(one, batch.began_s)
        if self.began_s is None:
            self._held.append(batch)
        else:
            self._write(batch, self.began_s)

    def _write(self, batch: Batch, began_s: float) -> None:
        samples = self._load.samples
        for due_s, sent_s, done_s, status in zip(batch.due_s, batch.sent_s, batch.done_s, batch.status, strict=True):
            samples.add(due_s - began_s, sent_s - began_s, done_s - began_s, status)
        if batch.faults:
            # Of those without a status ``add`` has counted nothing: it was not told why.
            samples.faults.update(batch.faults)
        self._load.lags_s.extend(batch.lags_s)
