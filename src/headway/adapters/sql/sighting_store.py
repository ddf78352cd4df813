"""Sightings of a cluster's objects in SQL: one row for each object, in the database of the events."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from headway.adapters.sql.database import SqlDatabase
from headway.adapters.sql.tables import sightings
from headway.domain.errors import StaleWrite
from headway.domain.sightings import Sighting, Step


class SqlSightingStore:
    """The ``SightingStore`` port."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def load(self) -> list[Sighting]:
        """See the port."""
        query = sa.select(sightings)
        return await self._database.read(lambda connection: [Sighting(*row) for row in connection.execute(query)])

    async def record(self, steps: Sequence[Step]) -> None:
        """See the port."""

        def work(connection: sa.Connection) -> None:
            for step in steps:
                _move(connection, step)

        await self._database.write(work, [event for step in steps for event in step.events])

    async def forget(self, gone_before: float) -> None:
        """See the port."""
        old = sa.delete(sightings).where(sightings.c.gone_at < gone_before)
        await self._database.write(lambda connection: connection.execute(old))


def _move(connection: sa.Connection, step: Step) -> None:
    after = step.after
    values = {
        "uid": after.uid,
        "kind": after.kind,
        "namespace": after.namespace,
        "name": after.name,
        "version": after.version,
        "facts": after.facts if after.facts is None else dict(after.facts),
        "gone_at": after.gone_at,
    }
    if step.before is not None:
        same = (sightings.c.uid == after.uid, sightings.c.version == step.before.version)
        gone = sightings.c.gone_at.is_(None) if step.before.gone_at is None else sightings.c.gone_at.is_not(None)
        if connection.execute(sa.update(sightings).where(*same, gone).values(**values)).rowcount:
            return
    else:
        try:
            connection.execute(sa.insert(sightings).values(**values))
        except sa.exc.IntegrityError:
            pass
        else:
            return
    raise StaleWrite(f"{after.kind} {after.namespace}/{after.name} was told of by somebody else meanwhile")
