"""What people ask of models on a cluster, and following it: the real operator on a cluster in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from headway.adapters.memory.cluster import MemoryCluster
from headway.cluster.kinds import MODEL_DEPLOYMENT
from headway.cluster.standing import UNSEEN
from headway.control.cluster_models import ClusterModels
from headway.control.cluster_rollout import SILENT_S, ClusterRollout
from headway.domain.cluster_objects import DEPLOYMENT, POD, Kind, Object
from headway.domain.errors import (
    ClusterFailed,
    ClusterForbidden,
    Conflict,
    HeadwayError,
    InvalidTraffic,
    KindMissing,
    ModelNotFound,
    StartTimeout,
    Unsupported,
    VersionNotFound,
)
from headway.domain.routing_table import Arm
from headway.domain.spec import ModelDeployment, parse
from tests.unit.operator.scaling_world import CONCURRENCY, IRIS, ScalingCluster, scaling

pytestmark = pytest.mark.anyio
T = TypeVar("T")


@pytest.fixture
def models(world: ScalingCluster) -> ClusterModels:
    return ClusterModels(world.cluster, world.clock, "models")


def document(image: str = "iris:1", **spec: Any) -> ModelDeployment:
    kubernetes = {"image": image, "route": {"gateway": {"name": "public"}}, **spec.pop("kubernetes", {})}
    return parse(
        {
            "apiVersion": "headway.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": "iris"},
            "spec": {"kubernetes": kubernetes, **spec},
        }
    )


async def over_time(world: ScalingCluster, work: Awaitable[T], seconds: float = 300.0) -> T:
    """What ``work`` comes to, while time passes for all."""
    task = asyncio.ensure_future(work)
    for _ in range(round(seconds)):
        await world.pass_time(1)
        if task.done():
            break
    return task.result()


def follow(models: ClusterModels, timeout_s: float = 120.0) -> tuple[ClusterRollout, list[str]]:
    told: list[str] = []
    rollout = ClusterRollout(models, timeout_s, lambda stage, state, text: told.append(f"{stage} {state}: {text}"))
    return rollout, told


async def change(world: ScalingCluster, models: ClusterModels, order: Awaitable[Any]) -> Any:
    asked = await order
    rollout, _ = follow(models)
    await over_time(world, rollout.wait(asked))
    return asked


async def test_versions_come_and_go_and_come_back(world: ScalingCluster, models: ClusterModels) -> None:
    first = await change(world, models, models.deploy(document(env=[{"name": "A", "value": "1"}])))
    assert (first.said.version, first.unchanged) == ("v1", False)
    assert (await models.deploy(document(env=[{"name": "A", "value": "1"}]))).unchanged

    canary = await change(world, models, models.deploy(document("iris:2", server={"maxQueue": 5}), 10))
    assert canary.said.target == (Arm("v1", 90), Arm("v2", 10))
    found = await models.get("iris")
    assert (found.live, found.previous) == (canary.said.target, first.said.target)
    assert found.settled

    await change(world, models, models.promote("iris", None))
    assert (await models.get("iris")).live == (Arm("v2", 100),)
    await change(world, models, models.rollback("iris"))
    assert (await models.get("iris")).live == canary.said.target

    # Out of the split goes the version that the document describes: it describes the other one again, to the letter.
    back = await change(world, models, models.set_traffic("iris", {"v1": 100}))
    assert back.said.version == "v1"
    spec = (await models.get("iris")).resource["spec"]
    assert (spec["env"], spec["kubernetes"]["image"]) == ([{"name": "A", "value": "1"}], "iris:1")
    assert not {"server", "traffic"} & set(spec)
    assert len(world.cluster.every(DEPLOYMENT)) == 2


async def test_a_version_of_no_share_keeps_running(world: ScalingCluster, models: ClusterModels) -> None:
    await change(world, models, models.deploy(document()))
    await change(world, models, models.deploy(document("iris:2"), 10))
    await change(world, models, models.set_traffic("iris", {"v1": 100, "v2": 0}))
    assert world.replicas() == {"iris-v1": 1, "iris-v2": 1}
    assert (await models.get("iris")).live == (Arm("v1", 100), Arm("v2", 0))


async def test_a_rollout_under_way_is_called_off(world: ScalingCluster, models: ClusterModels) -> None:
    await change(world, models, models.deploy(document()))
    world.room = 1
    asked = await models.deploy(document("iris:2"))
    rollout, told = follow(models, 30)
    with pytest.raises(StartTimeout, match=r"Unschedulable.*v1 100 % serves on") as refused:
        await over_time(world, rollout.wait(asked))
    assert (refused.value.exit_code, refused.value.details["reason"]) == (7, "Unschedulable")
    assert any(line.startswith("start running: v2: Unschedulable") for line in told)
    found = await models.get("iris")
    assert (found.live, found.target) == ((Arm("v1", 100),), (Arm("v2", 100),))
    await change(world, models, models.rollback("iris"))
    assert (await models.get("iris")).settled


async def test_what_cannot_be_is_refused_and_changes_nothing(world: ScalingCluster, models: ClusterModels) -> None:
    with pytest.raises(ModelNotFound):
        await models.promote("iris", None)
    with pytest.raises(Conflict, match="no other version"):
        await models.deploy(document(), 10)
    await change(world, models, models.deploy(document()))
    before = await models.get("iris")
    refusals: list[tuple[type[HeadwayError], Callable[[], Awaitable[Any]]]] = [
        (Conflict, lambda: models.rollback("iris")),
        (Conflict, lambda: models.promote("iris", None)),
        (VersionNotFound, lambda: models.promote("iris", "v9")),
        (InvalidTraffic, lambda: models.set_traffic("iris", {"v1": 50, "v9": 50})),
        (InvalidTraffic, lambda: models.deploy(document("iris:2", traffic=[{"version": "v1", "weight": 100}]), 10)),
        (Unsupported, lambda: models.deploy(document(model={"path": "elsewhere"}))),
        (Conflict, lambda: models.deploy(document(), 10)),
    ]
    for kind, order in refusals:
        with pytest.raises(kind):
            await order()
    assert (await models.get("iris")).resource == before.resource


async def test_a_number_of_replicas_is_set_unless_triggers_move_it(
    world: ScalingCluster, models: ClusterModels
) -> None:
    await change(world, models, models.deploy(document()))
    await change(world, models, models.scale("iris", 3))
    assert world.replicas() == {"iris-v1": 3}
    # A document that does not state it leaves it.
    await change(world, models, models.deploy(document("iris:2")))
    assert world.replicas() == {"iris-v1": 0, "iris-v2": 3}
    await change(world, models, models.scale("iris", 0))
    assert world.replicas() == {"iris-v1": 0, "iris-v2": 0}
    await change(world, models, models.deploy(document("iris:2", scaling=scaling(CONCURRENCY))))
    with pytest.raises(Unsupported, match="triggers"):
        await models.scale("iris", 2)


async def test_where_triggers_move_replicas_the_least_of_them_will_do(
    world: ScalingCluster, models: ClusterModels
) -> None:
    world.room = 2
    await change(world, models, models.deploy(document(scaling=scaling(CONCURRENCY))))
    world.flight["iris-v1"] = 10
    await world.pass_time(30)
    found = await models.get("iris")
    assert (found.wished("v1"), found.ready("v1")) == (5, 2)
    assert found.settled
    world.room = 0
    for pod in world.pods("iris-v1"):
        world.cluster._remove(POD, IRIS._replace(name=pod["metadata"]["name"]))
    await world.pass_time(2)
    assert str((await models.get("iris")).state) == "degraded"


async def test_a_model_without_a_route_goes_back_too(world: ScalingCluster, models: ClusterModels) -> None:
    for image in ("iris:1", "iris:2"):
        await change(world, models, models.deploy(document(image, kubernetes={"route": None})))
    await change(world, models, models.rollback("iris"))
    assert (await models.get("iris")).live == (Arm("v1", 100),)


async def test_a_shadow_that_is_promoted_is_a_shadow_no_longer(world: ScalingCluster, models: ClusterModels) -> None:
    await change(world, models, models.deploy(document()))
    traffic = [{"version": "v1", "weight": 100}]
    await change(world, models, models.deploy(document("iris:2", shadow={"version": "v2"}, traffic=traffic)))
    found = await models.get("iris")
    assert (found.live, found.running, found.settled) == ((Arm("v1", 100),), ("v1", "v2"), True)
    asked = await change(world, models, models.promote("iris", "v2"))
    assert asked.note == "v2 gets no copies any more"
    found = await models.get("iris")
    assert (found.live, "shadow" in found.resource["spec"]) == ((Arm("v2", 100),), False)


async def test_what_would_change_is_told_and_not_changed(world: ScalingCluster, models: ClusterModels) -> None:
    made = await models.diff(document())
    assert (made.exists, made.new_version) == (False, True)
    await change(world, models, models.deploy(document(scaling={"minReplicas": 2})))
    before = world.cluster.writes
    assert (await models.diff(document())).changes == ()
    found = await models.diff(document("iris:2", server={"maxQueue": 5}))
    assert (found.exists, found.new_version) == (True, True)
    assert found.changes == (
        ("spec.kubernetes.image", "iris:1", "iris:2"),
        ("spec.server.maxQueue", 256, 5),
        ("spec.traffic.v1", 100, None),
        ("spec.traffic.v2", None, 100),
    )
    assert world.cluster.writes == before


class Rival(MemoryCluster):
    """Somebody is faster than each of our first writes."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def replace(self, kind: Kind, item: Object) -> Object:
        live = self.find(kind, IRIS)
        if kind == MODEL_DEPLOYMENT and live is not None and self.times:
            self.times -= 1
            labels = {**live["metadata"].get("labels", {}), "round": str(self.times)}
            self.update_as("rival", kind, {**live, "metadata": {**live["metadata"], "labels": labels}})
        return await super().replace(kind, item)


