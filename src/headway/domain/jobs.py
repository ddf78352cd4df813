"""A job: a prediction that is stored first and carried out later, by a worker that holds a lease.

The database is the truth of a job (:class:`Job`); whoever carries it out holds a :class:`Lease`, whose **fencing
token** grows with every claim of that job. Whatever a worker says about a job (still at it, finished, gave up) carries
the token, and is accepted only while it is the newest one and the job still runs: the result of a stale attempt is
never stored. (The scheme is that of M. Kleppmann, "How to do distributed locking", 2016.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from headway.domain.lifecycle import JobState

PRIORITIES: Final = range(10)
"""Larger is sooner."""
DEFAULT_PRIORITY: Final = 5
OPEN: Final = frozenset({JobState.QUEUED, JobState.RUNNING})
ENDED: Final = frozenset(JobState) - OPEN


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Which failed attempts are followed by another, and when.

    The wait before attempt n + 1 is ``initial_s * factor ** (n - 1)``, at most ``most_s``, times a factor drawn from
    ``1 - jitter`` to ``1 + jitter``.
    """

    max_attempts: int = 3
    initial_s: float = 1.0
    factor: float = 2.0
    most_s: float = 300.0
    jitter: float = 0.2
    retry_on: tuple[str, ...] = ("Exception",)
    """Names of exception classes (``TimeoutError``, ``requests.exceptions.ConnectionError``) of the model's that are
    worth another attempt; subclasses count. What is wrong with the input never is; a lost worker always is."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where the end of a job is told."""

    url: str


@dataclass(frozen=True, slots=True)
class NewJob:
    """What is submitted."""

    job_id: str
    """26 characters, sortable by time of submission, not to be guessed (:func:`headway.domain.job_ids.new_id`)."""
    model: str
    version: str | None
    """The version that shall run it; None: whichever takes production traffic when its turn comes."""
    client: str
    """Name of the caller's token; empty without one."""
    route: str
    """Path of the model server that the body is meant for: ``/predict``, ``/invocations``, …"""
    content_type: str
    body: bytes
    content_encoding: str = ""
    priority: int = DEFAULT_PRIORITY
    not_before: float | None = None
    """Seconds since the epoch; None: at once."""
    deadline_at: float | None = None
    """After this moment nobody wants the result: what has not ended then, expires."""
    idempotency_key: str | None = None
    """Unique within model and client as long as the job is kept."""
    asked: str = ""
    """What else the caller asked for, in the caller's own words: the version in the path if any, the times, the
    webhook. Under one idempotency key it has to be the same, with route, content type, body and priority; a version
    drawn from the split, and an instant counted from now, would differ each time."""
    webhook: Webhook | None = None
    batch: str | None = None
    """Common to the jobs of one batch."""
    request_id: str = ""
    retry: RetryPolicy = RetryPolicy()
    timeout_s: float = 3600.0
    """Time limit of one attempt."""
    result_ttl_s: float = 86_400.0
    """How long the job and its result are kept after its end."""
    max_result_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class JobError:
    """Why an attempt failed."""

    code: str
    """A code of the error tree."""
    message: str
    where: str | None = None
    hint: str | None = None
    exception: tuple[str, ...] = ()
    """Qualified names of the exception's class and its bases, most derived first; empty where the model raised none."""
    retry_after_s: float | None = None
    """The model's own wish for the wait before the next attempt."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the model said about how far it is."""

    fraction: float | None
    """0 to 1; None: not told."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One job as stored. Instants are seconds since the epoch, by the database's clock."""

    job_id: str
    model: str
    version: str | None
    state: JobState
    client: str
    route: str
    content_type: str
    priority: int
    submitted_at: float
    not_before: float
    """It is not begun earlier: the time asked for, or that of the next attempt."""
    deadline_at: float | None
    retry: RetryPolicy
    timeout_s: float
    result_ttl_s: float
    max_result_bytes: int
    input_bytes: int
    request_id: str = ""
    content_encoding: str = ""
    idempotency_key: str | None = None
    webhook: Webhook | None = None
    batch: str | None = None
    attempts: int = 0
    """Attempts begun, but for those that were given back unharmed."""
    token: int = 0
    """Fencing token of the newest lease; 0: never claimed."""
    worker: str | None = None
    """Who holds the lease, or held the last one."""
    ran_version: str | None = None
    """The version that the last attempt ran on."""
    started_at: float | None = None
    """Of the last attempt."""
    lease_until: float | None = None
    finished_at: float | None = None
    keep_until: float | None = None
    """Set when it ends: afterwards job and result are removed."""
    progress: Progress | None = None
    cancel_at: float | None = None
    """When somebody asked to cancel it while it ran."""
    error: JobError | None = None
    """Of the last attempt that failed; kept when a later one succeeds."""
    result_status: int | None = None
    """HTTP status that the prediction would have been answered with."""
    result_content_type: str | None = None
    result_bytes: int | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to one submission: the job, and whether it is new or was there under its idempotency key."""

    job: Job
    created: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """A job in the hands of a worker."""

    job: Job
    token: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's wish for work."""

    worker: str
    model: str
    version: str
    follows: bool
    """Whether ``version`` takes production traffic, so that jobs that follow production may run on it."""
    most: int = 1
    most_bytes: int = 64 * 1024 * 1024
    """Of inputs together; the first job is given whatever its size."""
    lease_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker is still at it."""

    job_id: str
    token: int
    progress: Progress | None = None


BeatVerdict = Literal["go_on", "cancel", "lost"]
"""``cancel``: somebody wants it called off; ``lost``: the lease is not the worker's any more, stop at once."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, told by its worker: with a result (``error`` None), with an error, or given back."""

    job_id: str
    token: int
    error: JobError | None = None
    status: int = 200
    content_type: str = "application/json"
    body: bytes = b""
    given_back: bool = False
    """The worker has to stop: the attempt does not count and another worker takes the job."""
    canceled: bool = False
    """The attempt was called off because the job was to be canceled."""


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs are listed: newest first, after ``before`` (a job id) when given."""

    model: str
    states: frozenset[JobState] = frozenset()
    """Empty: all."""
    client: str | None = None
    batch: str | None = None
    version: str | None = None
    before: str | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class JobCount:
    """How many jobs of a model wait and run, for one version (None: those that follow production)."""

    model: str
    version: str | None
    queued: int
    """Due now."""
    delayed: int
    """Queued, with a not-before time that has not come."""
    running: int
    oldest_due_at: float | None
    """Since when the oldest of ``queued`` could have begun."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """A transition of a job: ``job_submitted.v1``, ``job_started.v1``, ``job_retried.v1``, ``job_succeeded.v1``, …"""

    cursor: int
    at: float
    type: str
    model: str
    job_id: str
    version: str | None
    attempt: int
    error: JobError | None = None


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found: job ids."""

    lost: Sequence[str] = ()
    """Leases that ran out."""
    timed_out: Sequence[str] = ()
    expired: Sequence[str] = ()
    due: Sequence[tuple[str, str]] = ()
    """``(model, job id)`` of jobs that wait for a worker and of which the broker may not know."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook call that is due. ``token`` fences it as a lease does."""

    delivery_id: str
    """The same for every try."""
    job: Job
    url: str
    tries: int
    """Made before this one."""
    token: int
