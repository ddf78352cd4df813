"""SightingStore: what events have told of each object of a cluster. Durable, in one transaction with the events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headway.domain.sightings import Sighting, Step


class SightingStore(Protocol):
    """The last sighting of each object, by uid."""

    async def load(self) -> list[Sighting]:
        """All of them, those of objects that are gone included, until they are forgotten."""
        ...

    async def record(self, steps: Sequence[Step]) -> None:
        """All steps with their events, in order, or nothing.

        Raises ``StaleWrite`` when the last sighting of an object is another than the one its step starts from. Events
        whose key was recorded before are left out.
        """
        ...

    async def forget(self, gone_before: float) -> None:
        """Forget objects that went before that moment, seconds since the epoch. Their uids never come again."""
        ...
