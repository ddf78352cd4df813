"""A ScalingPolicy of Headway's own loop: any Deployment, from outside signals, through its scale."""

from __future__ import annotations

import tracemalloc

import pytest

from headway.cluster.elastic import target_of
from headway.cluster.kinds import SCALING_POLICY
from headway.domain.cluster_objects import DEPLOYMENT, Name, moment_of, uid_of
from headway.domain.lifecycle import ReplicaPhase

from .scaling_world import REDIS, ScalingCluster, scaling

pytestmark = pytest.mark.anyio
WORKERS, TARGET = Name("models", "workers"), Name("models", "rq-workers")
KEY, VERSION = "scalingpolicy/models/workers", "deployment/rq-workers"


async def test_any_deployment_follows_a_queue_within_its_bounds(world: ScalingCluster) -> None:
    world.put_workers(5)
    world.source.value = 0.0
    world.put_policy(scaling(REDIS, least=5, most=30))
    await world.pass_time(60)
    assert world.replicas() == {"rq-workers": 5}
    world.source.value = 1000.0
    await world.pass_time(90)
    assert world.replicas() == {"rq-workers": 30}
    world.source.value = 60.0
    await world.pass_time(120)
    assert world.replicas() == {"rq-workers": 12}

    records = await world.recorded(KEY)
    assert {record.version for record in records} == {VERSION}
    assert [record.desired for record in records if record.changed][-1] == 12
    status = world.status(WORKERS, SCALING_POLICY)
    assert status["replicas"] == 12
    [told] = status["scaling"]
    assert (told["version"], told["desired"]) == (VERSION, 12)
    assert world.said_of_policy()[:2] == ("True", "Decided")
    path = ("spec", "replicas")
    assert world.cluster.owner_of(DEPLOYMENT, TARGET, path) == {"headway/scale"}
    image = world.cluster.find(DEPLOYMENT, TARGET)
    assert image is not None
    assert "headway.dev/applied" not in (image["metadata"].get("annotations") or {}), "all else is left alone"


async def test_a_steady_queue_writes_nothing(world: ScalingCluster) -> None:
    world.put_workers(5)
    world.source.value = 40.0
    world.put_policy(scaling(REDIS, least=5, most=30))
    await world.pass_time(180)
    assert world.replicas() == {"rq-workers": 8}
    before = world.cluster.writes
    await world.pass_time(300)
    assert world.cluster.writes - before <= 151, "the lease is renewed every 2 s"


async def test_a_source_that_is_lost_holds_the_count(world: ScalingCluster) -> None:
    world.put_workers(5)
    world.source.value = 60.0
    world.put_policy(scaling(REDIS, least=5, most=30))
    await world.pass_time(60)
    world.source.value = None
    await world.pass_time(300)
    assert world.replicas() == {"rq-workers": 12}
    status, reason, message = world.said_of_policy()
    assert (status, reason) == ("False", "NoData")
    assert "redis" in message


async def test_a_target_that_is_not_there_is_told_and_scaled_when_it_comes(world: ScalingCluster) -> None:
    world.source.value = 60.0
    world.put_policy(scaling(REDIS, least=5, most=30))
    await world.pass_time(20)
    assert world.said_of_policy() == ("False", "TargetMissing", "there is no Deployment rq-workers in models")
    world.put_workers(1)
    await world.pass_time(60)
    assert world.replicas() == {"rq-workers": 12}
    found = world.cluster.find(DEPLOYMENT, TARGET)
    assert found is not None
    await world.cluster.delete(DEPLOYMENT, TARGET, uid_of(found))
    await world.pass_time(20)
    assert world.said_of_policy()[1] == "TargetMissing"


async def test_a_target_that_somebody_has_stopped_stays_stopped(world: ScalingCluster) -> None:
    world.put_workers(5)
    world.source.value = 60.0
    world.put_policy(scaling(REDIS, least=5, most=30))
    await world.pass_time(60)
    found = world.cluster.find(DEPLOYMENT, TARGET)
    assert found is not None
    found["spec"]["replicas"] = 0
    world.cluster.update_as("kubectl", DEPLOYMENT, found)
    await world.pass_time(120)
    assert world.replicas() == {"rq-workers": 0}
    assert world.said_of_policy()[:2] == ("False", "ScalingDisabled")
    found = world.cluster.find(DEPLOYMENT, TARGET)
    assert found is not None
    found["spec"]["replicas"] = 1
    world.cluster.update_as("kubectl", DEPLOYMENT, found)
    await world.pass_time(60)
    assert world.replicas() == {"rq-workers": 12}


