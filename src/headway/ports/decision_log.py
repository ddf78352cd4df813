"""DecisionLog: every scaling decision that was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headway.domain.decisions import DecisionRecord
from headway.domain.replicas import Role


class DecisionLog(Protocol):
    """Append-only but for expiry. A deleted model's decisions stay until they expire."""

    async def append(self, records: Sequence[DecisionRecord]) -> int:
        """Record all of them durably, or none; the cursor of the last one (the newest there is for none)."""
        ...

    async def read(
        self,
        model: str,
        *,
        version: str | None = None,
        since: float | None = None,
        until: float | None = None,
        changed: bool = False,
        role: Role = "serve",
        limit: int = 100,
    ) -> list[DecisionRecord]:
        """The newest ``limit`` of ``role`` with ``since <= at < until``, oldest first; with ``changed`` only such."""
        ...

    async def latest(
        self, model: str, version: str | None = None, at: float | None = None, *, role: Role = "serve"
    ) -> DecisionRecord | None:
        """The newest one about ``role`` recorded not after ``at`` (None: of all); None when there is none."""
        ...

    async def expire(self, before: float, keep: int) -> int:
        """Drop those from before ``before``, but of each version and role the newest ``keep`` stay; how many went."""
        ...
