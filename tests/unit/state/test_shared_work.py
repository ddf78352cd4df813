"""Work done once for all who want it at the same time."""

from __future__ import annotations

import asyncio

import pytest

from headway.adapters.local.shared_work import Progress, SharedWork

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Job:
    """Counts how often it began and how it ended; goes on when ``gate`` is set."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.running = asyncio.Event()
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, tell: Progress) -> int:
        self.begun += 1
        tell("begun")
        self.running.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        tell("ending")
        if self.error:
            raise self.error
        return self.begun


def ignore(_: str) -> None:
    return


async def test_it_is_done_once_and_again_only_after_its_end() -> None:
    shared, job = SharedWork[int](), Job()
    first, second = (asyncio.create_task(shared.join("a", job, ignore)) for _ in range(2))
    await job.running.wait()
    job.gate.set()
    assert [await first, await second] == [1, 1]
    assert await shared.join("a", job, ignore) == 2


async def test_other_keys_are_other_work() -> None:
    shared, one, two = SharedWork[int](), Job(), Job()
    one.gate.set()
    two.gate.set()
    await asyncio.gather(shared.join("a", one, ignore), shared.join("b", two, ignore))
    assert (one.begun, two.begun) == (1, 1)


async def test_all_hear_of_the_progress_and_who_comes_late_hears_the_newest() -> None:
    shared, job = SharedWork[int](), Job()
    early: list[str] = []
    late: list[str] = []
    first = asyncio.create_task(shared.join("a", job, early.append))
    await job.running.wait()
    second = asyncio.create_task(shared.join("a", job, late.append))
    await asyncio.sleep(0)
    job.gate.set()
    await asyncio.gather(first, second)
    assert early == ["begun", "ending"]
    assert late == ["begun", "ending"]


async def test_all_get_the_error_and_the_next_one_tries_again() -> None:
    shared, job = SharedWork[int](), Job()
    job.error = ValueError("no")
    job.gate.set()
    results = await asyncio.gather(*(shared.join("a", job, ignore) for _ in range(3)), return_exceptions=True)
    assert [str(r) for r in results] == ["no"] * 3
    job.error = None
    assert await shared.join("a", job, ignore) == 2


async def test_it_goes_on_when_one_of_two_leaves_and_ends_with_the_last() -> None:
    shared, job = SharedWork[int](), Job()
    tasks = [asyncio.create_task(shared.join("a", job, ignore)) for _ in range(2)]
    await job.running.wait()
    for task, cancelled in zip(tasks, (0, 1), strict=True):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert job.cancelled == cancelled


async def test_who_comes_while_it_is_being_cancelled_begins_anew() -> None:
    shared, leaving, fresh = SharedWork[int](), asyncio.Event(), Job()
    fresh.gate.set()

    async def lingers(_: Progress) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            await leaving.wait()
        return 0

    first = asyncio.create_task(shared.join("a", lingers, ignore))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    assert await shared.join("a", fresh, ignore) == 1
    leaving.set()
    with pytest.raises(asyncio.CancelledError):
        await first
