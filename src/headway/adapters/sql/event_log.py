"""The event log in SQL: one row per event, kept for good."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import sqlalchemy as sa

from headway.adapters.sql.appends import newest_cursor
from headway.adapters.sql.database import SqlDatabase
from headway.adapters.sql.tables import events
from headway.domain.events import Event, NewEvent

_MAX_CURSOR = 2**63 - 1


class SqlEventLog:
    """Appends of this process wake waiters at once; those of others are seen within ``poll_s`` seconds."""

    def __init__(self, database: SqlDatabase, *, poll_s: float = 0.5) -> None:
        self._database = database
        self._poll_s = poll_s

    async def append(self, new_events: Sequence[NewEvent]) -> int:
        if not new_events:
            return await self.last_cursor()
        return await self._database.append(new_events)

    async def read(self, *, after: int = 0, limit: int = 1000, model: str | None = None) -> list[Event]:
        if limit <= 0 or after >= _MAX_CURSOR:
            return []
        query = sa.select(events).where(events.c.cursor > max(after, 0)).order_by(events.c.cursor).limit(limit)
        if model is not None:
            query = query.where(events.c.model == model)
        return await self._database.read(lambda connection: [Event(*row) for row in connection.execute(query)])

    async def last_cursor(self) -> int:
        return await self._database.read(newest_cursor)

    async def wait(self, after: int, timeout_s: float) -> bool:
        loop = asyncio.get_running_loop()
        appends = self._database.appends
        deadline = loop.time() + timeout_s
        while appends.newest <= after:
            now = loop.time()
            next_look = appends.looked_at + self._poll_s
            if now >= next_look or now >= deadline:
                appends.looked_at = now  # first, so that others who wait do not look as well
                appends.tell(await self.last_cursor())
                if now >= deadline:
                    break
            else:
                await appends.changed(min(next_look, deadline) - now)
        return appends.newest > after
