"""One row with one number, asked of PostgreSQL in a read-only transaction that the server itself ends in time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from headway.adapters.signals.question import Question, bare, expect, reason
from headway.domain.errors import MissingExtra
from headway.domain.quantities import seconds
from headway.domain.scaling_spec import ExternalTriggerSpec, PostgresqlTrigger

if TYPE_CHECKING:
    from asyncpg import Connection, Record

MOST_IDLE = 2
"""Connections kept for each address between polls."""


class PostgresqlSource:
    """Triggers with the same connection string share connections."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._idle: dict[str, list[Connection[Record]]] = {}

    async def read(self, trigger: ExternalTriggerSpec) -> float:
        """As the port says."""
        trigger = expect(trigger, PostgresqlTrigger)
        address, question = self._address(trigger)
        try:
            import asyncpg
        except ModuleNotFoundError:
            raise MissingExtra(
                "scaling by PostgreSQL needs asyncpg", hint="pip install 'headway[postgresql]'"
            ) from None

        async with question.limited():
            try:
                kept = self._kept(address)
                try:
                    rows = await self._ask(address, trigger, kept)
                except (
                    asyncpg.PostgresConnectionError,
                    asyncpg.AdminShutdownError,
                    asyncpg.InterfaceError,
                    OSError,
                ):
                    if kept is None:
                        raise
                    # A kept connection may have died with the server's last restart: once more on a new one.
                    rows = await self._ask(address, trigger, None)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError, OverflowError) as error:
                raise question.lost(_told(error)) from None
        if len(rows) != 1:
            raise question.lost("more than one row instead of one" if rows else "no row instead of one")
        if len(rows[0]) != 1:
            raise question.lost(f"{len(rows[0])} columns instead of one")
        return question.number(rows[0][0])

    async def close(self) -> None:
        kept, self._idle = self._idle, {}
        for connection in (one for several in kept.values() for one in several):
            connection.terminate()

    def _address(self, trigger: PostgresqlTrigger) -> tuple[str, Question]:
        question = Question(trigger.query, "PostgreSQL", trigger.timeout)
        address = trigger.connection
        if address is None:
            if trigger.connection_from_env is None:
                raise question.lost("it has no address; give connection or connectionFromEnv")
            address = question.variable(self._env, trigger.connection_from_env, "connectionFromEnv").strip()
        # Everything that may be a password: what stands before the host, and parameters.
        before, _, after = address.partition("://")[2].rpartition("@")
        return address, question.of_whom(
            f"PostgreSQL at {bare(address)}", address, before.partition(":")[2], after.partition("?")[2]
        )

    def _kept(self, address: str) -> Connection[Record] | None:
        kept = self._idle.get(address, [])
        while kept:
            connection = kept.pop()
            if not connection.is_closed():
                return connection
        return None

    async def _ask(
        self, address: str, trigger: PostgresqlTrigger, connection: Connection[Record] | None
    ) -> list[Record]:
        import asyncpg

        if connection is None:
            # Without prepared statements it also works through a pooler such as PgBouncer.
            connection = await asyncpg.connect(
                address,
                timeout=seconds(trigger.timeout) + 1,  # the question's own limit comes first
                statement_cache_size=0,
                server_settings={"application_name": "headway"},
            )
        try:
            transaction = connection.transaction(readonly=True)
            await transaction.start()
            await connection.execute(f"SET LOCAL statement_timeout = {max(1, int(seconds(trigger.timeout) * 1000))}")
            # Two rows tell that there are too many; the rest of a large result stays where it is.
            rows = await (await connection.cursor(trigger.query)).fetch(2)
            await transaction.rollback()
        except BaseException:
            # Not rolled back politely: a server that hangs would have to be waited for again.
            connection.terminate()
            raise
        kept = self._idle.setdefault(address, [])
        if len(kept) < MOST_IDLE:
            kept.append(connection)
        else:
            connection.terminate()
        return rows


def _told(error: BaseException) -> str:
    state = getattr(error, "sqlstate", None)
    return f"{error} (SQLSTATE {state})" if state else reason(error)
