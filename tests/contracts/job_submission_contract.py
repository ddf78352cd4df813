"""Submitting, asking, canceling, keeping."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from headway.domain.errors import HeadwayError, IdempotencyConflict, JobNotFound, Overloaded
from headway.domain.jobs import JobQuery, Webhook
from headway.domain.lifecycle import JobState
from tests.contracts.job_world import (
    PATIENT,
    JobWorld,
    an_id,
    check_consistent,
    claim,
    done,
    failed,
    ids,
    new,
    put,
    story,
    take,
)

BIG = 40_000
"""More than lies in the database itself."""


class SubmissionContract:
    async def test_a_job_comes_back_as_it_was_submitted(self, world: JobWorld) -> None:
        at = world.now()
        asked = new(
            "wine",
            version=None,
            client="bob",
            route="/invocations",
            content_type="text/csv",
            content_encoding="gzip",
            body=b"\0\xff",
            priority=9,
            not_before=at + 100,
            deadline_at=at + 200,
            idempotency_key="k\u00e9y",
            webhook=Webhook("https://example.org/told"),
            batch="b1",
            request_id="r-1",
            timeout_s=12.5,
            result_ttl_s=99.0,
            max_result_bytes=1234,
        )
        (answer,) = await world.jobs.submit([asked])
        job = await world.jobs.get(asked.job_id)
        assert (answer.created, answer.job) == (True, job)
        for name in ("model", "version", "client", "route", "content_type", "content_encoding", "priority", "batch"):
            assert getattr(job, name) == getattr(asked, name), name
        for name in ("not_before", "deadline_at", "idempotency_key", "webhook", "request_id", "retry", "timeout_s"):
            assert getattr(job, name) == getattr(asked, name), name
        assert (job.result_ttl_s, job.max_result_bytes, job.input_bytes) == (99.0, 1234, 2)
        assert (job.state, job.attempts, job.token, job.worker, job.ended) == (JobState.QUEUED, 0, 0, None, False)
        assert abs(job.submitted_at - at) < 60
        assert await world.jobs.content(job.job_id, "input") == b"\0\xff"

    async def test_what_is_not_there_is_said_so(self, world: JobWorld) -> None:
        unknown = an_id()
        for call in (
            world.jobs.get(unknown),
            world.jobs.place(unknown),
            world.jobs.cancel(unknown),
            world.jobs.content(unknown, "input"),
        ):
            with pytest.raises(JobNotFound, match=unknown):
                await call
        (job,) = await put(world.jobs)
        with pytest.raises(JobNotFound, match="no result"):
            await world.jobs.content(job.job_id, "result")
        assert await world.jobs.submit([]) == []

    async def test_the_same_key_of_the_same_caller_is_the_same_job(self, world: JobWorld) -> None:
        asked = new(idempotency_key="k")
        (first,) = await world.jobs.submit([asked])
        again = replace(asked, job_id=an_id(), version="v2", not_before=world.now() + 9, request_id="other")
        (second,) = await world.jobs.submit([again])
        assert (first.created, second.created) == (True, False)
        assert second.job == first.job
        others = [replace(again, job_id=an_id(), client="bob"), replace(again, job_id=an_id(), model="wine")]
        assert [s.created for s in await world.jobs.submit(others)] == [True, True]
        await check_consistent(world.jobs)

    @pytest.mark.parametrize(
        "differs",
        [{"route": "/x"}, {"body": b"[[1, 3]]"}, {"priority": 6}, {"asked": "notBefore=1h"}, {"content_type": "a/b"}],
    )
    async def test_a_key_used_for_something_else_is_a_conflict(
        self, world: JobWorld, differs: dict[str, object]
    ) -> None:
        asked = new(idempotency_key="k")
        await put(world.jobs, asked)
        other = replace(asked, job_id=an_id(), **differs)  # type: ignore[arg-type]
        with pytest.raises(IdempotencyConflict):
            await world.jobs.submit([new(), other])
        assert ids(await world.jobs.find(JobQuery("iris"))) == [asked.job_id]

    async def test_a_key_is_free_again_when_its_job_is_gone(self, world: JobWorld) -> None:
        asked = new(idempotency_key="k", result_ttl_s=10.0)
        await put(world.jobs, asked)
        await world.jobs.cancel(asked.job_id)
        await world.elapse(11)
        assert await world.jobs.clear() == 1
        (again,) = await world.jobs.submit([replace(asked, job_id=an_id(), body=b"[[7]]")])
        assert again.created

    async def test_a_key_twice_in_one_call_is_one_job(self, world: JobWorld) -> None:
        asked = new(idempotency_key="k")
        answers = await world.jobs.submit([asked, new(), replace(asked, job_id=an_id())])
        assert [a.created for a in answers] == [True, True, False]
        assert answers[0].job == answers[2].job
        with pytest.raises(IdempotencyConflict):
            await world.jobs.submit([new(idempotency_key="n"), new(idempotency_key="n", body=b"other")])
        assert len(await world.jobs.find(JobQuery("iris"))) == 2

    async def test_many_at_once_with_one_key_make_one_job(self, world: JobWorld) -> None:
        asked = new(idempotency_key="k")
        calls = [world.jobs.submit([replace(asked, job_id=an_id())]) for _ in range(20)]
        answers = [answer for (answer,) in await asyncio.gather(*calls)]
        assert sum(a.created for a in answers) == 1
        assert len({a.job.job_id for a in answers}) == 1
        await check_consistent(world.jobs)

    async def test_an_id_is_used_once(self, world: JobWorld) -> None:
        (job,) = await put(world.jobs)
        with pytest.raises(HeadwayError, match="used before"):
            await world.jobs.submit([new(), new(job_id=job.job_id)])
        with pytest.raises(HeadwayError, match="used before"):
            await world.jobs.submit([new(job_id=(same := an_id())), new(job_id=same)])
        assert await world.jobs.find(JobQuery("iris")) == [job]

    async def test_the_bound_holds_for_all_or_none(self, world: JobWorld) -> None:
        await world.jobs.submit([new(), new(version="v2", not_before=world.now() + 100)], most_queued=2)
        await put(world.jobs, new("wine"))
        for batch in ([new()], [new("wine"), new()]):
            with pytest.raises(Overloaded) as refused:
                await world.jobs.submit(batch, most_queued=2)
            assert refused.value.details["queued"] == 2
        assert len(await world.jobs.find(JobQuery("wine"))) == 1
        lease = await take(world.jobs)
        await world.jobs.submit([new()], most_queued=2)  # one runs
        await world.jobs.finish([failed(lease)])
        with pytest.raises(Overloaded):
            await world.jobs.submit([new()], most_queued=3)
        await check_consistent(world.jobs)

    async def test_a_known_key_needs_no_room(self, world: JobWorld) -> None:
        asked = new(idempotency_key="k")
        await world.jobs.submit([asked], most_queued=1)
        (again,) = await world.jobs.submit([replace(asked, job_id=an_id())], most_queued=1)
        assert not again.created

    async def test_of_many_at_once_exactly_as_many_as_have_room_are_taken(self, world: JobWorld) -> None:
        calls = [world.jobs.submit([new(), new()], most_queued=9) for _ in range(10)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(answer, Overloaded) for answer in answers) == 6
        assert len(await world.jobs.find(JobQuery("iris"))) == 8
        await check_consistent(world.jobs)

    async def test_one_that_is_broken_does_not_spoil_the_others(self, world: JobWorld) -> None:
        (known,) = await put(world.jobs, new(idempotency_key="k"))
        calls = [
            world.jobs.submit([new()]),
            world.jobs.submit([new(idempotency_key="k", body=b"other")]),
            world.jobs.submit([new(job_id=known.job_id)]),
            world.jobs.submit([new()], most_queued=1),
            world.jobs.cancel(an_id()),
            world.jobs.submit([new()]),
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        failures = [type(answer) if isinstance(answer, Exception) else None for answer in answers]
        assert failures == [None, IdempotencyConflict, HeadwayError, Overloaded, JobNotFound, None]
        assert len(await world.jobs.find(JobQuery("iris"))) == 3
        await check_consistent(world.jobs)

    async def test_find_filters_and_pages_newest_first(self, world: JobWorld) -> None:
        jobs = [new(client="ann" if i % 2 else "bob", batch="b" if i < 2 else None) for i in range(6)]
        jobs.append(new(version=None))
        jobs.append(new(not_before=world.now() + 50))
        await put(world.jobs, *jobs, new("wine"))
        await world.jobs.cancel(jobs[0].job_id)
        newest = ids(jobs)[::-1]
        find = world.jobs.find
        assert ids(await find(JobQuery("iris"))) == newest
        assert ids(await find(JobQuery("iris", limit=3))) == newest[:3]
        assert ids(await find(JobQuery("iris", limit=3, before=newest[2]))) == newest[3:6]
        assert ids(await find(JobQuery("iris", client="bob"))) == [newest[3], newest[5], newest[7]]
        assert ids(await find(JobQuery("iris", batch="b"))) == newest[6:]
        assert ids(await find(JobQuery("iris", states=frozenset({JobState.CANCELED})))) == newest[7:]
        assert ids(await find(JobQuery("iris", states=frozenset({JobState.QUEUED})))) == newest[:7]
        assert ids(await find(JobQuery("iris", version="v1", batch="b", client="ann"))) == [newest[6]]
        assert await find(JobQuery("iris", limit=0)) == []
        assert await find(JobQuery("none")) == []

    async def test_place_counts_what_is_ahead(self, world: JobWorld) -> None:
        slow, late = new(priority=1), new(not_before=world.now() + 30)
        jobs = [slow, new(), new(client="bob"), new(priority=9), new(version="v2"), late]
        await put(world.jobs, *jobs)
        places = [await world.jobs.place(job.job_id) for job in jobs]
        assert places[:5] == [3, 1, 2, 0, 0]
        assert await world.jobs.place(slow.job_id, most=2) == 2
        assert await world.jobs.place(late.job_id) == 3
        lease = await take(world.jobs)
        assert await world.jobs.place(lease.job.job_id) is None
        assert await world.jobs.place(slow.job_id) == 2

    async def test_cancel_in_every_state(self, world: JobWorld) -> None:
        jobs = world.jobs
        queued, delayed, running, ended = new(priority=1), new(not_before=world.now() + 50), new(), new(priority=9)
        await put(jobs, queued, delayed, running, ended)
        finishing = await take(jobs)
        await jobs.finish([done(finishing)])
        lease = await take(jobs)
        for job in (queued, delayed):
            assert (await jobs.cancel(job.job_id)).state is JobState.CANCELED
            assert await story(jobs, job.job_id) == ["submitted", "canceled"]
        asked = await jobs.cancel(running.job_id)
        assert (asked.state, asked.cancel_at is None) == (JobState.RUNNING, False)
        assert (await jobs.cancel(running.job_id)).cancel_at == asked.cancel_at
        assert (await jobs.cancel(ended.job_id)).state is JobState.SUCCEEDED
        assert await jobs.finish([done(lease, canceled=True)]) == [True]
        assert (await jobs.cancel(running.job_id)).state is JobState.CANCELED
        assert await story(jobs, running.job_id) == ["submitted", "started", "cancel_requested", "canceled"]
        await world.elapse(100)
        assert await jobs.claim(claim()) == []
        await check_consistent(jobs)

    @pytest.mark.parametrize("end", ["fails", "given back", "lost"])
    async def test_what_is_to_be_canceled_is_not_tried_again(self, world: JobWorld, end: str) -> None:
        await put(world.jobs)
        lease = await take(world.jobs)
        await world.jobs.cancel(lease.job.job_id)
        if end == "lost":
            await world.elapse(16)
            assert (await world.jobs.sweep()).lost == [lease.job.job_id]
        else:
            outcome = failed(lease) if end == "fails" else done(lease, given_back=True)
            assert await world.jobs.finish([outcome]) == [True]
        job = await world.jobs.get(lease.job.job_id)
        assert job.state is JobState.CANCELED
        await check_consistent(world.jobs)

    async def test_a_result_that_is_there_wins_over_a_wish_to_cancel(self, world: JobWorld) -> None:
        await put(world.jobs)
        lease = await take(world.jobs)
        await world.jobs.cancel(lease.job.job_id)
        assert await world.jobs.finish([done(lease)]) == [True]
        assert (await world.jobs.get(lease.job.job_id)).state is JobState.SUCCEEDED

    async def test_large_contents_are_kept_whole_and_go_with_their_job(self, world: JobWorld) -> None:
        jobs, body, result = world.jobs, bytes(range(256)) * (BIG // 256), b"r" * BIG
        await put(jobs, new(body=body, result_ttl_s=10.0, max_result_bytes=BIG), new(body=body))
        lease = await take(jobs)
        assert lease.body == body
        assert await jobs.finish([done(lease, result)]) == [True]
        await world.crash()
        jobs = world.jobs
        assert await jobs.content(lease.job.job_id, "result") == result
        assert await jobs.content(lease.job.job_id, "input") == body
        await check_consistent(jobs)
        await world.elapse(11)
        assert await jobs.clear() == 1
        with pytest.raises(JobNotFound):
            await jobs.content(lease.job.job_id, "result")
        await check_consistent(jobs)

    async def test_clear_removes_what_ended_long_enough_ago(self, world: JobWorld) -> None:
        jobs = world.jobs
        every = [new(result_ttl_s=float(10 * i), retry=replace(PATIENT, max_attempts=1)) for i in (1, 2, 3, 4)]
        await put(jobs, *every)
        for job in every[:3]:
            await jobs.cancel(job.job_id)
        assert await jobs.clear() == 0
        await world.elapse(25)
        assert await jobs.clear(most=1) == 1
        assert await jobs.clear() == 1
        assert await jobs.clear() == 0
        assert ids(await jobs.find(JobQuery("iris"))) == [every[3].job_id, every[2].job_id]
        await check_consistent(jobs)
