"""WorkerVerdicts: tells the jobs' store at once, and exactly, why a worker has ended.

The runtime knows first and best: out of memory, a segmentation fault, a kill. Without this the lease of what the worker
held would run out, some seconds later and for no known reason; so it does when the store cannot be told.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final

from headway.domain.errors import JobTimedOut, OutOfMemory, WorkerLost
from headway.domain.jobs import JobError
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import ReplicaStatus, ReplicaTransition
from headway.ports.job_store import JobLeases

log = logging.getLogger(__name__)

ENDED: Final = frozenset({ReplicaPhase.BACKOFF, ReplicaPhase.FAILED, ReplicaPhase.STOPPED})
MOST_WAITING: Final = 10_000


def error_of(status: ReplicaStatus) -> JobError:
    """What is told of the attempts that a worker held when its process ended."""
    failure = status.failure
    if failure is None:
        return JobError(WorkerLost.code, f"its worker {status.worker_name} has ended")
    if failure.code == OutOfMemory.code:
        return JobError(OutOfMemory.code, f"its worker {failure.message}", failure.where, failure.hint)
    if failure.code in (JobTimedOut.code, WorkerLost.code):
        return JobError(failure.code, failure.message, failure.where, failure.hint)
    return JobError(WorkerLost.code, f"its worker was lost: {failure.message}", failure.where, failure.hint)


class WorkerVerdicts:
    """A service: ``start`` and ``stop`` may be called twice, and ``stop`` of one that never started does nothing."""

    def __init__(self, leases: JobLeases) -> None:
        self._leases = leases
        self._waiting: deque[tuple[str, JobError]] = deque(maxlen=MOST_WAITING)
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def look(self, transition: ReplicaTransition) -> None:
        """A transition of any replica; those that end a worker's process are passed on."""
        status = transition.status
        if status.role == "work" and status.phase in ENDED:
            self._waiting.append((status.worker_name, error_of(status)))
            self._news.set()

    async def start(self) -> None:
        """Begin; a second call changes nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._loop(), name="verdicts on workers")

    async def stop(self) -> None:
        """End, with everything told that was seen. A second call changes nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._tell()

    async def _loop(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self._tell()

    async def _tell(self) -> None:
        while self._waiting:
            worker, error = self._waiting[0]
            try:
                gone = await self._leases.abandon(worker, error)
            except Exception as fault:
                log.error("cannot tell that worker %s has ended; its leases run out by themselves: %s", worker, fault)
            else:
                if gone:
                    log.warning("worker %s ended with %d jobs: %s", worker, len(gone), error.message)
            self._waiting.popleft()
