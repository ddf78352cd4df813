"""Jobs in memory keep the contract; and what only a store with a clock of its own can show."""

from __future__ import annotations

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.jobs import MemoryJobs
from tests.contracts.job_clock_contract import JobClockContract
from tests.contracts.job_store_contract import JobStoreContract


class MemoryWorld:
    """There is no process to crash: what is in memory stays."""

    def __init__(self, *, fenced: bool = True) -> None:
        self.clock = ManualClock()
        self.jobs = MemoryJobs(self.clock, fenced=fenced)

    def now(self) -> float:
        return self.clock.now()

    async def elapse(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def crash(self) -> None:
        pass


class TestMemoryJobs(JobStoreContract, JobClockContract):
    @pytest.fixture
    def world(self) -> MemoryWorld:
        return MemoryWorld()

    @pytest.fixture
    def unfenced(self) -> MemoryWorld:
        return MemoryWorld(fenced=False)
