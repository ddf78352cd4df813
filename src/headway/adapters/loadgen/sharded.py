"""ShardedLoadGenerator: the generator of our own in several processes, for rates that one core cannot send.

Process ``i`` of ``n`` sends the requests ``i``, ``i + n``, ``i + 2n``, … of one and the same timetable: together they
send exactly what one would.
"""

from __future__ import annotations

import asyncio
import sys
import time

import msgspec

from headway.adapters.loadgen.children import Children, first_of
from headway.adapters.loadgen.hub import Hub
from headway.adapters.loadgen.wire import SOCKET, Part
from headway.domain.errors import GatewayFailed, HeadwayError
from headway.ports.load_generator import GeneratorState, Load

DRAIN_S = 10.0
START_S, EACH_S = 1.0, 0.5
"""What processes need to start; one that is not ready then is late, which the report tells."""


class ShardedLoadGenerator:
    """The ``LoadGenerator`` port with ``workers`` processes."""

    def __init__(self, workers: int, *, timeout_s: float = 30.0) -> None:
        self._workers = workers
        self._timeout_s = timeout_s
        self._state = GeneratorState()
        self._hub: Hub | None = None
        self._stopped = asyncio.Event()

    @property
    def name(self) -> str:
        return "headway"

    async def run(self, load: Load) -> None:
        """See the port."""
        self._stopped = asyncio.Event()
        command = [sys.executable, "-m", "headway.adapters.loadgen.worker"]
        async with Hub(load) as hub, Children(hub.folder / "log") as children:
            self._hub = hub
            begin_at_s = time.monotonic() + START_S + EACH_S * self._workers
            try:
                for place in range(self._workers):
                    await children.start(command, {SOCKET: hub.path}, stdin=self._part(load, place, begin_at_s))
                await first_of(children.wait(), self._stopped.wait())
                await children.end()
                await hub.drain(DRAIN_S)
            finally:
                self._state, self._hub = hub.state(), None
            self._raise(hub, children)

    def state(self) -> GeneratorState:
        return self._state if self._hub is None else self._hub.state()

    def stop(self) -> None:
        self._stopped.set()

    def _raise(self, hub: Hub, children: Children) -> None:
        if self._stopped.is_set():
            return
        if hub.failures:
            raise GatewayFailed(hub.failures[0], hint="headway info tells how the gateway is")
        if any(children.codes()):
            raise HeadwayError("a process of the load generator failed", details={"log_tail": children.said()})

    def _part(self, load: Load, place: int, begin_at_s: float) -> bytes:
        part = Part(
            model=load.target.model,
            url=load.target.url,
            token=load.target.token,
            shape=load.shape,
            requests=list(load.requests),
            place=place,
            parts=self._workers,
            timeout_s=self._timeout_s,
            begin_at_s=begin_at_s,
        )
        return msgspec.msgpack.encode(part)
