"""Queries that answer with one number, and all that do not, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from headway.adapters.signals import PostgresqlSource
from headway.domain.errors import SignalLost
from headway.domain.scaling_spec import PostgresqlTrigger
from tests.services.documented import documented
from tests.services.fixtures import PASSWORD, PostgresqlService
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def source(postgresql_service: PostgresqlService) -> AsyncIterator[PostgresqlSource]:
    source = PostgresqlSource({"DB": postgresql_service.address})
    yield source
    await source.close()


def trigger(query: str, **more: Any) -> PostgresqlTrigger:
    fields = {"connection_from_env": "DB", "timeout": "30s", **more}
    return PostgresqlTrigger(type="postgresql", query=query, target_query_value=1, **fields)


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("SELECT 3", 3),
        ("SELECT 0", 0),
        ("SELECT 2.5::numeric", 2.5),
        ("SELECT 2.5::float4", 2.5),
        ("SELECT 5000000000::bigint;", 5e9),
        ("WITH jobs AS (SELECT generate_series(1, 4)) SELECT count(*) FROM jobs", 4),
        ("VALUES (7)", 7),
        ("SELECT 10 % 4 -- a comment", 2),
    ],
)
async def test_one_row_with_one_number(source: PostgresqlSource, query: str, number: float) -> None:
    answer = await source.read(trigger(query))
    assert (answer, type(answer)) == (number, float)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT 1 WHERE false", "no row instead of one"),
        ("SELECT generate_series(1, 1000000000)", "more than one row instead of one"),
        ("SELECT 1, 2", "2 columns instead of one"),
        ("SELECT", "0 columns instead of one"),
        ("SELECT NULL", "null instead of a number"),
        ("SELECT sum(x) FROM (SELECT 1 AS x WHERE false) AS none", "null instead of a number"),
        ("SELECT '3'::text", "str '3' instead of a number"),
        ("SELECT true", "bool 'True' instead of a number"),
        ("SELECT interval '3 s'", "timedelta .* instead of a number"),
        ("SELECT 'NaN'::float8", "nan instead of a finite number"),
        ("SELECT 'Infinity'::float8", "inf instead of a finite number"),
        ("SELECT 'NaN'::numeric", "(?i)nan instead of a finite number"),
        ("SELECT 1 / 0", "division by zero .SQLSTATE 22012"),
        ("SELEC 1", "syntax error .* .SQLSTATE 42601"),
        ("SELECT count(*) FROM no_such_table", "does not exist .SQLSTATE 42P01"),
        ("SELECT 1; SELECT 2", "multiple commands"),
        ("CREATE TABLE written (x int)", "read-only transaction"),
        ("", "no row instead of one"),
        ("COMMIT", "instead|transaction|row"),
    ],
)
async def test_no_number(source: PostgresqlSource, query: str, said: str) -> None:
    asked = trigger("SELECT 1").model_copy(update={"query": query})
    with pytest.raises(SignalLost, match=said) as caught:
        await source.read(asked)
    assert caught.value.message.startswith("PostgreSQL at postgresql://127.0.0.1:")
    assert await source.read(trigger("SELECT 7")) == 7


async def test_nothing_is_left_running_when_time_is_up(
    source: PostgresqlSource, postgresql_service: PostgresqlService
) -> None:
    with pytest.raises(SignalLost, match=r"no answer within 300ms|statement timeout"):
        await source.read(trigger("SELECT 1 FROM pg_sleep(600)", timeout="300ms"))
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sleep(600)%' AND pid <> pg_backend_pid()"

    async def ended() -> bool:
        return await source.read(trigger(running)) == 0

    fact: Callable[[], bool | Awaitable[bool]] = ended
    await eventually(fact, what="the server ends the query")
    assert await source.read(trigger("SELECT 7")) == 7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda service: service.at(service.port, password="guessed-password"), "password authentication failed"),
        (lambda service: service.at(service.port, database="elsewhere"), "database .elsewhere. does not exist"),
        (lambda service: service.at(1), "Connection refused"),
        (lambda service: service.at(99999), "(?i)port|0-65535"),
        (lambda _: f"mysql://headway:{PASSWORD}@127.0.0.1/db", "(?i)scheme"),
        (lambda _: f"{PASSWORD}", "(?i)invalid|scheme"),
        (lambda service: service.address + "?sslmode=require", "(?i)ssl"),
    ],
)
async def test_addresses_that_lead_nowhere(
    source: PostgresqlSource, postgresql_service: PostgresqlService, change: Any, said: str
) -> None:
    elsewhere = PostgresqlSource({"DB": change(postgresql_service)})
    try:
        with pytest.raises(SignalLost, match=said) as caught:
            await elsewhere.read(trigger("SELECT 1"))
    finally:
        await elsewhere.close()
    assert PASSWORD not in str(caught.value)
    assert "guessed-password" not in str(caught.value)


async def test_postgresql_crashes_and_comes_back(
    source: PostgresqlSource, postgresql_service: PostgresqlService
) -> None:
    assert await source.read(trigger("SELECT 7")) == 7
    postgresql_service.kill()
    try:
        with pytest.raises(SignalLost, match="Connection refused"):
            await source.read(trigger("SELECT 7"))
    finally:
        postgresql_service.restart()
    assert await source.read(trigger("SELECT 7")) == 7


async def test_postgresql_restarts_between_two_questions(
    source: PostgresqlSource, postgresql_service: PostgresqlService
) -> None:
    assert await source.read(trigger("SELECT 7")) == 7
    postgresql_service.kill()
    postgresql_service.restart()
    assert await source.read(trigger("SELECT 7")) == 7


async def test_the_documented_trigger(postgresql_service: PostgresqlService) -> None:
    shown = documented(PostgresqlTrigger)
    connection = await asyncpg.connect(postgresql_service.address)
    try:
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS jobs (state text); TRUNCATE jobs;"
            "INSERT INTO jobs VALUES ('queued'), ('running'), ('done'), ('queued')"
        )
    finally:
        await connection.close()
    source = PostgresqlSource({str(shown.connection_from_env): postgresql_service.address})
    try:
        assert await source.read(shown) == 3
    finally:
        await source.close()
