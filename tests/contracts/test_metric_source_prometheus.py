"""PrometheusSource keeps the contract of a metric source, on a real Prometheus."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from headway.adapters.signals import PrometheusSource
from headway.domain.scaling_spec import PrometheusTrigger
from headway.ports.metric_source import MetricSource
from tests.contracts.metric_source_contract import VARIABLE, ServiceSourceContract
from tests.contracts.relayed_stage import RelayedStage
from tests.services.fixtures import PASSWORD, PrometheusService
from tests.services.relay import Relay
from tests.waiting import PortPicker

pytestmark = pytest.mark.anyio


class PrometheusStage(RelayedStage):
    of = "Prometheus at http://127.0.0.1:"

    def __init__(self, relay: Relay) -> None:
        super().__init__({VARIABLE: PASSWORD}, relay)
        self.query = "vector(1)"

    def make(self) -> MetricSource:
        return PrometheusSource(self.env)

    def trigger(self, *, timeout: str = "30s") -> PrometheusTrigger:
        return PrometheusTrigger(
            type="prometheus",
            server_address=f"http://127.0.0.1:{self.relay.port}/prefix",
            query=self.query,
            threshold=1,
            bearer_token_from_env=VARIABLE,
            timeout=timeout,
        )

    def unknown(self) -> PrometheusTrigger:
        return self.trigger().model_copy(update={"query": "no_such_metric"})

    async def hold(self, number: int) -> None:
        self.query = f"vector({number})"


class TestPrometheusSource(ServiceSourceContract):
    @pytest.fixture
    async def stage(
        self, prometheus_service: PrometheusService, free_port: PortPicker
    ) -> AsyncIterator[PrometheusStage]:
        async with Relay(prometheus_service.port, free_port()) as relay:
            stage = PrometheusStage(relay)
            yield stage
            await stage.source.close()
