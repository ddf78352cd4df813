"""What scaling costs the control plane: a tick a second for 1,000 deployments with two triggers each.

The whole control loop runs on memory adapters: observing 2,000 replicas, their rates over three windows, a question to
an outside source every 15 s for each deployment, the decision, carrying it out, and making the record of it (one a
minute for each version that nothing changes). Load rises and falls, each deployment's at a time of its own, so that
counts change all the time. Not in it: what a real source, database or runtime costs.

Measured is the processor time of this process, divided by the ticks: a tick a second that takes 100 ms is 10 % of a
core.

    python benchmarks/autoscaler_ticks.py [--deployments 1000] [--ticks 180]

Exit 0 when ticks take less than 10 % of a core, 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from headway.adapters.memory.bundles import MemoryBundleStore
from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.decision_log import MemoryDecisionLog
from headway.adapters.memory.event_log import MemoryEventLog
from headway.adapters.memory.gateway import MemoryGateway
from headway.adapters.memory.metric_source import MemoryMetricSource
from headway.adapters.memory.query_log import MemoryQueryLog
from headway.adapters.memory.replica_stats import MemoryReplicaStats
from headway.adapters.memory.runtime import MemoryRuntime
from headway.adapters.memory.scaling_function import MemoryScalingFunctions
from headway.adapters.memory.stores import MemoryDeploymentStore
from headway.control.autoscaler import Autoscaler
from headway.control.book import Changed, DeploymentBook
from headway.control.collector import calm_collector
from headway.control.scaling_service import autoscaler
from headway.domain.decisions import DecisionRecord
from headway.domain.deployments import Deployment, Version
from headway.domain.lifecycle import DeploymentState, VersionState
from headway.domain.replicas import Probe, Probes, ReplicaSpec
from headway.domain.routing_table import Arm
from headway.domain.scaling_spec import Scaling
from headway.domain.spec import VersionSpec
from headway.ports.replica_stats import ReplicaStat

MOST_SHARE: Final = 0.10
REPLICAS: Final = 2
SCALING: Final[dict[str, Any]] = {
    "minReplicas": 1,
    "maxReplicas": 20,
    "triggers": [
        {"type": "concurrency", "target": 4},
        {"type": "redis", "address": "queue:6379", "listName": "work", "listLength": 5},
    ],
    "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
}
DAY_S: Final = 900.0


class CountingLog(MemoryDecisionLog):
    """Keeps nothing: an hour of it is not what is measured."""

    count = 0

    async def append(self, records: Sequence[DecisionRecord]) -> int:
        """As a store does: every document becomes text."""
        for record in records:
            json.dumps(record.document, separators=(",", ":"))
        self.count += len(records)
        return self.count


class Plane:
    """Deployments, their replicas and the loop over them."""

    def __init__(self, folder: Path, deployments: int) -> None:
        self.clock = ManualClock()
        self.names = [f"model-{number:04d}" for number in range(deployments)]
        events = MemoryEventLog()
        self.book = DeploymentBook(MemoryDeploymentStore(events))
        self.runtime = MemoryRuntime(self.clock)
        self.decisions = CountingLog()
        self.stats = MemoryReplicaStats()
        self.stats.follow(self._measure)
        self.source = MemoryMetricSource(3.0)
        self.spent = [0.0] * deployments
        self.took_s = 0.0
        self.autoscaler: Autoscaler = autoscaler(
            book=self.book,
            runtime=self.runtime,
            gateway=MemoryGateway(),
            bundles=MemoryBundleStore(folder),
            stats=self.stats,
            query_log=MemoryQueryLog(),
            sources={"redis": self.source},
            functions=MemoryScalingFunctions(),
            decisions=self.decisions,
            events=events,
            clock=self.clock,
            leaving=frozenset,
            max_age_s=None,
        )

    async def deploy(self) -> None:
        """Every model live with two replicas, which stay two: what is measured is the loop, not the runtime."""
        level = VersionSpec().model_dump(mode="json", by_alias=True)
        policy = Scaling.model_validate(SCALING).model_dump(mode="json", by_alias=True)
        arms = (Arm("v1", 100),)
        specs = []
        for name in self.names:
            version = Version("v1", name, name, 0.0, level, VersionState.LIVE, python="python")
            deployment = Deployment(
                name,
                0.0,
                DeploymentState.READY,
                replicas=REPLICAS,
                versions=(version,),
                target=arms,
                live=arms,
                extra={"scaling": dict(policy)},
            )
            await self.book.change(name, lambda _, made=deployment: Changed(made))  # type: ignore[misc]
            probe = Probe("/")
            for number in range(REPLICAS):
                replica = f"{name}-v1-{number:05d}"
                probes = Probes(probe, probe, probe)
                specs.append(ReplicaSpec(replica, name, "v1", name, "/", "python", None, probes))
        await self.runtime.start()
        await self.runtime.apply(specs)
        await self.clock.elapse(1.0)

    def recorded(self) -> int:
        """Decisions recorded so far."""
        return self.decisions.count

    async def tick(self) -> None:
        """One second later."""
        now = self.clock.monotonic()
        for number in range(len(self.names)):
            self.spent[number] += 10 + 8 * math.sin(2 * math.pi * (now + number) / DAY_S)
        began_s = time.process_time()
        await self.clock.elapse(1.0)
        self.took_s = time.process_time() - began_s

    def _measure(self) -> Iterable[ReplicaStat]:
        now = self.clock.monotonic()
        for name, spent in zip(self.names, self.spent, strict=True):
            for number in range(REPLICAS):
                share = spent / REPLICAS
                yield ReplicaStat(f"{name}-v1-{number:05d}", now, "1", share, 1, 1, share, int(share), 0.0)


async def measure(deployments: int, ticks: int) -> bool:
    """Whether it cost less than it may."""
    with tempfile.TemporaryDirectory() as folder:
        plane = Plane(Path(folder), deployments)
        await plane.deploy()
        await plane.autoscaler.start()
        for _ in range(90):  # windows fill up
            await plane.tick()
        calm_collector()  # as the control plane does
        took = []
        asked = len(plane.source.asked)
        recorded = plane.recorded()
        for _ in range(ticks):
            await plane.tick()
            took.append(plane.took_s)
        asked, recorded = len(plane.source.asked) - asked, plane.recorded() - recorded
        await plane.autoscaler.stop()
        await plane.runtime.stop(stop_replicas=True)
    share = sum(took) / ticks
    middle_ms, most_ms = statistics.median(took) * 1e3, max(took) * 1e3
    print(f"{deployments} deployments, {ticks} ticks: {asked} questions, {recorded} decisions recorded")
    print(f"processor time of a tick: mean {share * 1e3:.1f} ms, median {middle_ms:.1f} ms, most {most_ms:.1f} ms")
    print(f"at a tick a second: {share:.1%} of a core (at most {MOST_SHARE:.0%})")
    return share < MOST_SHARE


def main() -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--deployments", type=int, default=1000)
    parser.add_argument("--ticks", type=int, default=180)
    options = parser.parse_args()
    return 0 if asyncio.run(measure(options.deployments, options.ticks)) else 1


if __name__ == "__main__":
    sys.exit(main())
