"""ArmLog: what the versions of a split did, and what became of their predictions."""

from __future__ import annotations

from typing import Protocol

from headway.domain.arms import ArmQuery, ArmTable


class ArmLog(Protocol):
    """Joins feedback to the query log. A question includes all that was written before it was asked."""

    async def arms(self, query: ArmQuery) -> ArmTable:
        """Figures of each version. One without requests has none. Raises ``StorageFailed``."""
        ...
