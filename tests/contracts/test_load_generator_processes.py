"""ShardedLoadGenerator, with real processes, keeps the contract of a load generator."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from headway.adapters.loadgen.sharded import ShardedLoadGenerator
from headway.domain.load_shapes import Arrivals, rate
from tests.contracts.load_generator_contract import OpenLoopContract
from tests.contracts.test_load_generator_http import HttpStage
from tests.services.scripted_model import ScriptedModel

pytestmark = pytest.mark.anyio


class ProcessStage(HttpStage):
    STARTING_S = 2.0

    def __init__(self, model: ScriptedModel) -> None:
        super().__init__(model)
        self.generator = ShardedLoadGenerator(2, timeout_s=10)


class TestShardedLoadGenerator(OpenLoopContract):
    @pytest.fixture
    async def stage(self) -> AsyncIterator[ProcessStage]:
        model = ScriptedModel()
        await model.start()
        yield ProcessStage(model)
        await model.stop()

    async def test_what_two_send_is_what_one_would(self, stage: ProcessStage) -> None:
        load = await stage.run(rate(50, 1.0, arrivals=Arrivals.POISSON, seed=5), (b"[1]", b"[2]", b"[3]"))
        model = ScriptedModel()
        await model.start()
        alone = HttpStage(model)
        same = await alone.run(rate(50, 1.0, arrivals=Arrivals.POISSON, seed=5), (b"[1]", b"[2]", b"[3]"))
        await model.stop()
        assert sorted(load.samples.due_s) == pytest.approx(sorted(same.samples.due_s))
        assert sorted(stage.bodies()) == sorted(alone.bodies())
