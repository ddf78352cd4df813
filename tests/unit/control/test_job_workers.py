"""Workers on memory adapters: they come with the jobs and go with them, and no job is lost by it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headway.adapters.memory.runtime import Script
from headway.domain.errors import Conflict, StorageFailed
from headway.domain.jobs import JobQuery
from headway.domain.lifecycle import VersionState
from headway.domain.replicas import Failure

from .jobs_world import JobsWorld

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[JobsWorld]:
    made = JobsWorld(tmp_path)
    await made.up()
    yield made
    await made.down()


async def test_a_burst_gets_every_worker_at_once_and_later_none(world: JobsWorld) -> None:
    await world.publish("iris")
    assert world.workers("iris") == {}
    await world.submit("iris", 1000)
    await world.pass_time(1.5)
    assert world.workers("iris") == {"v1": 8}
    took_s = await world.until_ended("iris", 60)
    assert took_s < 40, "8 workers, 0.2 s a job and 0.1 s between two"
    assert await world.states("iris") == {"succeeded": 1000}
    assert world.peak["iris"] == 8
    await world.pass_time(25)
    assert world.workers("iris") == {"v1": 8}, "the scale-down window is 30 s, and so is the cooldown"
    await world.pass_time(45)
    assert world.workers("iris") == {}
    assert all(job.attempts == 1 for job in await world.all_jobs("iris"))
    changes = [(one.current, one.desired) for one in await world.recorded("iris") if one.changed]
    assert changes[0] == (0, 8)
    assert changes[-1][1] == 0
    told = [(e.data["old"], e.data["new"], e.data["role"]) for e in await world.events_of("scaling_decided")]
    assert told == [(old, new, "work") for old, new in changes]
    assert world.model("iris").wished("v1") == 1, "replicas that serve are another matter"
    assert world.running("iris") == {"v1": 1}


async def test_a_steady_stream_does_not_flap(world: JobsWorld) -> None:
    await world.publish("iris")
    world.takes_s["iris"] = 2.0
    for step in range(300):
        if step % 4 == 0:
            await world.submit("iris", 3)
        await world.pass_time(1)
    changes = [(one.current, one.desired) for one in await world.recorded("iris") if one.changed]
    assert len(changes) <= 4, changes
    assert not await world.events_of("scaling_signal_lost")


async def test_workers_that_are_idle_go_first_and_no_running_job_is_ended(world: JobsWorld) -> None:
    """Here a worker that is told to go is gone at once, so one with a job would lose it."""
    await world.publish("iris", workers={"max": 6, "scaleDownWindow": "5s"})
    world.takes_s["iris"] = 0.5
    await world.submit("iris", 40)
    await world.pass_time(2)
    assert world.workers("iris") == {"v1": 6}
    await world.until_ended("iris", 10)
    world.takes_s["iris"] = 300.0
    await world.submit("iris", 2)
    await world.pass_time(60)
    assert world.workers("iris") == {"v1": 2}
    assert (await world.states("iris"))["running"] == 2
    await world.pass_time(300)
    assert await world.states("iris") == {"succeeded": 42}
    assert all(job.attempts == 1 for job in await world.all_jobs("iris"))


async def test_a_version_that_left_the_split_keeps_its_workers_while_it_has_jobs(world: JobsWorld) -> None:
    await world.publish("iris", workers={"max": 2})
    world.takes_s["iris"] = 30.0
    await world.submit("iris", 4)
    await world.pass_time(2)
    await world.publish("iris", "def predict(X): return 2", workers={"max": 2})
    await world.pass_time(10)
    assert world.live("iris") == {"v2": 100}
    assert world.model("iris").version("v1").state is VersionState.RETIRED
    assert world.workers("iris") == {"v1": 2}
    await world.submit("iris", 1, version="v2")
    await world.pass_time(2)
    assert world.workers("iris") == {"v1": 2, "v2": 1}
    await world.until_ended("iris", 120)
    assert {(job.version, job.ran_version) for job in await world.all_jobs("iris")} == {("v1", "v1"), ("v2", "v2")}
    await world.pass_time(70)
    assert world.workers("iris") == {}


async def test_jobs_that_follow_production_run_on_the_live_split_and_keep_the_worker_they_are_on(
    world: JobsWorld,
) -> None:
    await world.publish("iris", version="production", workers={"max": 4, "scaleDownWindow": "1s", "cooldown": "1s"})
    world.takes_s["iris"] = 120.0
    await world.submit("iris", 2, version=None)
    await world.pass_time(3)
    assert world.workers("iris") == {"v1": 2}
    await world.publish("iris", "def predict(X): return 2", version="production", workers={"max": 4})
    await world.submit("iris", 3, version=None)
    await world.pass_time(30)
    assert world.workers("iris") == {"v1": 2, "v2": 3}
    await world.until_ended("iris", 300)
    jobs = await world.all_jobs("iris")
    assert sorted(job.ran_version or "" for job in jobs) == ["v1", "v1", "v2", "v2", "v2"]
    assert all(job.attempts == 1 for job in jobs)


async def test_a_canary_gets_its_share_of_jobs_that_follow_production(world: JobsWorld) -> None:
    await world.publish("iris", workers={"max": 20})
    await world.deploy("iris", "def predict(X): return 2", canary=20, jobs={"workers": {"max": 20}})
    await world.pass_time(5)
    assert world.live("iris") == {"v1": 80, "v2": 20}
    world.takes_s["iris"] = 60.0
    await world.submit("iris", 10, version=None)
    await world.pass_time(1.05)
    assert world.workers("iris") == {"v1": 8, "v2": 2}


async def test_the_machine_is_shared_among_the_models(world: JobsWorld) -> None:
    await world.down()
    world.most = 8
    await world.up()
    for name in ("one", "two", "three"):
        await world.publish(name)
        world.takes_s[name] = 5.0
    await world.submit("one", 100)
    await world.pass_time(3)
    assert world.workers("one") == {"v1": 8}
    await world.submit("two", 100)
    await world.submit("three", 1)
    await world.pass_time(3)
    assert [sum(world.workers(name).values()) for name in ("one", "two", "three")] == [4, 3, 1]
    (record,) = [one for one in await world.recorded("three") if one.changed]
    assert (record.current, record.desired) == (0, 1)
    squeezed = [one for one in await world.recorded("two") if one.changed]
    assert squeezed[0].binding == "room"
    before = [sum(world.workers(name).values()) for name in ("one", "two")]
    await world.pass_time(60)
    assert [sum(world.workers(name).values()) for name in ("one", "two")] in (before, [4, 4]), "no churn"


async def test_models_that_are_too_many_for_the_machine_take_turns(world: JobsWorld) -> None:
    await world.down()
    world.most = 2
    await world.up()
    names = [f"m{number}" for number in range(5)]
    for name in names:
        await world.publish(name)
        world.takes_s[name] = 1.0
        await world.submit(name, 150)  # more than two workers do in that time, so that no queue ever is empty
    await world.pass_time(240)
    done = {name: (await world.states(name)).get("succeeded", 0) for name in names}
    assert min(done.values()) > 40, done
    assert sum(world.peak.values()) <= 5 * 2


async def test_fewest_workers_are_there_before_any_job_for_what_takes_traffic(world: JobsWorld) -> None:
    await world.publish("iris", workers={"min": 2})
    assert world.workers("iris") == {"v1": 2}
    await world.publish("iris", "def predict(X): return 2", workers={"min": 2, "cooldown": "5s"})
    await world.pass_time(60)
    assert world.workers("iris") == {"v2": 2}


async def test_a_database_that_is_away_changes_nothing(world: JobsWorld) -> None:
    await world.publish("iris", workers={"scaleDownWindow": "5s", "cooldown": "5s"})
    world.takes_s["iris"] = 5.0
    await world.submit("iris", 3)
    await world.pass_time(2)
    assert world.workers("iris") == {"v1": 3}
    counts = world.jobs.counts

    async def away() -> None:
        raise StorageFailed("the database is away")

    world.jobs.counts = away  # type: ignore[assignment,method-assign]
    await world.pass_time(120)
    assert world.workers("iris") == {"v1": 3}
    (lost,) = await world.events_of("scaling_signal_lost")
    assert (lost.model, lost.data["error"]) == ("iris", "the database is away")
    world.jobs.counts = counts  # type: ignore[method-assign]
    await world.pass_time(20)
    assert world.workers("iris") == {}
    assert len(await world.events_of("scaling_signal_back")) == 1


async def test_the_next_control_plane_takes_the_workers_in(world: JobsWorld) -> None:
    await world.publish("iris", workers={"max": 4})
    world.takes_s["iris"] = 60.0
    await world.submit("iris", 3)
    await world.pass_time(2)
    before = {replica.replica_id for replica in world.crew("iris")}
    await world.crash()
    await world.up()
    await world.pass_time(5)
    assert {replica.replica_id for replica in world.crew("iris")} == before
    assert all(replica.restarts == 0 for replica in world.crew("iris"))
    await world.pass_time(60)
    assert await world.states("iris") == {"succeeded": 3}
    await world.pass_time(90)
    assert world.workers("iris") == {}


async def test_another_grace_period_does_not_end_workers_that_run(world: JobsWorld) -> None:
    await world.publish("iris")
    world.takes_s["iris"] = 60.0
    await world.submit("iris", 2)
    await world.pass_time(2)
    before = {replica.replica_id for replica in world.crew("iris")}
    await world.publish("iris", gracePeriod="1h")
    await world.crash()
    await world.up()
    await world.pass_time(5)
    assert {replica.replica_id for replica in world.crew("iris")} == before
    assert world.model("iris").message == ""


async def test_why_a_worker_ended_is_told_of_its_job_at_once(world: JobsWorld) -> None:
    await world.publish("iris", workers={"max": 1})
    world.takes_s["iris"] = 60.0
    (job_id,) = await world.submit("iris")
    await world.pass_time(2)
    (worker,) = world.crew("iris")
    for failure, code in (
        (Failure("model_failed", "the process was killed by signal SIGSEGV while serving"), "worker_lost"),
        (Failure("out_of_memory", "used 3072 MiB, limit 1024 MiB"), "out_of_memory"),
        (Failure("job_timed_out", "a job took longer than its time limit"), "job_timed_out"),
    ):
        world.machine.crash(worker.replica_id, failure)
        await world.clock.settle()
        error = (await world.jobs.get(job_id)).error
        assert error is not None
        assert error.code == code
        assert failure.message in error.message
        await world.pass_time(10)
    assert (await world.jobs.get(job_id)).attempts == 3
    assert await world.states("iris") == {"failed": 1}


async def test_a_model_with_open_jobs_is_not_deleted_by_mistake(world: JobsWorld) -> None:
    await world.publish("iris")
    world.takes_s["iris"] = 3.0
    await world.submit("iris", 20)
    await world.submit("iris", 1, not_before=world.clock.now() + 3600)
    await world.pass_time(2)
    with pytest.raises(Conflict, match="21 jobs that have not ended") as caught:
        await world.service.delete("iris")
    assert "--cancel-jobs" in (caught.value.hint or "")
    assert world.live("iris") == {"v1": 100}
    await world.service.delete("iris", cancel_jobs=True)
    await world.pass_time(30)
    assert world.book.find("iris") is None
    assert world.crew("iris") == []
    states = await world.states("iris")
    assert states.keys() <= {"canceled", "succeeded"}
    assert sum(states.values()) == 21


async def test_workers_of_a_version_whose_environment_was_lost_wait_until_it_is_built_again(world: JobsWorld) -> None:
    await world.publish("iris", "def predict(X): return X")
    await world.publish("iris", "def predict(X): return X + 1")
    assert world.model("iris").version("v1").state is VersionState.RETIRED
    python = world.model("iris").version("v1").python
    assert python is not None
    world.environments.lost.add(python)
    await world.submit("iris", 2, version="v1")
    await world.pass_time(10)
    assert await world.states("iris") == {"succeeded": 2}


async def test_a_worker_that_never_gets_up_stands_in_nobodys_way(world: JobsWorld) -> None:
    await world.publish("iris")
    await world.publish("rose")
    broken = Failure("load_failed", "ValueError: no weights")
    world.machine.script(Script(failure=broken), model="iris")
    await world.submit("iris", 5)
    await world.submit("rose", 5)
    await world.pass_time(30)
    assert await world.states("rose") == {"succeeded": 5}
    assert await world.states("iris") == {"queued": 5}
    assert len(world.crew("iris")) == 5
    assert len(await world.jobs.find(JobQuery("iris"))) == 5
