"""PostgresqlSource keeps the contract of a metric source, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from headway.adapters.signals import PostgresqlSource
from headway.domain.scaling_spec import PostgresqlTrigger
from headway.ports.metric_source import MetricSource
from tests.contracts.metric_source_contract import VARIABLE, ServiceSourceContract
from tests.contracts.relayed_stage import RelayedStage
from tests.services.fixtures import PostgresqlService
from tests.services.relay import Relay
from tests.waiting import PortPicker

pytestmark = pytest.mark.anyio


class PostgresqlStage(RelayedStage):
    of = "PostgreSQL at postgresql://127.0.0.1:"

    def __init__(self, relay: Relay, service: PostgresqlService) -> None:
        super().__init__({VARIABLE: service.at(relay.port)}, relay)
        self.service = service

    def make(self) -> MetricSource:
        return PostgresqlSource(self.env)

    def trigger(self, *, timeout: str = "30s") -> PostgresqlTrigger:
        return PostgresqlTrigger(
            type="postgresql",
            connection_from_env=VARIABLE,
            query="SELECT count(*) FROM contract_jobs",
            target_query_value=1,
            timeout=timeout,
        )

    def unknown(self) -> PostgresqlTrigger:
        return self.trigger().model_copy(update={"query": "SELECT max(id) FROM contract_jobs WHERE id < 0"})

    async def hold(self, number: int) -> None:
        connection = await asyncpg.connect(self.service.address)
        try:
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS contract_jobs (id int); TRUNCATE contract_jobs;"
                f"INSERT INTO contract_jobs SELECT generate_series(1, {number})"
            )
        finally:
            await connection.close()


class TestPostgresqlSource(ServiceSourceContract):
    @pytest.fixture
    async def stage(
        self, postgresql_service: PostgresqlService, free_port: PortPicker
    ) -> AsyncIterator[PostgresqlStage]:
        async with Relay(postgresql_service.port, free_port()) as relay:
            stage = PostgresqlStage(relay, postgresql_service)
            yield stage
            await stage.source.close()
