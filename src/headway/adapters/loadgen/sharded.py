"""ShardedLoadGenerator: the generator of our own in several processes, for rates that one core cannot send.

Process ``i`` of ``n`` sends the requests ``i``, ``i + n``, ``i + 2n``, … of one and the same timetable: together they
send exactly what one would. The processes are started here, or by others on other machines, from which they come
through a door.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from typing import Final

from headway.adapters.loadgen.children import Children, first_of
from headway.adapters.loadgen.hub import Door, Hub
from headway.adapters.loadgen.wire import PLACE, Part
from headway.domain.errors import GatewayFailed, HeadwayError, StartTimeout, WorkerLost
from headway.domain.load_shapes import Arrivals
from headway.ports.load_generator import GeneratorState, Load

DRAIN_S: Final = 10.0
LEAD_S: Final = 1.0
"""From all being there to the begin."""
READ_PER_S: Final = 100_000
"""Recorded arrivals that are told to a worker, and read by it, in a second."""
START_S: Final = 60.0
"""How long processes of this machine may take to start."""


class ShardedLoadGenerator:
    """The ``LoadGenerator`` port with ``workers`` processes: of this machine, or those that come through ``door``."""

    def __init__(self, workers: int, *, timeout_s: float = 30.0, door: Door | None = None) -> None:
        self._workers = workers
        self._timeout_s = timeout_s
        self._door = door
        self._state = GeneratorState()
        self._hub: Hub | None = None
        self._stopped = asyncio.Event()

    @property
    def name(self) -> str:
        return "headway"

    async def run(self, load: Load) -> None:
        """See the port. Raises ``StartTimeout`` when too few workers came, ``WorkerLost`` when one left too early."""
        self._stopped = asyncio.Event()
        async with Hub(load, self._door) as hub, Children(hub.folder / "log") as children:
            self._hub = hub
            try:
                if self._door is None:
                    command = [sys.executable, "-m", "headway.adapters.loadgen.worker"]
                    for _ in range(self._workers):
                        await children.start(command, {PLACE: hub.path})
                await self._send(load, hub, children)
                hub.end()
                await children.end()
                await hub.drain(DRAIN_S)
            finally:
                self._state, self._hub = hub.state(), None
            self._raise(hub, children)

    def state(self) -> GeneratorState:
        return self._state if self._hub is None else self._hub.state()

    def stop(self) -> None:
        self._stopped.set()

    async def _send(self, load: Load, hub: Hub, children: Children) -> None:
        begin = all_here(hub, self._workers, START_S if self._door is None else self._door.patience_s)
        failed = children.wait() if self._door is None else self._stopped.wait()
        await first_of(begin, failed, self._stopped.wait(), raising=True)
        senders = hub.workers()[: self._workers]
        if self._stopped.is_set() or len(senders) < self._workers:
            return
        begin_at_s = time.monotonic() + LEAD_S + len(load.shape.offsets_s) / READ_PER_S
        for place, sender in enumerate(senders):
            await hub.give(sender, self._part(load, place, begin_at_s - sender.shift_s))
        over = hub.until(lambda: all(one.gone or one.done for one in senders) or bool(hub.lost() or hub.failures))
        await first_of(over, self._stopped.wait())

    def _raise(self, hub: Hub, children: Children) -> None:
        if self._stopped.is_set():
            return
        if hub.failures:
            raise GatewayFailed(hub.failures[0], hint="headway info tells how the gateway is")
        if sum(one.done for one in hub.workers()) < self._workers and any(children.codes()):
            raise HeadwayError(
                f"a process of the load generator ended before its part was sent: {children.ends()}",
                details={"log_tail": children.said()},
            )
        raise_lost(hub, self._workers)

    def _part(self, load: Load, place: int, begin_at_s: float) -> Part:
        shape, parts, sent = load.shape, self._workers, load.requests
        if shape.arrivals is Arrivals.RECORDED:
            # A timetable that follows from nothing can be long: each gets what is its own, and is the only one to.
            numbers = range(place, len(shape.offsets_s), parts)
            sent = [load.requests[number % len(load.requests)] for number in numbers]
            shape, place, parts = replace(shape, offsets_s=shape.offsets_s[place::parts]), 0, 1
        distinct = {request: at for at, request in enumerate(dict.fromkeys(sent))}
        return Part(
            model=load.target.model,
            url=load.target.url,
            token=load.target.token,
            shape=shape,
            requests=list(distinct),
            turns=[distinct[request] for request in sent],
            place=place,
            parts=parts,
            timeout_s=self._timeout_s,
            begin_at_s=begin_at_s,
        )


async def all_here(hub: Hub, workers: int, patience_s: float) -> None:
    """Until ``workers`` have come and want a part. Raises ``StartTimeout`` after ``patience_s``."""
    try:
        async with asyncio.timeout(patience_s):
            await hub.until(lambda: sum(not one.gone for one in hub.workers()) >= workers)
    except TimeoutError:
        here = sum(not one.gone for one in hub.workers())
        raise StartTimeout(f"{here} of {workers} workers were there after {patience_s:g} s") from None


def raise_lost(hub: Hub, workers: int) -> None:
    """Raises ``WorkerLost`` when a worker has left before its part was sent: what it would have sent is missing."""
    if lost := hub.lost():
        raise WorkerLost(f"{len(lost)} of {workers} workers of the load generator ended before their part was sent")
