"""ScalingLoan and StagedScaling on a cluster in memory: borrowed, given back, and never put over somebody else's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.cluster import MemoryCluster
from headway.cluster.kinds import MODEL_DEPLOYMENT
from headway.cluster.load_objects import JOB
from headway.cluster.names import LOAN_ANNOTATION
from headway.control.cluster_model_watch import ClusterModelWatch
from headway.control.cluster_models import ClusterModels
from headway.control.load_test import READY_S
from headway.control.scaling_loan import ScalingLoan
from headway.control.staged_scaling import GIVE_BACK_S, StagedScaling
from headway.domain.cluster_objects import Kind, Name, Object
from headway.domain.errors import ClusterFailed, Conflict, InvalidInput, ModelNotFound, Unsupported
from headway.domain.load_shapes import LoadShape, Loop, Stage
from tests.services.model_world import IRIS, model
from tests.unit.scaling_records import POLICY

pytestmark = pytest.mark.anyio
BEFORE: dict[str, Any] = {"minReplicas": 2, "maxReplicas": 4, "triggers": [{"type": "concurrency", "target": 4}]}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Shaky(MemoryCluster):
    """``fails``: so many writes are refused; ``loses``: so many are done and their answer is lost."""

    fails = 0
    loses = 0

    async def replace(self, kind: Kind, item: Object) -> Object:
        if self.fails:
            self.fails -= 1
            raise ClusterFailed("the server does not answer")
        done = await super().replace(kind, item)
        if self.loses:
            self.loses -= 1
            raise ClusterFailed("the connection broke off")
        return done


class World:
    def __init__(self, before: Mapping[str, Any] | None = BEFORE) -> None:
        self.cluster = Shaky()
        self.clock = ManualClock()
        self.models = ClusterModels(self.cluster, self.clock, "models")
        self.told: list[str] = []
        item = model() if before is None else model(scaling=before)
        self.cluster.apply_as("kubectl", MODEL_DEPLOYMENT, item)

    def loan(self, run: str = "load-iris-1") -> ScalingLoan:
        return ScalingLoan(self.models, "iris", run)

    def staged(self, *stages: Stage, run: str = "load-iris-1") -> StagedScaling:
        watch = ClusterModelWatch(self.cluster, self.clock, "models", "iris")
        shape = LoadShape(loop=Loop.OPEN, stages=stages)
        return StagedScaling(self.loan(run), shape, watch, self.clock, self.told.append)

    def job(self, run: str, *conditions: str) -> None:
        status = {"conditions": [{"type": one, "status": "True"} for one in conditions]}
        item = {"metadata": {"name": run, "namespace": "models"}, "status": status}
        self.cluster.update_as("test", JOB, item)

    def resource(self) -> dict[str, Any]:
        found = self.cluster.find(MODEL_DEPLOYMENT, IRIS)
        assert found is not None
        return found

    def scaling(self) -> Any:
        return self.resource()["spec"].get("scaling")

    def annotation(self) -> Any:
        text = (self.resource()["metadata"].get("annotations") or {}).get(LOAN_ANNOTATION)
        return None if text is None else json.loads(text)

    def by_others(self, scaling: Mapping[str, Any]) -> None:
        item = self.resource()
        self.cluster.update_as("others", MODEL_DEPLOYMENT, {**item, "spec": {**item["spec"], "scaling": scaling}})


@pytest.mark.parametrize("before", [BEFORE, {"minReplicas": 3}, None])
async def test_what_was_set_is_put_back_whatever_was_set_in_between(before: dict[str, Any] | None) -> None:
    world = World(before)
    was = world.resource()
    loan = world.loan()
    assert await loan.check([{"minReplicas": 3}, POLICY]) is None
    await loan.set({"minReplicas": 3})
    assert world.scaling() == {"minReplicas": 3}
    assert world.annotation() == {"run": "load-iris-1", "before": before}
    await loan.set(POLICY)
    assert world.scaling()["triggers"]
    assert world.annotation() == {"run": "load-iris-1", "before": before}
    assert await loan.give_back() is None
    assert await loan.give_back() is None
    now = world.resource()
    assert now["spec"] == was["spec"]
    assert now["metadata"].get("annotations") == was["metadata"].get("annotations")


async def test_nothing_was_set_so_nothing_is_written() -> None:
    world = World()
    loan = world.loan()
    await loan.check([])
    before = world.cluster.writes
    assert await loan.give_back() is None
    assert world.cluster.writes == before


async def test_who_changes_it_meanwhile_has_the_last_word() -> None:
    world = World()
    loan = world.loan()
    await loan.set({"minReplicas": 3})
    world.by_others({"minReplicas": 7})
    with pytest.raises(Conflict, match="somebody else has changed"):
        await loan.set({"minReplicas": 4})
    assert "somebody else" in str(await loan.give_back())
    assert world.scaling() == {"minReplicas": 7}
    assert world.annotation() is None


@pytest.mark.parametrize("policy", [{"minReplicas": -1}, {"maxReplicas": 3, "triggers": [{"type": "python"}]}])
async def test_what_would_be_refused_is_refused_before_anything_is_changed(policy: dict[str, Any]) -> None:
    world = World()
    with pytest.raises((InvalidInput, Unsupported)):
        await world.loan().check([{"minReplicas": 3}, policy])
    assert world.scaling() == BEFORE
    with pytest.raises(ModelNotFound):
        await ScalingLoan(world.models, "nobody", "load-1").check([])


async def test_a_second_test_at_a_time_is_refused() -> None:
    world = World()
    world.job("load-iris-1")
    await world.loan().set({"minReplicas": 3})
    with pytest.raises(Conflict, match="the load test load-iris-1 changes how iris is scaled"):
        await world.loan("load-iris-2").check([])
    # Both have looked before either has written.
    with pytest.raises(Conflict):
        await world.loan("load-iris-2").set({"minReplicas": 5})
    assert world.scaling() == {"minReplicas": 3}


@pytest.mark.parametrize("over", [True, False])
async def test_what_a_killed_test_has_left_the_next_one_puts_back(over: bool) -> None:
    world = World()
    if over:
        world.job("load-iris-1", "Failed")
    await world.loan().set({"minReplicas": 3})
    second = world.loan("load-iris-2")
    assert "load-iris-1 was killed" in str(await second.check([{"minReplicas": 5}]))
    await second.set({"minReplicas": 5})
    assert world.annotation() == {"run": "load-iris-2", "before": BEFORE}
    assert await second.give_back() is None
    assert (world.scaling(), world.annotation()) == (BEFORE, None)


async def test_a_damaged_annotation_is_told_and_nothing_is_changed() -> None:
    world = World()
    item = world.resource()
    item["metadata"]["annotations"] = {LOAN_ANNOTATION: "{"}
    world.cluster.update_as("others", MODEL_DEPLOYMENT, item)
    with pytest.raises(Conflict, match="cannot be read"):
        await world.loan().check([])


@pytest.mark.parametrize("lost", [True, False])
async def test_a_write_that_failed_leaves_the_loan_whole(lost: bool) -> None:
    world = World()
    loan = world.loan()
    if lost:
        world.cluster.loses = 1
    else:
        world.cluster.fails = 1
    with pytest.raises(ClusterFailed):
        await loan.set({"minReplicas": 3})
    await loan.set({"minReplicas": 4})
    assert world.annotation() == {"run": "load-iris-1", "before": BEFORE}
    assert await loan.give_back() is None
    assert (world.scaling(), world.annotation()) == (BEFORE, None)


async def test_of_a_first_write_that_failed_there_is_nothing_to_give_back() -> None:
    world = World()
    world.cluster.fails = 1
    loan = world.loan()
    with pytest.raises(ClusterFailed):
        await loan.set({"minReplicas": 3})
    world.by_others({"minReplicas": 7})
    assert await loan.give_back() is None
    assert world.scaling() == {"minReplicas": 7}


async def test_stages_are_set_at_their_time() -> None:
    world = World()
    staged = world.staged(
        Stage(duration_s=10, begin=1, end=1, replicas=3),
        Stage(duration_s=10, begin=1, end=1),
        Stage(duration_s=10, begin=1, end=1, scaling=POLICY),
        Stage(duration_s=10, begin=1, end=1, replicas=1),
    )
    preparing = asyncio.create_task(staged.prepare(lambda: False))
    await world.clock.elapse(READY_S + 2)  # no operator is there: they never get ready
    await preparing
    assert world.scaling() == {"minReplicas": 3}
    assert staged.notes == ["3 replicas were not ready when the load began"]
    begin_s: list[float] = []
    following = asyncio.create_task(staged.follow(lambda: begin_s[0] if begin_s else None))
    await world.clock.elapse(5)
    begin_s.append(world.clock.monotonic() - 1)
    await world.clock.elapse(17)
    assert world.scaling() == {"minReplicas": 3}
    await world.clock.elapse(2)
    assert world.scaling()["triggers"]
    await world.clock.elapse(11)
    assert world.scaling() == {"minReplicas": 1}
    await following
    await staged.give_back()
    assert (world.scaling(), staged.unreturned, len(staged.notes)) == (BEFORE, None, 1)


async def test_a_stage_that_cannot_be_scaled_is_noted_and_the_next_one_is_tried() -> None:
    world = World()
    stage = Stage(duration_s=1, begin=1, end=1)
    staged = world.staged(
        stage, Stage(duration_s=9, begin=1, end=1, replicas=5), Stage(duration_s=9, begin=1, end=1, replicas=6)
    )
    await staged.prepare(lambda: False)
    assert world.scaling() == BEFORE
    world.cluster.fails = 1
    following = asyncio.create_task(staged.follow(lambda: 0.0))
    await world.clock.elapse(20)
    await following
    assert world.scaling() == {"minReplicas": 6}
    assert staged.notes == ["stage 2 could not be scaled: the server does not answer"]


async def test_putting_back_waits_for_a_cluster_that_does_not_answer_and_tells_when_it_never_does() -> None:
    world = World()
    staged = world.staged(Stage(duration_s=1, begin=1, end=1, replicas=5))
    await staged.prepare(lambda: True)
    world.cluster.fails = 3
    giving = asyncio.create_task(staged.give_back())
    await world.clock.elapse(10)
    await giving
    assert (world.scaling(), staged.unreturned) == (BEFORE, None)

    world.told.clear()
    staged = world.staged(Stage(duration_s=1, begin=1, end=1, replicas=5))
    await staged.prepare(lambda: True)
    world.cluster.fails = 1000
    giving = asyncio.create_task(staged.give_back())
    await world.clock.elapse(GIVE_BACK_S + 10)
    await giving
    assert isinstance(staged.unreturned, ClusterFailed)
    assert "iris is still scaled as the load test needed it" in world.told[-1]
    assert world.annotation() == {"run": "load-iris-1", "before": BEFORE}


async def test_a_model_that_is_gone_has_nothing_to_be_put_back() -> None:
    world = World()
    staged = world.staged(Stage(duration_s=1, begin=1, end=1, replicas=5))
    await staged.prepare(lambda: True)
    await world.cluster.delete(MODEL_DEPLOYMENT, Name("models", "iris"), "")
    await staged.give_back()
    assert staged.unreturned is None
