"""ModelDeployments on a faked API server: the real operator, and what stands in for Kubernetes' own controllers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from headway.adapters.kubernetes.cluster import KubernetesCluster
from headway.adapters.local.clock import SystemClock
from headway.cluster.kinds import MODEL_DEPLOYMENT, OWNED, SCALING_POLICY
from headway.control.operator.cluster_fleet import ClusterFleet
from headway.control.operator.leader import Leader
from headway.control.operator.operator import Operator
from headway.control.operator.resources import LABELS, operators
from headway.control.operator.target_watch import TargetWatch
from headway.domain.cluster_objects import DEPLOYMENT, LEASE, POD, Kind, Name, Object, labels_of, name_of, version_of
from tests.services.kubernetes_api import KubernetesApi
from tests.waiting import eventually

KINDS = [MODEL_DEPLOYMENT, SCALING_POLICY, LEASE, POD, *OWNED]
ROUTE = next(kind for kind in OWNED if kind.kind == "HTTPRoute")
IRIS = Name("models", "iris")
GATEWAY = {"gateway": {"name": "public"}}


def model(image: str = "iris:1", name: str = "iris", **spec: Any) -> Object:
    """A ``ModelDeployment`` with a route."""
    kubernetes = {"image": image, "route": GATEWAY, **spec.pop("kubernetes", {})}
    return {"metadata": {"name": name, "namespace": "models"}, "spec": {"kubernetes": kubernetes, **spec}}


def put(api: KubernetesApi, item: Object, kind: Kind = MODEL_DEPLOYMENT) -> Object:
    """As a user does."""
    return api.cluster.apply_as("kubectl", kind, item)


class Looking:
    """Everything that one operator process runs."""

    def __init__(self, cluster: KubernetesCluster, identity: str, resync_s: float) -> None:
        clock = SystemClock()
        self.leader = Leader(cluster, clock, Name("headway-system", "headway"), identity, self.look_at_all)
        self.fleet = ClusterFleet(clock, lambda: self.leader.leads)
        self.targets = TargetWatch(cluster, clock, self.fleet, lambda: self.leader.leads)
        self.operators: list[Operator] = operators(
            cluster, clock, self.leader, self.fleet, self.targets, resync_s=resync_s
        )

    @property
    def idle(self) -> bool:
        return all(one.idle for one in self.operators)

    def knows_all(self, api: KubernetesApi) -> bool:
        """Whether the caches have caught up with the server."""
        return all(
            {name_of(item): version_of(item) for item in cache.all()}
            == {name_of(item): version_of(item) for item in api.cluster.every(cache.kind) if is_followed(item)}
            for one in self.operators
            for cache in (one._owners, *one._caches.values())
            if cache.installed is not False
        )

    def look_at_all(self) -> None:
        for one in self.operators:
            one.look_at_all()


@asynccontextmanager
async def operating(api: KubernetesApi, identity: str = "one", *, resync_s: float = 1800.0) -> AsyncIterator[Looking]:
    """An operator process: its own connections, caches and office."""
    async with httpx2.AsyncClient(base_url=api.url, timeout=60, verify=False) as http:
        looking = Looking(KubernetesCluster(http), identity, resync_s)
        looking.leader.start()
        looking.targets.start()
        for one in looking.operators:
            await one.start()
        try:
            yield looking
        finally:
            for one in looking.operators:
                await one.stop()
            await looking.targets.stop()
            await looking.leader.stop()


def is_followed(item: Object) -> bool:
    """Custom resources, and what bears the label of ours."""
    return item["kind"] in (MODEL_DEPLOYMENT.kind, SCALING_POLICY.kind) or LABELS.items() <= labels_of(item).items()


def bring_up(api: KubernetesApi, *but: str) -> bool:
    """As Kubernetes' controllers and kubelets do: every Deployment has the pods it asks for, those of ``but`` none.

    Whether that was so already.
    """
    was_so = True
    for item in api.cluster.every(DEPLOYMENT):
        wished = item["spec"].get("replicas", 1)
        up = 0 if item["metadata"]["name"] in but else wished
        counts = dict.fromkeys(("updatedReplicas", "availableReplicas", "readyReplicas"), up)
        status = {"observedGeneration": item["metadata"].get("generation", 0), "replicas": wished, **counts}
        if item.get("status") != status:
            api.cluster.update_as("kube-controller-manager", DEPLOYMENT, {**item, "status": status})
            was_so = False
    return was_so


async def settled(api: KubernetesApi, *looking: Looking, but: tuple[str, ...] = ()) -> None:
    """Until nobody has anything left to do; then another look at everything writes nothing."""

    def quiet() -> bool:
        return (
            any(one.leader.leads for one in looking)  # who does not lead has nothing to do
            and bring_up(api, *but)
            and all(one.knows_all(api) and one.idle for one in looking)
            and all(observed(item) for item in api.cluster.every(MODEL_DEPLOYMENT))
        )

    while True:
        await eventually(quiet, 90, what="the operator is idle")
        before = writes(api)
        for one in looking:
            one.look_at_all()
        await eventually(quiet, 90, what="the operator is idle again")
        if writes(api) == before:
            return


def observed(item: Object) -> bool:
    """Whether the status is about the document as it is now."""
    return bool(item.get("status", {}).get("observedGeneration") == item["metadata"].get("generation", 0))


def writes(api: KubernetesApi) -> list[str]:
    """The paths written to, the leader's lease left out."""
    return [p for method in ("PATCH", "PUT", "POST", "DELETE") for p in api.asked(method) if "/leases" not in p]


def replicas(api: KubernetesApi) -> dict[str, int]:
    """Wished replicas by Deployment."""
    return {name_of(item).name: item["spec"].get("replicas", -1) for item in api.cluster.every(DEPLOYMENT)}


def weights(api: KubernetesApi, name: str = "iris") -> dict[str, int]:
    """The split that the model's route has."""
    route = api.cluster.find(ROUTE, Name("models", name))
    if route is None:
        return {}
    return {backend["name"]: backend["weight"] for backend in route["spec"]["rules"][-1]["backendRefs"]}


def condition(api: KubernetesApi, type_: str, name: Name = IRIS, kind: Kind = MODEL_DEPLOYMENT) -> tuple[str, str, str]:
    """Status, reason and message of a condition."""
    item = api.cluster.find(kind, name)
    assert item is not None
    for one in item.get("status", {}).get("conditions", []):
        if one["type"] == type_:
            return one["status"], one["reason"], one["message"]
    return "", "", ""
