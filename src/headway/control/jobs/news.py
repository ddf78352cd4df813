"""JobNews: tells those who wait in this process what happens to jobs, wherever it is made to happen.

One reader follows the feed for all of them, and only while somebody waits: a job server that nobody listens to reads no
event. Who enters is told every event that is recorded from then on, so state that is read *after* entering cannot miss
a change.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from headway.control.waits import within
from headway.domain.jobs import JobEvent
from headway.ports.clock import Clock
from headway.ports.job_store import JobFeed

log = logging.getLogger(__name__)

LOOK_S: Final = 5.0
"""How long one wait at the feed lasts."""
RETRY_S: Final = 0.5
PAGE: Final = 1000
MOST_KEPT: Final = 1000
"""Events that a listener may leave unread; then it is told that it missed some."""


class Listener:
    """What one waiter is told."""

    def __init__(self) -> None:
        self.missed = False
        """Events were dropped, because nobody took them: read the feed, then go on."""
        self._events: deque[JobEvent] = deque()
        self._told = asyncio.Event()

    def tell(self, event: JobEvent) -> None:
        """Never waits."""
        if len(self._events) >= MOST_KEPT:
            self._events.clear()
            self.missed = True
        self._events.append(event)
        self._told.set()

    def take(self) -> list[JobEvent]:
        """What was told since the last call."""
        found = list(self._events)
        self._events.clear()
        self._told.clear()
        return found

    async def wait(self, clock: Clock, timeout_s: float) -> bool:
        """Whether something is there to be taken, now or before ``timeout_s`` have passed."""
        if not self._told.is_set():
            with contextlib.suppress(TimeoutError):
                await within(clock, timeout_s, self._told.wait())
        return self._told.is_set()


class JobNews:
    """The fan-out. Listeners of one job, and listeners of one model."""

    def __init__(self, feed: JobFeed, clock: Clock) -> None:
        self._feed = feed
        self._clock = clock
        self._of_job: dict[str, set[Listener]] = {}
        self._of_model: dict[str, set[Listener]] = {}
        self._wanted = asyncio.Event()
        self._after: int | None = None
        """Read up to here; None while nobody listens."""
        self._entering = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; a second call changes nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._read_on(), name="news of jobs")

    async def stop(self) -> None:
        """End; a second call changes nothing. Listeners stay, and are told nothing more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def of_job(self, job_id: str) -> AsyncIterator[Listener]:
        """Listen to one job."""
        async with self._enter(self._of_job, job_id) as listener:
            yield listener

    @contextlib.asynccontextmanager
    async def of_model(self, model: str) -> AsyncIterator[Listener]:
        """Listen to all jobs of one model."""
        async with self._enter(self._of_model, model) as listener:
            yield listener

    @contextlib.asynccontextmanager
    async def _enter(self, among: dict[str, set[Listener]], key: str) -> AsyncIterator[Listener]:
        listener = Listener()
        among.setdefault(key, set()).add(listener)
        try:
            async with self._entering:
                if self._after is None:
                    self._after = await self._feed.last_cursor()
                    self._wanted.set()
            yield listener
        finally:
            among[key].discard(listener)
            if not among[key]:
                del among[key]

    async def _read_on(self) -> None:
        while True:
            await self._wanted.wait()
            if not self._of_job and not self._of_model:
                self._after = None
                self._wanted.clear()
                continue
            try:
                await self._read()
            except Exception as error:
                log.error("events of jobs cannot be read: %s", error)
                await self._clock.sleep(RETRY_S)

    async def _read(self) -> None:
        after = self._after or 0
        if not await self._feed.wait(after, LOOK_S):
            return
        for event in await self._feed.events(after=after, limit=PAGE):
            self._after = event.cursor
            for listener in (*self._of_job.get(event.job_id, ()), *self._of_model.get(event.model, ())):
                listener.tell(event)
