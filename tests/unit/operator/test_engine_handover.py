"""Another engine takes over a version: it finds the replicas that there are."""

from __future__ import annotations

from typing import Any

import pytest

from headway.cluster.kinds import MODEL_DEPLOYMENT, OWNED
from headway.cluster.reconcile import reconcile, stated_count
from headway.domain.cluster_objects import DEPLOYMENT, Name

from .scaling_world import CONCURRENCY, IRIS, ScalingCluster, scaling

pytestmark = pytest.mark.anyio
V1 = Name("models", "iris-v1")
CPU = {"type": "cpu", "target": "80%"}
STATED = {"fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}, "f:selector": {}}}}
BY_HEADWAY = {"manager": "headway", "operation": "Apply", **STATED}
BY_HPA = {"manager": "kube-controller-manager", "operation": "Update", "subresource": "scale", **STATED}
NOT_BY_HEADWAY = {**BY_HEADWAY, "fieldsV1": {"f:spec": {"f:selector": {}}}}


@pytest.mark.parametrize(
    ("replicas", "managed", "stated"),
    [(4, [BY_HEADWAY], 4), (4, [BY_HPA, NOT_BY_HEADWAY], None), (0, [BY_HEADWAY], None), (4, None, None)],
    ids=["not yet", "taken over", "none runs", "not told"],
)
async def test_the_number_is_stated_until_the_new_engine_has_set_it(
    world: ScalingCluster, replicas: int, managed: list[dict[str, Any]] | None, stated: int | None
) -> None:
    world.put({"scaling": scaling(CONCURRENCY), "resources": {"cpu": "1"}})
    await world.pass_time(10)
    record = world.cluster.find(DEPLOYMENT, V1)
    resource = world.cluster.find(MODEL_DEPLOYMENT, IRIS)
    assert record is not None
    assert resource is not None
    record["spec"]["replicas"] = replicas
    record["metadata"]["managedFields"] = managed
    resource["spec"] |= {"scaling": scaling(CPU), "kubernetes": {**resource["spec"]["kubernetes"], "engine": "hpa"}}
    owned = [record, *(one for kind in OWNED if kind != DEPLOYMENT for one in world.cluster.every(kind))]
    look = reconcile(resource, owned, [], [], 0.0)
    made = {one["kind"]: one for one in look.objects or ()}
    assert made["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "iris-v1"
    assert made["Deployment"]["spec"].get("replicas") == stated
    assert stated_count(record) == (stated or 0)
