"""The database of the state: its connections, transactions and durability.

One SQLite file, or a PostgreSQL database (:mod:`headway.adapters.sql.postgresql`). Of the file: write-ahead log with
``synchronous=FULL``, so a committed transaction survives a crash of the process, the system and the power. Readers see
one consistent state and never wait for the writer. Writers of this process queue in memory; those of other processes
are waited for up to ``busy_timeout_s``.

A transaction that has begun is brought to its end even when the caller is cancelled, so a
cancellation leaves neither a half-used connection nor a commit whose events wake nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from headway.adapters.sql.appends import Appends, event_rows, insert_events
from headway.adapters.sql.documents import to_json
from headway.adapters.sql.postgresql import PostgresqlServer
from headway.adapters.sql.schema import begin_immediate, prepare
from headway.domain.errors import HeadwayError, StorageFailed
from headway.domain.events import NewEvent

T = TypeVar("T")
_WRITES = "headway_writes"


class SqlDatabase:
    """The database at ``path``; made on :meth:`open` if it is not there. For one event loop."""

    def __init__(self, path: Path | PostgresqlServer, *, busy_timeout_s: float = 10.0) -> None:
        self.path = path
        self.appends = Appends()
        self._busy_timeout_s = busy_timeout_s
        self._engine: AsyncEngine | None = None
        self._changing = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Make or migrate the schema and be ready. Again: nothing.

        Raises ``Unsupported`` for a database of a newer Headway, ``StorageFailed`` for one that cannot be used.
        """
        async with self._changing:
            if self._engine is None and isinstance(self.path, PostgresqlServer):
                self._engine = await self.path.open()
            elif self._engine is None and isinstance(self.path, Path):
                await asyncio.to_thread(prepare, self.path, self._busy_timeout_s)
                self._engine = self._make_engine()

    async def close(self) -> None:
        """Finish what runs and close every connection. Before :meth:`open`, or again: nothing."""
        async with self._changing:
            engine, self._engine = self._engine, None
            if self._running:
                await asyncio.wait(self._running)
            if engine is not None:
                await engine.dispose()

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """``work`` on one consistent state."""
        return await self._run(self._read(self._opened(), work))

    async def write(self, work: Callable[[sa.Connection], T], new_events: Sequence[NewEvent] = ()) -> T:
        """``work`` and ``new_events`` in one transaction: when ``work`` raises, neither happened."""
        result, _ = await self._run(self._write(self._opened(), work, event_rows(new_events)))
        return result

    async def append(self, new_events: Sequence[NewEvent]) -> int:
        """Record at least one event in a transaction of its own; the last cursor."""
        _, cursor = await self._run(self._write(self._opened(), lambda _: None, event_rows(new_events)))
        return cursor

    async def _read(self, engine: AsyncEngine, work: Callable[[sa.Connection], T]) -> T:
        async with engine.begin() as connection:
            return await connection.run_sync(work)

    async def _write(
        self, engine: AsyncEngine, work: Callable[[sa.Connection], T], rows: list[dict[str, Any]]
    ) -> tuple[T, int]:
        cursor = 0
        async with self._writing, engine.execution_options(**{_WRITES: True}).begin() as connection:
            result = await connection.run_sync(work)
            if rows:
                cursor = await connection.run_sync(insert_events, rows)
        self.appends.tell(cursor)
        return result, cursor

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._finished)
        try:
            return await asyncio.shield(task)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError, OSError) as error:
            reason = getattr(error, "orig", None) or error
            raise StorageFailed(f"the database failed: {reason}", where=str(self.path)) from error

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may be gone; it was told if it was not

    def _opened(self) -> AsyncEngine:
        if self._engine is None:
            raise HeadwayError("the database is not open")
        return self._engine

    def _make_engine(self) -> AsyncEngine:
        engine = create_async_engine(
            sa.URL.create("sqlite+aiosqlite", database=str(self.path)),
            # Transactions are begun by us, below; the driver's own idea of when to begin would let a
            # transaction read before it holds the write lock.
            connect_args={"isolation_level": None, "timeout": self._busy_timeout_s},
            json_serializer=to_json,
            pool_size=4,
            max_overflow=4,
        )
        sa.event.listen(engine.sync_engine, "connect", _configure)
        sa.event.listen(engine.sync_engine, "begin", _begin)
        return engine


def _configure(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    if connection.get_execution_options().get(_WRITES):
        begin_immediate(connection)
    else:
        connection.exec_driver_sql("BEGIN")
