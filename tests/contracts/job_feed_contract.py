"""Following what happens to jobs, how many there are, and telling callers by webhook."""

from __future__ import annotations

import asyncio

import pytest

from headway.domain.jobs import JobCount, JobEvent, Webhook
from headway.domain.lifecycle import JobState
from tests.contracts.job_world import (
    RAISED,
    JobWorld,
    check_consistent,
    claim,
    done,
    failed,
    new,
    put,
    take,
    told,
)

HOOK = Webhook("https://example.org/told")


class FeedContract:
    async def test_events_tell_each_step_once_and_in_order(self, world: JobWorld) -> None:
        jobs = world.jobs
        assert (await jobs.last_cursor(), await jobs.events()) == (0, [])
        (job,) = await put(jobs, new(version=None))
        await jobs.finish([failed(await take(jobs, version="v7"))])
        await world.elapse(11)
        await jobs.finish([done(await take(jobs, version="v8"), given_back=True)])
        await jobs.finish([done(await take(jobs, version="v9"))])
        events = await jobs.events(job_id=job.job_id)
        steps = [(told(e), e.version, e.attempt) for e in events]
        assert steps == [
            ("submitted", None, 0),
            ("started", "v7", 1),
            ("retried", "v7", 1),
            ("started", "v8", 2),
            ("given_back", "v8", 2),
            ("started", "v9", 2),
            ("succeeded", "v9", 2),
        ]
        assert [e.error for e in events] == [None, None, RAISED, None, None, None, None]
        assert {(e.model, e.job_id) for e in events} == {("iris", job.job_id)}
        assert await jobs.last_cursor() == events[-1].cursor

    async def test_after_limit_model_and_job_narrow_what_is_read(self, world: JobWorld) -> None:
        every = await put(world.jobs, *(new("iris" if i % 2 else "wine") for i in range(6)))
        events = await world.jobs.events()
        read = world.jobs.events
        assert [e.job_id for e in events] == [job.job_id for job in every]
        assert await read(after=events[1].cursor) == events[2:]
        assert await read(after=events[1].cursor, limit=2) == events[2:4]
        assert await read(model="wine", after=events[0].cursor) == [events[2], events[4]]
        assert await read(job_id=every[3].job_id) == [events[3]]
        for empty in (read(limit=0), read(limit=-1), read(after=2**63), read(model="none")):
            assert await empty == []
        assert await read(after=-5) == events

    async def test_a_reader_meets_every_event_once_while_others_write(self, world: JobWorld) -> None:
        async def write() -> None:
            for _ in range(10):
                await put(world.jobs, new(), new())

        async def read() -> list[JobEvent]:
            seen: list[JobEvent] = []
            while len(seen) < 60:
                after = seen[-1].cursor if seen else 0
                assert await world.jobs.wait(after, 30)
                seen.extend(await world.jobs.events(after=after, limit=7))
            return seen

        seen, *_ = await asyncio.gather(read(), write(), write(), write())
        assert [e.cursor for e in seen] == sorted({e.cursor for e in seen})
        assert len({e.job_id for e in seen}) == 60

    async def test_wait_tells_at_once_what_is_there_and_sleeps_for_what_is_not(self, world: JobWorld) -> None:
        await put(world.jobs)
        cursor = await world.jobs.last_cursor()
        assert await world.jobs.wait(cursor - 1, 0) is True
        assert await world.jobs.wait(cursor, 0.02) is False
        waiters = [asyncio.create_task(world.jobs.wait(cursor, 60)) for _ in range(3)]
        gone = asyncio.create_task(world.jobs.wait(cursor, 60))
        await asyncio.sleep(0)
        gone.cancel()
        async with asyncio.timeout(20):
            await put(world.jobs)
            assert await asyncio.gather(*waiters) == [True] * 3
        with pytest.raises(asyncio.CancelledError):
            await gone

    async def test_counts_by_model_and_version(self, world: JobWorld) -> None:
        jobs, at = world.jobs, world.now()
        assert await jobs.counts() == []
        late, later = new(not_before=at + 10), new(not_before=at + 50, priority=9)
        (first, *_) = await put(jobs, new(), new(priority=2), late, later, new(version=None), new("wine"))
        assert [(c.model, c.version, c.queued, c.delayed, c.running) for c in await jobs.counts()] == [
            ("iris", None, 1, 0, 0),
            ("iris", "v1", 2, 2, 0),
            ("wine", "v1", 1, 0, 0),
        ]
        assert [c.oldest_due_at for c in await jobs.counts()][1] == first.not_before
        await world.elapse(11)
        lease = await take(jobs, follows=False)
        count = (await jobs.counts())[1]
        assert (count.queued, count.delayed, count.running) == (2, 1, 1)
        await jobs.finish([done(lease)])
        await jobs.finish([done(lease) for lease in await jobs.claim(claim(most=9))])
        await jobs.cancel(later.job_id)
        assert await jobs.counts() == [JobCount("wine", "v1", 1, 0, 0, (await jobs.counts())[0].oldest_due_at)]

    async def test_counts_tell_what_became_due_before_anybody_claims(self, world: JobWorld) -> None:
        late = new(not_before=world.now() + 10)
        await put(world.jobs, late)
        await world.elapse(11)
        (count,) = await world.jobs.counts()
        assert (count.queued, count.delayed) == (1, 0)
        assert count.oldest_due_at is not None


