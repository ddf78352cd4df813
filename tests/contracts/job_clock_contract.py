"""What stores do that take their time from a clock of this process: it may be set, and durations do not care."""

from __future__ import annotations

from typing import Protocol

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.domain.lifecycle import JobState
from tests.contracts.job_world import JobWorld, check_consistent, claim, done, failed, new, put, story, take

HOUR = 3600.0


class ClockWorld(JobWorld, Protocol):
    clock: ManualClock


class JobClockContract:
    """Subclasses give the fixtures ``world`` and ``unfenced``."""

    @pytest.mark.parametrize("step", [-HOUR, HOUR])
    async def test_a_lease_lasts_as_long_as_it_was_to_last_when_the_clock_is_set(
        self, world: ClockWorld, step: float
    ) -> None:
        await put(world.jobs)
        lease = await take(world.jobs)
        await world.elapse(5)
        world.clock.step_wall(step)
        assert (await world.jobs.sweep()).lost == []
        await world.elapse(9)
        assert (await world.jobs.sweep()).lost == []
        await world.elapse(2)
        assert (await world.jobs.sweep()).lost == [lease.job.job_id]

    @pytest.mark.parametrize("step", [-HOUR, HOUR])
    async def test_waits_and_time_limits_do_not_care_either(self, world: ClockWorld, step: float) -> None:
        await put(world.jobs, new(), new(timeout_s=12.0))
        first, second = await world.jobs.claim(claim(most=2))
        await world.jobs.finish([failed(first)])
        world.clock.step_wall(step)
        await world.elapse(9)
        assert await world.jobs.claim(claim()) == []
        assert (await world.jobs.sweep()).timed_out == []
        await world.elapse(4)
        assert (await world.jobs.sweep()).timed_out == [second.job.job_id]
        assert (await take(world.jobs)).job.job_id == first.job.job_id

    async def test_what_was_due_stays_due_when_the_clock_steps_back(self, world: ClockWorld) -> None:
        (job,) = await put(world.jobs)
        world.clock.step_wall(-HOUR)
        (count,) = await world.jobs.counts()
        assert (count.queued, count.delayed) == (1, 0)
        lease = await take(world.jobs)
        await world.jobs.finish([done(lease)])
        ended = await world.jobs.get(job.job_id)
        assert ended.started_at is not None
        assert ended.finished_at is not None
        assert ended.finished_at >= ended.started_at
        await check_consistent(world.jobs)

    async def test_an_end_is_not_before_its_beginning(self, world: ClockWorld) -> None:
        await put(world.jobs)
        lease = await take(world.jobs)
        world.clock.step_wall(-0.3)  # too little to be noticed
        await world.jobs.finish([done(lease)])
        ended = await world.jobs.get(lease.job.job_id)
        assert ended.finished_at == ended.started_at

    async def test_without_fencing_the_experiment_fails_as_it_must(self, unfenced: ClockWorld) -> None:
        jobs = unfenced.jobs
        await put(jobs)
        stale = await take(jobs)
        await unfenced.elapse(16)
        await jobs.sweep()
        await unfenced.elapse(60)
        fresh = await take(jobs)
        assert await jobs.finish([done(fresh, b"fresh")]) == [True]
        await unfenced.elapse(1)
        assert await jobs.finish([done(stale, b"stale")]) == [True]
        assert await jobs.content(fresh.job.job_id, "result") == b"stale"
        assert (await story(jobs, fresh.job.job_id)).count("succeeded") == 2
        assert (await jobs.get(fresh.job.job_id)).state is JobState.SUCCEEDED
