"""A model to look at whose replicas are whatever one says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headway.domain.load_reports import ScalingMark
from headway.ports.clock import Clock
from headway.ports.model_watch import ModelLook
from headway.ports.replica_stats import ReplicaStat


class MemoryModelWatch:
    """The ``ModelWatch`` port. Replicas are ready at once and use ``cpu_cores`` each."""

    def __init__(self, clock: Clock, replicas: int = 1) -> None:
        self._clock = clock
        self.replicas = replicas
        self.cpu_cores = 0.5
        self.seen = True
        """False: it cannot be looked at."""
        self.policy: Mapping[str, Any] | None = None
        self.marks: list[ScalingMark] = []
        self.calls: list[object] = []
        """What was set: a count, a policy, ``restore``."""
        self._before: int | None = None

    async def look(self) -> ModelLook | None:
        """See the port."""
        if not self.seen:
            return None
        at = self._clock.monotonic()
        stats = tuple(
            ReplicaStat(f"r{number}", at, "1", cpu_s=at * self.cpu_cores, memory_bytes=1 << 20)
            for number in range(self.replicas)
        )
        return ModelLook(self.replicas, self.replicas, stats)

    async def decisions(self, since: float) -> Sequence[ScalingMark]:
        """See the port."""
        return self.marks

    async def set_replicas(self, count: int) -> None:
        """See the port."""
        self._remember()
        self.calls.append(count)
        self.replicas, self.policy = count, None

    async def set_scaling(self, policy: Mapping[str, Any]) -> None:
        """See the port."""
        self._remember()
        self.calls.append(dict(policy))
        self.policy = policy

    async def restore(self) -> None:
        """See the port."""
        if self._before is not None:
            self.calls.append("restore")
            self.replicas, self._before, self.policy = self._before, None, None

    def _remember(self) -> None:
        if self._before is None:
            self._before = self.replicas
