"""JobAnnouncer: tells the broker of jobs that are stored and due.

Nobody waits for it: a job is taken in when it is stored, whatever becomes of its message. What cannot be told now is
dropped, since the sweep finds it again. A broker that is away is logged once, and so is its return.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from headway.domain.errors import BrokerFailed
from headway.ports.clock import Clock
from headway.ports.job_broker import JobBroker

log = logging.getLogger(__name__)

MOST_KEPT: Final = 10_000
BATCH: Final = 500
RETRY_S: Final = 1.0
FAREWELL_S: Final = 2.0
"""What is left to be told when it is stopped may take this long."""


class JobAnnouncer:
    """Batches what it is told while the broker confirms what came before."""

    def __init__(self, broker: JobBroker, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock
        self._jobs: dict[str, str] = {}
        """Model by job id."""
        self._told = asyncio.Event()
        self._away = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; a second call changes nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="announcing jobs")

    async def stop(self) -> None:
        """Tell what is left, if the broker is there, and end; a second call changes nothing."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        try:
            async with asyncio.timeout(FAREWELL_S):
                while self._jobs and not self._away:
                    await self._announce()
        except TimeoutError:
            log.warning("the broker was not told of %d jobs; they are found by the sweep", len(self._jobs))

    def tell(self, jobs: Iterable[tuple[str, str]]) -> None:
        """``(model, job id)`` of jobs that are due. Never waits."""
        for model, job_id in jobs:
            if len(self._jobs) >= MOST_KEPT:
                break
            self._jobs[job_id] = model
        if self._jobs:
            self._told.set()

    async def _run(self) -> None:
        while True:
            await self._told.wait()
            if not self._jobs:
                self._told.clear()
                continue
            await self._announce()
            if self._away:
                self._jobs.clear()
                await self._clock.sleep(RETRY_S)

    async def _announce(self) -> None:
        batch = list(self._jobs.items())[:BATCH]
        try:
            await self._broker.announce([(model, job_id) for job_id, model in batch])
        except BrokerFailed as error:
            if not self._away:
                log.error("the broker cannot be told of jobs: %s; they are found in the database", error)
            self._away = True
            return
        for job_id, _ in batch:
            self._jobs.pop(job_id, None)
        if self._away:
            log.info("the broker is told of jobs again")
        self._away = False
