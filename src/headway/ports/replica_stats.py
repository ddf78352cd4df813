"""ReplicaStats: what every replica is doing, as counters that only grow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LatencyCounts:
    """Predictions answered so far, by how long they took; see ``headway.domain.latency_counts``."""

    counts: Mapping[int, int]
    """By bucket; those without any may be left out."""
    total_s: float
    """All of their times."""
    queue_s: float
    """What of that was spent waiting for a prediction to begin."""


@dataclass(frozen=True, slots=True)
class ReplicaStat:
    """One replica at one moment. Counters belong to one process life: ``epoch`` changes when they begin anew.

    None: not known (yet, or to this runtime). Whoever wants a rate takes two of the same epoch and divides their
    difference by that of ``at``.
    """

    replica_id: str
    at: float
    """When it was measured, on the clock that ``Clock.monotonic`` reads."""
    epoch: str
    cpu_s: float | None = None
    """Processor time of all its processes, those that have ended included."""
    memory_bytes: int | None = None
    """Proportional set size of all its processes: shared pages are counted by their share."""
    in_flight: int | None = None
    """Requests that have arrived and are not answered."""
    in_flight_s: float | None = None
    """The integral of ``in_flight`` over time: request-seconds."""
    finished: int | None = None
    """Requests answered, whatever the status."""
    queue_s: float | None = None
    """Time that requests spent waiting for their prediction to begin, all together."""
    latency: LatencyCounts | None = None


class ReplicaStats(Protocol):
    """Read about once a second for all replicas at once, so it costs microseconds per replica."""

    async def read(self) -> tuple[ReplicaStat, ...]:
        """Every replica whose model server has said anything yet. One that cannot be read is left out; never raises."""
        ...


class RemoteStats(ReplicaStats, Protocol):
    """The same, asked of replicas elsewhere."""

    async def close(self) -> None:
        """Hang up everywhere. Idempotent; may be read again."""
        ...
