"""Both clocks keep the clock contract."""

from __future__ import annotations

import asyncio

import pytest

from headway.adapters.local.clock import SystemClock
from headway.adapters.memory.clock import ManualClock
from headway.ports.clock import Clock
from tests.contracts.clock_contract import ClockContract


class TestSystemClock(ClockContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return SystemClock()

    async def pass_time(self, clock: Clock, seconds: float) -> None:
        await clock.sleep(seconds)


class TestManualClock(ClockContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return ManualClock()

    async def pass_time(self, clock: Clock, seconds: float) -> None:
        assert isinstance(clock, ManualClock)
        await clock.elapse(seconds)

    async def test_sleepers_wake_in_order_and_see_their_own_time(self) -> None:
        clock = ManualClock(1000.0)
        woke: list[tuple[str, float]] = []

        async def sleeper(name: str, seconds: float, times: int = 1) -> None:
            for _ in range(times):
                await clock.sleep(seconds)
                woke.append((name, clock.now()))

        tasks = [asyncio.create_task(sleeper("late", 3)), asyncio.create_task(sleeper("often", 1, 4))]
        await clock.elapse(3)
        assert woke == [("often", 1001), ("often", 1002), ("late", 1003), ("often", 1003)]
        left = [clock.sleeping]
        clock.advance(10)
        await asyncio.gather(*tasks)
        assert woke[4:] == [("often", 1013.0)]
        assert [*left, clock.sleeping] == [1, 0]

    def test_the_wall_clock_steps_back_alone(self) -> None:
        clock = ManualClock(1000.0)
        clock.advance(5)
        clock.step_wall(-100)
        assert (clock.now(), clock.monotonic()) == (905.0, 5.0)
