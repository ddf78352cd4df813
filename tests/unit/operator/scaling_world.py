"""A cluster in memory, on a clock turned by hand: the operator, its loop, and stand-ins for nodes and controllers."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.cluster import MemoryCluster
from headway.adapters.memory.decision_log import MemoryDecisionLog
from headway.adapters.memory.event_log import MemoryEventLog
from headway.adapters.memory.metric_source import MemoryMetricSource
from headway.adapters.memory.replica_stats import MemoryReplicaStats
from headway.cluster.kinds import MODEL_DEPLOYMENT, SCALERS, SCALING_POLICY
from headway.control.operator.cluster_fleet import ClusterFleet
from headway.control.operator.leader import Leader
from headway.control.operator.resources import operators
from headway.control.operator.secret_sources import SecretSources
from headway.control.operator.target_watch import TargetWatch
from headway.control.scaling_service import cluster_autoscaler
from headway.domain.cluster_objects import DEPLOYMENT, POD, Kind, Name, Object, moment_of, name_of
from headway.domain.decisions import DecisionRecord
from headway.domain.latency_counts import BOUNDS_NS
from headway.ports.metric_source import MetricSource
from headway.ports.replica_stats import LatencyCounts, ReplicaStat

IRIS = Name("models", "iris")
QUICK = {"scaleUp": {"stabilizationWindowSeconds": 0}, "scaleDown": {"stabilizationWindowSeconds": 30}}
CONCURRENCY = {"type": "concurrency", "target": 2, "window": "10s", "panicWindow": "0s"}
REDIS = {"type": "redis", "address": "queue:6379", "listName": "work", "listLength": 5, "pollingInterval": "10s"}
HPA = next(kind for kind in SCALERS if kind.kind == "HorizontalPodAutoscaler")
KEDA = next(kind for kind in SCALERS if kind.kind == "ScaledObject")
CONTROLLER = "kube-controller-manager"


def scaling(*triggers: dict[str, Any], least: int = 1, most: int = 6, **more: Any) -> dict[str, Any]:
    """A ``spec.scaling`` that goes up at once and down after 30 s."""
    return {"minReplicas": least, "maxReplicas": most, "triggers": list(triggers), "behavior": QUICK, **more}


class ScalingCluster:
    """``flight`` requests are in flight all the time, spread over the ready pods of a Deployment (by its name)."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cluster = MemoryCluster()
        self.decisions = MemoryDecisionLog()
        self.events = MemoryEventLog()
        self.source = MemoryMetricSource()
        self.envs: list[Mapping[str, str]] = []
        """What was read from Secrets."""
        self.flight: dict[str, float] = {}
        self.room = 1000
        """Pods that the nodes take."""
        self.stats_known = True
        self.served: dict[str, tuple[float, float, float]] = {}
        """By Deployment: requests per second of all its pods, how long each takes and waits; seconds."""
        self.engine: dict[str, int] = {}
        """What another engine wishes, by Deployment."""
        self._counted: dict[str, tuple[float, dict[int, int], float, float]] = {}
        self._sums: dict[str, tuple[float, float]] = {}
        self._number = 0

    async def up(self, identity: str = "one") -> None:
        """An operator process starts."""
        self.leader = Leader(self.cluster, self.clock, Name("headway-system", "headway"), identity, self._elected)
        self.fleet = ClusterFleet(self.clock, lambda: self.leader.leads)
        self.targets = TargetWatch(self.cluster, self.clock, self.fleet, lambda: self.leader.leads)
        self.operators = operators(self.cluster, self.clock, self.leader, self.fleet, self.targets)
        self.stats = MemoryReplicaStats()
        self.stats.follow(self._measure)
        self.autoscaler = cluster_autoscaler(
            self.fleet,
            stats=self.stats,
            sources=self._sources({}),
            secrets=SecretSources(self.cluster, self.clock, self._sources),
            decisions=self.decisions,
            events=self.events,
            clock=self.clock,
            max_age_s=None,
        )
        self.leader.start()
        for one in self.operators:
            await one.start()
        self.targets.start()
        await self.autoscaler.start()
        await self.clock.settle()

    def _sources(self, env: Mapping[str, str]) -> dict[str, MetricSource]:
        if env:
            self.envs.append(env)
        return dict.fromkeys(("prometheus", "redis", "rabbitmq", "postgresql"), self.source)

    async def down(self) -> None:
        """It ends without a word: its lease runs out."""
        await self.autoscaler.stop()
        await self.targets.stop()
        for one in self.operators:
            await one.stop()
        self.leader._leads_until = float("-inf")
        await self.leader.stop()

    def _elected(self) -> None:
        for one in self.operators:
            one.look_at_all()

    def put(self, spec: dict[str, Any], *, image: str = "iris:1", name: str = "iris", **kubernetes: Any) -> None:
        """As a user does."""
        kubernetes = {"image": image, "route": {"gateway": {"name": "public"}}, **kubernetes}
        item = {"metadata": {"name": name, "namespace": "models"}, "spec": {"kubernetes": kubernetes, **spec}}
        self.cluster.apply_as("kubectl", MODEL_DEPLOYMENT, item)

    def put_policy(self, scaling: dict[str, Any], target: str = "rq-workers", name: str = "workers") -> None:
        """As a user does."""
        spec = {"targetRef": {"name": target}, "scaling": scaling}
        self.cluster.apply_as(
            "kubectl", SCALING_POLICY, {"metadata": {"name": name, "namespace": "models"}, "spec": spec}
        )

    def put_workers(self, replicas: int, name: str = "rq-workers") -> None:
        """A Deployment of somebody else's."""
        labels = {"app": name}
        spec = {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}},
        }
        self.cluster.apply_as("helm", DEPLOYMENT, {"metadata": {"name": name, "namespace": "models"}, "spec": spec})

    async def pass_time(self, seconds: float) -> None:
        """Second by second, as nodes and controllers do their work meanwhile."""
        for _ in range(round(seconds)):
            await self.clock.elapse(1)
            self._work()
            await self.clock.settle()

    def replicas(self) -> dict[str, int]:
        """Wished replicas by Deployment."""
        return {name_of(item).name: item["spec"].get("replicas", 1) for item in self.cluster.every(DEPLOYMENT)}

    def pods(self, deployment: str) -> list[Object]:
        return [pod for pod in self.cluster.every(POD) if pod["metadata"]["name"].startswith(f"{deployment}-")]

    def status(self, name: Name = IRIS, kind: Kind = MODEL_DEPLOYMENT) -> dict[str, Any]:
        found = (self.cluster.find(kind, name) or {}).get("status", {})
        return {**found, **{one["type"]: one for one in found.get("conditions", [])}}

    def said(self, name: Name = IRIS) -> tuple[str, str, str]:
        """The condition ``ScalingActive``."""
        one = self.status(name)["ScalingActive"]
        return one["status"], one["reason"], one["message"]

    def said_of_policy(self) -> tuple[str, str, str]:
        """The same of the policy."""
        one = self.status(Name("models", "workers"), SCALING_POLICY)["ScalingActive"]
        return one["status"], one["reason"], one["message"]

    async def recorded(self, model: str = "models/iris") -> list[DecisionRecord]:
        return await self.decisions.read(model, limit=10_000)

    # -- what stands in for Kubernetes ---------------------------------------------------------------------------------

    def _work(self) -> None:
        for kind, least, most in ((HPA, "minReplicas", "maxReplicas"), (KEDA, "minReplicaCount", "maxReplicaCount")):
            for scaler in self.cluster.every(kind):
                name, spec = name_of(scaler), scaler["spec"]
                wished = min(max(self.engine.get(name.name, 1), spec[least]), spec[most])
                found = self.cluster.find(DEPLOYMENT, name)
                if found is not None and found["spec"].get("replicas", 1) != wished:
                    found["spec"]["replicas"] = wished
                    self.cluster.update_as(CONTROLLER, DEPLOYMENT, found)
        for item in self.cluster.every(DEPLOYMENT):
            name, wished = item["metadata"]["name"], item["spec"].get("replicas", 1)
            pods = self.pods(name)
            for pod in sorted(pods, key=_is_ready)[: max(0, len(pods) - wished)]:
                self.cluster._remove(POD, name_of(pod))
            for _ in range(wished - len(pods)):
                self._number += 1
                pod = {"metadata": {"name": f"{name}-{self._number}", "namespace": item["metadata"]["namespace"]}}
                pod["metadata"]["labels"] = dict(item["spec"].get("template", {}).get("metadata", {}).get("labels", {}))
                self.cluster.update_as(CONTROLLER, POD, pod)
            for pod in self.pods(name):
                if not pod.get("status") or (not _is_ready(pod) and self._has_room()):
                    self._schedule(pod)
            ready = sum(_is_ready(pod) for pod in self.pods(name))
            counts = {"updatedReplicas": wished, "availableReplicas": ready, "readyReplicas": ready}
            status = {"observedGeneration": item["metadata"]["generation"], "replicas": wished, **counts}
            if item.get("status") != status:
                self.cluster.update_as(CONTROLLER, DEPLOYMENT, {**item, "status": status})

    def _has_room(self) -> bool:
        return sum(_is_ready(pod) for pod in self.cluster.every(POD)) < self.room

    def _schedule(self, pod: Object) -> None:
        if self._has_room():
            moment = moment_of(self.clock.now())
            conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": moment}]
            status = {"phase": "Running", "podIP": "10.0.0.1", "conditions": conditions}
        else:
            message = "0/3 nodes are available: 3 Insufficient cpu."
            one = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
            status = {"phase": "Pending", "conditions": [one]}
        self.cluster.update_as("kubelet", POD, {**pod, "status": status})

    def _measure(self) -> Iterator[ReplicaStat]:
        if not self.stats_known:
            return
        at = self.clock.monotonic()
        for name in self.replicas():
            ready = [pod for pod in self.pods(name) if _is_ready(pod)]
            for pod in ready:
                replica_id = f"models/{pod['metadata']['name']}"
                share = self.flight.get(name, 0.0) / len(ready)
                since, spent = self._sums.get(replica_id, (at, 0.0))
                spent += share * (at - since)
                self._sums[replica_id] = (at, spent)
                latency = self._count(name, replica_id, len(ready), at)
                flight = math.ceil(share)
                yield ReplicaStat(
                    replica_id, at, "a", cpu_s=spent, in_flight=flight, in_flight_s=spent, finished=0, latency=latency
                )

    def _count(self, name: str, replica_id: str, pods: int, at: float) -> LatencyCounts:
        rate, takes_s, waits_s = self.served.get(name, (0.0, 0.0, 0.0))
        since, counts, total_s, queue_s = self._counted.get(replica_id, (at, {}, 0.0, 0.0))
        count = round(rate / pods * (at - since))
        if count:
            place = bisect_left(BOUNDS_NS, takes_s * 1e9)
            counts = {**counts, place: counts.get(place, 0) + count}
        self._counted[replica_id] = at, counts, total_s + count * takes_s, queue_s + count * waits_s
        return LatencyCounts(*self._counted[replica_id][1:])


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
