"""Jobs in an SQLite file: one thread that writes, two that read.

Write-ahead log with ``synchronous=FULL``: what is committed survives the process, the system and the power. The thread
talks to SQLite directly; a hop between threads per group, not per statement. Time is the clock's, once per
transaction, and the transaction that first sees that the wall clock was set moves all durations along.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from headway.adapters.sql.jobs.group import Steps
from headway.adapters.sql.jobs.statements import Begin, Fetch, Query, Statements, Told, Writes
from headway.adapters.sql.schema import JOBS, prepare
from headway.domain.clock_steps import ClockSteps
from headway.domain.errors import HeadwayError, StorageFailed
from headway.ports.clock import Clock


class SqliteEngine:
    """The file at ``path``, made when it is not there."""

    def __init__(self, path: Path, clock: Clock, *, busy_timeout_s: float = 10.0, owner: bool = True) -> None:
        """``owner`` False: another process is it."""
        self.shared = not owner
        self.statements = Statements("sqlite")
        self.where = str(path)
        self._path = path
        self._clock = clock
        self._busy_timeout_s = busy_timeout_s
        self._steps = ClockSteps(clock.now(), clock.monotonic())
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []
        self._local = threading.local()
        self._writing: ThreadPoolExecutor | None = None
        self._reading: ThreadPoolExecutor | None = None

    async def open(self, heard: Callable[[int], None]) -> None:
        """Make or migrate the schema, and connect. ``heard`` is for engines that hear of other processes."""
        self._writing = ThreadPoolExecutor(1, "jobs-writer")
        self._reading = ThreadPoolExecutor(2, "jobs-reader")
        self._steps = ClockSteps(self._clock.now(), self._clock.monotonic())
        await self._on(self._writing, self._open)

    async def close(self) -> None:
        """Let go of the file."""
        if self._reading is not None:
            self._reading.shutdown()
        if self._writing is not None:
            await self._on(self._writing, self._close)
            self._writing.shutdown()
        self._writing = self._reading = None
        self._local = threading.local()

    async def transact(self, make: Callable[[], Steps]) -> Any:
        """All of the steps, or none. Raises ``StorageFailed``."""
        return await self._on(self._writing, self._transact, make)

    async def ask(self, make: Callable[[], Steps]) -> Any:
        """The steps on one consistent state."""
        return await self._on(self._reading, self._ask, make)

    async def _on(self, threads: ThreadPoolExecutor | None, work: Callable[..., Any], *arguments: Any) -> Any:
        if threads is None:
            raise HeadwayError("the store of jobs is not open")
        return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)

    def _open(self) -> None:
        prepare(self._path, self._busy_timeout_s, JOBS)
        try:
            self._writer = self._connect()
            self._writer.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _close(self) -> None:
        for connection in (*self._readers, *([] if self._writer is None else [self._writer])):
            connection.close()
        self._readers, self._writer = [], None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        connection.execute("PRAGMA cache_size = -32768")
        return connection

    def _transact(self, make: Callable[[], Steps]) -> Any:
        connection = self._writer
        if connection is None:
            raise HeadwayError("the store of jobs is not open")
        try:
            # The write lock comes with the start: a transaction that reads first could not get it any more later.
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = self._run(connection, make())
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.IntegrityError as error:
            raise HeadwayError(f"an id was used before: {error}") from error
        except sqlite3.OperationalError as error:
            raise self._failed(error) from error
        return result

    def _ask(self, make: Callable[[], Steps]) -> Any:
        connection = getattr(self._local, "connection", None)
        try:
            if connection is None:
                connection = self._local.connection = self._connect()
                connection.execute("PRAGMA query_only = ON")
                self._readers.append(connection)
            connection.execute("BEGIN")
            try:
                return self._run(connection, make())
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _run(self, connection: sqlite3.Connection, steps: Steps) -> Any:
        rows: list[Any] = []
        try:
            step = next(steps)
            while True:
                match step:
                    case Fetch(query=query, given=given):
                        rows = connection.execute(query.text, _values(query, given)).fetchall()
                    case Writes(writes=writes):
                        for write in writes:
                            connection.executemany(write.query.text, write.rows)
                        rows = []
                    case Told():
                        rows = []
                    case Begin():
                        rows = [self._begin(connection)]
                step = steps.send(rows)
        except StopIteration as end:
            return end.value

    def _begin(self, connection: sqlite3.Connection) -> tuple[float, float, int]:
        now = self._clock.now()
        mends = connection is self._writer and not self.shared
        step_s = self._steps.step_s(now, self._clock.monotonic()) if mends else 0.0
        ((cursor,),) = connection.execute(self.statements.cursor.text).fetchall()
        return now, step_s, cursor

    def _failed(self, error: sqlite3.Error) -> StorageFailed:
        return StorageFailed(f"the database of jobs failed: {error}", where=self.where)


def _values(query: Query, given: Any) -> list[Any]:
    return [json.dumps(value) if isinstance(value, list) else value for value in query.values(given)]
