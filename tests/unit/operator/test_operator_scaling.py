"""Headway's own loop on a cluster: load, silence, full nodes, other people's hands, restarts; hours in no time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from headway.cluster.kinds import MODEL_DEPLOYMENT
from headway.domain.cluster_objects import DEPLOYMENT, Name, uid_of, version_of

from .scaling_world import CONCURRENCY, IRIS, REDIS, ScalingCluster, scaling

pytestmark = pytest.mark.anyio
CPU = {"type": "cpu", "target": "50%", "window": "10s"}


async def test_replicas_follow_the_load_up_and_down_again(world: ScalingCluster) -> None:
    world.put({"scaling": scaling(CONCURRENCY)})
    await world.pass_time(10)
    assert world.replicas() == {"iris-v1": 1}
    world.flight["iris-v1"] = 8.0
    await world.pass_time(30)
    assert world.replicas() == {"iris-v1": 4}
    assert len(world.pods("iris-v1")) == 4
    world.flight["iris-v1"] = 0.0
    await world.pass_time(25)
    assert world.replicas() == {"iris-v1": 4}, "the stabilization window is 30 s"
    await world.pass_time(40)
    assert world.replicas() == {"iris-v1": 1}

    changes = [record for record in await world.recorded() if record.changed]
    assert (changes[0].current, changes[-1].desired) == (1, 1)
    assert max(record.desired for record in changes) == 4
    assert {record.version for record in changes} == {"v1"}
    assert all(later.current == earlier.desired for earlier, later in pairwise(changes))


async def test_the_last_decision_stands_in_the_status_and_a_steady_load_writes_nothing(world: ScalingCluster) -> None:
    world.put({"scaling": scaling(CONCURRENCY)})
    world.flight["iris-v1"] = 8.0
    await world.pass_time(150)
    [told] = world.status()["scaling"]
    assert (told["version"], told["current"], told["desired"], told["binding"]) == ("v1", 4, 4, "concurrency")
    assert "stays at 4" in told["message"]
    assert world.said()[:2] == ("True", "Decided")
    before = world.cluster.writes
    leases = world.clock.monotonic()
    await world.pass_time(600)
    renewals = (world.clock.monotonic() - leases) / 2
    assert world.cluster.writes - before <= renewals + 1, "but for the lease nothing is written"
    assert 9 <= len([r for r in await world.recorded() if r.at > world.clock.now() - 600]) <= 11


async def test_the_processor_counts_too(world: ScalingCluster) -> None:
    world.put({"scaling": scaling(CPU), "resources": {"cpu": "2"}})
    await world.pass_time(10)
    world.flight["iris-v1"] = 3.0  # cores used; half of two cores each makes three replicas
    await world.pass_time(60)
    assert world.replicas() == {"iris-v1": 3}


async def test_pods_that_say_nothing_hold_the_count_and_the_status_says_so(world: ScalingCluster) -> None:
    world.put({"scaling": scaling(CONCURRENCY)})
    world.flight["iris-v1"] = 8.0
    await world.pass_time(40)
    world.stats_known, world.flight["iris-v1"] = False, 0.0
    await world.pass_time(600)
    assert world.replicas() == {"iris-v1": 4}
    status, reason, message = world.said()
    assert (status, reason) == ("False", "NoData")
    assert "concurrency" in message
    world.stats_known = True
    await world.pass_time(90)
    assert world.said()[:2] == ("True", "Decided")
    assert world.replicas() == {"iris-v1": 1}


async def test_an_outside_signal_scales_to_zero_and_back(world: ScalingCluster) -> None:
    world.source.value = 20.0
    world.put({"scaling": scaling(REDIS, least=0, cooldownPeriod="30s")})
    await world.pass_time(30)
    assert world.replicas() == {"iris-v1": 4}
    world.source.value = 0.0
    await world.pass_time(90)
    assert world.replicas() == {"iris-v1": 0}
    assert world.status()["Ready"]["status"] == "True", "the route stays"
    world.source.value = 1.0
    await world.pass_time(15)
    assert world.replicas() == {"iris-v1": 1}


async def test_a_full_cluster_is_told_and_not_read_as_more_needed(world: ScalingCluster) -> None:
    world.room = 3
    world.put({"scaling": scaling(CONCURRENCY, most=20)})
    world.flight["iris-v1"] = 30.0
    await world.pass_time(60)
    assert world.replicas() == {"iris-v1": 5}, "one step of four, and no further while pods wait for a place"
    status, reason, message = world.said()
    assert (status, reason) == ("False", "NoRoom")
    assert "the cluster is full: 2 pods pending, insufficient cpu" in message
    newest = (await world.recorded())[-1]
    assert newest.binding == "full"
    assert "2 pods pending" in newest.summary
    assert newest.document["samples"]["full"].startswith("the cluster is full")
    world.room = 1000
    await world.pass_time(60)
    assert world.replicas() == {"iris-v1": 15}
    assert world.said()[1] == "Decided"


async def test_a_new_version_starts_with_its_share_of_the_busy_one(world: ScalingCluster) -> None:
    world.put({"scaling": scaling(CONCURRENCY)})
    world.flight["iris-v1"] = 8.0
    await world.pass_time(40)
    world.flight["iris-v2"] = 8.0
    world.put({"scaling": scaling(CONCURRENCY)}, image="iris:2")
    await world.clock.settle()
    assert world.replicas() == {"iris-v1": 4, "iris-v2": 4}
    await world.pass_time(10)
    assert world.status()["traffic"] == "v2 100 %"
    assert world.replicas() == {"iris-v1": 0, "iris-v2": 4}
    assert [one["version"] for one in world.status()["scaling"]] in (["v2"], [])
    world.put({"scaling": scaling(CONCURRENCY)}, image="iris:1")
    await world.pass_time(10)
    assert world.replicas() == {"iris-v1": 4, "iris-v2": 0}


async def test_a_count_set_by_hand_is_where_the_next_decision_begins(world: ScalingCluster) -> None:
    world.put({"scaling": scaling(CONCURRENCY)})
    world.flight["iris-v1"] = 8.0
    await world.pass_time(40)
    found = world.cluster.find(DEPLOYMENT, Name("models", "iris-v1"))
    assert found is not None
    found["spec"]["replicas"] = 6
    world.cluster.update_as("kubectl", DEPLOYMENT, found)
    await world.pass_time(5)
    assert world.replicas() == {"iris-v1": 6}
    await world.pass_time(60)
    assert world.replicas() == {"iris-v1": 4}


async def test_after_a_restart_the_count_and_the_window_go_on(world: ScalingCluster) -> None:
    world.put({"scaling": scaling(CONCURRENCY)})
    world.flight["iris-v1"] = 8.0
    await world.pass_time(40)
    told = world.status()["scaling"]
    await world.down()
    world.flight["iris-v1"] = 0.0
    await world.up("two")
    await world.pass_time(3)
    assert world.status()["scaling"] == told, "what was told stays until there is news"
    await world.pass_time(17)
    assert world.replicas() == {"iris-v1": 4}
    await world.pass_time(60)
    assert world.replicas() == {"iris-v1": 1}


async def test_what_does_not_lead_decides_nothing(world: ScalingCluster) -> None:
    world.put({"scaling": scaling(CONCURRENCY)})
    await world.pass_time(20)
    await world.leader.stop()
    records = len(await world.recorded())
    world.flight["iris-v1"] = 8.0
    await world.pass_time(120)
    assert world.replicas() == {"iris-v1": 1}
    assert len(await world.recorded()) == records
    assert world.fleet.addresses() == {}


async def test_shadow_decisions_are_recorded_and_not_carried_out(world: ScalingCluster) -> None:
    world.put({"scaling": scaling(CONCURRENCY, shadow=True)})
    world.flight["iris-v1"] = 8.0
    await world.pass_time(60)
    assert world.replicas() == {"iris-v1": 1}
    assert any(record.shadow and record.desired > 1 for record in await world.recorded())


async def test_a_fixed_number_says_so_and_triggers_taken_away_leave_no_trace(world: ScalingCluster) -> None:
    world.put({"scaling": scaling(CONCURRENCY)})
    world.flight["iris-v1"] = 8.0
    await world.pass_time(40)
    world.put({"scaling": {"minReplicas": 2}})
    await world.pass_time(5)
    assert world.replicas() == {"iris-v1": 2}
    assert world.said()[:2] == ("False", "FixedReplicas")
    assert world.status()["scaling"] == []
    assert world.fleet.models() == []


async def test_a_deleted_model_is_forgotten(world: ScalingCluster) -> None:
    world.put({"scaling": scaling(CONCURRENCY)})
    await world.pass_time(20)
    assert world.fleet.addresses() == {f"models/{pod['metadata']['name']}": "10.0.0.1:8080"
                                       for pod in world.pods("iris-v1")}  # fmt: skip
    found = world.cluster.find(MODEL_DEPLOYMENT, IRIS)
    assert found is not None
    await world.cluster.delete(MODEL_DEPLOYMENT, IRIS, uid_of(found))
    await world.pass_time(5)
    assert list(world.fleet.models()) == []
    assert version_of(found)


LATENCY = {"type": "latency", "threshold": "500ms", "window": "1m", "every": "15s", "cooldown": "1m", "step": 2}


async def test_latency_adds_a_step_and_takes_it_back_when_it_is_over(world: ScalingCluster) -> None:
    world.put({"scaling": scaling(LATENCY, most=9)})
    world.served["iris-v1"] = (50.0, 0.1, 0.01)
    await world.pass_time(30)
    assert world.replicas() == {"iris-v1": 1}
    assert "a window takes 60 s" in str((await world.recorded())[-1].document["decision"])
    await world.pass_time(90)
    world.served["iris-v1"] = (50.0, 1.2, 1.0)
    await world.pass_time(40)
    assert world.replicas() == {"iris-v1": 3}
    world.served["iris-v1"] = (5.0, 0.1, 0.01)
    await world.pass_time(240)
    assert world.replicas() == {"iris-v1": 3}
    await world.pass_time(300)
    assert world.replicas() == {"iris-v1": 1}


async def test_a_step_that_does_not_help_is_taken_back(world: ScalingCluster) -> None:
    world.put({"scaling": scaling(LATENCY, most=9)})
    world.served["iris-v1"] = (50.0, 1.2, 1.0)
    await world.pass_time(130)
    assert world.replicas() == {"iris-v1": 3}
    await world.pass_time(200)
    assert world.replicas() == {"iris-v1": 1}
    told = [event.type for event in await world.events.read(limit=1000)]
    assert "scaling_not_replica_bound.v1" in told


async def test_latency_that_is_not_waiting_asks_for_nothing(world: ScalingCluster) -> None:
    world.put({"scaling": scaling(LATENCY, most=9)})
    world.served["iris-v1"] = (50.0, 1.2, 0.01)
    await world.pass_time(300)
    assert world.replicas() == {"iris-v1": 1}
    assert any("more replicas would not help" in record.summary for record in await world.recorded())
