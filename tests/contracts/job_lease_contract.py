"""Claiming, renewing, finishing; order, fairness and time limits."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from headway.domain.jobs import Beat, JobError, Progress
from headway.domain.lifecycle import JobState
from tests.contracts.job_world import (
    LOST,
    PATIENT,
    RAISED,
    WRONG,
    JobWorld,
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


class LeaseContract:
    async def test_a_claimed_job_runs_under_a_lease(self, world: JobWorld) -> None:
        (job,) = await put(world.jobs, new(body=b"\0body"))
        assert await world.jobs.claim(claim(model="wine")) == []
        assert await world.jobs.claim(claim(version="v2")) == []
        lease = await take(world.jobs, worker="w7")
        assert (lease.job.job_id, lease.token, lease.body) == (job.job_id, 1, b"\0body")
        assert lease.job == await world.jobs.get(job.job_id)
        running = lease.job
        assert (running.state, running.worker, running.ran_version) == (JobState.RUNNING, "w7", "v1")
        assert (running.attempts, running.token) == (1, 1)
        assert running.started_at is not None
        assert running.lease_until == pytest.approx(running.started_at + 15.0)
        assert await world.jobs.claim(claim("w8")) == []

    async def test_many_at_once_never_claim_the_same_job(self, world: JobWorld) -> None:
        every = await put(world.jobs, *(new() for _ in range(20)))
        claims = [world.jobs.claim(claim(f"w{i}", most=1 + i % 3)) for i in range(15)]
        leases = [lease for batch in await asyncio.gather(*claims) for lease in batch]
        assert sorted(ids(leases)) == sorted(ids(every))
        await check_consistent(world.jobs)

    async def test_jobs_that_follow_production_run_on_what_takes_its_traffic(self, world: JobWorld) -> None:
        pinned, following = await put(world.jobs, new(version="v1"), new(version=None))
        assert await world.jobs.claim(claim(version="v2", follows=False)) == []
        (lease,) = await world.jobs.claim(claim(version="v2", most=9))
        assert (lease.job.job_id, lease.job.version, lease.job.ran_version) == (following.job_id, None, "v2")
        assert ids(await world.jobs.claim(claim(follows=False))) == [pinned.job_id]

    async def test_larger_priority_first_then_the_order_of_submission(self, world: JobWorld) -> None:
        every = await put(world.jobs, *(new(priority=p, version=v) for p in (0, 5, 9, 5) for v in ("v1", None)))
        expected = [every[i].job_id for i in (4, 5, 2, 3, 6, 7, 0, 1)]
        assert ids(await world.jobs.claim(claim(most=8))) == expected

    async def test_callers_take_turns(self, world: JobWorld) -> None:
        jobs = world.jobs
        many = await put(jobs, *(new(client="ann") for _ in range(50)))
        assert ids(await jobs.claim(claim(most=10))) == ids(many[:10])
        few = await put(jobs, *(new(client="bob") for _ in range(3)), new(client="eve"))
        order = ids(await jobs.claim(claim(most=8)))
        # Whoever comes later waits for one job of each other caller, not for all of them.
        assert set(order[:3]) == {many[10].job_id, few[0].job_id, few[3].job_id}
        assert order[3:8:2] == ids(many[11:14])
        assert order[4:8:2] == ids(few[1:3])
        rest = ids(await jobs.claim(claim(most=50)))
        assert rest == ids(many[14:])

    async def test_a_caller_saves_up_no_turns(self, world: JobWorld) -> None:
        jobs = world.jobs
        await put(jobs, new(client="eve"), *(new(client="ann") for _ in range(30)))
        await jobs.claim(claim(most=21))
        late = await put(jobs, *(new(client="eve") for _ in range(5)))
        order = ids(await jobs.claim(claim(most=4)))
        assert sum(job_id in ids(late) for job_id in order) == 2

    async def test_not_before_its_time(self, world: JobWorld) -> None:
        late, soon = await put(world.jobs, new(priority=9, not_before=world.now() + 20), new())
        assert ids(await world.jobs.claim(claim(most=9))) == [soon.job_id]
        await world.elapse(19)
        assert await world.jobs.claim(claim()) == []
        await world.elapse(2)
        assert ids(await world.jobs.claim(claim())) == [late.job_id]

    async def test_inputs_of_one_claim_stay_within_its_bytes_but_for_the_first(self, world: JobWorld) -> None:
        sizes = (500, 10, 10, 80, 10)
        every = ids(await put(world.jobs, *(new(body=b"x" * size) for size in sizes)))
        assert ids(await world.jobs.claim(claim(most=9, most_bytes=100))) == every[:1]
        assert ids(await world.jobs.claim(claim(most=9, most_bytes=100))) == every[1:4]
        assert ids(await world.jobs.claim(claim(most=9, most_bytes=100))) == every[4:]
        assert await world.jobs.claim(claim(most=0)) == []

    async def test_a_lease_lasts_while_it_is_renewed(self, world: JobWorld) -> None:
        await put(world.jobs)
        lease = await take(world.jobs)
        for step in range(4):
            await world.elapse(10)
            beat = Beat(lease.job.job_id, lease.token, Progress(0.25 * step, "é\ud800\0") if step % 2 else None)
            assert await world.jobs.renew("w1", [beat], 15.0) == ["go_on"]
            assert (await world.jobs.sweep()).lost == []
        job = await world.jobs.get(lease.job.job_id)
        assert job.progress == Progress(0.75, "é\ud800\0")
        await world.elapse(16)
        assert (await world.jobs.sweep()).lost == [job.job_id]

    async def test_renewing_tells_what_to_do(self, world: JobWorld) -> None:
        jobs = world.jobs
        await put(jobs, *(new() for _ in range(3)))
        canceled, lost, good = await jobs.claim(claim(most=3))
        await jobs.cancel(canceled.job.job_id)
        await jobs.finish([done(lost)])
        beats = [Beat(x.job.job_id, x.token) for x in (good, lost, canceled)]
        unknown = Beat("0" * 26, 1)
        assert await jobs.renew("w1", [*beats, unknown], 15.0) == ["go_on", "lost", "cancel", "lost"]
        assert await jobs.renew("w1", [], 15.0) == []

    async def test_a_lease_that_is_over_may_be_renewed_until_it_is_taken_away(self, world: JobWorld) -> None:
        await put(world.jobs)
        lease = await take(world.jobs)
        beat = Beat(lease.job.job_id, lease.token)
        await world.elapse(20)
        assert await world.jobs.renew("w1", [beat], 15.0) == ["go_on"]
        assert (await world.jobs.sweep()).lost == []
        await world.elapse(20)
        assert (await world.jobs.sweep()).lost == [lease.job.job_id]
        assert await world.jobs.renew("w1", [beat], 15.0) == ["lost"]
        await world.elapse(60)
        again = await take(world.jobs, worker="w2")
        assert await world.jobs.renew("w1", [beat], 15.0) == ["lost"]
        assert await world.jobs.renew("w2", [Beat(again.job.job_id, again.token)], 15.0) == ["go_on"]

    async def test_the_result_of_a_stale_attempt_is_never_stored(self, world: JobWorld) -> None:
        jobs = world.jobs
        await put(jobs)
        stale = await take(jobs, worker="slow")
        await world.elapse(16)
        await jobs.sweep()
        assert await jobs.finish([done(stale, b"stale")]) == [False]  # queued again
        await world.elapse(60)
        fresh = await take(jobs, worker="fast")
        assert fresh.token > stale.token
        assert await jobs.finish([done(stale, b"stale"), failed(stale), done(stale, given_back=True)]) == [False] * 3
        assert await jobs.finish([done(fresh, b"fresh")]) == [True]
        assert await jobs.finish([done(stale, b"stale"), done(fresh, b"twice")]) == [False, False]
        assert await jobs.content(fresh.job.job_id, "result") == b"fresh"
        assert await story(jobs, fresh.job.job_id) == ["submitted", "started", "retried", "started", "succeeded"]

    async def test_of_many_who_finish_at_once_one_is_accepted(self, world: JobWorld) -> None:
        await put(world.jobs)
        lease = await take(world.jobs)
        calls = [world.jobs.finish([done(lease, b"%d" % i)]) for i in range(10)]
        answers = [accepted for (accepted,) in await asyncio.gather(*calls)]
        assert sum(answers) == 1
        assert await world.jobs.content(lease.job.job_id, "result") == b"%d" % answers.index(True)
        await check_consistent(world.jobs)

    async def test_the_same_outcome_twice_in_one_call_counts_once(self, world: JobWorld) -> None:
        await put(world.jobs)
        lease = await take(world.jobs)
        outcomes = [done(lease, b"first"), done(lease, b"second"), done(replace(lease, token=99))]
        assert await world.jobs.finish([*outcomes]) == [True, False, False]
        assert await world.jobs.content(lease.job.job_id, "result") == b"first"

    async def test_a_crash_between_claim_and_finish(self, world: JobWorld) -> None:
        await put(world.jobs, new(), new())
        kept, lost = await world.jobs.claim(claim(most=2))
        await world.crash()
        assert await world.jobs.finish([done(kept)]) == [True]
        await world.elapse(16)
        assert (await world.jobs.sweep()).lost == [lost.job.job_id]
        await world.elapse(60)
        assert (await take(world.jobs)).token == 2
        await check_consistent(world.jobs)


class AttemptContract:
    async def test_a_result(self, world: JobWorld) -> None:
        await put(world.jobs, new(result_ttl_s=50.0))
        lease = await take(world.jobs)
        assert await world.jobs.finish([done(lease, b"a,b\n", status=201, content_type="text/csv")]) == [True]
        job = await world.jobs.get(lease.job.job_id)
        assert (job.state, job.ended, job.error, job.lease_until) == (JobState.SUCCEEDED, True, None, None)
        assert (job.result_status, job.result_content_type, job.result_bytes) == (201, "text/csv", 4)
        assert job.finished_at is not None
        assert job.keep_until == pytest.approx(job.finished_at + 50.0)
        assert await world.jobs.content(job.job_id, "result") == b"a,b\n"

    async def test_declared_errors_are_tried_again_after_a_growing_wait(self, world: JobWorld) -> None:
        jobs = world.jobs
        (job,) = await put(jobs, new(retry=replace(PATIENT, retry_on=("Flaky",))))
        for wait in (10, 20):
            assert await jobs.finish([failed(await take(jobs))]) == [True]
            again = await jobs.get(job.job_id)
            assert (again.state, again.error) == (JobState.QUEUED, RAISED)
            await world.elapse(wait - 2)
            assert await jobs.claim(claim()) == []
            await world.elapse(3)
        await jobs.finish([failed(await take(jobs))])
        over = await jobs.get(job.job_id)
        assert (over.state, over.attempts, over.error) == (JobState.FAILED, 3, RAISED)
        assert await story(jobs, job.job_id) == ["submitted", *["started", "retried"] * 2, "started", "failed"]

    @pytest.mark.parametrize("error", [WRONG, JobError("model_failed", "x", exception=("KeyError", "Exception"))])
    async def test_what_another_attempt_would_not_mend_fails_at_once(self, world: JobWorld, error: JobError) -> None:
        await put(world.jobs, new(retry=replace(PATIENT, retry_on=("Flaky",))))
        lease = await take(world.jobs)
        await world.jobs.finish([failed(lease, error)])
        job = await world.jobs.get(lease.job.job_id)
        assert (job.state, job.attempts, job.error) == (JobState.FAILED, 1, error)

    async def test_a_result_that_is_too_large_fails_the_job(self, world: JobWorld) -> None:
        await put(world.jobs, new(max_result_bytes=3))
        lease = await take(world.jobs)
        assert await world.jobs.finish([done(lease, b"four")]) == [True]
        job = await world.jobs.get(lease.job.job_id)
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert (job.error.code, job.result_bytes) == ("result_too_large", None)
        await check_consistent(world.jobs)

    async def test_the_models_wish_for_a_wait_counts(self, world: JobWorld) -> None:
        await put(world.jobs)
        await world.jobs.finish([failed(await take(world.jobs), replace(RAISED, retry_after_s=100.0))])
        await world.elapse(90)
        assert await world.jobs.claim(claim()) == []
        await world.elapse(11)
        await take(world.jobs)

    async def test_what_is_given_back_is_the_next_ones_and_costs_no_attempt(self, world: JobWorld) -> None:
        jobs = world.jobs
        first, _ = await put(jobs, new(retry=replace(PATIENT, max_attempts=1)), new())
        for token in (1, 2, 3):
            lease = await take(jobs, worker=f"w{token}")
            assert (lease.job.job_id, lease.token, lease.job.attempts) == (first.job_id, token, 1)
            assert await jobs.finish([done(lease, given_back=True)]) == [True]
        assert (await jobs.get(first.job_id)).attempts == 0
        await jobs.finish([done(await take(jobs))])
        assert (await jobs.get(first.job_id)).state is JobState.SUCCEEDED

    async def test_a_worker_that_ended_loses_all_it_held_at_once(self, world: JobWorld) -> None:
        jobs = world.jobs
        await put(jobs, *(new() for _ in range(3)), new(retry=replace(PATIENT, max_attempts=1), priority=0))
        held = [*await jobs.claim(claim("dead", most=2)), await take(jobs, worker="alive")]
        held.append(await take(jobs, worker="dead"))
        finished = held.pop(0)
        await jobs.finish([done(finished)])
        gone = [held[0].job.job_id, held[2].job.job_id]
        assert sorted(await jobs.abandon("dead", LOST)) == sorted(gone)
        assert await jobs.abandon("dead", LOST) == []
        again, poison = [await jobs.get(job_id) for job_id in gone]
        assert (again.state, again.error, poison.state, poison.error) == (JobState.QUEUED, LOST, JobState.FAILED, LOST)
        assert (await jobs.get(held[1].job.job_id)).state is JobState.RUNNING
        assert await jobs.finish([done(held[0])]) == [False]
        await check_consistent(jobs)

    async def test_lost_workers_end_a_poison_job(self, world: JobWorld) -> None:
        (job,) = await put(world.jobs, new(retry=replace(PATIENT, max_attempts=2, retry_on=())))
        for _ in range(2):
            await take(world.jobs)
            await world.elapse(16)
            assert (await world.jobs.sweep()).lost == [job.job_id]
            assert (await world.jobs.sweep()).lost == []
            await world.elapse(60)
        over = await world.jobs.get(job.job_id)
        assert over.state is JobState.FAILED
        assert over.error is not None
        assert over.error.code == "worker_lost"

    async def test_an_attempt_has_its_time_however_often_it_is_renewed(self, world: JobWorld) -> None:
        (job,) = await put(world.jobs, new(timeout_s=25.0))
        lease = await take(world.jobs)
        await world.elapse(14)
        assert await world.jobs.renew("w1", [Beat(job.job_id, lease.token)], 15.0) == ["go_on"]
        await world.elapse(12)
        swept = await world.jobs.sweep()
        assert (swept.timed_out, swept.lost) == ([job.job_id], [])
        again = await world.jobs.get(job.job_id)
        assert again.state is JobState.QUEUED
        assert again.error is not None
        assert again.error.code == "job_timed_out"
        assert await world.jobs.finish([done(lease)]) == [False]

    @pytest.mark.parametrize("before", ["queued", "delayed", "running", "to be tried again"])
    async def test_after_the_deadline_nobody_wants_it(self, world: JobWorld, before: str) -> None:
        jobs, at = world.jobs, world.now()
        (job,) = await put(jobs, new(deadline_at=at + 20, not_before=at + 99 if before == "delayed" else None))
        lease = await take(jobs) if before in {"running", "to be tried again"} else None
        if lease and before == "to be tried again":
            await world.elapse(13)
            await jobs.finish([failed(lease)])
        elif lease:
            await world.elapse(13)
            await jobs.renew("w1", [Beat(job.job_id, lease.token)], 60.0)
        await world.elapse(25)
        assert (await jobs.sweep()).expired == [job.job_id]
        assert (await jobs.get(job.job_id)).state is JobState.EXPIRED
        if lease:
            assert await jobs.renew("w1", [Beat(job.job_id, lease.token)], 15.0) == ["lost"]
            assert await jobs.finish([done(lease)]) == [False]
        await world.elapse(100)
        assert await jobs.claim(claim()) == []
        assert (await jobs.sweep()).expired == []
        assert (await story(jobs, job.job_id))[-1] == "expired"
        await check_consistent(jobs)

    @pytest.mark.parametrize("touched", ["claim", "renew", "finish"])
    async def test_a_deadline_counts_before_any_sweep(self, world: JobWorld, touched: str) -> None:
        jobs = world.jobs
        (job,) = await put(jobs, new(deadline_at=world.now() + 10))
        if touched == "claim":
            await world.elapse(11)
            assert await jobs.claim(claim()) == []
        else:
            lease = await take(jobs)
            await world.elapse(11)
            if touched == "renew":
                assert await jobs.renew("w1", [Beat(job.job_id, lease.token)], 15.0) == ["lost"]
            else:
                assert await jobs.finish([done(lease)]) == [False]
        assert (await jobs.get(job.job_id)).state is JobState.EXPIRED
        await check_consistent(jobs)

    async def test_the_sweep_tells_what_waits_for_a_worker(self, world: JobWorld) -> None:
        jobs = world.jobs
        late, waiting = await put(jobs, new(not_before=world.now() + 20), new("wine"))
        await jobs.sweep()
        await world.elapse(21)
        assert sorted((await jobs.sweep()).due) == [("iris", late.job_id), ("wine", waiting.job_id)]
        assert (await jobs.sweep()).due == []
        await world.elapse(11)
        assert sorted((await jobs.sweep()).due) == [("iris", late.job_id), ("wine", waiting.job_id)]
        await take(jobs)
        await world.elapse(11)
        assert (await jobs.sweep()).due == [("wine", waiting.job_id)]
