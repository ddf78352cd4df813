"""What only a real API server can judge: it takes every object, the operator's rights suffice, all of it settles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from headway.cluster.kinds import MODEL_DEPLOYMENT, OWNED, SCALING_POLICY, kind_of
from headway.cluster.names import MODEL_LABEL
from headway.domain.cluster_objects import DEPLOYMENT, POD, Kind
from tests.e2e.blackbox.cluster_place import ClusterPlace
from tests.services.cluster import RealCluster
from tests.waiting import wait_until

pytestmark = pytest.mark.cluster

SERVICE, HTTP_ROUTE = kind_of({"kind": "Service"}), kind_of({"kind": "HTTPRoute"})
TRAEFIK, SCALED_OBJECT, HPA = (
    kind_of({"kind": "IngressRoute"}),
    kind_of({"kind": "ScaledObject"}),
    kind_of({"kind": "HorizontalPodAutoscaler"}),
)


class World:
    """ModelDeployments as kubectl makes them."""

    def __init__(self, cluster: RealCluster, place: ClusterPlace) -> None:
        self.cluster = cluster
        self.place = place
        self._made: list[tuple[Kind, str]] = []

    def put(self, name: str, kubernetes: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
        kubernetes = {**self.place.kubernetes(), **(kubernetes or {})}
        return self.put_resource(MODEL_DEPLOYMENT, name, {"kubernetes": kubernetes, **spec})

    def put_resource(self, kind: Kind, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        self._made.append((kind, name))
        metadata = {"name": name, "namespace": self.cluster.namespace}
        return self.cluster.apply(
            kind, {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}
        )

    def condition(self, name: str, type_: str, kind: Kind = MODEL_DEPLOYMENT) -> dict[str, Any]:
        """Of the resource as it is now; empty before it was looked at."""
        found = self.cluster.read(kind, name) or {}
        status = found.get("status") or {}
        if status.get("observedGeneration") != found.get("metadata", {}).get("generation"):
            return {}
        return next((one for one in status.get("conditions", []) if one["type"] == type_), {})

    def wait(
        self, name: str, type_: str = "Ready", status: str = "True", kind: Kind = MODEL_DEPLOYMENT
    ) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            found = self.condition(name, type_, kind)
            return found if found.get("status") == status else None

        what = f"{type_}={status} of {name}"
        try:
            return wait_until(reached, self.place.patience_s, what=what) or {}
        except AssertionError:
            pytest.fail(f"not {what}: {self.cluster.read(kind, name)}\n{self.cluster.operator_log()[-3000:]}")

    def owned(self, name: str) -> list[dict[str, Any]]:
        kinds = [kind for kind in OWNED if self.cluster.knows(kind)]
        return [one for kind in kinds for one in self.cluster.all(kind, **{MODEL_LABEL: name})]

    def clear(self) -> None:
        for kind, name in self._made:
            self.cluster.delete(kind, name)
        names = {name for _, name in self._made}
        wait_until(
            lambda: not any(self.owned(name) for name in names), self.place.patience_s, what=f"objects of {names} gone"
        )


@pytest.fixture
def world(real_cluster: RealCluster, cluster_place: ClusterPlace) -> Iterator[World]:
    found = World(real_cluster, cluster_place)
    yield found
    found.clear()


def test_it_settles_and_then_nobody_writes(world: World) -> None:
    world.put("settled", scaling={"minReplicas": 2})
    world.wait("settled")
    wait_until(
        lambda: (world.cluster.read(MODEL_DEPLOYMENT, "settled") or {})["status"]["readyReplicas"] == 2,
        world.place.patience_s,
    )
    before = {one["metadata"]["uid"]: ours(one) for one in world.owned("settled")}
    assert len(before) >= 5
    # Whatever starts anew looks at everything anew.
    world.place.needs("control")
    world.cluster.kill_operator()
    world.cluster.start_operator()
    world.put("beside")
    world.wait("beside")
    assert {one["metadata"]["uid"]: ours(one) for one in world.owned("settled")} == before


def ours(item: dict[str, Any]) -> list[dict[str, Any]]:
    """When the operator last wrote it."""
    return [one for one in item["metadata"]["managedFields"] if one["manager"] == "headway"]


def test_what_others_change_is_put_right_and_what_they_add_is_left(world: World) -> None:
    world.put("drifting", scaling={"minReplicas": 1})
    world.wait("drifting")
    (deployment,) = world.cluster.all(DEPLOYMENT, **{MODEL_LABEL: "drifting"})
    name = deployment["metadata"]["name"]
    head = {"apiVersion": "apps/v1", "kind": "Deployment"}
    place = {"name": name, "namespace": world.cluster.namespace}
    noted = {**head, "metadata": {**place, "annotations": {"team.example/note": "kept"}}}
    world.cluster.apply(DEPLOYMENT, noted, "somebody")
    world.cluster.apply(DEPLOYMENT, {**head, "metadata": place, "spec": {"replicas": 3}}, "meddler")
    world.cluster.delete(SERVICE, name)

    def mended() -> bool:
        found = world.cluster.read(DEPLOYMENT, name) or {}
        return found["spec"]["replicas"] == 1 and world.cluster.read(SERVICE, name) is not None

    wait_until(mended, world.place.patience_s, what="one replica and a Service again")
    assert (world.cluster.read(DEPLOYMENT, name) or {})["metadata"]["annotations"]["team.example/note"] == "kept"


def test_what_is_deleted_leaves_nothing(world: World) -> None:
    world.put("leaving")
    world.wait("leaving")
    world.cluster.delete(MODEL_DEPLOYMENT, "leaving")
    wait_until(lambda: not world.owned("leaving"), world.place.patience_s, what="no object left")
    wait_until(
        lambda: not world.cluster.all(POD, **{MODEL_LABEL: "leaving"}), world.place.patience_s, what="no pod left"
    )


def test_the_scale_subresource_scales(world: World) -> None:
    world.put("sized")
    world.wait("sized")
    answer = world.cluster.http.patch(
        world.cluster.path(MODEL_DEPLOYMENT, "sized/scale"),
        json={"spec": {"replicas": 2}},
        headers={"content-type": "application/merge-patch+json"},
    )
    assert answer.status_code == 200, answer.text
    wait_until(
        lambda: (world.cluster.read(MODEL_DEPLOYMENT, "sized") or {})["status"].get("readyReplicas") == 2,
        world.place.patience_s,
    )
    scale = world.cluster.http.get(world.cluster.path(MODEL_DEPLOYMENT, "sized/scale")).json()
    assert scale["status"]["replicas"] == 2


ROUTES: dict[str, tuple[Kind, dict[str, Any]]] = {
    "Gateway API": (HTTP_ROUTE, {"gateway": {"name": "public"}, "hosts": ["models.example.com"]}),
    "Traefik": (
        TRAEFIK,
        {"ingress": {"entryPoints": ["websecure"], "tlsSecret": "models-tls"}, "hosts": ["models.example.com"]},
    ),
}


@pytest.mark.parametrize("router", ROUTES)
def test_routes_are_taken(world: World, router: str) -> None:
    kind, route = ROUTES[router]
    if not world.cluster.knows(kind):
        pytest.skip(f"the cluster does not know {kind.kind} ({router})")
    world.put("routed", {"route": route}, env=[{"name": "FACTOR", "value": "2"}])
    world.wait("routed")
    traffic = [{"version": "v1", "weight": 90}, {"version": "v2", "weight": 10}]
    world.put("routed", {"route": route}, env=[{"name": "FACTOR", "value": "3"}], traffic=traffic)
    wait_until(
        lambda: (world.cluster.read(MODEL_DEPLOYMENT, "routed") or {})["status"]["traffic"] == "v1 90 %, v2 10 %",
        world.place.patience_s,
    )
    assert world.condition("routed", "Applied")["status"] == "True", world.condition("routed", "Applied")
    assert world.cluster.all(kind, **{MODEL_LABEL: "routed"})


def test_keda_objects_are_taken(world: World) -> None:
    if not world.cluster.knows(SCALED_OBJECT):
        pytest.skip("the cluster does not know ScaledObject (KEDA)")
    triggers = [
        {"type": "prometheus", "serverAddress": "http://prometheus.example:9090", "query": "sum(x)", "threshold": 10},
        {"type": "rabbitmq", "hostFromEnv": "RABBITMQ", "queueName": "work", "value": 20},
        {"type": "cron", "timezone": "Europe/Vienna", "start": "0 8 * * *", "end": "0 18 * * *", "desiredReplicas": 2},
    ]
    engine = {"engine": "keda", "triggerSecret": "signals"}
    world.put("by-keda", engine, scaling={"minReplicas": 1, "maxReplicas": 4, "triggers": triggers})
    applied = world.wait("by-keda", "Applied")
    assert applied["reason"] == "Applied"
    (scaled,) = world.cluster.all(SCALED_OBJECT, **{MODEL_LABEL: "by-keda"})
    assert len(scaled["spec"]["triggers"]) == 3


def test_the_horizontal_autoscaler_moves_the_number(world: World) -> None:
    world.place.needs("answers")
    if world.cluster.http.get("/apis/metrics.k8s.io/v1beta1/pods").status_code != 200:
        pytest.skip("the cluster serves no metrics.k8s.io")
    # A share that an idle model server is above of: it asks for more at once.
    triggers = [{"type": "memory", "target": "1%"}]
    world.put(
        "by-hpa",
        {"engine": "hpa"},
        resources={"memory": "256Mi"},
        scaling={"minReplicas": 1, "maxReplicas": 3, "triggers": triggers},
    )
    world.wait("by-hpa")
    wait_until(
        lambda: (world.cluster.read(MODEL_DEPLOYMENT, "by-hpa") or {})["status"]["readyReplicas"] == 3,
        world.place.patience_s + 120,
        what="three replicas by the autoscaler",
    )


def test_a_policy_for_what_is_no_model_is_taken(world: World) -> None:
    world.put_resource(
        SCALING_POLICY,
        "workers",
        {
            "targetRef": {"name": "rq-workers"},
            "engine": "hpa",
            "scaling": {"minReplicas": 5, "maxReplicas": 30, "triggers": [{"type": "cpu", "target": "80%"}]},
        },
    )
    world.wait("workers", "Ready", kind=SCALING_POLICY)
    assert (world.cluster.read(HPA, "workers") or {})["spec"]["maxReplicas"] == 30


WRONG: dict[str, dict[str, Any]] = {
    "a word for a number": {"scaling": {"minReplicas": "many"}},
    "an unknown trigger": {"scaling": {"triggers": [{"type": "prometeus"}]}},
    "a quantity": {"resources": {"memory": "lots"}},
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_refused_by_the_api_server_or_by_the_condition(world: World, kind: str) -> None:
    cluster = world.cluster
    spec = {"kubernetes": world.place.kubernetes(), **WRONG[kind]}
    metadata = {"name": "wrong", "namespace": cluster.namespace}
    body = {
        "apiVersion": MODEL_DEPLOYMENT.api_version,
        "kind": MODEL_DEPLOYMENT.kind,
        "metadata": metadata,
        "spec": spec,
    }
    answer: httpx2.Response = cluster.http.post(cluster.path(MODEL_DEPLOYMENT), json=body)
    if answer.status_code == 201:
        world._made.append((MODEL_DEPLOYMENT, "wrong"))
        refused = world.wait("wrong", "Accepted", "False")
        assert next(iter(WRONG[kind])) in refused["message"]
        assert world.owned("wrong") == []
    else:
        assert answer.status_code == 422, answer.text
        assert f"spec.{next(iter(WRONG[kind]))}" in answer.text


def test_why_pods_do_not_come_up_stands_in_the_status(world: World) -> None:
    world.put("stuck")
    world.wait("stuck")
    world.put("stuck", resources={"cpu": "900", "memory": "4000Gi"})
    found = world.wait("stuck", "Healthy", "False")
    assert found["reason"] == "Unschedulable"
    assert "cpu" in found["message"] or "memory" in found["message"]
    assert world.condition("stuck", "Ready")["status"] == "True", "the one before serves on"


def test_an_image_that_is_missing_is_told(world: World) -> None:
    world.place.needs("answers")
    world.put("imageless", {"image": "registry.invalid/missing/image:1"})
    found = world.wait("imageless", "Healthy", "False")
    assert found["reason"] == "ImagePullFailed"
    assert "registry.invalid/missing/image:1" in found["message"]


def test_the_rights_suffice(world: World) -> None:
    world.put("rightful")
    world.wait("rightful")
    world.place.needs("control")
    assert "forbidden" not in world.cluster.operator_log().lower()
