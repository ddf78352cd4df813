"""Jobs in an SQLite file keep the contract."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.sql import SqlJobs
from headway.adapters.sql.schema import JOBS, prepare
from tests.contracts.job_clock_contract import JobClockContract
from tests.contracts.job_store_contract import JobStoreContract


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
