"""The control loop on memory adapters: rollouts, drains, crashes of everything, without a process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from headway.adapters.memory.runtime import Script
from headway.domain.errors import ModelNotFound
from headway.domain.lifecycle import DeploymentState, VersionState
from headway.domain.replicas import Failure, ReplicaSpec

from .world import World

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.up()
    yield made
    await made.crash()


async def test_a_deploy_ends_ready_and_routed(world: World) -> None:
    await world.deploy("iris", "one")
    await world.pass_time(2)
    assert world.model("iris").state is DeploymentState.READY
    assert world.live("iris") == {"v1": 100}
    assert world.proxy.replicas() == world.ids("iris")
    types = await world.event_types()
    for told in ("version_environment_ready.v1", "replica_ready.v1", "traffic_shifted.v1", "route_applied.v1"):
        assert told in types
    assert types.index("replica_ready.v1") < types.index("traffic_shifted.v1")


async def test_the_old_version_serves_until_the_new_one_is_ready(world: World) -> None:
    await world.deploy("iris", "one")
    await world.pass_time(2)
    world.machine.script(Script(ready_after_s=20.0), version="v2")
    await world.deploy("iris", "two")
    await world.pass_time(15)
    assert world.live("iris") == {"v1": 100}
    assert world.running("iris") == {"v1": 1, "v2": 1}
    await world.pass_time(15)
    assert world.live("iris") == {"v2": 100}
    assert world.running("iris") == {"v2": 1}
    assert world.model("iris").version("v1").state is VersionState.RETIRED


async def test_a_replica_with_requests_on_the_way_is_not_stopped(world: World) -> None:
    await world.deploy("iris", "one")
    await world.pass_time(2)
    (old,) = world.ids("iris")
    world.proxy.busy.add(old)
    await world.deploy("iris", "two")
    await world.pass_time(30)
    assert old not in world.proxy.replicas()
    assert old in world.ids("iris")
    assert world.model("iris").version("v1").state is VersionState.DRAINING
    world.proxy.busy.clear()
    await world.pass_time(2)
    assert old not in world.ids("iris")


async def test_a_version_that_cannot_load_is_refused_and_nothing_of_it_stays(world: World) -> None:
    await world.deploy("iris", "one")
    await world.pass_time(2)
    world.machine.script(Script(failure=Failure("load_failed", "ValueError: no", "model.py:3")), version="v2")
    await world.deploy("iris", "two")
    await world.pass_time(10)
    deployment = world.model("iris")
    failed = deployment.version("v2")
    assert failed.state is VersionState.FAILED
    assert failed.failure is not None
    assert failed.failure.where == "model.py:3"
    assert deployment.state is DeploymentState.READY
    assert world.running("iris") == {"v1": 1}
    assert world.live("iris") == {"v1": 100}


async def test_requirements_that_cannot_be_had_fail_the_version(world: World) -> None:
    await world.deploy("iris", "one", requirements="no-such-package\n")
    await world.pass_time(2)
    deployment = world.model("iris")
    assert deployment.state is DeploymentState.FAILED
    failure = deployment.version("v1").failure
    assert failure is not None
    assert failure.code == "environment_failed"
    assert "no-such-package" in failure.message


async def test_the_same_failed_content_can_be_tried_again(world: World) -> None:
    world.machine.script(Script(failure=Failure("load_failed", "ValueError: no")), version="v1")
    await world.deploy("iris", "one")
    await world.pass_time(10)
    assert world.model("iris").state is DeploymentState.FAILED
    world.machine.script(Script(), version="v1")
    again = await world.deploy("iris", "one")
    assert (again.version, again.unchanged) == ("v1", False)
    await world.pass_time(10)
    assert world.model("iris").state is DeploymentState.READY


async def test_scaling_up_and_down(world: World) -> None:
    await world.deploy("iris", "one")
    await world.pass_time(2)
    await world.service.scale("iris", 4)
    await world.pass_time(5)
    assert world.running("iris") == {"v1": 4}
    assert len(world.proxy.replicas()) == 4
    await world.service.scale("iris", 1)
    await world.pass_time(5)
    assert world.running("iris") == {"v1": 1}
    assert world.proxy.replicas() == world.ids("iris")


async def test_a_crashed_replica_leaves_the_routes_and_comes_back(world: World) -> None:
    await world.deploy("iris", "one", scaling={"minReplicas": 2})
    await world.pass_time(2)
    first, second = sorted(world.ids("iris"))
    world.machine.crash(first)
    await world.clock.settle()
    assert first not in world.proxy.replicas() or world.machine.replicas[first].phase == "ready"
    await world.pass_time(30)
    assert world.proxy.replicas() == {first, second}
    assert "replica_exited.v1" in await world.event_types()


async def test_a_restarted_control_plane_changes_nothing(world: World) -> None:
    await world.deploy("iris", "one", scaling={"minReplicas": 2})
    await world.pass_time(2)
    await world.deploy("iris", "two", canary=20)
    await world.pass_time(5)
    before, applied = world.ids("iris"), len(world.proxy.applied)
    await world.crash()
    await world.up()
    await world.pass_time(30)
    assert world.ids("iris") == before
    assert world.live("iris") == {"v1": 80, "v2": 20}
    assert len(world.proxy.applied) == applied
    assert "gateway_adopted.v1" in await world.event_types()


@pytest.mark.parametrize("rounds", range(12))
async def test_a_crash_at_any_moment_of_a_rollout_is_made_good(tmp_path: Path, rounds: int) -> None:
    world = World(tmp_path)
    await world.up()
    await world.deploy("iris", "one", scaling={"minReplicas": 2})
    await world.pass_time(5)
    world.machine.script(Script(ready_after_s=1.0, stops_after_s=1.0), version="v2")
    await world.deploy("iris", "two")
    await world.pass_time(0.3 * rounds)
    await world.crash()
    await world.up()
    await world.pass_time(60)
    assert world.live("iris") == {"v2": 100}
    assert world.running("iris") == {"v2": 2}
    assert world.model("iris").state is DeploymentState.READY
    await world.crash()


async def test_a_gateway_that_refuses_routes_keeps_the_old_split_live(world: World) -> None:
    await world.deploy("iris", "one")
    await world.pass_time(2)
    world.proxy.refuse = "no"
    await world.deploy("iris", "two")
    await world.pass_time(10)
    assert world.live("iris") == {"v1": 100}
    assert world.running("iris") == {"v1": 1, "v2": 1}
    assert (await world.event_types()).count("gateway_failed.v1") == 1
    world.proxy.refuse = None
    await world.pass_time(10)
    assert world.live("iris") == {"v2": 100}


async def test_a_deleted_model_is_gone_for_good(world: World) -> None:
    await world.deploy("iris", "one")
    await world.pass_time(2)
    await world.service.delete("iris")
    await world.pass_time(10)
    with pytest.raises(ModelNotFound):
        world.model("iris")
    assert world.running("iris") == {}
    assert "deployment_deleted.v1" in await world.event_types()
    again = await world.deploy("iris", "one")
    await world.pass_time(5)
    assert again.version == "v1"
    assert world.model("iris").state is DeploymentState.READY


async def test_a_shadow_runs_beside_the_split(world: World) -> None:
    await world.deploy("iris", "one")
    await world.pass_time(2)
    await world.deploy("iris", "two", shadow={"version": "v2"})
    await world.pass_time(5)
    assert world.live("iris") == {"v1": 100}
    assert world.running("iris") == {"v1": 1, "v2": 1}
    assert world.model("iris").version("v2").state is VersionState.LIVE


async def test_promote_then_rollback(world: World) -> None:
    await world.deploy("iris", "one")
    await world.pass_time(2)
    await world.deploy("iris", "two", canary=10)
    await world.pass_time(5)
    await world.service.promote("iris", None)
    await world.pass_time(5)
    assert world.live("iris") == {"v2": 100}
    assert world.running("iris") == {"v2": 1}
    await world.service.rollback("iris")
    await world.pass_time(5)
    assert world.live("iris") == {"v1": 100}
    assert world.running("iris") == {"v1": 1}


async def test_an_environment_that_is_gone_is_built_again(world: World) -> None:
    await world.deploy("iris", "one", requirements="six\n")
    await world.pass_time(2)
    python = world.model("iris").version("v1").python
    assert python is not None
    await world.crash()
    world.environments.lost.add(python)
    await world.up()
    await world.clock.settle()
    assert world.environments.has(python)
    await world.pass_time(5)
    assert world.model("iris").state is DeploymentState.READY
    assert (await world.event_types()).count("version_environment_ready.v1") == 2


async def test_a_lost_environment_of_a_deleted_model_is_not_waited_for(world: World) -> None:
    await world.deploy("iris", "one", requirements="six\n")
    await world.pass_time(2)
    python = world.model("iris").version("v1").python
    assert python is not None
    await world.runtime.stop(stop_replicas=True)
    await world.crash()
    world.environments.lost.add(python)
    bundle = (await world.store.load_all())[0].version("v1").bundle_digest
    await world.bundles.delete(bundle)
    await world.up()
    await world.pass_time(5)
    assert world.running("iris") == {}
    await world.service.delete("iris")
    await world.pass_time(120)
    await world.deploy("iris", "one", requirements="six\n")
    await world.pass_time(5)
    assert world.model("iris").state is DeploymentState.READY


async def test_what_is_wrong_with_one_model_stops_no_other(world: World) -> None:
    await world.deploy("iris", "one")
    lost = await world.deploy("wine", "two")
    await world.pass_time(2)
    await world.runtime.stop(stop_replicas=True)
    await world.crash()
    await world.bundles.delete(lost.deployment.version("v1").bundle_digest)
    await world.up()
    await world.pass_time(5)
    assert world.running("iris") == {"v1": 1}
    assert world.model("iris").state is DeploymentState.READY
    assert world.running("wine") == {}
    assert world.model("wine").state is DeploymentState.DEGRADED
    assert "no bundle" in world.model("wine").message


async def test_a_running_replica_is_adopted_even_when_its_bundle_is_gone(world: World) -> None:
    found = await world.deploy("iris", "one")
    await world.pass_time(2)
    before = world.ids("iris")
    await world.crash()
    await world.bundles.delete(found.deployment.version("v1").bundle_digest)
    await world.up()
    await world.pass_time(10)
    assert world.ids("iris") == before
    assert world.proxy.replicas() == before


async def test_a_long_request_keeps_its_replica(world: World) -> None:
    await world.deploy("iris", "one", server={"timeout": "10m"})
    await world.pass_time(2)
    (old,) = world.ids("iris")
    world.proxy.busy.add(old)
    await world.deploy("iris", "two", server={"timeout": "10m"})
    await world.pass_time(900)
    assert old in world.ids("iris")
    await world.pass_time(600)
    assert old not in world.ids("iris"), "drained or not, some day it has to go"


async def test_a_rollout_that_was_put_to_sleep_is_not_late(world: World) -> None:
    world.machine.script(Script(ready_after_s=50.0))
    await world.deploy("iris", "one")
    await world.pass_time(5)
    await world.runtime.stop(stop_replicas=True)
    await world.crash()
    world.clock.advance(5000)
    await world.up()
    await world.pass_time(100)
    assert world.model("iris").state is DeploymentState.READY


async def test_workers_neither_serve_nor_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    apply = world.runtime.apply

    async def with_a_worker(desired: Sequence[ReplicaSpec], warm: Sequence[ReplicaSpec] = ()) -> None:
        workers = [replace(spec, replica_id="iris-v1-worker", role="work") for spec in desired[:1]]
        await apply([*desired, *workers], warm)

    monkeypatch.setattr(world.runtime, "apply", with_a_worker)
    await world.deploy("iris", "one")
    await world.pass_time(5)
    assert world.running("iris") == {"v1": 1}
    (serves,) = world.ids("iris") - {"iris-v1-worker"}
    assert world.proxy.replicas() == {serves}
    assert [r.replica_id for r in world.service.get("iris").replicas] == [serves]
    assert [r.replica_id for snapshot in world.service.list() for r in snapshot.replicas] == [serves]
    told = [event for event in await world.log.read(limit=1000) if event.replica == "iris-v1-worker"]
    assert [event.data.get("role") for event in told] == ["work", "work"]  # started, ready


async def test_start_and_stop_are_idempotent(world: World) -> None:
    await world.reconciler.start()
    await world.reconciler.stop()
    await world.reconciler.stop()
    await world.recorder.start()
    await world.watch.stop()
    await world.watch.stop()
