"""ModelWatch: what a load test sees and sets of the model that it loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from headway.domain.load_reports import ScalingMark
from headway.ports.replica_stats import ReplicaStat


@dataclass(frozen=True, slots=True)
class ModelLook:
    """One look."""

    ready: int | None
    """None, as ``wished``: who looks is told of what replicas use alone."""
    wished: int | None
    stats: tuple[ReplicaStat, ...]
    """Of its replicas; ``at`` is on whatever clock the other side measures them."""


class ModelWatch(Protocol):
    """Looks from outside, as any user of the control API could."""

    async def look(self) -> ModelLook | None:
        """None: cannot be told now. Never raises for that."""
        ...

    async def decisions(self, since: float) -> Sequence[ScalingMark]:
        """Changes of the wished replicas since then (seconds since the epoch); ``at_s`` counts from ``since``."""
        ...

    async def set_replicas(self, count: int) -> None:
        """A fixed number, triggers off."""
        ...

    async def set_scaling(self, policy: Mapping[str, Any]) -> None:
        """A policy, as ``spec.scaling`` would say it."""
        ...

    async def restore(self) -> None:
        """Scale as it was scaled before the first change. Nothing when nothing was changed."""
        ...
