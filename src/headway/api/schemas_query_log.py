"""Bodies of the control API that tell of the query log. Instants are seconds since the epoch (UTC)."""

from __future__ import annotations

from pydantic import Field

from headway.api.schemas import View


class LossesView(View):
    """What is known to be missing from a model's query log. All zero: it is complete."""

    dropped: int = 0
    """Records that could not be stored: the disk was full."""
    torn: int = 0
    """Segments with a damaged end; the records before it are kept."""
    missing: int = 0
    """Holes in sequence numbers that no writer accounted for."""
    clock_steps: int = 0


class WindowView(View):
    """``[start, end)``. Latencies are of the timed requests, None without any."""

    start: float
    end: float
    group: dict[str, str] = Field(default_factory=dict)
    """Value of each field that the windows are split by."""
    count: int
    timed: int
    """Those that latencies are of: status below 400, 500 or 504."""
    errors: int
    """Those with status 5xx or 429."""
    rate_per_s: float
    average_ms: float | None = None
    p50_ms: float | None = None
    p75_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class LatencyView(View):
    """Latency over windows: those that hold requests, by start, then group."""

    model: str
    since: float
    until: float
    window_s: float
    field: str
    """``total``, ``queue``, ``decode``, ``predict`` or ``encode``."""
    by: list[str] = Field(default_factory=list)
    exact: bool
    relative_error: float
    """Bound of each quantile's relative error; 0 when exact."""
    losses: LossesView
    windows: list[WindowView]


class RecordView(View):
    """One request. Phases are None where it did not get that far."""

    at: float
    ts_ns: int
    """When its last byte arrived, exactly: nanoseconds since the epoch."""
    model: str
    version: str
    """Empty: none was chosen."""
    replica: str
    """Empty: none answered."""
    stream: str
    seq: int
    """Within ``stream``; the two name the record."""
    request_id: str
    route: str
    format: str
    status: int
    """As the client saw it; 499: the client had gone."""
    rows: int
    batch: int
    """Requests that were predicted together; 0: not predicted."""
    bytes_in: int
    bytes_out: int
    total_ns: int
    queue_ns: int | None = None
    decode_ns: int | None = None
    predict_ns: int | None = None
    encode_ns: int | None = None
    cold_start: bool
    shed: bool
    expired: bool
    client: str
    """Name of the caller's token; empty without one."""
    arm: str
    """``split``, ``sticky``, ``pinned``, ``shadow`` or ``direct``."""


class RecordPage(View):
    """Records in the order of ``ts_ns``, ``stream``, ``seq``."""

    model: str
    since: float
    until: float
    records: list[RecordView]
    next: str | None
    """Cursor of the last record: as ``after`` it asks for those that follow. None: nothing yet."""
    more: bool
    """The page is full: ask on with ``next``."""
    losses: LossesView
