"""Replica stats in memory keep the contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.replica_stats import MemoryReplicaStats
from headway.ports.replica_stats import ReplicaStat
from tests.contracts.replica_stats_contract import ReplicaStatsContract


@dataclass
class Simulated:
    life: int
    in_flight: int = 0
    finished: int = 0
    flown: float = 0.0


@dataclass
class MemoryFleet:
    stats: MemoryReplicaStats = field(default_factory=MemoryReplicaStats)
    clock: ManualClock = field(default_factory=ManualClock)
    replicas: dict[str, Simulated] = field(default_factory=dict)
    lives: int = 0

    def __post_init__(self) -> None:
        self.stats.follow(self.measured)

    def measured(self) -> Iterator[ReplicaStat]:
        for name, one in self.replicas.items():
            yield ReplicaStat(
                name,
                self.clock.monotonic(),
                str(one.life),
                in_flight=one.in_flight,
                in_flight_s=one.flown,
                finished=one.finished,
                queue_s=0.0,
            )

    def start(self, replica_id: str) -> None:
        self.lives += 1
        self.replicas[replica_id] = Simulated(self.lives)

    def arrive(self, replica_id: str, count: int) -> None:
        self.replicas[replica_id].in_flight += count

    def answer(self, replica_id: str, count: int) -> None:
        self.replicas[replica_id].in_flight -= count
        self.replicas[replica_id].finished += count

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        for one in self.replicas.values():
            one.flown += one.in_flight * seconds

    def monotonic(self) -> float:
        return self.clock.monotonic()

    def kill(self, replica_id: str) -> None:
        del self.replicas[replica_id]

    spoil = kill


class TestMemoryReplicaStats(ReplicaStatsContract):
    @pytest.fixture
    def fleet(self) -> MemoryFleet:
        return MemoryFleet()


async def said(stats: MemoryReplicaStats) -> list[tuple[str, int | None]]:
    return [(one.replica_id, one.in_flight) for one in await stats.read()]


@pytest.mark.anyio
async def test_what_is_said_is_read_until_it_is_forgotten(anyio_backend: str) -> None:
    stats = MemoryReplicaStats()
    stats.say(ReplicaStat("a", 1.0, "x", in_flight=1), ReplicaStat("b", 1.0, "x", in_flight=2))
    stats.say(ReplicaStat("a", 2.0, "x", in_flight=3))
    assert await said(stats) == [("a", 3), ("b", 2)]
    stats.forget("a")
    assert await said(stats) == [("b", 2)]
    stats.forget()
    assert await said(stats) == []
