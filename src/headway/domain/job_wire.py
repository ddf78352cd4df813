"""What workers and the job server say to one another: MessagePack over HTTP, on a listener of its own.

The worker asks and the job server answers. ``POST /claim`` waits up to ``wait_s`` for work; ``POST /report`` tells
which jobs are still worked at and which have ended, and answers what to do about the former. A worker that has to
stop gives back what it has not begun, finishes what it has, and asks for nothing more.
"""

from __future__ import annotations

from typing import Final

import msgspec

from headway.domain.jobs import BeatVerdict

CLAIM: Final = "/claim"
REPORT: Final = "/report"
MEDIA_TYPE: Final = "application/msgpack"


class ClaimRequest(msgspec.Struct, frozen=True, kw_only=True):
    worker: str
    """Name of the worker, the same in all it says."""
    model: str
    version: str
    most: int = 1
    wait_s: float = 20.0


class WireJob(msgspec.Struct, frozen=True, kw_only=True):
    job_id: str
    token: int
    attempt: int
    route: str
    content_type: str
    content_encoding: str = ""
    request_id: str = ""
    client: str = ""
    body: bytes = b""
    timeout_s: float
    """What is left of the attempt's time, at the moment of the answer."""
    max_result_bytes: int
    last: bool = False
    """No attempt follows this one: nothing else may take it along when the worker dies."""


class ClaimAnswer(msgspec.Struct, frozen=True, kw_only=True):
    jobs: list[WireJob] = []
    lease_s: float
    """Report on each of them at least three times in this time."""


class WireBeat(msgspec.Struct, frozen=True, kw_only=True):
    job_id: str
    token: int
    fraction: float | None = None
    note: str = ""
    told: bool = False
    """Whether the model has said anything about its progress."""


class WireError(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    message: str
    where: str | None = None
    hint: str | None = None
    exception: tuple[str, ...] = ()
    retry_after_s: float | None = None


class WireOutcome(msgspec.Struct, frozen=True, kw_only=True):
    job_id: str
    token: int
    error: WireError | None = None
    status: int = 200
    content_type: str = "application/json"
    body: bytes = b""
    given_back: bool = False
    canceled: bool = False


class Report(msgspec.Struct, frozen=True, kw_only=True):
    worker: str
    beats: list[WireBeat] = []
    outcomes: list[WireOutcome] = []


class ReportAnswer(msgspec.Struct, frozen=True, kw_only=True):
    verdicts: list[BeatVerdict] = []
    """In the order of ``Report.beats``."""
    accepted: list[bool] = []
    """In the order of ``Report.outcomes``."""