async def test_a_models_own_deployment_is_left_to_the_model(world: ScalingCluster) -> None:
    world.put({"scaling": {"minReplicas": 2}})
    world.source.value = 60.0
    world.put_policy(scaling(REDIS, least=5, most=30), target="iris-v1")
    await world.pass_time(60)
    assert world.replicas() == {"iris-v1": 2}
    status, reason, message = world.said_of_policy()
    assert (status, reason) == ("False", "TargetOwned")
    assert "ModelDeployment iris" in message
    generation = (world.cluster.find(DEPLOYMENT, Name("models", "iris-v1")) or {})["metadata"]["generation"]
    await world.pass_time(60)
    assert (world.cluster.find(DEPLOYMENT, Name("models", "iris-v1")) or {})["metadata"]["generation"] == generation


async def test_of_two_policies_for_one_target_the_first_by_name_scales_it(world: ScalingCluster) -> None:
    world.put_workers(5)
    world.source.value = 60.0
    world.put_policy(scaling(REDIS, least=5, most=6), name="a")
    world.put_policy(scaling(REDIS, least=5, most=30))
    await world.pass_time(120)
    assert world.replicas() == {"rq-workers": 6}
    told = "Deployment rq-workers is scaled by the ScalingPolicy a already"
    assert world.said_of_policy() == ("False", "TargetShared", told)
    before = world.cluster.find(DEPLOYMENT, TARGET) or {}
    await world.pass_time(120)
    after = world.cluster.find(DEPLOYMENT, TARGET) or {}
    assert before["metadata"]["generation"] == after["metadata"]["generation"]
    first = world.cluster.find(SCALING_POLICY, Name("models", "a")) or {}
    await world.cluster.delete(SCALING_POLICY, Name("models", "a"), uid_of(first))
    await world.pass_time(60)
    assert world.replicas() == {"rq-workers": 12}


def test_a_target_that_asks_for_billions_takes_no_memory() -> None:
    deployment = {"metadata": {"name": "huge"}, "spec": {"replicas": 2**31 - 1}, "status": {"readyReplicas": 3}}
    tracemalloc.start()
    found = target_of(deployment, [])
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()
    assert found.count == 2**31 - 1
    assert sum(one.phase is ReplicaPhase.READY for one in found.replicas) == 3


async def test_a_full_cluster_is_told_of_others_too(world: ScalingCluster) -> None:
    world.room = 6
    world.put_workers(5)
    world.source.value = 1000.0
    world.put_policy(scaling(REDIS, least=5, most=30))
    await world.pass_time(120)
    assert world.replicas()["rq-workers"] < 30
    status, reason, message = world.said_of_policy()
    assert (status, reason) == ("False", "NoRoom")
    assert "insufficient cpu" in message


async def test_a_policy_that_is_deleted_lets_go(world: ScalingCluster) -> None:
    world.put_workers(5)
    world.source.value = 60.0
    world.put_policy(scaling(REDIS, least=5, most=30))
    await world.pass_time(60)
    found = world.cluster.find(SCALING_POLICY, WORKERS)
    assert found is not None
    await world.cluster.delete(SCALING_POLICY, WORKERS, uid_of(found))
    world.source.value = 0.0
    await world.pass_time(120)
    assert world.replicas() == {"rq-workers": 12}
    assert list(world.fleet.models()) == []


async def test_a_policy_that_waits_for_its_finalizers_has_let_go_too(world: ScalingCluster) -> None:
    world.put_workers(5)
    world.source.value = 60.0
    world.put_policy(scaling(REDIS, least=5, most=30))
    await world.pass_time(60)
    found = world.cluster.find(SCALING_POLICY, WORKERS)
    assert found is not None
    found["metadata"] |= {"finalizers": ["example.com/held"], "deletionTimestamp": moment_of(world.clock.now())}
    world.cluster.update_as("kubectl", SCALING_POLICY, found)
    await world.pass_time(2)
    assert list(world.fleet.models()) == []
