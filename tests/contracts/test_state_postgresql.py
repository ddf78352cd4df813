"""The stores that an operator of a cluster needs keep the contracts in PostgreSQL too."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from headway.adapters.sql import (
    PostgresqlServer,
    SqlDatabase,
    SqlDecisionLog,
    SqlEventLog,
    SqlRelayStore,
    SqlSightingStore,
)
from headway.adapters.sql.tables import metadata
from headway.domain.errors import StorageFailed
from headway.domain.sightings import Step
from tests.contracts.decision_log_contract import DecisionLogContract
from tests.contracts.event_log_contract import EventLogContract, event
from tests.contracts.relay_store_contract import Relayed, RelayStoreContract
from tests.contracts.sighting_store_contract import FIRST, Seen, SightingStoreContract
from tests.services.fixtures import PostgresqlService

POLL_S = 60.0
TABLES = "events, sightings, relays, decisions"


@pytest.fixture(scope="module")
def address(postgresql_service: PostgresqlService) -> str:
    async def make() -> str:
        name = f"state_{secrets.token_hex(4)}"
        admin = await asyncpg.connect(postgresql_service.address)
        await admin.execute(f"CREATE DATABASE {name}")
        await admin.close()
        return postgresql_service.at(postgresql_service.port, database=name)

    return asyncio.run(make())


@pytest.fixture
async def database(address: str) -> AsyncIterator[SqlDatabase]:
    database = SqlDatabase(PostgresqlServer(address))
    await database.open()
    connection = await asyncpg.connect(address)
    await connection.execute(f"TRUNCATE {TABLES}; UPDATE counters SET value = 0")
    await connection.close()
    yield database
    await database.close()


class TestEventLogInPostgresql(EventLogContract):
    @pytest.fixture
    def log(self, database: SqlDatabase) -> SqlEventLog:
        return SqlEventLog(database, poll_s=POLL_S)


class TestRelayStoreInPostgresql(RelayStoreContract):
    @pytest.fixture
    def state(self, database: SqlDatabase) -> Relayed:
        return Relayed(SqlRelayStore(database), SqlEventLog(database))


class TestDecisionLogInPostgresql(DecisionLogContract):
    @pytest.fixture
    def log(self, database: SqlDatabase) -> SqlDecisionLog:
        return SqlDecisionLog(database)


class TestSightingStoreInPostgresql(SightingStoreContract):
    @pytest.fixture
    def seen(self, database: SqlDatabase) -> Seen:
        return Seen(SqlSightingStore(database), SqlEventLog(database))

    async def test_the_migrations_make_the_tables_that_the_code_knows(self, database: SqlDatabase) -> None:
        def differences(connection: object) -> list[object]:
            context = MigrationContext.configure(connection, opts={"compare_type": True})  # type: ignore[arg-type]
            return list(compare_metadata(context, metadata))

        assert await database.read(differences) == []

    async def test_two_that_open_at_once_both_find_the_tables(self, address: str, database: SqlDatabase) -> None:
        others = [SqlDatabase(PostgresqlServer(address)) for _ in range(2)]
        await asyncio.gather(*(one.open() for one in others))
        await asyncio.gather(*(SqlEventLog(one).append([event()]) for one in (*others, database)))
        assert await SqlEventLog(database).last_cursor() == 3
        for one in others:
            await one.close()

    async def test_what_is_wrong_is_said_without_the_password(self, postgresql_service: PostgresqlService) -> None:
        nowhere = SqlDatabase(PostgresqlServer(postgresql_service.at(postgresql_service.port, database="nowhere")))
        with pytest.raises(StorageFailed) as failure:
            await nowhere.open()
        assert "nowhere" in str(failure.value)
        assert postgresql_service.password not in str(failure.value)

    async def test_a_connection_that_broke_is_replaced(self, address: str, database: SqlDatabase) -> None:
        store = SqlSightingStore(database)
        await store.load()
        admin = await asyncpg.connect(address)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await admin.close()
        await store.record([Step(None, FIRST, [])])
        assert await store.load() == [FIRST]
