"""ClusterModelWatch on a cluster in memory: counts of Deployments, marks of their changes, and their reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.cluster import MemoryCluster
from headway.cluster.kinds import MODEL_DEPLOYMENT
from headway.cluster.names import labels
from headway.control.cluster_model_watch import UNEXPLAINED, ClusterModelWatch
from headway.domain.cluster_objects import DEPLOYMENT, Name, moment_of
from headway.domain.load_reports import ScalingMark
from headway.ports.model_watch import ModelLook

pytestmark = pytest.mark.anyio
IRIS = Name("models", "iris")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class World:
    cluster: MemoryCluster = field(default_factory=MemoryCluster)
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.watch = ClusterModelWatch(self.cluster, self.clock, "models", "iris")

    def deployment(self, version: str, wished: int, ready: int, namespace: str = "models", model: str = "iris") -> None:
        name = Name(namespace, f"{model}-{version}")
        metadata = {"name": name.name, "namespace": namespace, "labels": labels(model, version)}
        self._put(DEPLOYMENT, name, {"spec": {"replicas": wished}, "status": {"readyReplicas": ready}}, metadata)

    def resource(self, *scaling: dict[str, Any], engine: str = "headway") -> None:
        body = {"spec": {"kubernetes": {"engine": engine}}, "status": {"scaling": list(scaling)}}
        self._put(MODEL_DEPLOYMENT, IRIS, body, {"name": "iris", "namespace": "models"})

    def _put(self, kind: Any, name: Name, body: dict[str, Any], metadata: dict[str, Any]) -> None:
        held = self.cluster.find(kind, name)
        self.cluster.update_as("test", kind, {"metadata": held["metadata"] if held else metadata, **body})

    def decided(self, version: str, current: int, desired: int, message: str) -> dict[str, Any]:
        at = moment_of(self.clock.now())
        return {"version": version, "at": at, "current": current, "desired": desired, "message": message}


async def test_it_sees_the_replicas_of_all_versions_and_of_no_other_model() -> None:
    world = World()
    world.deployment("v1", 2, 2)
    world.deployment("v2", 3, 1)
    world.deployment("v1", 7, 7, namespace="others")
    world.deployment("v1", 9, 9, model="wine")
    assert await world.watch.look() == ModelLook(3, 5, ())
    assert world.watch.trouble is None


async def test_a_changed_count_is_a_mark_with_the_decision_that_the_status_tells_of() -> None:
    world = World()
    world.deployment("v1", 2, 2)
    world.resource(world.decided("v1", 1, 2, "an old one"))
    await world.watch.look()
    begin = world.clock.now()
    world.clock.advance(5)
    world.deployment("v1", 4, 2)
    await world.watch.look()
    world.clock.advance(1)
    world.resource(world.decided("v1", 2, 4, "concurrency: 9 in flight, target 4"))
    await world.watch.look()
    assert await world.watch.decisions(begin) == [ScalingMark(5, "v1", 2, 4, "concurrency: 9 in flight, target 4")]
    assert await world.watch.decisions(begin + 6) == []


async def test_an_old_decision_explains_no_new_change() -> None:
    world = World()
    world.deployment("v1", 2, 2)
    world.resource(world.decided("v1", 1, 2, "an old one"))
    await world.watch.look()
    world.clock.advance(1)
    world.deployment("v1", 3, 2)
    await world.watch.look()
    world.clock.advance(1)
    world.deployment("v1", 2, 2)
    await world.watch.look()
    assert [(one.desired, one.summary) for one in await world.watch.decisions(0)] == [
        (3, UNEXPLAINED),
        (2, UNEXPLAINED),
    ]


@pytest.mark.parametrize(("engine", "summary"), [("hpa", "by its HorizontalPodAutoscaler"), ("keda", "by KEDA")])
async def test_what_another_engine_does_is_called_its(engine: str, summary: str) -> None:
    world = World()
    world.resource(engine=engine)
    world.deployment("v1", 2, 2)
    await world.watch.look()
    world.deployment("v1", 3, 2)
    await world.watch.look()
    (mark,) = await world.watch.decisions(0)
    assert (mark.current, mark.desired, mark.summary) == (2, 3, summary)


async def test_what_the_load_test_sets_is_one_mark_and_what_follows_from_its_policy_others() -> None:
    world = World()
    world.deployment("v1", 2, 2)
    await world.watch.look()
    world.watch.was_set(4)
    world.clock.advance(1)
    world.deployment("v1", 4, 2)
    await world.watch.look()
    world.clock.advance(1)
    world.watch.was_set(None)
    world.deployment("v1", 5, 4)
    await world.watch.look()
    marks = await world.watch.decisions(world.clock.now() - 2)
    assert [(one.at_s, one.version, one.desired, one.summary) for one in marks] == [
        (0, "", 0, "set to 4 by the load test, triggers off"),
        (2, "", 0, "triggers set by the load test"),
        (2, "v1", 5, UNEXPLAINED),
    ]


async def test_a_version_that_comes_and_one_that_goes_are_changes() -> None:
    world = World()
    world.deployment("v1", 2, 2)
    await world.watch.look()
    world.deployment("v2", 1, 0)
    world.deployment("v1", 0, 0)
    await world.watch.look()
    marks = await world.watch.decisions(0)
    assert [(one.version, one.current, one.desired) for one in marks] == [("v1", 2, 0), ("v2", 0, 1)]


async def test_what_cannot_be_seen_is_unknown_and_no_error() -> None:
    world = World()
    assert await world.watch.look() is None
    assert world.watch.trouble == "the namespace models has no Deployment of a model iris"
    world.deployment("v1", 2, 2)
    world.cluster.missing.add(MODEL_DEPLOYMENT)
    assert await world.watch.look() == ModelLook(2, 2, ())
    assert world.watch.unexplained is not None
    world.cluster.missing.add(DEPLOYMENT)
    assert await world.watch.look() is None
    assert world.watch.trouble is not None
    assert await world.watch.decisions(0) == []
