"""The event log in SQL: one row per event, kept for good."""

from __future__ import annotations

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
        appends = self._database.appends
        return await appends.wait(after, timeout_s, poll_s=self._poll_s, look=self.last_cursor)
