"""Adding events inside somebody's transaction, and telling those who wait that there are new ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from headway.adapters.sql.documents import check_json
from headway.adapters.sql.tables import EVENT_CURSOR, counters, events
from headway.domain.events import NewEvent


def draw(connection: sa.Connection, counter: str, count: int = 1) -> int:
    """The last of ``count`` new numbers of ``counter``; they are ours when the transaction commits."""
    statement = (
        sa.update(counters)
        .where(counters.c.name == counter)
        .values(value=counters.c.value + count)
        .returning(counters.c.value)
    )
    return int(connection.execute(statement).scalar_one())


def event_rows(new_events: Sequence[NewEvent]) -> list[dict[str, Any]]:
    """The rows, without their cursors; raises before anything is written when data is not JSON."""
    rows = []
    for event in new_events:
        data = dict(event.data)
        check_json(data, f"the data of a {event.type} event")
        rows.append(
            {
                "at": event.at,
                "type": str(event.type),
                "model": event.model,
                "version": event.version,
                "replica": event.replica,
                "data": data,
                "key": event.key,
            }
        )
    return rows


def insert_events(connection: sa.Connection, rows: list[dict[str, Any]]) -> int:
    """Insert the rows, but those whose key is recorded already; the last cursor."""
    keys = [row["key"] for row in rows if row["key"] is not None]
    if keys:
        draw(connection, EVENT_CURSOR, 0)  # whoever else writes waits: what is found missing stays so
        known = set(connection.execute(sa.select(events.c.key).where(events.c.key.in_(keys))).scalars())
        rows = list(_unrecorded(rows, known))
        if not rows:
            return newest_cursor(connection)
    last = draw(connection, EVENT_CURSOR, len(rows))
    first = last - len(rows) + 1
    connection.execute(sa.insert(events), [{**row, "cursor": first + i} for i, row in enumerate(rows)])
    return last


def _unrecorded(rows: list[dict[str, Any]], known: set[str]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row["key"] is None:
            yield row
        elif row["key"] not in known:
            known.add(row["key"])
            yield row


def newest_cursor(connection: sa.Connection) -> int:
    """The cursor of the newest event ever recorded; 0 when there was none."""
    return int(connection.execute(sa.select(counters.c.value).where(counters.c.name == EVENT_CURSOR)).scalar_one())


class Appends:
    """The newest cursor this process knows of. :meth:`changed` wakes when it grows.

    Appends of this process are told at once; those of others are found by whoever looks into the
    database next and tells it here.
    """

    def __init__(self) -> None:
        self.newest = 0
        self.looked_at = float("-inf")
        """Loop time at which the database was last asked; one answer serves every waiter."""
        self._grown = asyncio.Event()

    def tell(self, cursor: int) -> None:
        """There is an event with ``cursor``."""
        if cursor > self.newest:
            self.newest = cursor
            self._grown.set()
            self._grown = asyncio.Event()

    async def wait(self, after: int, timeout_s: float, *, poll_s: float, look: Callable[[], Awaitable[int]]) -> bool:
        """True as soon as there is a cursor above ``after``; ``look`` asks the database, at most every ``poll_s``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self.newest <= after:
            now = loop.time()
            next_look = self.looked_at + poll_s
            if now >= next_look or now >= deadline:
                self.looked_at = now  # first, so that others who wait do not look as well
                self.tell(await look())
                if now >= deadline:
                    break
            else:
                await self.changed(min(next_look, deadline) - now)
        return self.newest > after

    async def changed(self, timeout_s: float) -> None:
        """Return when the newest cursor grows, at the latest after ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._grown.wait()
        except TimeoutError:
            return
