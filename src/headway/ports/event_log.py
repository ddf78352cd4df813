"""EventLog: the durable, ordered record of state transitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headway.domain.events import Event, NewEvent


class EventLog(Protocol):
    """Append-only. Cursors grow; what a reader sees after cursor N is never changed by a later append."""

    async def append(self, events: Sequence[NewEvent]) -> int:
        """Record all of them durably, or none; the cursor of the last one (the newest there is for none).

        Events whose key was recorded before are left out.
        """
        ...

    async def read(self, *, after: int = 0, limit: int = 1000, model: str | None = None) -> list[Event]:
        """At most ``limit`` events with a cursor above ``after``, in order; of one model when named."""
        ...

    async def last_cursor(self) -> int:
        """The newest cursor; 0 when there is none."""
        ...

    async def wait(self, after: int, timeout_s: float) -> bool:
        """True as soon as an event with a cursor above ``after`` is recorded; False after ``timeout_s``."""
        ...
