"""Jobs and their events as callers see them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from headway.domain.jobs import Job, JobError, JobEvent
from headway.domain.lifecycle import JobState


class ProgressView(msgspec.Struct, rename="camel"):
    """What the model said about how far it is."""

    fraction: float | None
    note: str


class ErrorView(msgspec.Struct, rename="camel"):
    """Why the last attempt that failed did."""

    code: str
    message: str
    where: str | None
    hint: str | None


class LinksView(msgspec.Struct, rename="camel"):
    """Paths on this gateway."""

    self: str
    result: str
    events: str


class JobView(msgspec.Struct, rename="camel"):
    """One job. Times are RFC 3339 in UTC; spans are milliseconds."""

    id: str
    model: str
    version: str | None
    ran_version: str | None
    state: JobState
    priority: int
    client: str
    batch: str | None
    submitted_at: str
    not_before: str | None
    deadline: str | None
    started_at: str | None
    finished_at: str | None
    expires_at: str | None
    attempts: int
    max_attempts: int
    queued_ms: int
    run_ms: int | None
    place: int | None
    progress: ProgressView | None
    error: ErrorView | None
    links: LinksView


class BatchView(msgspec.Struct, rename="camel"):
    """What a batch became: ids in the order of its lines."""

    batch: str
    jobs: list[str]


class ListView(msgspec.Struct, rename="camel"):
    """One page, newest first. ``next``: what to give as ``before`` for the next page; null: this was the last."""

    jobs: list[JobView]
    next: str | None


class EventView(msgspec.Struct, rename="camel"):
    """One transition of a job."""

    cursor: int
    at: str
    type: str
    model: str
    id: str
    version: str | None
    attempt: int
    error: ErrorView | None


encode: Final[Callable[[object], bytes]] = msgspec.json.Encoder().encode


def rfc3339(at: float) -> str:
    """``2030-01-31T12:00:00.000Z``."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _time(at: float | None) -> str | None:
    return None if at is None else rfc3339(at)


def _error(error: JobError | None) -> ErrorView | None:
    return None if error is None else ErrorView(error.code, error.message, error.where, error.hint)


def job_view(job: Job, now: float, place: int | None = None) -> JobView:
    """``job`` as of ``now`` (seconds since the epoch)."""
    started, finished = job.started_at, job.finished_at
    begun = started if started is not None else finished if finished is not None else now
    run_s = None if started is None else (finished if finished is not None else now) - started
    if job.state is JobState.QUEUED:
        run_s, begun = None, now
    path = f"/models/{job.model}/jobs/{job.job_id}"
    progress = job.progress
    return JobView(
        id=job.job_id,
        model=job.model,
        version=job.version,
        ran_version=job.ran_version,
        state=job.state,
        priority=job.priority,
        client=job.client,
        batch=job.batch,
        submitted_at=rfc3339(job.submitted_at),
        not_before=rfc3339(job.not_before) if job.not_before > job.submitted_at else None,
        deadline=_time(job.deadline_at),
        started_at=_time(started),
        finished_at=_time(finished),
        expires_at=_time(job.keep_until),
        attempts=job.attempts,
        max_attempts=job.retry.max_attempts,
        queued_ms=max(0, round((begun - job.submitted_at) * 1000)),
        run_ms=None if run_s is None else max(0, round(run_s * 1000)),
        place=place,
        progress=None if progress is None else ProgressView(progress.fraction, progress.note),
        error=_error(job.error),
        links=LinksView(path, f"{path}/result", f"{path}/events"),
    )


def event_view(event: JobEvent) -> EventView:
    """``event`` as its stream tells it."""
    return EventView(
        event.cursor,
        rfc3339(event.at),
        event.type,
        event.model,
        event.job_id,
        event.version,
        event.attempt,
        _error(event.error),
    )
