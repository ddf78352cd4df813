"""JobRescuer and JobJanitor: look after what nobody else does, and take away what nobody needs any more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from headway.control.jobs.rounds import Rounds
from headway.ports.clock import Clock
from headway.ports.job_store import JobLeases

log = logging.getLogger(__name__)

SWEEP_S: Final = 1.0
CLEAR_S: Final = 10.0
MOST: Final = 1000

OnDue = Callable[[Sequence[tuple[str, str]]], None]
"""Takes ``(model, job id)`` of jobs that wait for a worker and that nobody may know of."""


class JobRescuer:
    """Sweeps every second. Several at once, in as many processes, do no harm."""

    def __init__(self, leases: JobLeases, clock: Clock, on_due: OnDue) -> None:
        self._leases = leases
        self._on_due = on_due
        self._rounds = Rounds("sweep of jobs", clock, SWEEP_S, self.sweep)

    async def start(self) -> None:
        """Begin; a second call changes nothing."""
        await self._rounds.start()

    async def stop(self) -> None:
        """End; a second call changes nothing."""
        await self._rounds.stop()

    async def sweep(self) -> bool:
        """One sweep; whether there may be more to do."""
        swept = await self._leases.sweep(MOST)
        for what, found in (("lost their worker", swept.lost), ("took too long", swept.timed_out)):
            if found:
                log.warning("%d jobs %s: %s", len(found), what, ", ".join(found[:5]))
        if swept.due:
            self._on_due(swept.due)
        return max(len(swept.lost), len(swept.timed_out), len(swept.expired)) >= MOST


class JobJanitor:
    """Removes ended jobs whose time is over."""

    def __init__(self, leases: JobLeases, clock: Clock) -> None:
        self._leases = leases
        self._rounds = Rounds("clearing of jobs", clock, CLEAR_S, self.clear)

    async def start(self) -> None:
        """Begin; a second call changes nothing."""
        await self._rounds.start()

    async def stop(self) -> None:
        """End; a second call changes nothing."""
        await self._rounds.stop()

    async def clear(self) -> bool:
        """One step; whether there is more to remove."""
        return await self._leases.clear(MOST) >= MOST
