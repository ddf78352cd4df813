"""Jobs as the client sees them: the bodies that the gateway answers, typed. Instants are aware ``datetime``s."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel

SUCCEEDED: Final = "succeeded"
ENDED: Final = frozenset({SUCCEEDED, "failed", "canceled", "expired"})


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Instant = Annotated[AwareDatetime, PlainSerializer(_rfc3339, when_used="json")]


class _View(BaseModel):
    """Fields that are not known are left out, so that an older client can talk to a newer server."""

    model_config = ConfigDict(extra="ignore", alias_generator=to_camel, populate_by_name=True)

    def document(self) -> dict[str, Any]:
        """As JSON, with the names it has over HTTP."""
        return self.model_dump(mode="json", by_alias=True)


class JobProgress(_View):
    """What the model said about how far it is."""

    fraction: float | None = None
    """0 to 1; None: not told."""
    note: str = ""


class JobError(_View):
    """Why the last attempt that failed did."""

    code: str
    """A code of the error tree."""
    message: str
    where: str | None = None
    hint: str | None = None


class Job(_View):
    """One job."""

    id: str
    model: str
    version: str | None = None
    """That shall run it; None: whichever takes production traffic."""
    ran_version: str | None = None
    """That ran the last attempt."""
    state: str
    """``queued``, ``running``, ``succeeded``, ``failed``, ``canceled`` or ``expired``."""
    priority: int
    client: str = ""
    """Name of the caller's token."""
    batch: str | None = None
    submitted_at: Instant
    not_before: Instant | None = None
    deadline: Instant | None = None
    started_at: Instant | None = None
    """Of the last attempt."""
    finished_at: Instant | None = None
    expires_at: Instant | None = None
    """When job and result are removed."""
    attempts: int = 0
    max_attempts: int = 1
    queued_ms: int = 0
    run_ms: int | None = None
    place: int | None = None
    """How many are ahead of it."""
    progress: JobProgress | None = None
    error: JobError | None = None
    links: dict[str, str] = {}

    @property
    def ended(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.state in ENDED

    @property
    def succeeded(self) -> bool:
        """Whether it has a result."""
        return self.state == SUCCEEDED


class JobBatch(_View):
    """What a batch became: the ids of its jobs, in its order."""

    batch: str
    jobs: list[str]


class JobPage(_View):
    """One page of a list, newest first."""

    jobs: list[Job]
    next: str | None = None


class JobEvent(_View):
    """One transition of a job."""

    cursor: int
    at: Instant
    type: str
    model: str
    id: str
    version: str | None = None
    attempt: int = 0
    error: JobError | None = None


@dataclass(frozen=True, slots=True)
class JobResult:
    """What the prediction was answered with."""

    body: bytes
    content_type: str

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)
