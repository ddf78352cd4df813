"""Who gets which job, when, and what wakes those who wait; with and without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headway.adapters.memory.job_broker import MemoryBroker
from headway.control.jobs.lanes import POLL_MAX_S
from headway.domain.errors import StorageFailed
from headway.domain.jobs import Lease
from tests.contracts.job_world import new
from tests.unit.jobs.world import JobWorld, deployment

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world() -> AsyncIterator[JobWorld]:
    async with JobWorld(deployment("iris", "v1", "v2", jobs={"version": "production"})) as world:
        yield world


class Claims:
    """Counts what reaches the store."""

    def __init__(self, world: JobWorld) -> None:
        self.count = 0
        self.fails = False
        inner = world.jobs.claim

        async def claim(wish: Any) -> list[Lease]:
            self.count += 1
            if self.fails:
                raise StorageFailed("the disk is full")
            return await inner(wish)

        world.jobs.claim = claim  # type: ignore[method-assign, assignment]


def waiting(world: JobWorld, name: str, **wish: Any) -> asyncio.Task[list[Lease]]:
    given = {"most": 1, "wait_s": 60.0, "version": "v1", **wish}
    version = given.pop("version")
    return asyncio.ensure_future(world.dispatch.claim(name, "iris", version, **given))


async def test_a_submission_wakes_the_worker_that_has_waited_longest(world: JobWorld) -> None:
    first, second = waiting(world, "a"), waiting(world, "b")
    await world.clock.settle()
    claims = Claims(world)
    await world.submit(path="/models/iris/versions/v1/jobs")
    await world.clock.settle()
    assert (first.done(), second.done()) == (True, False)
    assert claims.count == 1, "one job costs one claim, however many wait"
    again = waiting(world, "a")
    await world.clock.settle()
    await world.submit(path="/models/iris/versions/v1/jobs")
    await world.clock.settle()
    assert (second.done(), again.done()) == (True, False)
    again.cancel()


async def test_a_burst_serves_all_who_wait(world: JobWorld) -> None:
    workers = [waiting(world, str(n)) for n in range(5)]
    await world.clock.settle()
    for _ in range(7):
        await world.submit(path="/models/iris/versions/v1/jobs")
    leases = [lease for worker in workers for lease in await worker]
    assert len({lease.job.job_id for lease in leases}) == 5
    assert len(await world.dispatch.claim("x", "iris", "v1", most=9, wait_s=0)) == 2


async def test_only_the_version_that_can_run_it_is_woken(world: JobWorld) -> None:
    old, live = waiting(world, "old", version="v1"), waiting(world, "live", version="v2")
    await world.clock.settle()
    await world.submit()  # follows production, which is v2
    await world.clock.settle()
    assert (old.done(), live.done()) == (False, True)
    await world.deploy(deployment("iris", "v2", "v1", jobs={"version": "production"}))
    await world.clock.elapse(1.1)
    await world.submit()
    await world.clock.settle()
    assert old.done(), "v1 has taken the traffic while its worker waited"


async def test_a_job_for_later_is_found_by_the_poll(world: JobWorld) -> None:
    worker = waiting(world, "a")
    await world.clock.settle()
    await world.submit(path="/models/iris/versions/v1/jobs?notBefore=10s")
    await world.clock.elapse(9.9)
    assert not worker.done()
    await world.clock.elapse(0.1 + POLL_MAX_S)
    assert worker.done()


async def test_polls_grow_rarer_and_stop_when_nobody_waits(world: JobWorld) -> None:
    claims = Claims(world)
    worker = waiting(world, "a")
    await world.clock.elapse(10)
    asked = claims.count
    assert 10 / POLL_MAX_S * 0.8 < asked < 10 / POLL_MAX_S + 12
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    await world.clock.elapse(10)
    assert claims.count <= asked + 1


async def test_who_waits_in_vain_gets_nothing(world: JobWorld) -> None:
    worker = waiting(world, "a", wait_s=5.0)
    await world.clock.elapse(5.1)
    assert await worker == []
    assert world.dispatch.waiting("iris") == 0


async def test_what_was_claimed_for_who_has_left_is_given_back(world: JobWorld) -> None:
    inner, going = world.jobs.claim, asyncio.Event()

    async def slow(wish: Any) -> list[Lease]:
        leases = await inner(wish)
        if leases:
            await going.wait()
        return leases

    world.jobs.claim = slow  # type: ignore[method-assign, assignment]
    worker = waiting(world, "a")
    await world.clock.settle()
    job = (await world.submit(path="/models/iris/versions/v1/jobs")).json()
    await world.clock.settle()
    worker.cancel()
    await world.clock.settle()
    going.set()
    await world.clock.settle()
    found = await world.jobs.get(job["id"])
    assert (str(found.state), found.attempts) == ("queued", 0)
    (lease,) = await world.dispatch.claim("b", "iris", "v1", most=1, wait_s=0)
    assert lease.job.job_id == job["id"]


async def test_a_store_that_fails_fails_the_claim_and_not_the_dispatch(world: JobWorld) -> None:
    claims = Claims(world)
    claims.fails = True
    with pytest.raises(StorageFailed):
        await world.dispatch.claim("a", "iris", "v1", most=1, wait_s=5)
    claims.fails = False
    worker = waiting(world, "a")
    await world.submit(path="/models/iris/versions/v1/jobs")
    assert len(await worker) == 1


async def test_stopping_answers_who_waits(world: JobWorld) -> None:
    worker = waiting(world, "a")
    await world.clock.settle()
    await asyncio.gather(world.dispatch.stop(), world.dispatch.stop())
    assert await worker == []
    assert await world.dispatch.claim("a", "iris", "v1", most=1, wait_s=5) == []
    await world.dispatch.start()
    await world.submit(path="/models/iris/versions/v1/jobs")
    assert len(await world.dispatch.claim("a", "iris", "v1", most=1, wait_s=5)) == 1


async def test_through_the_broker_a_worker_elsewhere_is_woken() -> None:
    process = MemoryBroker()
    async with JobWorld(broker=process) as here, JobWorld(broker=process, beside=here) as there:
        worker = waiting(there, "far")
        await there.clock.settle()
        assert not here.dispatch.waiting("iris")
        job = (await here.submit()).json()
        await here.clock.settle()  # no time passes: no poll
        (lease,) = await worker
        assert lease.job.job_id == job["id"]
        assert not process.queues["iris"], "acknowledged once the lease was stored"


async def test_who_waits_here_is_served_without_the_broker() -> None:
    process = MemoryBroker()
    async with JobWorld(broker=process) as world:
        worker = waiting(world, "near")
        await world.clock.settle()
        await world.submit()
        assert len(await worker) == 1
        assert not process.queues
        for _ in range(2):
            await world.submit()
        await world.clock.settle()
        assert len(process.queues["iris"]) == 2
        assert len(await world.dispatch.claim("near", "iris", "v1", most=5, wait_s=0)) == 2
        again = waiting(world, "near")
        await world.clock.settle()
        assert not process.queues["iris"], "messages of what was handed out here are settled without a claim"
        again.cancel()


async def test_a_broker_that_is_away_fails_no_submission_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    process = MemoryBroker(away=True)
    async with JobWorld(broker=process) as world:
        for _ in range(3):
            assert (await world.submit()).status_code == 202
            await world.clock.elapse(1.5)
        told = [record for record in caplog.records if "broker" in record.message and record.levelname == "ERROR"]
        assert len(told) == 1
        process.away = False
        await world.clock.elapse(11)
        await world.rescuer.sweep()
        await world.clock.settle()
        assert process.queues["iris"], "the sweep announces what the broker does not know"


async def test_an_attempt_without_a_worker_comes_back(world: JobWorld) -> None:
    await world.jobs.submit([new()])
    (lost,) = await world.dispatch.claim("a", "iris", "v1", most=1, wait_s=0)
    await world.clock.elapse(16)
    await world.rescuer.sweep()
    worker = waiting(world, "b")
    await world.clock.elapse(12)
    (lease,) = await worker
    assert (lease.job.job_id, lease.token > lost.token, lease.job.attempts) == (lost.job.job_id, True, 2)