async def test_a_change_is_made_anew_of_what_others_have_written() -> None:
    world = ScalingCluster()
    world.cluster = Rival(0)
    await world.up()
    models = ClusterModels(world.cluster, world.clock, "models")
    await change(world, models, models.deploy(document()))
    world.cluster.times = 3
    await over_time(world, models.scale("iris", 2))
    found = await models.get("iris")
    assert found.resource["spec"]["scaling"] == {"minReplicas": 2}
    assert found.resource["metadata"]["labels"] == {"round": "0"}
    world.cluster.times = 1000
    with pytest.raises(Conflict, match="by others all the time"):
        await over_time(world, models.scale("iris", 3))
    await world.down()


async def test_without_an_operator_it_is_told_and_given_up() -> None:
    world = ScalingCluster()
    models = ClusterModels(world.cluster, world.clock, "models")
    asked = await models.deploy(document())
    rollout, told = follow(models, 1000)
    with pytest.raises(ClusterFailed, match="no operator"):
        await over_time(world, rollout.wait(asked))
    assert world.clock.monotonic() == pytest.approx(SILENT_S, abs=2)
    assert told[0].startswith("operator running")
    found = await models.get("iris")
    assert (str(found.state), found.message) == ("deploying", UNSEEN)


async def test_somebody_elses_wish_ends_the_wait(world: ScalingCluster, models: ClusterModels) -> None:
    await change(world, models, models.deploy(document()))
    world.room = 1
    asked = await models.deploy(document("iris:2"))
    rollout, _ = follow(models)
    waiting = asyncio.ensure_future(rollout.wait(asked))
    await world.pass_time(3)
    await models.promote("iris", "v1")
    with pytest.raises(Conflict, match="v1 100 %"):
        await over_time(world, waiting)


