"""Log lines of several replicas in one stream, each line whole and led by its replica's name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from headway.domain.errors import NotFound
from headway.ports.clock import Clock
from headway.ports.replica_logs import ReplicaLogs

MAX_LINE_BYTES = 64 * 1024
"""A longer line is passed on in pieces of this size."""
WAITING_CHUNKS = 16
"""Chunks read ahead from all replicas of one stream together: what a slow client can hold in memory."""
LOOK_S = 1.0
"""How often a followed model is asked for new replicas."""


async def one_after_the_other(
    logs: ReplicaLogs, replicas: Sequence[str], tail: int | None
) -> AsyncGenerator[bytes, None]:
    """Each replica's log to its present end; one that is gone by then is left out."""
    for replica in replicas:
        name = replica if len(replicas) > 1 else None
        try:
            async for chunk in whole_lines(logs.logs(replica, tail_lines=tail, follow=False)):
                yield led(name, chunk)
        except NotFound:
            continue


class Following:
    """Follows the logs of every replica that ``wanted`` names, also of those it names later. One use.

    ``wanted`` returns None when no other replica will come; then the stream ends as soon as those that are
    followed have nothing more to print. Lines are led by the replica's name once there is more than one.
    """

    def __init__(
        self, logs: ReplicaLogs, clock: Clock, tail: int | None, wanted: Callable[[], Sequence[str] | None]
    ) -> None:
        self._logs = logs
        self._clock = clock
        self._tail = tail
        self._wanted = wanted
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._chunks: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(WAITING_CHUNKS)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Chunks of whole lines."""
        watch = asyncio.create_task(self._watch(), name="log replicas")
        try:
            while True:
                take = asyncio.create_task(self._chunks.get(), name="log lines")
                try:
                    await asyncio.wait([take, watch], return_when=asyncio.FIRST_COMPLETED)
                    if not take.done():
                        await watch  # over, or failed: then that is this stream's failure
                        break
                    replica, chunk = take.result()
                finally:
                    take.cancel()
                yield led(replica if len(self._tasks) > 1 else None, chunk)
            while not self._chunks.empty():
                replica, chunk = self._chunks.get_nowait()
                yield led(replica if len(self._tasks) > 1 else None, chunk)
        finally:
            tasks = [watch, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        while (wanted := self._wanted()) is not None:
            for replica in wanted:
                if replica not in self._tasks:
                    self._tasks[replica] = asyncio.create_task(self._follow(replica), name=f"log of {replica}")
            await self._clock.sleep(LOOK_S)
        await asyncio.gather(*self._tasks.values())

    async def _follow(self, replica: str) -> None:
        try:
            async for chunk in whole_lines(self._logs.logs(replica, tail_lines=self._tail, follow=True)):
                await self._chunks.put((replica, chunk))
        except NotFound:
            return


async def whole_lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The same bytes, cut after line ends; a last line without one gets it."""
    rest = b""
    async with released(chunks):
        async for chunk in chunks:
            lines, newline, rest = (rest + chunk).rpartition(b"\n")
            if newline:
                yield lines + newline
            while len(rest) >= MAX_LINE_BYTES:
                yield rest[:MAX_LINE_BYTES] + b"\n"
                rest = rest[MAX_LINE_BYTES:]
    if rest:
        yield rest + b"\n"


@asynccontextmanager
async def released(chunks: AsyncIterator[bytes]) -> AsyncGenerator[None, None]:
    """Close ``chunks`` on leaving, if it is a generator: files it holds open are closed now, not some time."""
    try:
        yield
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


def led(replica: str | None, lines: bytes) -> bytes:
    """Every line led by ``replica | ``; as they are for None. ``lines`` ends with a line end."""
    if replica is None:
        return lines
    lead = f"{replica} | ".encode()
    return b"".join(lead + line + b"\n" for line in lines[:-1].split(b"\n"))
