"""What may become of a job: every transition as a pure function from the job before to the job after.

The stores keep jobs and share a clock; what follows from an outcome, a lost lease or a passed deadline is decided here,
once for all of them. Waits before a next attempt carry jitter that is drawn from the job's id and the attempt, so the
same history always gives the same times.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from enum import StrEnum
from typing import Final, Literal

from headway.domain.errors import (
    IdempotencyConflict,
    JobNotFound,
    JobTimedOut,
    ModelFailed,
    Overloaded,
    ResultTooLarge,
    WorkerLost,
    tree,
)
from headway.domain.jobs import Beat, BeatVerdict, Claim, Job, JobError, JobEvent, NewJob, Outcome, RetryPolicy
from headway.domain.lifecycle import JOB_TRANSITIONS, JobState, check

MOST_ASKED_WAIT_S: Final = 86_400.0
"""A model's own wish for the wait before the next attempt is honoured up to here."""
_STATUS: Final = {error.code: error.status for error in tree()}


class JobEventType(StrEnum):
    """Every event of jobs, in the past tense, versioned."""

    SUBMITTED = "job_submitted.v1"
    STARTED = "job_started.v1"
    RETRIED = "job_retried.v1"
    GIVEN_BACK = "job_given_back.v1"
    CANCEL_REQUESTED = "job_cancel_requested.v1"
    SUCCEEDED = "job_succeeded.v1"
    FAILED = "job_failed.v1"
    CANCELED = "job_canceled.v1"
    EXPIRED = "job_expired.v1"


_END_EVENTS: Final = {
    JobState.SUCCEEDED: JobEventType.SUCCEEDED,
    JobState.FAILED: JobEventType.FAILED,
    JobState.CANCELED: JobEventType.CANCELED,
    JobState.EXPIRED: JobEventType.EXPIRED,
}
END_EVENTS: Final = frozenset(_END_EVENTS.values())


# -- submission ------------------------------------------------------------------------------


def submitted(new: NewJob, now: float) -> Job:
    """The job as it is first stored."""
    return Job(
        job_id=new.job_id,
        model=new.model,
        version=new.version,
        state=JobState.QUEUED,
        client=new.client,
        route=new.route,
        content_type=new.content_type,
        content_encoding=new.content_encoding,
        priority=new.priority,
        submitted_at=now,
        not_before=now if new.not_before is None else new.not_before,
        deadline_at=new.deadline_at,
        retry=new.retry,
        timeout_s=new.timeout_s,
        result_ttl_s=new.result_ttl_s,
        max_result_bytes=new.max_result_bytes,
        input_bytes=len(new.body),
        request_id=new.request_id,
        idempotency_key=new.idempotency_key,
        webhook=new.webhook,
        batch=new.batch,
    )


