"""RelayStore: how far the events of the log were told outside. Durable, beside the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RelayMark:
    """Everything up to and including ``cursor`` was told."""

    log_id: str
    """Random, made with the mark: tells this log's cursors from those of any other log."""
    cursor: int


class RelayStore(Protocol):
    """Marks by name of the relay."""

    async def begin(self, relay: str) -> RelayMark:
        """The mark as it stands; a relay that is new begins with what is recorded from now on."""
        ...

    async def advance(self, relay: str, cursor: int) -> None:
        """Move the mark forward, durably. One that is further already stays; one that never began: nothing."""
        ...
