"""ManualClock: time that moves when a test says so, so that hours pass in no time."""

from __future__ import annotations

import asyncio
import heapq
import itertools

_SETTLING_TURNS = 50
"""Turns of the event loop that woken tasks get; chains of awaits longer than that need another ``elapse``."""


class ManualClock:
    """The ``Clock`` port without a clock. Sleepers wake in the order of their deadlines."""

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self._now = now
        self._monotonic = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        """Wall time, seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Seconds advanced so far."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Return once the clock was advanced by ``seconds``; after one turn of the loop for zero and less."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), woken))
        await woken

    @property
    def sleeping(self) -> int:
        """How many wait for time to pass."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    def advance(self, seconds: float) -> None:
        """Move on at once; everybody due wakes at the loop's next turn."""
        self._move_to(self._monotonic + seconds)

    async def elapse(self, seconds: float) -> None:
        """Move on from deadline to deadline; whoever wakes runs, and may sleep again, before the next one."""
        end = self._monotonic + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self._move_to(self._sleepers[0][0])
            await self.settle()
        self._move_to(end)
        await self.settle()

    async def settle(self) -> None:
        """Let every task that can run do so, with no time passing."""
        for _ in range(_SETTLING_TURNS):
            await asyncio.sleep(0)

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator or NTP does; durations do not change."""
        self._now += seconds

    def _move_to(self, moment: float) -> None:
        self._now += max(0.0, moment - self._monotonic)
        self._monotonic = max(self._monotonic, moment)
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():  # not cancelled
                woken.set_result(None)
