"""What happened to jobs, in memory: the part of the JobFeed that is about events."""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Collection
from dataclasses import replace

from headway.domain.jobs import JobEvent


class MemoryJobEvents:
    """Cursors grow by one with each event and are never used again."""

    def __init__(self) -> None:
        self._events: list[JobEvent] = []
        self._cursor = 0
        self._grown = asyncio.Event()

    async def events(
        self, *, after: int = 0, limit: int = 1000, model: str | None = None, job_id: str | None = None
    ) -> list[JobEvent]:
        """See the port."""
        start = bisect.bisect_right(self._events, after, key=lambda event: event.cursor)
        found = (
            event for event in self._events[start:] if model in (None, event.model) and job_id in (None, event.job_id)
        )
        return [event for event, _ in zip(found, range(max(0, limit)), strict=False)]

    async def last_cursor(self) -> int:
        """See the port."""
        return self._cursor

    async def wait(self, after: int, timeout_s: float) -> bool:
        """See the port."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self._cursor <= after:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._grown.wait()
            except TimeoutError:
                return self._cursor > after
        return True

    def record(self, event: JobEvent | None) -> None:
        """Add ``event``, under the next cursor. Does not yield and cannot fail."""
        if event is not None:
            self._cursor += 1
            self._events.append(replace(event, cursor=self._cursor))
            # Whoever waits now wakes; whoever comes later looks at the cursor first.
            self._grown.set()
            self._grown = asyncio.Event()

    def forget(self, job_ids: Collection[str]) -> None:
        """Remove what was told of these jobs."""
        gone = set(job_ids)
        self._events = [event for event in self._events if event.job_id not in gone]
