"""Telling events outside, in memory: the mark, and a topic exchange that keeps all it was given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import uuid4

from headway.adapters.memory.event_log import MemoryEventLog
from headway.domain.errors import BrokerFailed
from headway.domain.event_messages import EventMessage
from headway.ports.relay_store import RelayMark


class MemoryRelayStore:
    """The ``RelayStore`` port beside a log in memory."""

    def __init__(self, log: MemoryEventLog) -> None:
        self._log = log
        self._marks: dict[str, RelayMark] = {}

    async def begin(self, relay: str) -> RelayMark:
        """See the port."""
        if relay not in self._marks:
            self._marks[relay] = RelayMark(uuid4().hex, await self._log.last_cursor())
        return self._marks[relay]

    async def advance(self, relay: str, cursor: int) -> None:
        """See the port."""
        mark = self._marks.get(relay)
        if mark is not None and cursor > mark.cursor:
            self._marks[relay] = replace(mark, cursor=cursor)


@dataclass
class MemoryExchange:
    """The broker's process. A test makes it go ``away``, and lets it ``take`` only so many more messages."""

    messages: list[EventMessage] = field(default_factory=list)
    away: bool = False
    take: int | None = None


class MemoryEventPublisher:
    """The ``EventPublisher`` port on a :class:`MemoryExchange`."""

    def __init__(self, exchange: MemoryExchange | None = None) -> None:
        self.exchange = exchange if exchange is not None else MemoryExchange()
        self._started = False

    @property
    def connected(self) -> bool:
        """See the port."""
        return self._started and not self.exchange.away

    @property
    def problem(self) -> str | None:
        """See the port."""
        return "the broker is away" if self._started and self.exchange.away else None

    async def start(self) -> None:
        """See the port."""
        self._started = True

    async def stop(self) -> None:
        """See the port."""
        self._started = False

    async def publish(self, messages: Sequence[EventMessage]) -> None:
        """See the port."""
        for message in messages:
            if not self.connected or self.exchange.take == 0:
                raise BrokerFailed("the broker is away")
            if self.exchange.take is not None:
                self.exchange.take -= 1
            self.exchange.messages.append(message)
            await asyncio.sleep(0)
