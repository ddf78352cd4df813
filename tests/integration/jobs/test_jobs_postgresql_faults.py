"""Jobs in a PostgreSQL whose connections break, at every statement and in the commit, and that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from headway.adapters.sql import SqlJobs
from headway.adapters.sql.jobs.postgresql import PostgresqlEngine
from headway.domain.errors import StorageFailed, Unsupported
from headway.domain.jobs import JobQuery, RetryPolicy
from headway.domain.lifecycle import JobState
from tests.contracts.job_postgresql import make_database
from tests.contracts.job_world import check_consistent, claim, done, failed, new
from tests.services.fixtures import PASSWORD, PostgresqlService
from tests.services.relay import Relay
from tests.waiting import PortPicker

pytestmark = pytest.mark.anyio
BIG = 40_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def address(postgresql_service: PostgresqlService) -> str:
    return asyncio.run(make_database(postgresql_service))


class Breaking:
    """Breaks the connection at the n-th thing that the writer says; in a commit, before or after it is carried out."""

    def __init__(self, relay: Relay, engine: PostgresqlEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self._relay = relay
        self._engine = engine
        self.said: list[str] = []
        self.break_at = -1
        self.in_commits = False
        for name in ("execute", "fetch"):
            monkeypatch.setattr(asyncpg.Connection, name, self._watched(getattr(asyncpg.Connection, name)))

    def _watched(self, call: Any) -> Any:
        async def watched(connection: Any, text: str, *values: Any, **named: Any) -> Any:
            if connection is not self._engine._writer or (self.in_commits and not text.endswith("COMMIT")):
                return await call(connection, text, *values, **named)
            self.said.append(text)
            broken = len(self.said) - 1 == self.break_at
            if broken and not self.in_commits:
                await self._relay.cut()
            answer = await call(connection, text, *values, **named)
            if broken:
                await self._relay.cut()
                raise ConnectionResetError("the answer to the commit was lost")
            return answer

        return watched


class World:
    """A store behind a relay, and one that looks on directly."""

    def __init__(self, address: str, relay: Relay, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.relay = relay
        through = address.replace(f":{relay._target_port}/", f":{relay.port}/")
        self.engine = PostgresqlEngine(through)
        self.jobs = SqlJobs(self.engine, folder / "files")
        self.direct = SqlJobs.open_postgresql(address, files=folder / "files")
        self.breaking = Breaking(relay, self.engine, monkeypatch)


@pytest.fixture
async def world(
    postgresql_service: PostgresqlService,
    address: str,
    free_port: PortPicker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    async with Relay(postgresql_service.port, free_port()) as relay:
        world = World(address, relay, tmp_path, monkeypatch)
        await world.jobs.start()
        await world.direct.start()
        yield world
        await world.jobs.close()
        await world.direct.close()


async def history(jobs: SqlJobs, model: str) -> list[str]:
    """Three jobs: one succeeds, one is to be tried again, one is canceled."""
    retry = RetryPolicy(initial_s=300.0)  # nothing of one history comes up in another
    batch = [new(model, body=b"i" * BIG), new(model, retry=retry), new(model, priority=0)]
    await jobs.submit(batch)
    first, second = await jobs.claim(claim(model=model, most=2))
    assert await jobs.finish([done(first, b"r" * BIG), failed(second)]) == [True, True]
    await jobs.cancel(batch[2].job_id)
    return [str((await jobs.get(job.job_id)).state) for job in batch]


async def test_a_connection_may_break_before_any_statement(world: World) -> None:
    await history(world.jobs, "whole")
    commits = [text.endswith("COMMIT") for text in world.breaking.said]
    assert (len(commits) > 20, sum(commits)) == (True, 4)
    for number in range(len(commits)):
        world.breaking.said.clear()
        world.breaking.break_at = number
        model = f"m{number}"
        if commits[number]:
            with pytest.raises(StorageFailed, match="may or may not"):
                await history(world.jobs, model)
        else:
            assert await history(world.jobs, model) == ["succeeded", "queued", "canceled"]
        await check_consistent(world.direct, model)


async def test_a_commit_whose_answer_is_lost_is_told_as_that(world: World) -> None:
    world.breaking.in_commits = True
    for number, held in enumerate(([3, 0, 0], [1, 2, 0], [2, 0, 1], [1, 0, 1])):
        world.breaking.said.clear()
        world.breaking.break_at = number
        model = f"c{number}"
        with pytest.raises(StorageFailed, match="may or may not"):
            await history(world.jobs, model)
        states = [job.state for job in await world.direct.find(JobQuery(model))]
        counted = [states.count(state) for state in (JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED)]
        assert counted == held  # it did happen
        await check_consistent(world.direct, model)


async def test_a_server_that_is_gone_is_told_and_found_again(world: World) -> None:
    await world.relay.down()
    with pytest.raises(StorageFailed) as told:
        await world.jobs.submit([new("gone")])
    assert PASSWORD not in str(told.value) + repr(told.value.to_dict())
    with pytest.raises(StorageFailed):
        await world.jobs.find(JobQuery("gone"))
    assert await world.direct.find(JobQuery("gone")) == []
    await world.relay.up()
    await world.jobs.submit([new("gone")])
    assert len(await world.jobs.find(JobQuery("gone"))) == 1


async def test_what_cannot_be_opened_is_refused(postgresql_service: PostgresqlService, tmp_path: Path) -> None:
    address = await make_database(postgresql_service)
    connection = await asyncpg.connect(address)
    await connection.execute("UPDATE headway_jobs_schema SET version_num = '9999'")
    await connection.close()
    newer = SqlJobs.open_postgresql(address, files=tmp_path)
    with pytest.raises(Unsupported, match="newer Headway"):
        await newer.start()
    await newer.close()
    wrong = SqlJobs.open_postgresql(address.replace(PASSWORD, "wrong-secret"), files=tmp_path)
    with pytest.raises(StorageFailed) as told:
        await wrong.start()
    assert "wrong-secret" not in str(told.value)
    await wrong.close()
