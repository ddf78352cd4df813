"""A small kind of deployment on a faked API server, and operators that look after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from headway.adapters.kubernetes.cluster import KubernetesCluster
from headway.adapters.local.clock import SystemClock
from headway.control.operator.leader import Leader
from headway.control.operator.operator import Children, Failure, Operator, Wanted
from headway.domain.cluster_drift import says, stamped
from headway.domain.cluster_objects import DEPLOYMENT, Kind, Name, Object, name_of, uid_of
from headway.ports.clock import Clock
from tests.services.kubernetes_api import KubernetesApi
from tests.waiting import eventually

OWNER = Kind("headway.dev/v1alpha1", "ModelDeployment", "modeldeployments")
SERVICE = Kind("v1", "Service", "services")
ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
KINDS = [DEPLOYMENT, SERVICE, ROUTE]
OURS = {"app.kubernetes.io/managed-by": "headway"}
IRIS = Name("team-a", "iris")


def deployment(name: str = "iris", versions: Sequence[str] = ("v1", "v2"), **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "team-a"}, "spec": {"versions": list(versions), **spec}}


def render(owner: Object, children: Children, failures: Sequence[Failure], now: float) -> Wanted:
    """A Deployment and a Service for every version, and a route to all of them."""
    name, versions = owner["metadata"]["name"], owner["spec"]["versions"]
    reference = {
        "apiVersion": OWNER.api_version, "kind": OWNER.kind, "name": name, "uid": uid_of(owner), "controller": True,
    }  # fmt: skip

    def of(suffix: str, spec: Any) -> Object:
        metadata = {"name": f"{name}{suffix}", "namespace": "team-a", "labels": OURS, "ownerReferences": [reference]}
        return {"metadata": metadata, "spec": spec}

    objects: list[tuple[Kind, Object]] = []
    for version in versions:
        pods = {"spec": {"containers": [{"name": "model", "image": owner["spec"].get("image", "a")}]}}
        objects.append(
            (DEPLOYMENT, of(f"-{version}", {"replicas": owner["spec"].get("replicas", 1), "template": pods}))
        )
        objects.append((SERVICE, of(f"-{version}", {"ports": [{"port": 80}], "selector": {"version": version}})))
    objects.append((ROUTE, of("", {"rules": [{"backendRefs": [{"name": f"{name}-{v}"} for v in versions]}]})))
    ready = sum(item.get("status", {}).get("readyReplicas", 0) for item in children.of(DEPLOYMENT))
    status = {"ready": ready, "failures": [f"{f.where}: {f.message}" for f in failures]}
    return Wanted(objects, status)


@asynccontextmanager
async def operating(
    api: KubernetesApi, identity: str = "one", *, clock: Clock | None = None, resync_s: float = 1800.0
) -> AsyncIterator[Operator]:
    """An operator of its own process's kind: its own connections, cache and office."""
    made = clock or SystemClock()
    async with httpx2.AsyncClient(base_url=api.url, timeout=30, verify=False) as http:
        cluster = KubernetesCluster(http)
        operators: list[Operator] = []
        leader = Leader(cluster, made, Name("headway", "operator"), identity, lambda: operators[0].look_at_all())
        operator = Operator(cluster, made, leader, render, owner=OWNER, kinds=KINDS, labels=OURS, resync_s=resync_s)
        operators.append(operator)
        leader.start()
        await operator.start()
        try:
            yield operator
        finally:
            await operator.stop()
            await leader.stop()


def put(api: KubernetesApi, item: Object) -> Object:
    """As a user does."""
    return api.cluster.apply_as("kubectl", OWNER, item)


def edit(
    api: KubernetesApi, kind: Kind, name: Name, change: Callable[[dict[str, Any]], None], who: str = "kubectl"
) -> None:
    """As somebody does who did not ask the operator."""
    item = api.cluster.find(kind, name)
    assert item is not None
    change(item)
    api.cluster.update_as(who, kind, item)


def difference(api: KubernetesApi, ready: int | None = 0) -> list[str]:
    """What the cluster does not say and should, or says and should not; empty when all is as wanted."""
    found: list[str] = []
    wanted_names: set[tuple[Kind, Name]] = set()
    for owner in api.cluster.every(OWNER):
        wanted = render(owner, _NoChildren(), (), 0.0)
        for kind, item in wanted.objects or ():
            wanted_names.add((kind, name_of(item)))
            live = api.cluster.find(kind, name_of(item))
            if live is None or not says(live, stamped(item)):
                found.append(f"{kind.kind} {name_of(item)}")
        if ready is not None and owner.get("status") != {"ready": ready, "failures": []}:
            found.append(f"status of {name_of(owner)}: {owner.get('status')}")
    for kind in KINDS:
        found.extend(
            f"{kind.kind} {name_of(item)} is left over"
            for item in api.cluster.every(kind)
            if item["metadata"].get("labels") == OURS and (kind, name_of(item)) not in wanted_names
        )
    return found


class _NoChildren(Children):
    def __init__(self) -> None:
        super().__init__({}, "", {}, Name("", ""))

    def of(self, kind: Kind) -> list[Object]:
        return []


async def converged(api: KubernetesApi, *operators: Operator, ready: int | None = 0) -> None:
    """Until all is as wanted; then another look at everything writes nothing."""
    await eventually(
        lambda: not difference(api, ready) and all(operator.idle for operator in operators),
        60,
        what="all is as wanted",
    )
    written = writes(api)
    for operator in operators:
        operator.look_at_all()
    await eventually(lambda: all(operator.idle for operator in operators))
    assert writes(api) == written, api.requests[-10:]


def writes(api: KubernetesApi) -> list[str]:
    """The paths written to, the leader's lease left out."""
    return [
        path for method in ("PATCH", "PUT", "POST", "DELETE") for path in api.asked(method) if "/leases" not in path
    ]
