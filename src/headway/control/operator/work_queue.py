"""WorkQueue: which deployments are to be looked at, and when.

A name stands in the queue once however often it is asked for, is never worked on twice at the same time, and comes
back by itself after a failure, each time later than the time before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from headway.domain.cluster_objects import Name
from headway.ports.clock import Clock

FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 60.0


class WorkQueue:
    """A service of ``workers`` that call ``work``; it returns in how many seconds to come back, or None.

    ``failed`` is told of what ``work`` raised and in how many seconds it is tried again.
    """

    def __init__(
        self,
        clock: Clock,
        work: Callable[[Name], Awaitable[float | None]],
        failed: Callable[[Name, Exception, float], None],
        *,
        workers: int = 4,
    ) -> None:
        self._clock = clock
        self._work = work
        self._failed = failed
        self._workers = workers
        self._due: dict[Name, None] = {}
        self._later: dict[Name, asyncio.Task[None]] = {}
        self._busy: set[Name] = set()
        self._failures: dict[Name, int] = {}
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def idle(self) -> bool:
        """Whether nothing is due and nothing is being worked on."""
        return not self._due and not self._busy

    def add(self, name: Name) -> None:
        """Look at it as soon as possible."""
        self._due[name] = None
        self._wake.set()

    def start(self) -> None:
        """Set the workers to work; nothing when they are."""
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._run(), name=f"operator worker {number}") for number in range(self._workers)
            ]

    async def stop(self) -> None:
        """End the workers, whatever they are in; what was due stays due."""
        tasks, self._tasks = [*self._tasks, *self._later.values()], []
        self._later.clear()
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            name = next((name for name in self._due if name not in self._busy), None)
            if name is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            del self._due[name]
            if later := self._later.pop(name, None):
                later.cancel()
            self._busy.add(name)
            try:
                again_s = await self._work(name)
                self._failures.pop(name, None)
            except asyncio.CancelledError:
                self._due[name] = None
                raise
            except Exception as error:
                count = self._failures[name] = self._failures.get(name, 0) + 1
                again_s = min(FIRST_PAUSE_S * 2 ** (count - 1), LONGEST_PAUSE_S)
                again_s = max(again_s, float(getattr(error, "details", {}).get("retry_after_s", 0)))
                self._failed(name, error, again_s)
            finally:
                self._busy.discard(name)
                self._wake.set()
            if again_s is not None and name not in self._due:
                self._later[name] = asyncio.create_task(self._add_later(name, again_s))

    async def _add_later(self, name: Name, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._later.pop(name, None)
        self.add(name)