class OutboxContract:
    async def test_the_end_of_a_job_is_one_delivery(self, world: JobWorld) -> None:
        jobs = world.jobs
        plain, told_of, waiting = new(priority=7), new(webhook=HOOK, priority=6), new(webhook=HOOK)
        await put(jobs, plain, told_of, waiting)
        assert await jobs.due(10, 30) == []
        await jobs.finish([done(lease) for lease in await jobs.claim(claim(most=2))])
        (delivery,) = await jobs.due(10, 30)
        assert (delivery.job.job_id, delivery.url, delivery.tries) == (told_of.job_id, HOOK.url, 0)
        assert delivery.job.state is JobState.SUCCEEDED
        assert await jobs.due(10, 30) == []  # it is held
        assert await jobs.delivered(delivery) is True
        assert await jobs.delivered(delivery) is False
        await world.elapse(1000)
        assert await jobs.due(10, 30) == []

    async def test_a_courier_that_was_too_slow_is_fenced_off(self, world: JobWorld) -> None:
        jobs = world.jobs
        (job,) = await put(jobs, new(webhook=HOOK))
        await jobs.cancel(job.job_id)
        (slow,) = await jobs.due(10, 30)
        await world.elapse(31)
        (fast,) = await jobs.due(10, 30)
        assert (fast.delivery_id, fast.tries) == (slow.delivery_id, 0)
        assert fast.token > slow.token
        assert await jobs.delivered(slow) is False
        assert await jobs.postpone(slow, 1.0, "too late") is False
        assert await jobs.postpone(fast, 40.0, "503") is True
        assert await jobs.postpone(fast, 0.0, "again") is False
        assert await jobs.due(10, 30) == []
        await world.elapse(41)
        (third,) = await jobs.due(10, 30)
        assert (third.delivery_id, third.tries) == (slow.delivery_id, 1)
        assert await jobs.postpone(third, None, "given up") is True
        await world.elapse(1000)
        assert await jobs.due(10, 30) == []

    async def test_deliveries_go_to_one_courier_each_and_survive_a_crash(self, world: JobWorld) -> None:
        every = await put(world.jobs, *(new(webhook=HOOK) for _ in range(10)))
        for job in every:
            await world.jobs.cancel(job.job_id)
        batches = await asyncio.gather(*(world.jobs.due(3, 30) for _ in range(5)))
        held = [delivery.job.job_id for batch in batches for delivery in batch]
        assert sorted(held) == sorted(job.job_id for job in every)
        assert max(map(len, batches)) <= 3
        await world.crash()
        await world.elapse(31)
        assert len(await world.jobs.due(100, 30)) == 10

    async def test_a_job_is_kept_until_its_end_was_told(self, world: JobWorld) -> None:
        jobs = world.jobs
        (job,) = await put(jobs, new(webhook=HOOK, result_ttl_s=1.0))
        await jobs.cancel(job.job_id)
        await world.elapse(5)
        assert await jobs.clear() == 0
        (delivery,) = await jobs.due(1, 30)
        assert await jobs.delivered(delivery)
        assert await jobs.clear() == 1
        await check_consistent(jobs)