def fingerprint(new: NewJob) -> bytes:
    """Equal for two submissions that ask for the same: what an idempotency key stands for."""
    parts = (new.route, new.content_type, new.content_encoding, str(new.priority), new.asked)
    digest = hashlib.sha256()
    for part in (*(text.encode("utf-8", "surrogatepass") for text in parts), new.body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def check_same(new: NewJob, known: bytes) -> None:
    """``IdempotencyConflict`` unless ``known``, the fingerprint stored under the same key, is that of ``new``."""
    if fingerprint(new) != known:
        raise IdempotencyConflict(
            "the idempotency key was used for another job of this caller",
            where="Idempotency-Key",
            hint="use a new key for a new job; to ask for the same again, send exactly the same",
        )


def check_room(model: str, queued: int, new: int, most: int | None) -> None:
    """``Overloaded`` when ``new`` jobs beside the ``queued`` ones of ``model`` are more than ``most``."""
    if most is not None and new and queued + new > most:
        raise Overloaded(
            f"{queued} jobs of {model} wait already, and at most {most} may",
            hint="come back later, or raise spec.jobs.maxQueued",
            details={"queued": queued, "submitted": new, "maxQueued": most},
        )


def not_found(job_id: str) -> JobNotFound:
    """What is raised for an id that nothing is kept under."""
    return JobNotFound(f"there is no job {job_id}", hint="ended jobs are kept for spec.jobs.resultTtl only")


def no_content(job_id: str, which: str) -> JobNotFound:
    """What is raised where nothing is kept of ``which``, input or result."""
    return JobNotFound(f"the job {job_id} has no {which}")


# -- attempts --------------------------------------------------------------------------------


def next_wait_s(retry: RetryPolicy, job_id: str, attempts: int, asked_s: float | None = None) -> float:
    """The wait after ``attempts`` failed ones; ``asked_s``: the model's own wish, which counts instead."""
    if asked_s is not None and asked_s >= 0:
        return min(asked_s, MOST_ASKED_WAIT_S)
    try:
        wait = min(retry.initial_s * retry.factor ** (attempts - 1), retry.most_s)
    except OverflowError:
        wait = retry.most_s
    drawn = hashlib.blake2b(f"{job_id}:{attempts}".encode(), digest_size=8).digest()
    share = int.from_bytes(drawn, "big") / 2**64
    return wait * (1 - retry.jitter + 2 * retry.jitter * share)


def is_retried(retry: RetryPolicy, error: JobError) -> bool:
    """Whether ``error`` is one that another attempt may mend, if there is one left.

    What the model raised: when ``retry_on`` names its class or a base of it, by the whole name or the last part of it.
    What is wrong with the input or with the result never is; a fault of the surroundings always.
    """
    status = _STATUS.get(error.code, 500)
    if error.code == ModelFailed.code:
        names = {*error.exception, *(name.rpartition(".")[2] for name in error.exception)}
        return not names.isdisjoint(retry.retry_on)
    return error.code != ResultTooLarge.code and (status >= 500 or status == 429)


def claimed(job: Job, claim: Claim, now: float) -> Job:
    """In the hands of the claim's worker, under a new token."""
    return replace(
        job,
        state=check(JOB_TRANSITIONS, job.state, JobState.RUNNING),
        attempts=job.attempts + 1,
        token=job.token + 1,
        worker=claim.worker,
        ran_version=claim.version,
        started_at=now,
        lease_until=now + claim.lease_s,
        progress=None,
    )


def beaten(job: Job, beat: Beat, lease_s: float, now: float) -> tuple[Job, BeatVerdict]:
    """After a worker said that it is still at it. A lease that is over and was not taken away yet is prolonged."""
    if job.state is not JobState.RUNNING or job.token != beat.token:
        return job, "lost"
    if overdue(job, now):
        return expired(job, now), "lost"
    progress = job.progress if beat.progress is None else beat.progress
    after = replace(job, lease_until=now + lease_s, progress=progress)
    return after, "go_on" if job.cancel_at is None else "cancel"


def accepts(job: Job, outcome: Outcome, *, fenced: bool = True) -> bool:
    """Whether what ``outcome`` says about ``job`` counts. ``fenced`` False: the experiment without fencing."""
    return not fenced or (job.state is JobState.RUNNING and job.token == outcome.token)


def finished(job: Job, outcome: Outcome, now: float, *, fenced: bool = True) -> Job:
    """After an attempt whose outcome counts. A result that is there wins over a wish to cancel, not over a deadline."""
    if not fenced and job.state is not JobState.RUNNING:
        job = replace(job, state=JobState.RUNNING)
    if overdue(job, now):
        return expired(job, now)
    if outcome.canceled:
        return ended(job, JobState.CANCELED, now)
    if outcome.given_back:
        return given_back(job, now)
    if outcome.error is not None:
        return attempt_failed(job, outcome.error, now, mendable=is_retried(job.retry, outcome.error))
    if len(outcome.body) > job.max_result_bytes:
        return attempt_failed(job, result_too_large(job, len(outcome.body)), now, mendable=False)
    return replace(
        ended(job, JobState.SUCCEEDED, now),
        result_status=outcome.status,
        result_content_type=outcome.content_type,
        result_bytes=len(outcome.body),
    )


def given_back(job: Job, now: float) -> Job:
    """Waiting again as if nobody had claimed it; the token stays used."""
    if job.cancel_at is not None:
        return ended(job, JobState.CANCELED, now)
    return replace(_queued(job, job.not_before), attempts=max(0, job.attempts - 1), started_at=None, progress=None)


def attempt_failed(job: Job, error: JobError, now: float, *, mendable: bool) -> Job:
    """Waiting for its next attempt, or failed for good."""
    job = replace(job, error=error)
    if job.cancel_at is not None:
        return ended(job, JobState.CANCELED, now)
    if not mendable or job.attempts >= job.retry.max_attempts:
        return ended(job, JobState.FAILED, now)
    return _queued(job, now + next_wait_s(job.retry, job.job_id, job.attempts, error.retry_after_s))


def abandoned(job: Job, error: JobError, now: float) -> Job:
    """After its worker ended with ``error``: a lost worker is always worth another attempt, while there is one."""
    return expired(job, now) if overdue(job, now) else attempt_failed(job, error, now, mendable=True)


def canceled(job: Job, now: float) -> Job:
    """After somebody asked to cancel it."""
    if job.state is JobState.QUEUED:
        return ended(job, JobState.CANCELED, now)
    if job.state is JobState.RUNNING and job.cancel_at is None:
        return replace(job, cancel_at=now)
    return job


Finding = Literal["lost", "timed_out", "expired"]


def finding(job: Job, now: float) -> Finding | None:
    """What a look at a job finds: that its deadline, its attempt's time or its lease is over, or nothing."""
    if overdue(job, now):
        return "expired"
    if job.state is not JobState.RUNNING:
        return None
    if job.started_at is not None and now >= job.started_at + job.timeout_s:
        return "timed_out"
    return "lost" if job.lease_until is not None and now >= job.lease_until else None


def swept(job: Job, now: float) -> Job:
    """After what :func:`finding` says."""
    match finding(job, now):
        case "expired":
            return expired(job, now)
        case "timed_out":
            return attempt_failed(job, timed_out(job), now, mendable=True)
        case "lost":
            return attempt_failed(job, lost(job), now, mendable=True)
        case None:
            return job


def attend_at(job: Job) -> float | None:
    """When :func:`swept` has something to do, should nothing else happen before."""
    if job.ended:
        return None
    moments = [job.deadline_at]
    if job.state is JobState.RUNNING:
        moments += [job.lease_until, None if job.started_at is None else job.started_at + job.timeout_s]
    return min((moment for moment in moments if moment is not None), default=None)


def overdue(job: Job, now: float) -> bool:
    """Whether nobody wants its result any more."""
    return not job.ended and job.deadline_at is not None and now >= job.deadline_at


def expired(job: Job, now: float) -> Job:
    """Its deadline has passed."""
    return ended(job, JobState.EXPIRED, now)


def ended(job: Job, state: JobState, now: float) -> Job:
    """At its end; from now on it is kept for its ``result_ttl_s``."""
    now = now if job.started_at is None else max(now, job.started_at)
    return replace(
        job,
        state=check(JOB_TRANSITIONS, job.state, state),
        finished_at=now,
        keep_until=now + job.result_ttl_s,
        lease_until=None,
    )


def _queued(job: Job, not_before: float) -> Job:
    return replace(
        job, state=check(JOB_TRANSITIONS, job.state, JobState.QUEUED), not_before=not_before, lease_until=None
    )


def regranted(job: Job, lease_s: float, now: float) -> Job:
    """After the store was away: that is no fault of the worker's, who could not report meanwhile."""
    return replace(job, lease_until=now + lease_s, started_at=min(now, job.started_at or now))


def stepped(job: Job, step_s: float) -> Job:
    """After the wall clock was set by ``step_s``: what was measured from a moment before moves along.

    Leases, the time of an attempt and the wait before the next one last as long as they were to last. Times that a
    caller named (not before, deadline) are times of day and stay.
    """
    if job.state is JobState.RUNNING and job.lease_until is not None and job.started_at is not None:
        return replace(job, lease_until=job.lease_until + step_s, started_at=job.started_at + step_s)
    if job.state is JobState.QUEUED and job.attempts > 0:
        return replace(job, not_before=job.not_before + step_s)
    return job


# -- errors and events -----------------------------------------------------------------------


def lost(job: Job) -> JobError:
    """Of an attempt whose lease ran out."""
    return JobError(
        WorkerLost.code,
        f"worker {job.worker} was not heard of any more in attempt {job.attempts}",
        hint="headway logs tells what the worker did last",
    )


def timed_out(job: Job) -> JobError:
    """Of an attempt that took too long."""
    return JobError(
        JobTimedOut.code,
        f"attempt {job.attempts} took longer than {job.timeout_s:g} s",
        where="spec.jobs.timeout",
        hint="raise it, or make the prediction shorter",
    )


def result_too_large(job: Job, size: int) -> JobError:
    """Of an attempt with a result beyond the job's limit."""
    return JobError(
        ResultTooLarge.code,
        f"the result has {size} bytes, and at most {job.max_result_bytes} are kept",
        where="spec.jobs.maxResultSize",
        hint="raise it, or return less",
    )


def event(before: Job | None, after: Job, now: float) -> JobEvent | None:
    """What is told about the way from ``before`` to ``after``, its cursor still 0; None: nothing to tell."""
    kind: JobEventType
    attempt, error = after.attempts, None
    if before is None:
        kind = JobEventType.SUBMITTED
    elif after.state in _END_EVENTS and before.finished_at != after.finished_at:
        kind = _END_EVENTS[after.state]
        error = after.error if after.state is JobState.FAILED else None
    elif after.state is JobState.RUNNING and before.state is JobState.QUEUED:
        kind = JobEventType.STARTED
    elif after.state is JobState.QUEUED and before.state is JobState.RUNNING:
        given = after.attempts < before.attempts
        kind, attempt = (JobEventType.GIVEN_BACK if given else JobEventType.RETRIED), before.attempts
        error = None if given else after.error
    elif after.cancel_at is not None and before.cancel_at is None:
        kind = JobEventType.CANCEL_REQUESTED
    else:
        return None
    return JobEvent(0, now, str(kind), after.model, after.job_id, after.ran_version or after.version, attempt, error)


def delivery_id(job_id: str) -> str:
    """Of the one webhook delivery that the end of a job makes."""
    return f"end-{job_id}"
