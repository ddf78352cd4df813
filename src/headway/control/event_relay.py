"""EventRelay: tells a broker of every event, in order, and remembers how far it has come.

The event log is the outbox. Events are read after the mark, published, and only when the broker has confirmed all of
them the mark moves. Whatever is killed in between, they are published again under the same ids; none is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Final

from headway.control.waits import within
from headway.domain.errors import BrokerFailed
from headway.domain.event_messages import message_of
from headway.ports.clock import Clock
from headway.ports.event_log import EventLog
from headway.ports.event_publisher import EventPublisher
from headway.ports.relay_store import RelayMark, RelayStore

log = logging.getLogger(__name__)

RELAY: Final = "events"
PAGE: Final = 500
LOOK_S: Final = 5.0
"""How long one wait at the log lasts."""
RETRY_S: Final = 0.5
STOP_S: Final = 5.0
"""How long what was recorded last may take to be told at the end; the rest is told after the next start."""


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """How far it has come, as last seen."""

    connected: bool
    relayed: int
    """Cursor of the last event that the broker has confirmed."""
    waiting: int
    """Events after it."""
    oldest_at: float | None
    """When the first of these happened, seconds since the epoch."""
    problem: str | None


class EventRelay:
    """One task. Nothing waits for it, and no failure ends it."""

    def __init__(self, events: EventLog, store: RelayStore, publisher: EventPublisher, clock: Clock) -> None:
        self._events = events
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._mark = RelayMark("", 0)
        self._waiting = 0
        self._oldest_at: float | None = None
        self._fault: str | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def status(self) -> RelayStatus:
        """Exact while events flow; at most a moment old while they cannot."""
        problem = self._publisher.problem or self._fault
        return RelayStatus(self._publisher.connected, self._mark.cursor, self._waiting, self._oldest_at, problem)

    async def start(self) -> None:
        """Go on where the last one ended; the very first begins with the next event. A second call changes nothing."""
        if self._task is None:
            self._mark = await self._store.begin(RELAY)
            await self._publisher.start()
            self._task = asyncio.create_task(self._loop(), name="event relay")

    async def stop(self) -> None:
        """Tell what is left, unless the broker is away or it takes too long, and end. A second call changes nothing."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if self._publisher.connected:
            with contextlib.suppress(Exception):  # told after the next start
                await within(self._clock, STOP_S, self._drain())
        await self._publisher.stop()

    async def _loop(self) -> None:
        while True:
            try:
                await self._drain()
                self._told(None)
                await self._events.wait(self._mark.cursor, LOOK_S)
            except BrokerFailed as error:
                self._told(error.message)
                await self._clock.sleep(RETRY_S)
            except Exception as error:
                self._told(f"{type(error).__name__}: {error}")
                await self._clock.sleep(RETRY_S)

    def _told(self, fault: str | None) -> None:
        if fault is None and self._fault is not None:
            log.info("events are relayed again")
        elif fault is not None and self._fault is None:
            log.error("events are not relayed: %s; they wait in the log", fault)
        self._fault = fault

    async def _drain(self) -> None:
        while await self._round():
            pass

    async def _round(self) -> bool:
        """Tell the next events; whether there were any. Raises what keeps them from being told."""
        after = self._mark.cursor
        # Where nothing can be told, one is enough to know since when it waits.
        page = await self._events.read(after=after, limit=PAGE if self._publisher.connected else 1)
        if not page:
            self._waiting, self._oldest_at = 0, None
            return False
        self._waiting = max(len(page), await self._events.last_cursor() - after)
        self._oldest_at = page[0].at
        await self._publisher.publish([message_of(event, self._mark.log_id) for event in page])
        await self._store.advance(RELAY, page[-1].cursor)
        self._mark = RelayMark(self._mark.log_id, page[-1].cursor)
        self._waiting = max(0, self._waiting - len(page))
        self._oldest_at = self._oldest_at if self._waiting else None
        return True
