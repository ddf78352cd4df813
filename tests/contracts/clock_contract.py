"""What every clock does."""

from __future__ import annotations

import asyncio
from abc import abstractmethod

import pytest

from headway.ports.clock import Clock


@pytest.mark.anyio
class ClockContract:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def clock(self) -> Clock:
        raise NotImplementedError("the adapter's own module gives the clock")

    @abstractmethod
    async def pass_time(self, clock: Clock, seconds: float) -> None:
        """Let so much time pass on ``clock``."""

    async def test_both_readings_grow_with_time(self, clock: Clock) -> None:
        wall, monotonic = clock.now(), clock.monotonic()
        await self.pass_time(clock, 0.02)
        assert clock.monotonic() - monotonic >= 0.02
        assert clock.now() - wall >= 0.015

    async def test_sleep_lasts_as_long_as_asked(self, clock: Clock) -> None:
        begin = clock.monotonic()
        sleeping = asyncio.create_task(clock.sleep(0.02))
        while not sleeping.done():
            await self.pass_time(clock, 0.005)
        assert clock.monotonic() - begin >= 0.02

    async def test_no_time_is_a_turn_of_the_loop(self, clock: Clock) -> None:
        turns: list[int] = []
        other = asyncio.create_task(_note(turns))
        await asyncio.wait_for(clock.sleep(0), 5)
        await asyncio.wait_for(clock.sleep(-1), 5)
        assert turns
        await other

    async def test_a_cancelled_sleeper_harms_nobody(self, clock: Clock) -> None:
        gone = asyncio.create_task(clock.sleep(0.01))
        other = asyncio.create_task(clock.sleep(0.01))
        await asyncio.sleep(0)
        gone.cancel()
        while not other.done():
            await self.pass_time(clock, 0.005)
        assert gone.cancelled()


async def _note(turns: list[int]) -> None:
    turns.append(1)
