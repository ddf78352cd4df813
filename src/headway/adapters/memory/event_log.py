"""An event log in memory, and the one log that the memory stores share.

The stores of :mod:`headway.adapters.memory.stores` write their events straight into it without
yielding to the event loop in between, so state and events change together as one transaction does.
Nothing survives the process.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Any

from headway.domain.errors import HeadwayError
from headway.domain.events import Event, NewEvent


class MemoryEventLog:
    """Cursors count from 1 without gaps. For one event loop, like everything in this package."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._keys: set[str] = set()
        self._grown = asyncio.Event()

    async def append(self, events: Sequence[NewEvent]) -> int:
        self.record(self.prepare(events))
        return len(self._events)

    async def read(self, *, after: int = 0, limit: int = 1000, model: str | None = None) -> list[Event]:
        found: list[Event] = []
        for event in self._events[max(after, 0) :]:
            if len(found) >= limit:
                break
            if model is None or event.model == model:
                found.append(_copy(event))
        return found

    async def last_cursor(self) -> int:
        return len(self._events)

    async def wait(self, after: int, timeout_s: float) -> bool:
        deadline = asyncio.get_running_loop().time() + timeout_s
        while len(self._events) <= after:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._grown.wait()
            except TimeoutError:
                return len(self._events) > after
        return True

    def prepare(self, events: Sequence[NewEvent]) -> list[NewEvent]:
        """Copies of ``events``, checked: what can fail fails here, before anything is changed."""
        return [
            NewEvent(event.at, event.type, event.model, event.version, event.replica, _plain(event), event.key)
            for event in events
        ]

    def record(self, prepared: Iterable[NewEvent]) -> None:
        """Add what :meth:`prepare` returned. Does not yield and cannot fail."""
        for event in prepared:
            if event.key is not None and event.key in self._keys:
                continue
            if event.key is not None:
                self._keys.add(event.key)
            cursor, type_ = len(self._events) + 1, str(event.type)
            self._events.append(
                Event(cursor, event.at, type_, event.model, event.version, event.replica, event.data, event.key)
            )
        # Whoever waits now wakes; whoever comes later looks at the list first.
        self._grown.set()
        self._grown = asyncio.Event()


def _plain(event: NewEvent) -> Any:
    """The data as JSON gives it back, so that this log hides no fault that a database would show."""
    try:
        return json.loads(json.dumps(dict(event.data), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise HeadwayError(f"the data of a {event.type} event is not JSON: {error}") from error


def _copy(event: Event) -> Event:
    data = json.loads(json.dumps(event.data))
    return Event(event.cursor, event.at, event.type, event.model, event.version, event.replica, data, event.key)
