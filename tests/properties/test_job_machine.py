"""The stores of jobs beside the simplest model of a queue, whatever is asked of them in whatever order."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.jobs import MemoryJobs
from headway.adapters.sql import SqlJobs
from headway.adapters.sql.schema import JOBS, prepare
from headway.domain.jobs import Beat, JobQuery, Lease
from tests.contracts.job_world import LOST, PATIENT, RAISED, WRONG, JobPorts, check_consistent, claim, done, failed, new

T = TypeVar("T")
LEASE_S, KEPT_S = 15.0, 60.0
QUEUED, RUNNING = "queued", "running"


@dataclass
class Known:
    """A job as the model knows it."""

    number: int
    version: str | None
    client: str
    priority: int
    due_at: float
    deadline: float | None
    state: str = QUEUED
    token: int = 0
    attempts: int = 0
    worker: str = ""
    lease_until: float = 0.0
    canceled: bool = False
    keep_until: float = 0.0

    def end(self, state: str, now: float) -> None:
        self.state, self.keep_until = state, now + KEPT_S

    def is_overdue(self, now: float) -> bool:
        return self.state in {QUEUED, RUNNING} and self.deadline is not None and now >= self.deadline

    def fail(self, now: float, *, mendable: bool = True) -> None:
        if self.is_overdue(now):
            self.end("expired", now)
        elif self.canceled:
            self.end("canceled", now)
        elif mendable and self.attempts < PATIENT.max_attempts:
            self.state, self.due_at = QUEUED, now + 10.0 * 2 ** (self.attempts - 1)
        else:
            self.end("failed", now)


class JobMachine(RuleBasedStateMachine):
    """Subclasses say which store."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock(1000.0)
        self.known: dict[str, Known] = {}
        self.leases: list[Lease] = []
        self.jobs: JobPorts

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @property
    def now(self) -> float:
        return self.clock.now()

    @rule(
        number=st.integers(1, 4),
        version=st.sampled_from(["v1", "v2", None]),
        client=st.sampled_from(["ann", "bob"]),
        priority=st.sampled_from([3, 5, 7]),
        delay=st.sampled_from([None, None, 8.0, 30.0]),
        deadline=st.sampled_from([None, None, None, 12.0, 40.0]),
        size=st.sampled_from([1, 1, 40_000]),
    )
    def submit(
        self,
        number: int,
        version: str | None,
        client: str,
        priority: int,
        delay: float | None,
        deadline: float | None,
        size: int,
    ) -> None:
        not_before = None if delay is None else self.now + delay
        until = None if deadline is None else self.now + deadline
        some = [
            new(
                version=version,
                client=client,
                priority=priority,
                not_before=not_before,
                deadline_at=until,
                body=b"x" * size,
                result_ttl_s=KEPT_S,
            )
            for _ in range(number)
        ]
        assert all(answer.created for answer in self.run(self.jobs.submit(some)))
        for job in some:
            self.known[job.job_id] = Known(len(self.known), version, client, priority, not_before or self.now, until)

    @rule(
        worker=st.sampled_from(["w1", "w2"]),
        version=st.sampled_from(["v1", "v2"]),
        follows=st.booleans(),
        most=st.integers(1, 4),
    )
    def claim(self, worker: str, version: str, follows: bool, most: int) -> None:
        for known in self.known.values():
            if known.state == QUEUED and known.is_overdue(self.now):
                known.end("expired", self.now)
        free = {
            job_id: known
            for job_id, known in self.known.items()
            if known.state == QUEUED and known.due_at <= self.now
            if known.version == version or (follows and known.version is None)
        }
        leases = self.run(self.jobs.claim(claim(worker, version=version, follows=follows, most=most)))
        taken = [lease.job.job_id for lease in leases]
        assert len(set(taken)) == len(taken) == min(most, len(free))
        assert set(taken) <= set(free)
        priorities = sorted((known.priority for known in free.values()), reverse=True)
        assert [free[job_id].priority for job_id in taken] == priorities[:most]
        for line in {(k.version, k.client, k.priority) for k in free.values()}:
            own = [job_id for job_id, k in free.items() if (k.version, k.client, k.priority) == line]
            own.sort(key=lambda job_id: free[job_id].number)
            mine = [job_id for job_id in taken if job_id in own]
            assert mine == own[: len(mine)]
        for lease in leases:
            known = free[lease.job.job_id]
            known.state, known.worker, known.lease_until = RUNNING, worker, self.now + LEASE_S
            known.token += 1
            known.attempts += 1
            assert (lease.token, lease.job.attempts) == (known.token, known.attempts)
            assert len(lease.body) == lease.job.input_bytes
        self.leases += leases

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), how=st.sampled_from(["result", "large", "raised", "wrong", "given back", "canceled"]))
    def finish(self, data: st.DataObject, how: str) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        outcome = {
            "result": done(lease),
            "large": done(lease, b"r" * 40_000),
            "raised": failed(lease, RAISED),
            "wrong": failed(lease, WRONG),
            "given back": done(lease, given_back=True),
            "canceled": done(lease, canceled=True),
        }[how]
        known = self.known.get(lease.job.job_id)
        counts = known is not None and known.state == RUNNING and known.token == lease.token
        counts_still = counts and known is not None and not known.is_overdue(self.now)
        assert self.run(self.jobs.finish([outcome])) == [counts_still]
        if known is None or not counts:
            return
        if not counts_still:
            known.end("expired", self.now)
        elif how in {"result", "large"}:
            known.end("succeeded", self.now)
        elif how == "canceled" or (how == "given back" and known.canceled):
            known.end("canceled", self.now)
        elif how == "given back":
            known.state = QUEUED
            known.attempts -= 1
            known.due_at = min(known.due_at, self.now)
        else:
            known.fail(self.now, mendable=how == "raised")

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        known = self.known.get(lease.job.job_id)
        (verdict,) = self.run(self.jobs.renew("w", [Beat(lease.job.job_id, lease.token)], LEASE_S))
        if known is None or known.state != RUNNING or known.token != lease.token:
            assert verdict == "lost"
        elif known.is_overdue(self.now):
            assert verdict == "lost"
            known.end("expired", self.now)
        else:
            assert verdict == ("cancel" if known.canceled else "go_on")
            known.lease_until = self.now + LEASE_S

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.known)))
        known = self.known[job_id]
        if known.state == QUEUED:
            known.end("canceled", self.now)
        known.canceled = known.canceled or known.state == RUNNING
        assert self.run(self.jobs.cancel(job_id)).state == known.state

    @rule(worker=st.sampled_from(["w1", "w2"]))
    def abandon(self, worker: str) -> None:
        held = [job_id for job_id, k in self.known.items() if k.state == RUNNING and k.worker == worker]
        assert self.run(self.jobs.abandon(worker, LOST)) == sorted(held)
        for job_id in held:
            self.known[job_id].fail(self.now)

    @rule()
    def sweep(self) -> None:
        swept = self.run(self.jobs.sweep())
        expired = [job_id for job_id, known in self.known.items() if known.is_overdue(self.now)]
        for job_id in expired:
            self.known[job_id].end("expired", self.now)
        lost = [j for j, k in self.known.items() if k.state == RUNNING and k.lease_until <= self.now]
        for job_id in lost:
            self.known[job_id].fail(self.now)
        assert (sorted(swept.expired), sorted(swept.lost), [*swept.timed_out]) == (sorted(expired), sorted(lost), [])

    @rule()
    def clear(self) -> None:
        over = [
            job_id
            for job_id, known in self.known.items()
            if known.state not in {QUEUED, RUNNING} and known.keep_until <= self.now
        ]
        assert self.run(self.jobs.clear()) == len(over)
        for job_id in over:
            del self.known[job_id]

    @rule(seconds=st.sampled_from([1.0, 5.0, 11.0, 16.0, 45.0]))
    def elapse(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def the_store_knows_what_the_model_knows(self) -> None:
        if self.known:
            found = self.run(self.jobs.find(JobQuery("iris", limit=1000)))
            assert {job.job_id: (job.state, job.token, job.attempts) for job in found} == {
                job_id: (known.state, known.token, known.attempts) for job_id, known in self.known.items()
            }

    def teardown(self) -> None:
        try:
            self.run(check_consistent(self.jobs))
        finally:
            self.runner.close()


class MemoryMachine(JobMachine):
    @initialize()
    def begin(self) -> None:
        self.jobs = MemoryJobs(self.clock)


@functools.cache
def empty_database() -> bytes:
    """Making one takes longer than a whole history."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.db"
        prepare(path, 10.0, JOBS)
        return path.read_bytes()


class SqliteMachine(JobMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        (Path(self.folder.name) / "jobs.db").write_bytes(empty_database())
        self.opened: list[SqlJobs] = []
        self.open()

    def open(self) -> None:
        folder = Path(self.folder.name)
        store = SqlJobs.open_sqlite(folder / "jobs.db", files=folder / "files", clock=self.clock)
        self.opened.append(store)
        self.run(store.start())
        self.jobs = store

    @rule()
    def crash(self) -> None:
        """What was acknowledged is there, and whoever held a lease has it for another while."""
        self.open()
        for known in self.known.values():
            if known.state == RUNNING:
                known.lease_until = self.now + LEASE_S

    def teardown(self) -> None:
        try:
            self.run(check_consistent(self.jobs))
        finally:
            for store in self.opened:
                self.run(store.close())
            self.runner.close()
            self.folder.cleanup()


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSqliteMachine = SqliteMachine.TestCase
TestSqliteMachine.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
