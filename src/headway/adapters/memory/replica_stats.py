"""Replica stats that a test, or a simulation, says."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from headway.ports.replica_stats import ReplicaStat


class MemoryReplicaStats:
    """The ``ReplicaStats`` port. ``say`` replaces what is read; ``follow`` asks a function each time instead."""

    def __init__(self) -> None:
        self._stats: dict[str, ReplicaStat] = {}
        self._source: Callable[[], Iterable[ReplicaStat]] | None = None

    def say(self, *stats: ReplicaStat) -> None:
        """What these replicas are doing, from now on."""
        self._stats |= {stat.replica_id: stat for stat in stats}

    def forget(self, *replica_ids: str) -> None:
        """These cannot be read any more; without names, none can."""
        for replica_id in replica_ids or tuple(self._stats):
            self._stats.pop(replica_id, None)

    def follow(self, source: Callable[[], Iterable[ReplicaStat]] | None) -> None:
        """Read from ``source`` from now on; None: what was said."""
        self._source = source

    async def read(self) -> tuple[ReplicaStat, ...]:
        """See the port."""
        return tuple(self._stats.values()) if self._source is None else tuple(self._source())
