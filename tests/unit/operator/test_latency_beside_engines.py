"""Latency raises what another engine keeps at least, and lets go of it again; the rest is that engine's affair."""

from __future__ import annotations

from typing import Any

import pytest

from headway.domain.cluster_objects import Kind, Name

from .scaling_world import HPA, KEDA, REDIS, ScalingCluster, scaling
from .test_operator_scaling import LATENCY

pytestmark = pytest.mark.anyio
V1 = Name("models", "iris-v1")
SLOW, FINE = (50.0, 1.2, 1.0), (5.0, 0.1, 0.01)


def least(world: ScalingCluster, kind: Kind) -> tuple[int, int]:
    """The bounds on the engine's own object."""
    spec: dict[str, Any] = (world.cluster.find(kind, V1) or {})["spec"]
    if kind == HPA:
        return spec["minReplicas"], spec["maxReplicas"]
    return spec["minReplicaCount"], spec["maxReplicaCount"]


def put(world: ScalingCluster, kind: Kind) -> None:
    beside = {"type": "cpu", "target": "80%"} if kind == HPA else REDIS
    policy = {"minReplicas": 1, "maxReplicas": 9, "triggers": [beside, LATENCY]}
    engine = "hpa" if kind == HPA else "keda"
    world.put({"scaling": policy, "resources": {"cpu": "1"}}, engine=engine)


@pytest.mark.parametrize("kind", [HPA, KEDA], ids=["hpa", "keda"])
async def test_a_step_raises_the_least_and_is_taken_back_when_it_is_over(world: ScalingCluster, kind: Kind) -> None:
    put(world, kind)
    world.served["iris-v1"] = FINE
    await world.pass_time(120)
    assert least(world, kind) == (1, 9)
    assert world.said()[:2] == ("True", "Decided")
    world.served["iris-v1"] = SLOW
    await world.pass_time(40)
    assert least(world, kind) == (3, 9)
    assert world.replicas() == {"iris-v1": 3}
    world.served["iris-v1"] = FINE
    await world.pass_time(900)
    assert least(world, kind) == (1, 9)
    assert world.replicas() == {"iris-v1": 1}
    changes = [(record.current, record.desired) for record in await world.recorded() if record.changed]
    assert changes == [(1, 3), (3, 1)]


async def test_a_step_begins_at_what_the_engine_has_and_what_it_keeps_is_not_gone_below(world: ScalingCluster) -> None:
    put(world, HPA)
    world.served["iris-v1"] = FINE
    world.engine["iris-v1"] = 4
    await world.pass_time(600)
    assert world.replicas() == {"iris-v1": 4}
    assert least(world, HPA) == (1, 9)
    newest = (await world.recorded())[-1]
    assert (newest.current, newest.desired, newest.binding) == (4, 4, "kept")
    world.served["iris-v1"] = SLOW
    await world.pass_time(40)
    assert least(world, HPA) == (6, 9)
    assert world.replicas() == {"iris-v1": 6}


async def test_what_was_raised_outlives_the_operator(world: ScalingCluster) -> None:
    put(world, HPA)
    world.served["iris-v1"] = FINE
    await world.pass_time(120)
    world.served["iris-v1"] = SLOW
    await world.pass_time(40)
    await world.down()
    await world.up("two")
    await world.pass_time(30)
    assert least(world, HPA) == (3, 9)


async def test_missing_data_changes_nothing(world: ScalingCluster) -> None:
    put(world, HPA)
    world.served["iris-v1"] = SLOW
    await world.pass_time(100)
    raised = least(world, HPA)
    assert raised[0] > 1
    world.stats_known = False
    await world.pass_time(900)
    assert least(world, HPA) == raised
    assert world.said()[:2] == ("False", "NoData")


async def test_latency_alone_needs_no_other_engine(world: ScalingCluster) -> None:
    world.put({"scaling": scaling(LATENCY)}, engine="hpa")
    await world.pass_time(5)
    accepted = world.status()["Accepted"]
    assert (accepted["status"], accepted["reason"]) == ("False", "Unsupported")
    assert "beside latency" in accepted["message"]
