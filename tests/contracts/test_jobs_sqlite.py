"""Jobs in an SQLite file keep the contract."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.sql import SqlJobs
from headway.adapters.sql.jobs.sqlite import SqliteEngine
from headway.adapters.sql.schema import JOBS, prepare
from tests.contracts.job_clock_contract import JobClockContract
from tests.contracts.job_store_contract import JobStoreContract
from tests.contracts.job_world import LOST, claim, new


class SqliteWorld:
    """A crash is an opening without a closing: nothing is kept but what is in the files."""

    def __init__(self, folder: Path, *, fenced: bool = True) -> None:
        self.clock = ManualClock()
        self._folder = folder
        self._fenced = fenced
        self._opened: list[SqlJobs] = []
        self.jobs = self._store()

    def _store(self) -> SqlJobs:
        store = SqlJobs.open_sqlite(
            self._folder / "jobs.db", files=self._folder / "files", clock=self.clock, fenced=self._fenced
        )
        self._opened.append(store)
        return store

    def now(self) -> float:
        return self.clock.now()

    async def elapse(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def crash(self) -> None:
        self.jobs = self._store()
        await self.jobs.start()

    async def close(self) -> None:
        for store in self._opened:
            await store.close()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that is made already: making one takes longer than most of these tests."""
    path = tmp_path_factory.mktemp("empty") / "jobs.db"
    prepare(path, 10.0, JOBS)
    return path


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_a_process_beside_the_owner_looks_and_changes_single_jobs_and_mends_nothing(
    tmp_path: Path, empty: Path
) -> None:
    shutil.copy(empty, tmp_path)
    world = SqliteWorld(tmp_path)
    owner = world.jobs
    await owner.start()
    large = new(body=b"x" * 100_000)
    await owner.submit([large, new(), new()])
    leases = await owner.claim(claim("w1", most=2, lease_s=15.0))
    pending = tmp_path / "files" / "written-before-its-commit"
    pending.write_bytes(b"x")
    until = (await owner.get(leases[0].job.job_id)).lease_until
    world.clock.advance(10.0)

    guest = SqlJobs.open_sqlite(tmp_path / "jobs.db", files=tmp_path / "files", clock=world.clock, owner=False)
    await guest.start()
    assert pending.exists(), "the owner is about to name it"
    assert (await owner.get(leases[0].job.job_id)).lease_until == until, "leases are as long as they were"
    assert [(c.queued, c.running) for c in await guest.counts()] == [(1, 2)]
    world.clock.step_wall(3600.0)
    assert await guest.abandon("w1", LOST) == [lease.job.job_id for lease in leases]
    jobs = [await owner.get(lease.job.job_id) for lease in leases]
    assert [job.error for job in jobs] == [LOST, LOST]
    assert await owner.wait(0, 0.0), "the owner sees what the other recorded"
    await guest.close()
    await world.close()


class TestSqliteJobs(JobStoreContract, JobClockContract):
    @pytest.fixture
    async def world(self, tmp_path: Path, empty: Path) -> AsyncIterator[SqliteWorld]:
        shutil.copy(empty, tmp_path)
        world = SqliteWorld(tmp_path)
        await world.jobs.start()
        yield world
        await world.close()

    @pytest.fixture
    async def unfenced(self, tmp_path: Path, empty: Path) -> AsyncIterator[SqliteWorld]:
        shutil.copy(empty, tmp_path)
        world = SqliteWorld(tmp_path, fenced=False)
        await world.jobs.start()
        yield world
        await world.close()

    async def test_a_commit_is_on_the_disk_before_it_is_acknowledged(self, world: SqliteWorld) -> None:
        engine = world.jobs._engine
        assert isinstance(engine, SqliteEngine)
        assert engine._writer is not None
        settings = [engine._writer.execute(f"PRAGMA {name}").fetchone() for name in ("synchronous", "journal_mode")]
        assert settings == [(2,), ("wal",)]
