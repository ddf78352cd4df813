"""The queue of what is to be looked at, on a clock turned by hand."""

from __future__ import annotations

import asyncio

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.control.operator.work_queue import FIRST_PAUSE_S, LONGEST_PAUSE_S, WorkQueue
from headway.domain.cluster_objects import Name
from headway.domain.errors import ClusterFailed

A, B = Name("n", "a"), Name("n", "b")

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Bench:
    def __init__(self, workers: int = 2) -> None:
        self.clock = ManualClock()
        self.done: list[Name] = []
        self.failures: list[float] = []
        self.error: Exception | None = None
        self.again_s: float | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_once = self.most = 0
        self.queue = WorkQueue(self.clock, self.work, lambda _, __, s: self.failures.append(s), workers=workers)

    async def work(self, name: Name) -> float | None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.gate.wait()
        finally:
            self.at_once -= 1
        self.done.append(name)
        if self.error:
            raise self.error
        return self.again_s


async def test_asked_for_often_it_is_looked_at_once_and_once_more_for_what_came_meanwhile() -> None:
    bench = Bench()
    bench.gate.clear()
    for _ in range(3):
        bench.queue.add(A)
    bench.queue.start()
    bench.queue.start()
    await bench.clock.settle()
    for _ in range(3):
        bench.queue.add(A)
    await bench.clock.settle()
    assert bench.most == 1
    bench.gate.set()
    await bench.clock.settle()
    assert bench.done == [A, A]
    assert bench.queue.idle
    await bench.queue.stop()


async def test_failures_come_back_later_and_later_and_a_success_ends_that() -> None:
    bench = Bench()
    bench.error = ClusterFailed("no")
    bench.queue.add(A)
    bench.queue.start()
    await bench.clock.elapse(600)
    assert bench.failures[:4] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, 8 * FIRST_PAUSE_S]
    assert bench.failures[-1] == LONGEST_PAUSE_S
    bench.error = None
    await bench.clock.elapse(LONGEST_PAUSE_S)
    bench.error, count = ClusterFailed("no"), len(bench.failures)
    bench.queue.add(A)
    await bench.clock.settle()
    assert bench.failures[count:] == [FIRST_PAUSE_S]
    await bench.queue.stop()


async def test_the_servers_own_wish_when_to_come_back_is_kept() -> None:
    bench = Bench()
    bench.error = ClusterFailed("slow down", details={"retry_after_s": 7})
    bench.queue.add(A)
    bench.queue.start()
    await bench.clock.settle()
    assert bench.failures == [7.0]
    await bench.clock.elapse(6.9)
    assert len(bench.done) == 1
    await bench.clock.elapse(0.2)
    assert len(bench.done) == 2
    await bench.queue.stop()


async def test_what_comes_back_later_comes_sooner_when_it_is_asked_for() -> None:
    bench = Bench()
    bench.again_s = 60
    bench.queue.add(A)
    bench.queue.start()
    await bench.clock.elapse(1)
    bench.again_s = None
    bench.queue.add(A)
    await bench.clock.elapse(1)
    assert bench.done == [A, A]
    await bench.clock.elapse(120)
    assert bench.done == [A, A]
    await bench.queue.stop()


async def test_stopped_in_the_middle_it_goes_on_where_it_was() -> None:
    bench = Bench(workers=1)
    bench.gate.clear()
    bench.queue.add(A)
    bench.queue.add(B)
    bench.queue.start()
    await bench.clock.settle()
    await bench.queue.stop()
    await bench.queue.stop()
    bench.gate.set()
    bench.queue.start()
    await bench.clock.settle()
    assert sorted(bench.done) == [A, B]
    await bench.queue.stop()
