"""PlanStore: capacity plans, as they were measured."""

from __future__ import annotations

from typing import Protocol

from headway.domain.plans import PlanRecord


class PlanStore(Protocol):
    """Of each model the newest plans are kept, also of a deleted one: for the next of its name they are stale."""

    async def add(self, record: PlanRecord, keep: int = 20) -> PlanRecord:
        """Store it durably; the stored one, with its number. Of its model only the newest ``keep`` stay.

        Raises ``HeadwayError`` for a document that is not JSON; then nothing is stored.
        """
        ...

    async def read(self, model: str, limit: int = 20) -> list[PlanRecord]:
        """The newest ``limit`` plans of ``model``, the newest first."""
        ...
