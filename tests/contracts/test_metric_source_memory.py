"""MemoryMetricSource keeps the contract of a metric source."""

from __future__ import annotations

import pytest

from headway.adapters.memory.metric_source import MemoryMetricSource
from headway.domain.errors import SignalLost
from headway.domain.scaling_spec import PrometheusTrigger
from tests.contracts.metric_source_contract import MetricSourceContract, Stage

pytestmark = pytest.mark.anyio


class MemoryStage(Stage):
    source: MemoryMetricSource

    def make(self) -> MemoryMetricSource:
        return MemoryMetricSource()

    def trigger(self, *, timeout: str = "30s") -> PrometheusTrigger:
        return PrometheusTrigger(
            type="prometheus", server_address="http://127.0.0.1:9090", query="up", threshold=1, timeout=timeout
        )

    async def hold(self, number: int) -> None:
        self.value = self.source.value = float(number)

    async def down(self) -> None:
        self.source.value = None

    async def up(self) -> None:
        self.source.value = self.value
        self.source.open.set()

    async def hang(self) -> None:
        self.source.open.clear()


class TestMemoryMetricSource(MetricSourceContract):
    @pytest.fixture
    def stage(self) -> MemoryStage:
        return MemoryStage()

    async def test_what_is_no_number_is_lost(self, stage: MemoryStage) -> None:
        for value in (None, float("nan"), float("inf")):
            stage.source.value = value
            with pytest.raises(SignalLost):
                await stage.source.read(stage.trigger())
