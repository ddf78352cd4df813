"""MemoryModelWatch and RestModelWatch keep the contract of a watch on a model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.model_watch import MemoryModelWatch
from headway.client import Client
from headway.client.model_watch import RestModelWatch
from headway.ports.replica_stats import ReplicaStat
from tests.contracts.model_watch_contract import ModelWatchContract, Stage
from tests.unit.api.world import ADMIN, World, make_world
from tests.unit.client.bridge import Bridge
from tests.unit.client.control import URL

pytestmark = pytest.mark.anyio


class MemoryStage(Stage):
    watch: MemoryModelWatch

    def __init__(self) -> None:
        self.watch = MemoryModelWatch(ManualClock())

    def replicas(self) -> int:
        return self.watch.replicas

    def scaled(self) -> bool:
        return self.watch.policy is not None

    def hide(self) -> None:
        self.watch.seen = False


class RestStage(Stage):
    def __init__(self, world: World, client: Client) -> None:
        self._world = world
        self._client = client
        self.watch = RestModelWatch(client, "iris")

    def replicas(self) -> int:
        return self._world.book.get("iris").replicas

    def scaled(self) -> bool:
        return self._world.book.get("iris").scaling is not None

    def hide(self) -> None:
        self.watch = RestModelWatch(self._client, "nobody")


class TestMemoryModelWatch(ModelWatchContract):
    @pytest.fixture
    def stage(self) -> MemoryStage:
        return MemoryStage()


class TestRestModelWatch(ModelWatchContract):
    @pytest.fixture
    def stage(self, tmp_path: Path) -> Iterator[RestStage]:
        with asyncio.Runner() as runner:
            world = runner.run(make_world())
            runner.run(world.deploy())
            name = world.runtime.add("iris", "v1", "aaaaa")
            world.stats.say(ReplicaStat(name, 5.0, "1", cpu_s=1.5))
            with Client(URL, ADMIN, transport=Bridge(world, runner, tmp_path)) as client:
                yield RestStage(world, client)
