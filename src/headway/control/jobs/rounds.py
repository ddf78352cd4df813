"""Rounds: one step, again and again, as a service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from headway.control.waits import pause
from headway.ports.clock import Clock

log = logging.getLogger(__name__)


class Rounds:
    """Runs ``step`` every ``every_s`` seconds, and at once again while it returns True (there is more to do).

    A step that raises is tried again in the next round; a row of failures is logged once, and so is its end.
    """

    def __init__(self, name: str, clock: Clock, every_s: float, step: Callable[[], Awaitable[bool]]) -> None:
        self._name = name
        self._clock = clock
        self._every_s = every_s
        self._step = step
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    async def start(self) -> None:
        """Begin; a second call changes nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """End, also in the middle of a step; a second call changes nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def wake(self) -> None:
        """Ask for a round soon."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            if not await self._round():
                await pause(self._clock, self._every_s, self._wake)

    async def _round(self) -> bool:
        try:
            more = await self._step()
        except Exception as error:
            if not self._failing:
                log.error("%s: %s; tried again every %g s", self._name, error, self._every_s, exc_info=error)
            self._failing = True
            return False
        if self._failing:
            log.info("%s: works again", self._name)
        self._failing = False
        return more
