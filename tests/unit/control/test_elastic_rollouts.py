"""A whole control plane whose counts are moved by hand, as the autoscaler moves them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headway.adapters.memory.runtime import Script
from headway.control import commands
from headway.control.book import Changed
from headway.domain.deployments import Deployment
from headway.domain.lifecycle import DeploymentState

from .test_counts import scaling
from .world import World

pytestmark = pytest.mark.anyio
LOAD: dict[str, Any] = {"maxReplicas": 10, "triggers": [{"type": "concurrency", "target": 4}]}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.up()
    yield world
    await world.crash()


async def decide(world: World, version: str, count: int, based_on: int | None = None) -> bool:
    """As the autoscaler does; whether it was carried out."""

    def step(current: Deployment | None) -> Changed | None:
        assert current is not None
        outcome = commands.set_wished(current, version, count, "because", world.clock.now(), based_on=based_on)
        return None if outcome.unchanged else Changed(outcome.deployment, outcome.events)

    return (await world.book.change("iris", step))[1]


def kept_warm(world: World) -> set[tuple[str, str]]:
    return set(world.machine.warm)


async def test_replicas_follow_the_count_of_their_version(world: World) -> None:
    await world.deploy("iris", "one", scaling=LOAD)
    await world.pass_time(2)
    assert world.running("iris") == {"v1": 1}
    assert await decide(world, "v1", 5)
    await world.pass_time(2)
    assert world.running("iris") == {"v1": 5}
    await world.deploy("iris", "two", canary=40)
    await world.pass_time(5)
    assert world.running("iris") == {"v1": 5, "v2": 2}
    assert await decide(world, "v2", 3)
    await world.service.promote("iris", None)
    await world.pass_time(10)
    assert world.live("iris") == {"v2": 100}
    assert world.running("iris") == {"v2": 8}
    assert dict(world.model("iris").counts) == {"v2": 8}
    assert await decide(world, "v2", 1)
    await world.pass_time(10)
    assert world.running("iris") == {"v2": 1}


async def test_scaling_up_is_told_as_such_and_not_as_an_event_of_state(world: World) -> None:
    world.machine.script(Script(ready_after_s=3.0))
    await world.deploy("iris", "one", scaling=LOAD)
    await world.pass_time(10)
    states = (await world.event_types()).count("deployment_state_changed.v1")
    assert await decide(world, "v1", 4)
    await world.pass_time(1)
    model = world.model("iris")
    assert (model.state, model.message) == (DeploymentState.READY, "scaling up, v1: 1 of 4 replicas ready")
    await world.pass_time(5)
    assert world.model("iris").message == ""
    assert (await world.event_types()).count("deployment_state_changed.v1") == states


async def test_to_zero_and_back(world: World) -> None:
    await world.deploy("iris", "one", scaling={**LOAD, "minReplicas": 0})
    await world.pass_time(2)
    assert world.running("iris") == {"v1": 1}, "it has to come up once"
    for _ in range(3):
        assert await decide(world, "v1", 0)
        await world.pass_time(5)
        assert world.running("iris") == {}
        assert world.live("iris") == {"v1": 100}
        assert (world.model("iris").state, world.model("iris").message) == ("ready", "scaled to zero")
        assert kept_warm(world) == {("iris", "v1")}
        assert await decide(world, "v1", 1)
        await world.pass_time(5)
        assert world.running("iris") == {"v1": 1}
        assert world.proxy.replicas() == world.ids("iris")


async def test_a_rollout_from_zero_shows_that_the_new_version_can(world: World) -> None:
    await world.deploy("iris", "one", scaling={**LOAD, "minReplicas": 0})
    await world.pass_time(2)
    await decide(world, "v1", 0)
    await world.pass_time(5)
    await world.deploy("iris", "two")
    await world.pass_time(10)
    assert world.live("iris") == {"v2": 100}
    assert world.running("iris") == {"v2": 1}
    await decide(world, "v2", 0)
    await world.pass_time(5)
    await world.service.rollback("iris")
    await world.pass_time(10)
    assert world.live("iris") == {"v1": 100}
    assert world.running("iris") == {"v1": 1}


async def test_counts_outlive_the_control_plane(world: World) -> None:
    await world.deploy("iris", "one", scaling=LOAD)
    await world.pass_time(2)
    await decide(world, "v1", 4)
    await world.pass_time(5)
    before = world.ids("iris")
    await world.crash()
    await world.up()
    await world.pass_time(30)
    assert world.ids("iris") == before
    assert world.model("iris").wished("v1") == 4
    assert kept_warm(world) == {("iris", "v1")}


async def test_a_policy_that_comes_or_goes_restarts_no_replica(world: World) -> None:
    await world.deploy("iris", "one", scaling=LOAD)
    await world.pass_time(2)
    before = world.ids("iris")
    for policy, warm in [
        ({**LOAD, "warmStart": False}, set()),
        (LOAD, {("iris", "v1")}),
        ({"minReplicas": 1}, set()),
        (LOAD, {("iris", "v1")}),
    ]:
        await world.deploy("iris", "one", scaling=policy)
        await world.pass_time(5)
        assert kept_warm(world) == warm
        assert world.ids("iris") == before
        assert world.model("iris").state is DeploymentState.READY


async def test_users_and_decisions_at_once_never_leave_the_bounds_or_each_others_work(world: World) -> None:
    await world.deploy("iris", "one", scaling=LOAD)
    await world.pass_time(2)
    now = world.clock.now()

    def narrow(current: Deployment | None) -> Changed:
        assert current is not None
        outcome = commands.configure_scaling(current, scaling(2, 6), now)
        return Changed(outcome.deployment, outcome.events)

    taken = await asyncio.gather(
        decide(world, "v1", 9, based_on=1),
        world.service.scale("iris", 5),
        decide(world, "v1", 8, based_on=9),
        world.book.change("iris", narrow),
        decide(world, "v1", 6, based_on=5),
        decide(world, "v1", 1, based_on=5),
    )
    assert [taken[0], taken[2], taken[4], taken[5]] == [True, False, True, False]
    assert world.model("iris").wished("v1") == 6
    await world.pass_time(5)
    assert world.running("iris") == {"v1": 6}
    told = [e for e in await world.log.read(limit=10_000) if e.type in ("scaling_decided.v1", "deployment_scaled.v1")]
    assert [(e.data["old"], e.data["new"]) for e in told] == [(1, 9), (9, 5), (5, 6)]
