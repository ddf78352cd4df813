"""What the suites of the job ports work with: a store, its time, and jobs to submit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

from headway.domain.job_ids import new_id
from headway.domain.job_rules import END_EVENTS
from headway.domain.jobs import Claim, Job, JobError, JobEvent, JobQuery, Lease, NewJob, Outcome, RetryPolicy
from headway.domain.lifecycle import JobState
from headway.ports.job_store import JobFeed, JobLeases, JobStore, WebhookOutbox

_numbers = itertools.count(1)
LOST = JobError("worker_lost", "the worker was killed by SIGSEGV")
RAISED = JobError("model_failed", "no luck", where="model.py:3", exception=("my.Flaky", "ValueError", "Exception"))
WRONG = JobError("invalid_request", "column 3 is missing", where="body", exception=())
PATIENT = RetryPolicy(max_attempts=3, initial_s=10.0, factor=2.0, most_s=60.0, jitter=0.0)


class JobPorts(JobStore, JobLeases, JobFeed, WebhookOutbox, Protocol):
    """What one adapter is."""


class JobWorld(Protocol):
    """A store in a world whose time the test moves."""

    @property
    def jobs(self) -> JobPorts: ...

    def now(self) -> float:
        """The store's time, near enough for times that a job asks for."""
        ...

    async def elapse(self, seconds: float) -> None: ...

    async def crash(self) -> None:
        """What only the process knew is gone; then the store is opened again."""
        ...


def an_id() -> str:
    return new_id(1_750_000_000.0, next(_numbers).to_bytes(10, "big"))


def new(model: str = "iris", *, version: str | None = "v1", **fields: Any) -> NewJob:
    defaults: dict[str, Any] = {
        "job_id": an_id(),
        "client": "ann",
        "route": "/predict",
        "content_type": "application/json",
        "body": b"[[1, 2]]",
        "retry": PATIENT,
    }
    return NewJob(model=model, version=version, **{**defaults, **fields})


def claim(worker: str = "w1", model: str = "iris", version: str = "v1", **fields: Any) -> Claim:
    return Claim(worker, model, version, **{"follows": True, **fields})


def ids(jobs: Sequence[Job | NewJob | Lease]) -> list[str]:
    return [job.job.job_id if isinstance(job, Lease) else job.job_id for job in jobs]


def done(lease: Lease, body: bytes = b"[0]", **fields: Any) -> Outcome:
    return Outcome(lease.job.job_id, lease.token, body=body, **fields)


def failed(lease: Lease, error: JobError = RAISED) -> Outcome:
    return Outcome(lease.job.job_id, lease.token, error=error)


async def put(jobs: JobPorts, *new_jobs: NewJob) -> list[Job]:
    return [submitted.job for submitted in await jobs.submit(new_jobs or [new()])]


async def take(jobs: JobPorts, **fields: Any) -> Lease:
    (lease,) = await jobs.claim(claim(**fields))
    return lease


async def story(jobs: JobPorts, job_id: str) -> list[str]:
    """What was told of a job: ``submitted``, ``started``, …"""
    return [told(event) for event in await jobs.events(job_id=job_id)]


def told(event: JobEvent) -> str:
    return event.type.removeprefix("job_").removesuffix(".v1")


async def check_consistent(jobs: JobPorts, model: str = "iris") -> None:
    """What is true of every store at any time."""
    every = await jobs.find(JobQuery(model, limit=100_000))
    events = await jobs.events(limit=1_000_000, model=model)
    assert [e.cursor for e in events] == sorted({e.cursor for e in events})
    by_job: dict[str, list[JobEvent]] = {}
    for event in events:
        by_job.setdefault(event.job_id, []).append(event)
    assert set(by_job) == {job.job_id for job in every}
    for job in every:
        stories = by_job[job.job_id]
        assert told(stories[0]) == "submitted"
        ends = [event for event in stories if event.type in END_EVENTS]
        assert len(ends) == (1 if job.ended else 0), job
        assert not ends or (ends[0] is stories[-1] and told(ends[0]) == str(job.state))
        starts = sum(told(event) == "started" for event in stories)
        assert starts == job.token
        assert (job.lease_until is not None) == (job.state is JobState.RUNNING)
        assert (job.keep_until is not None) == (job.finished_at is not None) == job.ended
        assert len(await jobs.content(job.job_id, "input")) == job.input_bytes
        if job.state is JobState.SUCCEEDED:
            assert len(await jobs.content(job.job_id, "result")) == job.result_bytes
    counted = {(c.model, c.version): c for c in await jobs.counts() if c.model == model}
    for version in {job.version for job in every}:
        own = [job for job in every if job.version == version and not job.ended]
        assert bool(own) == ((model, version) in counted)
        if own:
            count = counted[model, version]
            assert count.queued + count.delayed == sum(job.state is JobState.QUEUED for job in own)
            assert count.running == sum(job.state is JobState.RUNNING for job in own)
            assert (count.oldest_due_at is not None) == (count.queued > 0)
