"""Jobs in PostgreSQL keep the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contracts.job_postgresql import PostgresqlWorld, make_database
from tests.contracts.job_store_contract import JobStoreContract
from tests.services.fixtures import PostgresqlService


@pytest.fixture(scope="module")
def address(postgresql_service: PostgresqlService) -> str:
    return asyncio.run(make_database(postgresql_service))


class TestPostgresqlJobs(JobStoreContract):
    @pytest.fixture
    async def world(self, address: str, tmp_path: Path) -> AsyncIterator[PostgresqlWorld]:
        world = PostgresqlWorld(address, tmp_path)
        await world.open()
        yield world
        await world.close()
