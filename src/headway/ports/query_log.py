"""QueryLog: every request, and latency over any window."""

from __future__ import annotations

from typing import Protocol

from headway.domain.query_log import (
    CompactionReport,
    IngestReport,
    Losses,
    QueryRecord,
    RecordQuery,
    Retention,
    WindowQuery,
    WindowTable,
)


class QueryLog(Protocol):
    """Reads what model servers and the gateway write; answers questions; keeps house.

    Every record is seen exactly once by every question, whatever compaction does meanwhile. Questions may be asked
    concurrently. A question includes all records that were written before it was asked.
    """

    async def ingest(self) -> IngestReport:
        """Take in what was written since the last time. Questions do it themselves; the keeper calls it for events."""
        ...

    async def windows(self, query: WindowQuery) -> WindowTable:
        """Latency over windows. An unknown model has none. Raises ``StorageFailed``."""
        ...

    async def records(self, query: RecordQuery) -> list[QueryRecord]:
        """Records, in the order of ``(ts_ns, stream, seq)``, at most ``query.limit``."""
        ...

    async def losses(self, model: str) -> Losses:
        """Everything known to be missing for ``model``."""
        ...

    async def compact(self, now_ns: int, retention: Retention) -> CompactionReport:
        """Move what is complete from segments into Parquet, drop what is past ``retention``.

        Safe to run twice at once, in one process or two.
        """
        ...

    async def close(self) -> None:
        """Let go of everything. Idempotent."""
        ...
