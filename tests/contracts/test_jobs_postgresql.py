"""Jobs in PostgreSQL keep the contract."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headway.adapters.sql import SqlJobs
from headway.domain.errors import MissingExtra, Overloaded
from headway.domain.jobs import JobQuery
from tests.contracts.job_postgresql import PostgresqlWorld, make_database
from tests.contracts.job_store_contract import JobStoreContract
from tests.contracts.job_world import check_consistent, claim, done, ids, new, put
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

    async def test_several_processes_at_once_hand_out_each_job_once(self, world: PostgresqlWorld) -> None:
        stores = [world.jobs, world.another(), world.another()]
        for store in stores[1:]:
            await store.start()
        every = await put(world.jobs, *(new() for _ in range(60)))

        async def work(store: SqlJobs) -> list[str]:
            done_by: list[str] = []
            while leases := await store.claim(claim(most=3)):
                assert all(await store.finish([done(lease) for lease in leases]))
                done_by += ids(leases)
            return done_by

        parts = await asyncio.gather(*(work(store) for store in stores for _ in range(3)))
        assert sorted(job_id for part in parts for job_id in part) == sorted(ids(every))
        await check_consistent(world.jobs)

    async def test_the_bound_holds_across_processes(self, world: PostgresqlWorld) -> None:
        other = world.another()
        await other.start()
        calls = [store.submit([new(), new()], most_queued=9) for store in (world.jobs, other) for _ in range(5)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(answer, Overloaded) for answer in answers) == 6
        assert len(await other.find(JobQuery("iris"))) == 8

    async def test_what_another_process_records_wakes_at_once(self, world: PostgresqlWorld) -> None:
        other = world.another()
        await other.start()
        other._poll_s = 60.0
        await put(world.jobs)  # heard, or read when the listening began
        async with asyncio.timeout(20):
            assert await other.wait(0, 60)
            cursor = await other.last_cursor()
            waiting = asyncio.create_task(other.wait(cursor, 60))
            await put(world.jobs)
            assert await waiting

    async def test_a_missing_extra_is_named(
        self, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "asyncpg", None)
        with pytest.raises(MissingExtra, match="asyncpg") as missing:
            await SqlJobs.open_postgresql(address, files=tmp_path).start()
        assert "headway[postgresql]" in str(missing.value)
