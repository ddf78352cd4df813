"""The log of scaling decisions in SQL: one row per record, until it expires.

Thousands of deployments write into it every minute, so a batch is one transaction and one statement, and expiry goes
version by version in small transactions that hold nobody up. Documents are deflated: of the 2 to 5 KB of one more than
half is names and structure. That and JSON are worked on in threads, as a batch may take a tenth of a second.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

import sqlalchemy as sa

from headway.adapters.sql.appends import draw
from headway.adapters.sql.database import SqlDatabase
from headway.adapters.sql.documents import to_json
from headway.adapters.sql.tables import DECISION_CURSOR, counters, decisions
from headway.domain.decisions import DecisionRecord
from headway.domain.errors import HeadwayError
from headway.domain.replicas import Role

_COLUMNS: Final = tuple(decisions.c[field.name] for field in fields(DecisionRecord))
_NEWEST_FIRST: Final = (decisions.c.at.desc(), decisions.c.cursor.desc())
_VERSIONS_AT_ONCE: Final = 50
"""Whose expired records one transaction drops."""


class SqlDecisionLog:
    """Ordered by time, and for the same time by cursor: a clock that was set back makes no record unfindable."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def append(self, records: Sequence[DecisionRecord]) -> int:
        """See the port. Raises ``HeadwayError`` for a document that is not JSON."""
        if not records:
            return await self._database.read(_newest_cursor)
        rows = await asyncio.to_thread(lambda: [_row(record) for record in records])

        def work(connection: sa.Connection) -> int:
            last = draw(connection, DECISION_CURSOR, len(rows))
            first = last - len(rows) + 1
            connection.execute(sa.insert(decisions), [{**row, "cursor": first + i} for i, row in enumerate(rows)])
            return last

        return await self._database.write(work)

    async def read(
        self,
        model: str,
        *,
        version: str | None = None,
        since: float | None = None,
        until: float | None = None,
        changed: bool = False,
        role: Role = "serve",
        limit: int = 100,
    ) -> list[DecisionRecord]:
        """See the port."""
        if limit <= 0:
            return []
        query = _of(model, version, role).order_by(*_NEWEST_FIRST).limit(limit)
        if since is not None:
            query = query.where(decisions.c.at >= since)
        if until is not None:
            query = query.where(decisions.c.at < until)
        if changed:
            query = query.where(decisions.c.desired != decisions.c.current)
        return (await self._records(query))[::-1]

    async def latest(
        self, model: str, version: str | None = None, at: float | None = None, *, role: Role = "serve"
    ) -> DecisionRecord | None:
        """See the port."""
        query = _of(model, version, role).order_by(*_NEWEST_FIRST).limit(1)
        if at is not None:
            query = query.where(decisions.c.at <= at)
        found = await self._records(query)
        return found[0] if found else None

    async def expire(self, before: float, keep: int) -> int:
        """See the port. Cancelled in the middle, it has dropped some and goes on the next time."""
        # Made distinct here: asked for distinct rows, SQLite would walk a whole index to have them sorted.
        old = sa.select(decisions.c.model, decisions.c.version, decisions.c.role).where(decisions.c.at < before)
        groups = await self._database.read(lambda c: sorted({tuple(row) for row in c.execute(old)}))
        gone = 0
        for start in range(0, len(groups), _VERSIONS_AT_ONCE):
            batch = groups[start : start + _VERSIONS_AT_ONCE]

            def work(connection: sa.Connection, batch: list[tuple[str, ...]] = batch) -> int:
                return sum(_expire(connection, group, before, keep) for group in batch)

            gone += await self._database.write(work)
        return gone

    async def _records(self, query: sa.Select[Any]) -> list[DecisionRecord]:
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return await asyncio.to_thread(lambda: [_record(row) for row in rows])


def _of(model: str, version: str | None, role: Role) -> sa.Select[Any]:
    query = sa.select(*_COLUMNS).where(decisions.c.model == model, decisions.c.role == role)
    return query if version is None else query.where(decisions.c.version == version)


def _row(record: DecisionRecord) -> dict[str, Any]:
    row = {field.name: getattr(record, field.name) for field in fields(DecisionRecord) if field.name != "cursor"}
    try:
        text = to_json(dict(record.document))
    except (TypeError, ValueError) as error:
        raise HeadwayError(f"the decision of {record.model} {record.version} is not JSON: {error}") from error
    return {**row, "document": zlib.compress(text.encode("ascii"), 1)}


def _record(row: sa.Row[Any]) -> DecisionRecord:
    values = row._asdict()
    return DecisionRecord(**{**values, "document": json.loads(zlib.decompress(values["document"]))})


def _expire(connection: sa.Connection, group: tuple[str, ...], before: float, keep: int) -> int:
    model, version, role = group
    own = sa.and_(decisions.c.model == model, decisions.c.version == version, decisions.c.role == role)
    doomed = sa.and_(own, decisions.c.at < before)
    if keep > 0:
        # The oldest of those that stay; when there are not so many, nothing goes.
        nth = sa.select(decisions.c.at, decisions.c.cursor).where(own).order_by(*_NEWEST_FIRST).offset(keep - 1)
        last = connection.execute(nth.limit(1)).first()
        if last is None:
            return 0
        older = sa.and_(decisions.c.at == last.at, decisions.c.cursor < last.cursor)
        doomed = sa.and_(doomed, sa.or_(decisions.c.at < last.at, older))
    return connection.execute(sa.delete(decisions).where(doomed)).rowcount


def _newest_cursor(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(counters.c.value).where(counters.c.name == DECISION_CURSOR)).scalar_one())
