"""Starting and stopping the services of a job server, in every order; and what they do about trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.job_broker import MemoryJobBroker
from headway.control.jobs.announcer import JobAnnouncer
from headway.control.jobs.news import MOST_KEPT, JobNews, Listener
from headway.control.jobs.rescuer import JobJanitor, JobRescuer
from headway.control.jobs.rounds import Rounds
from headway.domain.jobs import JobEvent
from tests.unit.jobs.world import JobWorld, deployment

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


SERVICES: dict[str, Callable[[JobWorld], Any]] = {
    "policies": lambda world: world.policies,
    "news": lambda world: JobNews(world.jobs, world.clock),
    "dispatch": lambda world: world.dispatch,
    "announcer": lambda world: JobAnnouncer(MemoryJobBroker(), world.clock),
    "rescuer": lambda world: JobRescuer(world.jobs, world.clock, world.on_due),
    "janitor": lambda world: JobJanitor(world.jobs, world.clock),
}


@pytest.mark.parametrize("name", SERVICES)
async def test_start_and_stop_in_any_order(name: str) -> None:
    world = JobWorld()
    service = SERVICES[name](world)
    before = len(asyncio.all_tasks())
    await service.stop()
    for _ in range(2):
        await service.start()
        await service.start()
        await world.clock.elapse(3)
        await asyncio.gather(service.stop(), service.stop())
    await asyncio.gather(service.start(), service.stop(), service.start(), service.stop())
    await service.stop()
    await world.clock.settle()
    assert len(asyncio.all_tasks()) == before
    await world.http.aclose()
    await world.worker.aclose()


async def test_a_round_that_fails_is_tried_again_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    clock, tries = ManualClock(), 0

    async def step() -> bool:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise OSError("no disk")
        return tries < 6

    rounds = Rounds("a step", clock, 1.0, step)
    await rounds.start()
    await clock.elapse(2.5)
    assert tries == 3
    assert [r.message for r in caplog.records if "no disk" in r.message] == ["a step: no disk; tried again every 1 s"]
    await clock.elapse(1)
    assert tries == 6, "at once again while there is more"
    rounds.wake()
    await clock.settle()
    assert tries == 7
    await rounds.stop()


async def test_news_are_read_only_while_somebody_listens() -> None:
    async with JobWorld() as world:
        reads = 0
        inner = world.jobs.events

        async def events(**query: Any) -> list[JobEvent]:
            nonlocal reads
            reads += 1
            return await inner(**query)

        world.jobs.events = events  # type: ignore[method-assign]
        await world.submit()
        await world.clock.settle()
        assert reads == 0
        async with world.news.of_model("iris") as listener:
            job = (await world.submit()).json()
            assert await listener.wait(world.clock, 5)
            assert [event.job_id for event in listener.take()] == [job["id"]], "not what happened before"
            async with world.news.of_job("another") as other:
                await world.submit()
                await listener.wait(world.clock, 5)
                assert other.take() == []


async def test_a_listener_that_takes_nothing_is_told_that_it_missed_some() -> None:
    listener = Listener()
    event = JobEvent(1, 0.0, "job_started.v1", "iris", "j", None, 1)
    for _ in range(MOST_KEPT + 1):
        listener.tell(event)
    assert listener.missed
    assert len(listener.take()) == 1


async def test_policies_follow_the_deployments() -> None:
    async with JobWorld(deployment("iris", "v1")) as world:
        assert world.policies.follows("iris", "v1")
        await world.deploy(deployment("iris", "v1", "v2", jobs={"maxAttempts": 7}))
        await world.clock.elapse(1.1)
        found = world.policies.find("iris")
        assert found is not None
        assert (found.jobs.max_attempts, set(found.live), set(found.max_body_bytes)) == (7, {"v2"}, {"v1", "v2"})
        assert not world.policies.follows("iris", "v1")


async def test_names_that_nobody_has_do_not_keep_the_database_busy() -> None:
    async with JobWorld() as world:
        reads = 0
        inner = world.deployments.load_all

        async def load_all() -> Any:
            nonlocal reads
            reads += 1
            return await inner()

        world.deployments.load_all = load_all  # type: ignore[method-assign]
        world.clock.advance(0.2)
        answers = await asyncio.gather(*(world.submit(path=f"/models/m{n}/jobs") for n in range(20)))
        assert {answer.status_code for answer in answers} == {404}
        assert reads == 1