async def test_a_refused_document_is_the_error_that_it_is_refused_with(
    world: ScalingCluster, models: ClusterModels
) -> None:
    asked = await change(world, models, models.deploy(document()))
    # As by an operator of another release, which refuses more.
    world.put({"sticky": {"header": "x-user"}})
    await world.pass_time(2)
    found = await models.get("iris")
    assert found.refused is not None
    assert (str(found.state), found.live) == ("degraded", asked.said.target)
    rollout, _ = follow(models)
    with pytest.raises(Unsupported, match="by a header"):
        await over_time(world, rollout.wait(asked))


async def test_a_server_that_is_away_for_a_moment_is_waited_for(
    world: ScalingCluster, models: ClusterModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await models.deploy(document())
    answers = models.get
    failures: list[HeadwayError] = [ClusterFailed("it restarts"), ClusterFailed("it restarts")]

    async def get(name: str) -> Any:
        if failures:
            raise failures.pop()
        return await answers(name)

    monkeypatch.setattr(models, "get", get)
    rollout, told = follow(models)
    await over_time(world, rollout.wait(asked))
    assert told[0] == "apply running: it restarts"
    failures.append(ClusterForbidden("you may not"))
    with pytest.raises(ClusterForbidden):
        await over_time(world, rollout.wait(asked))


async def test_a_deleted_model_is_gone_when_nothing_of_it_is_left(world: ScalingCluster, models: ClusterModels) -> None:
    await change(world, models, models.deploy(document()))
    pods = world.cluster.every(POD)
    gone = await models.delete("iris")
    rollout, told = follow(models)
    waiting = asyncio.ensure_future(rollout.wait_gone(gone))
    await world.clock.elapse(3)
    assert not waiting.done()  # its pods still answer what they have
    assert told == [f"delete running: {len(pods)} objects end"] * len(told)
    for pod in pods:
        await world.cluster.delete(POD, IRIS._replace(name=pod["metadata"]["name"]), "")
    await world.clock.elapse(2)
    assert waiting.done()
    with pytest.raises(ModelNotFound):
        await models.get("iris")


async def test_a_list_tells_of_the_namespace_alone(world: ScalingCluster, models: ClusterModels) -> None:
    await change(world, models, models.deploy(document()))
    world.put({}, name="other")
    elsewhere = ClusterModels(world.cluster, world.clock, "elsewhere")
    assert [one.name.name for one in await models.all()] == ["iris", "other"]
    assert await elsewhere.all() == []
    with pytest.raises(ModelNotFound, match="elsewhere"):
        await elsewhere.get("iris")
    world.cluster.missing.add(MODEL_DEPLOYMENT)
    for order in (models.all(), models.get("none"), models.deploy(document(), None)):
        with pytest.raises(KindMissing):
            await order
