"""Jobs as rows, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import msgspec

from headway.adapters.sql.documents import to_json
from headway.domain import job_rules as rules
from headway.domain.jobs import PRIORITIES, Job, JobError, JobEvent, Progress, RetryPolicy, Webhook
from headway.domain.lifecycle import JobState

Row = Sequence[Any]
LineKey = tuple[str, str, int]
"""Model, version, urgency."""

STORED: Final = (
    "job_id", "model", "version", "urgency", "turn", "shelf", "client", "batch", "idempotency_key", "document",
    "submitted_at", "not_before", "deadline_at", "attempts", "token", "worker", "ran_version", "started_at",
    "lease_until", "finished_at", "keep_until", "cancel_at", "progress", "error", "result_status",
    "result_content_type", "result_bytes",
)  # fmt: skip
"""Columns that a job is read from, in this order."""
CHANGING: Final = (
    "shelf", "not_before", "attempts", "token", "worker", "ran_version", "started_at", "lease_until", "finished_at",
    "keep_until", "cancel_at", "progress", "error", "result_status", "result_content_type", "result_bytes", "attend_at",
)  # fmt: skip
"""Columns that transitions change."""
LEASING: Final = ("lease_until", "progress", "attend_at")
"""Columns that a renewed lease changes."""
INSERTED: Final = (*STORED, "fingerprint", "attend_at")
EVENT_COLUMNS: Final = ("cursor", "at", "type", "model", "job_id", "version", "attempt", "error")


class _Fixed(msgspec.Struct):
    """What of a job has no column of its own: it is never asked for and never changes."""

    route: str
    content_type: str
    content_encoding: str
    request_id: str
    retry: RetryPolicy
    timeout_s: float
    result_ttl_s: float
    max_result_bytes: int
    input_bytes: int
    webhook: Webhook | None


_decode: Final = msgspec.json.Decoder(_Fixed).decode
_encode: Final = msgspec.json.Encoder().encode
_STATES: Final = {**{str(state): state for state in JobState}, "delayed": JobState.QUEUED}


def urgency_of(priority: int) -> int:
    """Smaller is sooner."""
    return PRIORITIES[-1] - priority


def line_of(job: Job) -> LineKey:
    """Where it waits."""
    return job.model, job.version or "", urgency_of(job.priority)


def shelf_of(job: Job, now: float) -> str:
    """``queued``, ``delayed``, ``running``, …"""
    return "delayed" if job.state is JobState.QUEUED and job.not_before > now else str(job.state)


def inserted(job: Job, turn: int, shelf: str, fingerprint: bytes | None) -> Row:
    """Values of ``INSERTED``, for a job that was just submitted."""
    fixed = _Fixed(
        job.route,
        job.content_type,
        job.content_encoding,
        job.request_id,
        job.retry,
        job.timeout_s,
        job.result_ttl_s,
        job.max_result_bytes,
        job.input_bytes,
        job.webhook,
    )
    return (
        job.job_id, job.model, job.version or "", urgency_of(job.priority), turn, shelf, job.client, job.batch,
        job.idempotency_key, _encode(fixed).decode(), job.submitted_at, job.not_before, job.deadline_at, job.attempts,
        job.token, None, None, None, None, None, None, None, None, None, None, None, None, fingerprint,
        rules.attend_at(job),
    )  # fmt: skip


def changed(job: Job, shelf: str) -> tuple[Any, ...]:
    """Values of ``CHANGING``."""
    return (
        shelf, job.not_before, job.attempts, job.token, job.worker, job.ran_version, job.started_at, job.lease_until,
        job.finished_at, job.keep_until, job.cancel_at, _progress_text(job.progress), error_text(job.error),
        job.result_status, job.result_content_type, job.result_bytes, rules.attend_at(job),
    )  # fmt: skip


def leased(job: Job) -> tuple[Any, ...]:
    """Values of ``LEASING``."""
    return job.lease_until, _progress_text(job.progress), rules.attend_at(job)


def job_of(row: Row) -> Job:
    """From the values of ``STORED``."""
    (
        job_id, model, version, urgency, _, shelf, client, batch, key, document, submitted_at, not_before, deadline_at,
        attempts, token, worker, ran_version, started_at, lease_until, finished_at, keep_until, cancel_at, progress,
        error, result_status, result_content_type, result_bytes,
    ) = row  # fmt: skip
    fixed = _decode(document)
    return Job(
        job_id=job_id,
        model=model,
        version=version or None,
        state=_STATES[shelf],
        client=client,
        route=fixed.route,
        content_type=fixed.content_type,
        priority=PRIORITIES[-1] - urgency,
        submitted_at=submitted_at,
        not_before=not_before,
        deadline_at=deadline_at,
        retry=fixed.retry,
        timeout_s=fixed.timeout_s,
        result_ttl_s=fixed.result_ttl_s,
        max_result_bytes=fixed.max_result_bytes,
        input_bytes=fixed.input_bytes,
        request_id=fixed.request_id,
        content_encoding=fixed.content_encoding,
        idempotency_key=key,
        webhook=fixed.webhook,
        batch=batch,
        attempts=attempts,
        token=token,
        worker=worker,
        ran_version=ran_version,
        started_at=started_at,
        lease_until=lease_until,
        finished_at=finished_at,
        keep_until=keep_until,
        progress=None if progress is None else Progress(**json.loads(progress)),
        cancel_at=cancel_at,
        error=error_of(error),
        result_status=result_status,
        result_content_type=result_content_type,
        result_bytes=result_bytes,
    )


def event_row(event: JobEvent, cursor: int) -> Row:
    """Values of ``EVENT_COLUMNS``."""
    return (
        cursor, event.at, event.type, event.model, event.job_id, event.version, event.attempt, error_text(event.error)
    )  # fmt: skip


def event_of(row: Row) -> JobEvent:
    """From the values of ``EVENT_COLUMNS``."""
    cursor, at, kind, model, job_id, version, attempt, error = row
    return JobEvent(cursor, at, kind, model, job_id, version, attempt, error_of(error))


def error_text(error: JobError | None) -> str | None:
    """As JSON in ASCII: what a model says may hold anything, half a character too."""
    return None if error is None else to_json(asdict(error))


def error_of(text: str | None) -> JobError | None:
    """From its JSON."""
    if text is None:
        return None
    fields = json.loads(text)
    return JobError(**{**fields, "exception": tuple(fields["exception"])})


def _progress_text(progress: Progress | None) -> str | None:
    return None if progress is None else to_json(asdict(progress))
