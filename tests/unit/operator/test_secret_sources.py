"""What triggers name in …FromEnv comes from one Secret, where the operator was given the right to it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.cluster import MemoryCluster
from headway.adapters.memory.metric_source import MemoryMetricSource
from headway.control.operator.secret_sources import AGAIN_S, SECRET, UNUSED_S, SecretSources
from headway.domain.cluster_objects import Kind, Name, Object, uid_of
from headway.domain.errors import ClusterFailed, ClusterForbidden, HeadwayError, SignalLost

from .scaling_world import REDIS, ScalingCluster, scaling

pytestmark = pytest.mark.anyio
NAME = Name("models", "signals")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Refusing(MemoryCluster):
    def __init__(self) -> None:
        super().__init__()
        self.refusal: HeadwayError | None = None
        self.reads = 0

    async def read(self, kind: Kind, name: Name) -> Object | None:
        self.reads += 1
        if self.refusal is not None:
            raise self.refusal
        return await super().read(kind, name)


class Held:
    def __init__(self) -> None:
        self.cluster, self.clock = Refusing(), ManualClock()
        self.made: list[tuple[Mapping[str, str], MemoryMetricSource]] = []
        self.sources = SecretSources(self.cluster, self.clock, self._make)

    def _make(self, env: Mapping[str, str]) -> dict[str, MemoryMetricSource]:
        self.made.append((env, MemoryMetricSource(1.0)))
        return {"redis": self.made[-1][1]}

    def put(self, **data: bytes) -> None:
        put_secret(self.cluster, **data)


def put_secret(cluster: MemoryCluster, **data: bytes) -> None:
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    metadata = {"name": NAME.name, "namespace": NAME.namespace}
    cluster.apply_as("kubectl", SECRET, {"metadata": metadata, "data": encoded})


async def test_it_is_read_once_a_minute_and_made_anew_when_it_changed() -> None:
    held = Held()
    held.put(PASSWORD=b"one", BINARY=b"\xff\xfe")
    first = await held.sources.of(NAME)
    assert await held.sources.of(NAME) is first
    assert held.cluster.reads == 1
    assert held.made[0][0] == {"PASSWORD": "one"}
    held.clock.advance(AGAIN_S)
    assert await held.sources.of(NAME) is first, "unchanged, connections stay"
    held.put(PASSWORD=b"two")
    held.clock.advance(AGAIN_S)
    assert await held.sources.of(NAME) is not first
    assert held.made[0][1].closed
    await held.sources.close()
    assert held.made[1][1].closed


async def test_a_missing_right_and_a_missing_secret_are_told() -> None:
    held = Held()
    with pytest.raises(SignalLost, match="there is no Secret models/signals"):
        await held.sources.of(NAME)
    held.cluster.refusal = ClusterForbidden("no")
    with pytest.raises(SignalLost, match="grant its service account get"):
        await held.sources.of(NAME)


async def test_what_was_read_serves_on_while_the_server_is_away_but_not_when_the_right_is_taken() -> None:
    held = Held()
    held.put(PASSWORD=b"one")
    first = await held.sources.of(NAME)
    held.clock.advance(AGAIN_S)
    held.cluster.refusal = ClusterFailed("away")
    assert await held.sources.of(NAME) is first
    held.clock.advance(AGAIN_S)
    held.cluster.refusal = ClusterForbidden("no")
    with pytest.raises(SignalLost):
        await held.sources.of(NAME)


async def test_one_that_nobody_uses_is_let_go() -> None:
    held = Held()
    held.put(PASSWORD=b"one")
    await held.sources.of(NAME)
    held.clock.advance(UNUSED_S + 1)
    with pytest.raises(SignalLost):
        await held.sources.of(Name("models", "other"))
    put_other = {"metadata": {"name": "other", "namespace": "models"}, "data": {}}
    held.cluster.apply_as("kubectl", SECRET, put_other)
    await held.sources.of(Name("models", "other"))
    assert held.made[0][1].closed


@pytest.fixture
async def world() -> AsyncIterator[ScalingCluster]:
    made = ScalingCluster()
    await made.up()
    yield made
    await made.down()


async def test_a_model_is_scaled_with_a_secret_and_holds_when_it_is_gone(world: ScalingCluster) -> None:
    world.source.value = 20.0
    world.put({"scaling": scaling({**REDIS, "passwordFromEnv": "PASSWORD"})}, triggerSecret=NAME.name)
    await world.pass_time(60)
    assert world.replicas() == {"iris-v1": 1}
    status, reason, message = world.said()
    assert (status, reason) == ("False", "NoData")
    assert "there is no Secret models/signals" in message
    put_secret(world.cluster, PASSWORD=b"s3cret")
    await world.pass_time(60)
    assert world.replicas() == {"iris-v1": 4}
    assert world.envs == [{"PASSWORD": "s3cret"}]
    found = world.cluster.find(SECRET, NAME)
    assert found is not None
    await world.cluster.delete(SECRET, NAME, uid_of(found))
    world.source.value = 0.0
    await world.pass_time(400)
    assert world.replicas() == {"iris-v1": 4}
    told = str([record.document for record in await world.recorded()]) + str(world.status())
    assert "s3cret" not in told
