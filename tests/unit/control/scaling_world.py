"""A control plane on memory adapters that scales: load, outside signals and the query log are said by the test."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from headway.adapters.memory.decision_log import MemoryDecisionLog
from headway.adapters.memory.metric_source import MemoryMetricSource
from headway.adapters.memory.query_log import MemoryQueryLog
from headway.adapters.memory.replica_stats import MemoryReplicaStats
from headway.adapters.memory.scaling_function import MemoryScalingFunctions
from headway.control.scaling_service import autoscaler
from headway.domain.decisions import DecisionRecord
from headway.domain.events import Event
from headway.domain.query_log import Arm, QueryRecord
from headway.ports.replica_stats import ReplicaStat

from .world import World

QUICK = {"scaleUp": {"stabilizationWindowSeconds": 0}, "scaleDown": {"stabilizationWindowSeconds": 30}}
CONCURRENCY = {"type": "concurrency", "target": 2, "window": "10s", "panicWindow": "0s"}
REDIS = {"type": "redis", "address": "queue:6379", "listName": "work", "listLength": 5, "pollingInterval": "10s"}


def scaling(*triggers: dict[str, Any], least: int = 1, most: int = 6, **more: Any) -> dict[str, Any]:
    """A ``spec.scaling`` that goes up at once and down after 30 s."""
    return {"minReplicas": least, "maxReplicas": most, "triggers": list(triggers), "behavior": QUICK, **more}


class ScalingWorld(World):
    """``flight[model]`` requests are in flight all the time, spread evenly over the model's ready replicas."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.decisions = MemoryDecisionLog()
        self.query_log = MemoryQueryLog()
        self.flight: dict[str, float] = {}
        self.stats_known = True
        self._sums: dict[str, tuple[float, float]] = {}
        self._seq = 0

    async def up(self) -> None:
        await super().up()
        self.stats = MemoryReplicaStats()
        self.stats.follow(self._measure)
        self.source = MemoryMetricSource()
        self.functions = MemoryScalingFunctions()
        kinds = ("prometheus", "redis", "rabbitmq", "postgresql")
        self.autoscaler = autoscaler(
            book=self.book,
            runtime=self.runtime,
            gateway=self.gateway,
            bundles=self.bundles,
            stats=self.stats,
            query_log=self.query_log,
            sources=dict.fromkeys(kinds, self.source),
            functions=self.functions,
            decisions=self.decisions,
            events=self.log,
            clock=self.clock,
            leaving=lambda: self.reconciler.leaving,
            max_age_s=30 * 86_400.0,
        )
        await self.autoscaler.start()
        await self.clock.settle()

    async def crash(self) -> None:
        await self.autoscaler.stop()
        await super().crash()

    async def publish(self, name: str, spec: dict[str, Any], content: str = "def predict(X): return X") -> None:
        """Deploy and wait until it serves."""
        await self.deploy(name, content, scaling=spec)
        await self.pass_time(2)
        assert self.live(name), self.model(name)

    def wished(self, name: str, version: str = "v1") -> int:
        return self.model(name).wished(version)

    def log_requests(
        self, name: str, count: int, *, total_s: float, queue_s: float, version: str = "v1", arm: Arm = Arm.SPLIT
    ) -> None:
        """So many answered requests, now."""
        now_ns = int(self.clock.now() * 1e9) - 1
        records = [self._record(name, version, now_ns - n, total_s, queue_s) for n in range(count)]
        self.query_log.add(replace(record, arm=arm) for record in records)

    async def recorded(self, name: str) -> list[DecisionRecord]:
        return await self.decisions.read(name, limit=10_000)

    async def events_of(self, *kinds: str) -> list[Event]:
        return [e for e in await self.log.read(limit=10_000) if e.type.removesuffix(".v1") in kinds]

    def _measure(self) -> Iterable[ReplicaStat]:
        """Counters of every ready replica; a core for each request in flight."""
        if not self.stats_known:
            return
        at = self.clock.monotonic()
        ready = [r for r in self.runtime.observe() if r.ready]
        for replica in ready:
            peers = sum(1 for r in ready if r.model == replica.model)
            share = self.flight.get(replica.model, 0.0) / peers
            since, spent = self._sums.get(replica.replica_id, (at, 0.0))
            spent += share * (at - since)
            self._sums[replica.replica_id] = (at, spent)
            yield ReplicaStat(
                replica.replica_id,
                at,
                str(replica.pid),
                cpu_s=spent,
                memory_bytes=64 * 2**20,
                in_flight=math.ceil(share),
                in_flight_s=spent,
                finished=round(spent * 10),
                queue_s=0.0,
            )

    def _record(self, name: str, version: str, ts_ns: int, total_s: float, queue_s: float) -> QueryRecord:
        self._seq += 1
        return QueryRecord(
            ts_ns=ts_ns,
            model=name,
            version=version,
            replica=f"{name}-{version}-00000",
            stream="s",
            seq=self._seq,
            request_id=str(self._seq),
            route="/predict",
            format="rows",
            status=200,
            rows=1,
            batch=1,
            bytes_in=10,
            bytes_out=10,
            total_ns=int(total_s * 1e9),
            queue_ns=int(queue_s * 1e9),
            decode_ns=1,
            predict_ns=1,
            encode_ns=1,
            cold_start=False,
            shed=False,
            expired=False,
            client="",
            arm=Arm.SPLIT,
        )
