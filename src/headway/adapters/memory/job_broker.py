"""A broker of jobs in memory. :class:`MemoryBroker` stands for the broker's process, which connections share."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headway.domain.errors import BrokerFailed
from headway.ports.job_broker import Wakeup

LINGER_S = 0.05
"""How long messages stay with who wants no more: what it has it may be about to settle."""


@dataclass
class MemoryBroker:
    """The broker's process: its queues, and who takes from them. A test makes it go ``away``, and wipes it."""

    queues: dict[str, deque[str]] = field(default_factory=dict)
    away: bool = False
    connections: list[MemoryJobBroker] = field(default_factory=list)

    def wipe(self) -> None:
        """All it held is gone."""
        self.queues.clear()

    def hand_out(self) -> None:
        """Give messages to whoever has room for them, in turn."""
        moved = not self.away
        while moved:
            moved = False
            for connection in self.connections:
                moved = connection.take_one() or moved
            self.connections.sort(key=lambda one: one.taken)


class MemoryJobBroker:
    """The ``JobBroker`` port on a :class:`MemoryBroker`, by default one of its own."""

    def __init__(self, broker: MemoryBroker | None = None) -> None:
        self.broker = broker if broker is not None else MemoryBroker()
        self.on_wakeup: Callable[[Wakeup], None] | None = None
        """See the port."""
        self._most: dict[str, int] = {}
        self._held: dict[int, Wakeup] = {}
        self.taken = 0
        """Messages so far; also the ticket of the last one."""
        self._started = False

    @property
    def connected(self) -> bool:
        """See the port."""
        return self._started and not self.broker.away

    async def start(self) -> None:
        """See the port."""
        if not self._started:
            self._started = True
            self.broker.connections.append(self)

    async def stop(self) -> None:
        """See the port."""
        if self._started:
            self._started = False
            self.broker.connections.remove(self)
            held, self._held = list(self._held.values()), {}
            self._put_back(held)
        self._most.clear()

    async def announce(self, jobs: Sequence[tuple[str, str]]) -> None:
        """See the port."""
        if not self.connected:
            raise BrokerFailed("the broker is away")
        for model, job_id in jobs:
            self.broker.queues.setdefault(model, deque()).append(job_id)
        self._soon()

    def expect(self, model: str, most: int) -> None:
        """See the port."""
        self._most[model] = most
        if not most:
            asyncio.get_running_loop().call_later(LINGER_S, self._let_go, model)
        elif self._started:
            self._soon()

    async def settle(self, wakeups: Sequence[Wakeup], *, again: bool = False) -> None:
        """See the port."""
        held = [self._held.pop(w.ticket) for w in wakeups if w.ticket in self._held]
        if again:
            self._put_back(held)
        self._soon()

    def take_one(self) -> bool:
        """Take one message for which there is room; False when there is none."""
        for model, most in self._most.items():
            queue = self.broker.queues.get(model)
            held = sum(w.model == model for w in self._held.values())
            if queue and held < most and self.on_wakeup is not None:
                self.taken += 1
                wakeup = Wakeup(model, queue.popleft(), self.taken)
                self._held[self.taken] = wakeup
                self.on_wakeup(wakeup)
                return True
        return False

    def _let_go(self, model: str) -> None:
        if self._started and not self._most.get(model):
            dropped = [ticket for ticket, wakeup in self._held.items() if wakeup.model == model]
            self._put_back([self._held.pop(ticket) for ticket in dropped])
            self._soon()

    def _put_back(self, wakeups: Sequence[Wakeup]) -> None:
        for wakeup in reversed(wakeups):
            self.broker.queues.setdefault(wakeup.model, deque()).appendleft(wakeup.job_id)

    def _soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.broker.hand_out)
