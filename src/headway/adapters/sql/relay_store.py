"""How far events were told outside, in SQL: one row for each relay, in the database of the events."""

from __future__ import annotations

from uuid import uuid4

import sqlalchemy as sa

from headway.adapters.sql.appends import newest_cursor
from headway.adapters.sql.database import SqlDatabase
from headway.adapters.sql.tables import relays
from headway.ports.relay_store import RelayMark


class SqlRelayStore:
    """The ``RelayStore`` port."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def begin(self, relay: str) -> RelayMark:
        """See the port."""

        def work(connection: sa.Connection) -> RelayMark:
            row = connection.execute(sa.select(relays).where(relays.c.name == relay)).one_or_none()
            if row is not None:
                return RelayMark(row.log_id, row.cursor)
            mark = RelayMark(uuid4().hex, newest_cursor(connection))
            connection.execute(sa.insert(relays).values(name=relay, log_id=mark.log_id, cursor=mark.cursor))
            return mark

        return await self._database.write(work)

    async def advance(self, relay: str, cursor: int) -> None:
        """See the port."""
        forward = sa.update(relays).where(relays.c.name == relay, relays.c.cursor < cursor).values(cursor=cursor)
        await self._database.write(lambda connection: connection.execute(forward))
