"""What is asked of the store of jobs that changes something; several share a transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headway.domain.jobs import Beat, Claim, Delivery, JobError, NewJob, Outcome


@dataclass(frozen=True, slots=True)
class Submit:
    jobs: Sequence[NewJob]
    most_queued: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    """By job id, the file that holds its body already."""


@dataclass(frozen=True, slots=True)
class Cancel:
    job_id: str


@dataclass(frozen=True, slots=True)
class Take:
    claim: Claim


@dataclass(frozen=True, slots=True)
class Renew:
    beats: Sequence[Beat]
    lease_s: float


@dataclass(frozen=True, slots=True)
class Finish:
    outcomes: Sequence[Outcome]
    files: Mapping[int, str] = field(default_factory=dict)
    """By place in ``outcomes``, the file that holds its body already."""


@dataclass(frozen=True, slots=True)
class Abandon:
    worker: str
    error: JobError


@dataclass(frozen=True, slots=True)
class Sweep:
    most: int


@dataclass(frozen=True, slots=True)
class Clear:
    most: int


@dataclass(frozen=True, slots=True)
class Due:
    most: int
    hold_s: float


@dataclass(frozen=True, slots=True)
class Settle:
    """A delivery arrived (``reason`` None), is put off by ``wait_s``, or given up (``wait_s`` None)."""

    delivery: Delivery
    wait_s: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Regrant:
    """The store was away: whoever held a lease has it for another ``lease_s``."""

    lease_s: float


Request = Submit | Cancel | Take | Renew | Finish | Abandon | Sweep | Clear | Due | Settle | Regrant
