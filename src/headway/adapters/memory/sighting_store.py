"""Sightings of a cluster's objects in memory."""

from __future__ import annotations

from collections.abc import Sequence

from headway.adapters.memory.event_log import MemoryEventLog
from headway.domain.errors import StaleWrite
from headway.domain.sightings import Sighting, Step


class MemorySightingStore:
    """The ``SightingStore`` port beside a log in memory."""

    def __init__(self, log: MemoryEventLog) -> None:
        self._log = log
        self._sightings: dict[str, Sighting] = {}

    async def load(self) -> list[Sighting]:
        """See the port."""
        return list(self._sightings.values())

    async def record(self, steps: Sequence[Step]) -> None:
        """See the port."""
        found = dict(self._sightings)
        for step in steps:
            held, before = found.get(step.after.uid), step.before
            known = None if held is None else (held.version, held.gone_at is None)
            if known != (None if before is None else (before.version, before.gone_at is None)):
                raise StaleWrite(f"{step.after.kind} {step.after.name} was told of by somebody else meanwhile")
            found[step.after.uid] = step.after
        self._log.record(self._log.prepare([event for step in steps for event in step.events]))
        self._sightings = found

    async def forget(self, gone_before: float) -> None:
        """See the port."""
        self._sightings = {
            uid: one for uid, one in self._sightings.items() if one.gone_at is None or one.gone_at >= gone_before
        }
