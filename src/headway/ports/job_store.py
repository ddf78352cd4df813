"""What is stored of jobs, as its four users see it: callers, workers, followers, couriers.

One adapter implements all of them on one database, whose clock decides: no method takes a time. Each method is one
transaction with the events (and webhook deliveries) of the transitions it makes, and is durable when it returns.
Concurrent calls may share a commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from headway.domain.jobs import (
    Beat,
    BeatVerdict,
    Claim,
    Delivery,
    Job,
    JobCount,
    JobError,
    JobEvent,
    JobQuery,
    Lease,
    NewJob,
    Outcome,
    Submitted,
    Swept,
)

Content = Literal["input", "result"]


class JobStore(Protocol):
    """The side of those who submit jobs and ask about them."""

    async def submit(self, jobs: Sequence[NewJob], *, most_queued: int | None = None) -> list[Submitted]:
        """Store all of them, or none; in the same order.

        A job whose idempotency key is known for its model and client is not stored again: the one that is there is
        answered. ``IdempotencyConflict`` when that one differs in route, content type, body, priority or ``asked``.
        ``Overloaded`` when more than ``most_queued`` jobs of a model would be queued.
        """
        ...

    async def get(self, job_id: str) -> Job:
        """Raises ``JobNotFound``."""
        ...

    async def place(self, job_id: str, most: int = 10_000) -> int | None:
        """How many jobs are ahead of it in its queue, at most ``most``; None: it does not wait."""
        ...

    async def find(self, query: JobQuery) -> list[Job]:
        """Newest first, at most ``query.limit``."""
        ...

    async def cancel(self, job_id: str) -> Job:
        """Queued: canceled now. Running: asked for, its worker is told. Ended: as it is. Raises ``JobNotFound``."""
        ...

    async def content(self, job_id: str, which: Content) -> bytes:
        """The body submitted, or that of the result. Raises ``JobNotFound``, also when there is no such content."""
        ...


class JobLeases(Protocol):
    """The side of those who carry jobs out, and of those who look after them."""

    async def claim(self, claim: Claim) -> list[Lease]:
        """Jobs that are due, now running under new leases; empty when there is none.

        Larger priority first; within one, callers take turns; each caller's in the order of submission.
        Never a job whose deadline has passed or that is to be canceled, nor one that somebody holds.
        """
        ...

    async def renew(self, worker: str, beats: Sequence[Beat], lease_s: float) -> list[BeatVerdict]:
        """Prolong the leases to ``lease_s`` from now; what to do, in the same order.

        A lease that is over belongs to its worker until a sweep takes it away.
        """
        ...

    async def finish(self, outcomes: Sequence[Outcome]) -> list[bool]:
        """Whether each was accepted: not when the token is not the newest, the job does not run or its deadline passed.

        An error that may be mended queues the job again for its next attempt, while it has one.
        """
        ...

    async def abandon(self, worker: str, error: JobError) -> list[str]:
        """``worker`` has ended: what it held failed with ``error`` (and is tried again, as after any lost worker)."""
        ...

    async def sweep(self, most: int = 1000) -> Swept:
        """Look after what nobody else does: leases that ran out, attempts and deadlines whose time is over."""
        ...

    async def clear(self, most: int = 1000) -> int:
        """Remove ended jobs past the time they are kept, contents too; how many went."""
        ...


class JobFeed(Protocol):
    """The side of those who follow: what happened to jobs, in order, and how many there are."""

    async def events(
        self, *, after: int = 0, limit: int = 1000, model: str | None = None, job_id: str | None = None
    ) -> list[JobEvent]:
        """At most ``limit`` with a cursor above ``after``, in order. Cursors are like those of ``EventLog``."""
        ...

    async def last_cursor(self) -> int:
        """The newest cursor; 0 when there is none."""
        ...

    async def wait(self, after: int, timeout_s: float) -> bool:
        """True as soon as there is an event with a cursor above ``after``, whoever recorded it."""
        ...

    async def counts(self) -> list[JobCount]:
        """Of every model and version with open jobs. Cheap enough to be asked once a second."""
        ...


class WebhookOutbox(Protocol):
    """The side of those who tell callers by webhook. A delivery is there as soon as its job has ended."""

    async def due(self, most: int, hold_s: float) -> list[Delivery]:
        """Deliveries that are due, held for ``hold_s``: nobody else gets them meanwhile."""
        ...

    async def delivered(self, delivery: Delivery) -> bool:
        """It arrived; False when somebody else holds it by now."""
        ...

    async def postpone(self, delivery: Delivery, wait_s: float | None, reason: str) -> bool:
        """It did not arrive: again after ``wait_s``; None: give up, for good. ``reason`` is kept."""
        ...
