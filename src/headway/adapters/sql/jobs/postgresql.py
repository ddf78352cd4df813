"""Jobs in PostgreSQL: one connection that writes, a few that read, one that listens.

Several processes may use one database. Their transactions come one after the other, under an advisory lock that each
takes with its start: totals, turns and the queue's bound are exact, events become visible in the order of their
cursors, and no two can be in each other's way. While one commits, the requests of all others gather, so the groups grow
with the load. A process that stops in the middle of a transaction is thrown out by the server after some seconds.

Time is the server's ``clock_timestamp()``. A connection that breaks before the commit was sent is replaced and the
group done again; one that breaks in the commit leaves open whether it happened, and that is what the callers are told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from headway.adapters.sql.jobs.group import Steps
from headway.adapters.sql.jobs.statements import CHANNEL, Begin, Fetch, Query, Statements, Told, Write, Writes
from headway.adapters.sql.schema import JOBS
from headway.domain.errors import HeadwayError, MissingExtra, StorageFailed

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

log = logging.getLogger(__name__)
_LOCK: Final = 0x4865616477617931
"""Of the writers of jobs; advisory locks are of one database."""
_BEGIN: Final = f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({_LOCK})"
_PAUSES_S: Final = (0.0, 0.2, 1.0)
"""Before further tries with a new connection."""
_LISTEN_AGAIN_S: Final = 1.0
_SETTINGS: Final = {
    "application_name": "headway jobs",
    "synchronous_commit": "on",
    "idle_in_transaction_session_timeout": "15s",
    "statement_timeout": "30s",
    "jit": "off",
    # The tables grow from nothing to millions of rows within minutes, faster than statistics: no scans, no sorts.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}


class PostgresqlEngine:
    """The database at ``url`` (``postgresql://user@host:5432/database``)."""

    shared = True

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        self.statements = Statements("postgresql")
        found = urlsplit(url)
        self.where = f"postgresql://{found.hostname or ''}{f':{found.port}' if found.port else ''}{found.path}"
        self._url = url
        self._timeout_s = timeout_s
        self._writer: Connection[Record] | None = None
        self._readers: Pool[Record] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._told = 0
        """Cursor that the transaction under way tells others with its commit; 0: none."""
        self._texts: dict[tuple[int, ...], str] = {}

    async def open(self, heard: Callable[[int], None]) -> None:
        """Make or migrate the schema, and connect; ``heard`` is told the cursors of all processes.

        Raises ``MissingExtra``, ``StorageFailed``, ``Unsupported``.
        """
        try:
            import asyncpg
        except ImportError as error:
            raise MissingExtra("jobs in PostgreSQL need asyncpg", hint="pip install 'headway[postgresql]'") from error
        try:
            self._writer = await self._connect()
            if not await self._is_up_to_date(self._writer):
                await self._migrate()
            self._readers = await asyncpg.create_pool(
                self._url,
                min_size=0,
                max_size=4,
                timeout=self._timeout_s,
                command_timeout=60.0,
                server_settings=_SETTINGS,
            )
        except (asyncpg.PostgresError, asyncpg.InterfaceError, sa.exc.DBAPIError, OSError, ValueError) as error:
            await self.close()
            raise self._failed(error) from error
        self._listening = asyncio.create_task(self._listen(heard), name="jobs of other processes")

    async def close(self) -> None:
        """Let go of all connections."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        readers, self._readers = self._readers, None
        if readers is not None:
            readers.terminate()
        self._drop_writer()

    async def transact(self, make: Callable[[], Steps]) -> Any:
        """All of the steps, or none. Raises ``StorageFailed``, also when it cannot be known which."""
        return await self._again(lambda: self._transact(make))

    async def ask(self, make: Callable[[], Steps]) -> Any:
        """The steps, each on what is committed by then. Raises ``StorageFailed``."""
        import asyncpg

        try:
            return await self._again(lambda: self._ask(make))
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise self._failed(error) from error

    async def _again(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        for pause_s in _PAUSES_S:
            try:
                return await work()
            except HeadwayError:
                raise
            except Exception as error:
                if not _is_lost(error):
                    raise
                log.info("the database of jobs went away: %s", error)
            await asyncio.sleep(pause_s)
        try:
            return await work()
        except Exception as error:
            if isinstance(error, HeadwayError) or not _is_lost(error):
                raise
            raise self._failed(error) from error

    async def _transact(self, make: Callable[[], Steps]) -> Any:
        import asyncpg

        if self._writer is None or self._writer.is_closed():
            self._writer = await self._connect()
        connection = self._writer
        self._told = 0
        try:
            await connection.execute(_BEGIN)
            result = await self._run(connection, make())
        except BaseException as error:
            if _is_lost(error) or not isinstance(error, Exception):
                self._drop_writer()
            else:
                with contextlib.suppress(Exception):
                    await connection.execute("ROLLBACK")
            if isinstance(error, asyncpg.UniqueViolationError):
                raise HeadwayError(f"an id was used before: {error}") from error
            raise
        notify = f"SELECT pg_notify('{CHANNEL}', '{self._told}'); " if self._told else ""
        try:
            await connection.execute(f"{notify}COMMIT")
        except BaseException as error:
            self._drop_writer()
            raise StorageFailed(
                f"the database broke off while it stored jobs; it may or may not have: {error}", where=self.where
            ) from error
        return result

    async def _ask(self, make: Callable[[], Steps]) -> Any:
        if self._readers is None:
            raise HeadwayError("the store of jobs is not open")
        async with self._readers.acquire(timeout=self._timeout_s) as connection:
            return await self._run(connection, make())

    async def _run(self, connection: Any, steps: Steps) -> Any:
        rows: list[Any] = []
        try:
            step = next(steps)
            while True:
                match step:
                    case Fetch(query=query, given=given):
                        rows = await connection.fetch(query.text, *query.values(given))
                    case Writes(writes=writes):
                        rows = await connection.fetch(self._joined(writes), *_columns(writes))
                    case Told(cursor=cursor):
                        self._told, rows = cursor, []
                    case Begin():
                        rows = await connection.fetch(self.statements.begin.text)
                step = steps.send(rows)
        except StopIteration as end:
            return end.value

    def _joined(self, writes: Sequence[Write]) -> str:
        """One statement that does all of ``writes``: one way to the server and back."""
        queries = tuple(write.query for write in writes)
        key = tuple(map(id, queries))  # the statements live as long as the engine
        if key not in self._texts:
            self._texts[key] = _join(queries)
        return self._texts[key]

    async def _connect(self) -> Connection[Record]:
        import asyncpg

        connection: Connection[Record] = await asyncpg.connect(
            self._url, timeout=self._timeout_s, command_timeout=60.0, server_settings=_SETTINGS
        )
        return connection

    def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.terminate()

    async def _is_up_to_date(self, connection: Connection[Record]) -> bool:
        table = JOBS.version_table
        if await connection.fetchval("SELECT to_regclass($1)", table) is None:
            return False
        return bool(await connection.fetchval(f"SELECT version_num FROM {table}") == JOBS.head)  # noqa: S608

    async def _migrate(self) -> None:
        async def connect() -> Any:
            import asyncpg

            return await asyncpg.connect(self._url, timeout=self._timeout_s)

        def work(connection: sa.Connection) -> None:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            JOBS.upgrade(connection, self.where)

        engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=sa.NullPool)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(work)
        finally:
            await engine.dispose()

    async def _listen(self, heard: Callable[[int], None]) -> None:
        """Hear of new events until cancelled; whoever waits also looks now and then, should this be deaf."""
        while True:
            connection = None
            try:
                connection = await self._connect()
                gone = asyncio.Event()
                connection.add_termination_listener(lambda _, gone=gone: gone.set())
                await connection.add_listener(CHANNEL, lambda *told: heard(int(told[3])))
                ((cursor,),) = await connection.fetch(self.statements.cursor.text)
                heard(cursor)
                await gone.wait()
            except Exception as error:
                log.info("not hearing of the jobs of other processes: %s", error)
            finally:
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(_LISTEN_AGAIN_S)

    def _failed(self, error: BaseException) -> StorageFailed:
        reason = str(error) or type(error).__name__
        return StorageFailed(f"the database of jobs failed: {reason}", where=self.where)


def _join(queries: Sequence[Query]) -> str:
    if len(queries) == 1:
        return queries[0].text
    parts: list[str] = []
    before = 0
    for query in queries:
        text = query.text
        for place in range(len(query.names), 0, -1):  # from the last, so that $1 does not find itself in $10
            text = re.sub(rf"\${place}\b", f"${place + before}", text)
        parts.append(f"write_{len(parts)} AS ({text})")
        before += len(query.names)
    return f"WITH {', '.join(parts)} SELECT 1"


def _columns(writes: Sequence[Write]) -> list[list[Any]]:
    return [list(column) for write in writes for column in zip(*write.rows, strict=True)]


def _is_lost(error: BaseException) -> bool:
    """Whether a new connection may mend it: the connection or the server went away, or had no room."""
    import asyncpg

    if isinstance(error, ValueError):  # what was given cannot be sent
        return False
    return isinstance(
        error,
        asyncpg.PostgresConnectionError
        | asyncpg.InterfaceError
        | asyncpg.InternalClientError
        | asyncpg.OperatorInterventionError
        | asyncpg.InsufficientResourcesError
        | asyncpg.IdleInTransactionSessionTimeoutError
        | asyncpg.TransactionRollbackError
        | asyncpg.ReadOnlySQLTransactionError
        | OSError
        | TimeoutError,
    )
