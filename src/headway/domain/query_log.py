"""The query log's words: a record, a question about windows or records, and the answers. Plain data.

A record is one request that reached Headway, whatever became of it. Timestamps are wall clock (nanoseconds
since the epoch) and may step; durations come from a monotonic clock and never do. ``None`` is "no data", never 0.

Which records count for what, the same in every adapter:

* ``count`` is all of them; ``errors`` those whose status is 5xx or 429: Headway or the model failed the caller.
* Latency figures are of the *timed* ones: status below 400, 500 or 504. A refusal says nothing about how fast the
  model is: under overload, quick 429s would make a slow model look fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

QUANTILES = (0.5, 0.75, 0.95, 0.99)
"""Of every window, by linear interpolation between closest ranks (type 7 of Hyndman and Fan, 1996)."""


class Arm(StrEnum):
    """How the gateway chose the version."""

    SPLIT = "split"
    """Drawn by weight."""
    STICKY = "sticky"
    """By the caller's header or cookie."""
    PINNED = "pinned"
    """The caller named the version."""
    SHADOW = "shadow"
    """A copy; its answer went to nobody."""
    DIRECT = "direct"
    """Did not come through the gateway."""
    JOB = "job"
    """An attempt of a job, on a worker."""


class LatencyField(StrEnum):
    """Which phase a window measures."""

    TOTAL = "total"
    QUEUE = "queue"
    DECODE = "decode"
    PREDICT = "predict"
    ENCODE = "encode"


class GroupBy(StrEnum):
    """What windows may be split by."""

    VERSION = "version"
    REPLICA = "replica"
    ROUTE = "route"
    FORMAT = "format"
    STATUS = "status"
    ARM = "arm"
    CLIENT = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRecord:
    """One request. Durations in nanoseconds; None where the request did not get that far."""

    ts_ns: int
    """Arrival of its last byte, wall clock."""
    model: str
    version: str
    """Empty where no version was chosen (the gateway refused)."""
    replica: str
    """Empty where no replica answered."""
    stream: str
    """The process that wrote the record; ``seq`` counts within it from 0 without gaps."""
    seq: int
    request_id: str
    route: str
    format: str
    """``rows``, ``mlflow``, ``open_inference``, ``seldon``; empty where none was reached."""
    status: int
    """As the client saw it; 499 when the client had gone."""
    rows: int
    batch: int
    """Requests that shared the call of ``predict``, itself included; 0: not predicted."""
    bytes_in: int
    bytes_out: int
    total_ns: int
    queue_ns: int | None
    decode_ns: int | None
    predict_ns: int | None
    encode_ns: int | None
    cold_start: bool
    """Answered by a process that had answered none before."""
    shed: bool
    """Refused because a queue was full."""
    expired: bool
    """Its time limit passed before it was answered."""
    client: str
    """Name of the caller's token; empty without one."""
    arm: Arm


class Operator(StrEnum):
    """Comparison of a field with a value."""

    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    LIKE = "~"
    """Holds the value as a part (text only)."""


@dataclass(frozen=True, slots=True)
class Condition:
    """``field op value``; ``field`` is a name of :class:`QueryRecord`, checked by whoever makes it."""

    field: str
    op: Operator
    value: str | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowQuery:
    """Windows of ``window_ns`` over ``[since_ns, until_ns)``, aligned to ``since_ns``; the last may be shorter."""

    model: str
    since_ns: int
    until_ns: int
    window_ns: int
    field: LatencyField = LatencyField.TOTAL
    by: tuple[GroupBy, ...] = ()
    where: tuple[Condition, ...] = ()
    exact: bool | None = None
    """True: from the records; False: from sketches; None: sketches where the records would take long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """``[start_ns, end_ns)`` of one group. Latency figures in nanoseconds, None without timed records."""

    start_ns: int
    end_ns: int
    group: tuple[str, ...]
    """Values of ``WindowQuery.by``, in its order, as text."""
    count: int
    timed: int
    errors: int
    average_ns: float | None
    p50_ns: float | None
    p75_ns: float | None
    p95_ns: float | None
    p99_ns: float | None

    @property
    def rate_per_s(self) -> float:
        """Requests a second."""
        return self.count / ((self.end_ns - self.start_ns) / 1e9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What is known to be missing from the log. All zero: it is complete."""

    dropped: int = 0
    """Records that a writer counted but could not store (disk full)."""
    torn: int = 0
    """Segments whose end was damaged; records before the damage are kept."""
    missing: int = 0
    """Holes in sequence numbers that no writer accounted for."""
    clock_steps: int = 0
    """Times that a wall clock was set back by more than 0.1 s: windows around it mix two passes of the same time."""

    def __add__(self, other: Losses) -> Losses:
        """Both together."""
        return Losses(
            dropped=self.dropped + other.dropped,
            torn=self.torn + other.torn,
            missing=self.missing + other.missing,
            clock_steps=self.clock_steps + other.clock_steps,
        )

    @property
    def any(self) -> bool:
        return bool(self.dropped or self.torn or self.missing or self.clock_steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowTable:
    """The answer to a :class:`WindowQuery`: windows that hold records, by start, then group."""

    query: WindowQuery
    windows: tuple[Window, ...]
    exact: bool
    relative_error: float
    """Bound of each quantile's relative error; 0 when exact."""
    losses: Losses = field(default_factory=Losses)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordQuery:
    """Records of one model, oldest first."""

    model: str
    since_ns: int
    until_ns: int
    where: tuple[Condition, ...] = ()
    limit: int = 1000
    newest: bool = False
    """True: the newest ``limit`` of them, else the oldest."""
    after: tuple[int, str, int] | None = None
    """``(ts_ns, stream, seq)`` of the last record seen: only later ones in that order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What one look at the writers' files brought."""

    records: int = 0
    newly_lost: Mapping[str, Losses] = field(default_factory=dict)
    """By model, since the last report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionReport:
    """What one round of housekeeping did."""

    segments: int = 0
    records: int = 0
    expired_files: int = 0
    expired_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long records are kept; whichever limit is reached first. None: no limit."""

    max_age_s: float | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """One request that was kept whole. ``input`` and ``output`` are JSON values; see ``headway.server.payloads``."""

    ts_ns: int
    version: str
    stream: str
    seq: int
    """With ``stream``: of its :class:`QueryRecord`."""
    request_id: str
    route: str
    status: int
    input: Any
    output: Any
