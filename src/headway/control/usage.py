"""UsageService: what the replicas of a model have used so far, for those who look from outside."""

from __future__ import annotations

import asyncio
from typing import Final

from headway.domain.replicas import serving
from headway.ports.clock import Clock
from headway.ports.replica_stats import ReplicaStat, ReplicaStats
from headway.ports.runtime import Runtime

FRESH_S: Final = 0.5
"""Younger figures are given again: however many ask, replicas are measured twice a second."""


class UsageService:
    """Counters as they stand; whoever wants a rate asks twice."""

    def __init__(self, stats: ReplicaStats, runtime: Runtime, clock: Clock) -> None:
        self._stats = stats
        self._runtime = runtime
        self._clock = clock
        self._read: tuple[ReplicaStat, ...] = ()
        self._read_at: float | None = None
        self._reading = asyncio.Lock()

    async def of(self, model: str) -> tuple[ReplicaStat, ...]:
        """Of each replica of ``model`` that is ready and can be measured."""
        async with self._reading:
            now = self._clock.monotonic()
            if self._read_at is None or now - self._read_at >= FRESH_S:
                self._read, self._read_at = await self._stats.read(), now
        seen = serving(self._runtime.observe())
        own = {replica.replica_id for replica in seen if replica.model == model and replica.ready}
        return tuple(stat for stat in self._read if stat.replica_id in own)
