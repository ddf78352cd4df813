"""RabbitmqSource keeps the contract of a metric source, on a real RabbitMQ, over amqp and over its management."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from headway.adapters.signals import RabbitmqSource
from headway.domain.scaling_spec import RabbitmqTrigger
from headway.ports.metric_source import MetricSource
from tests.contracts.metric_source_contract import VARIABLE, ServiceSourceContract
from tests.contracts.relayed_stage import RelayedStage
from tests.services.fixtures import PASSWORD, RabbitmqService
from tests.services.rabbitmq import fill, until_told
from tests.services.relay import Relay
from tests.waiting import PortPicker

# The broker takes seconds to start.
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


class RabbitmqStage(RelayedStage):
    def __init__(self, relay: Relay, service: RabbitmqService, scheme: str) -> None:
        self.of = f"RabbitMQ at {scheme}://127.0.0.1:"
        self.scheme = scheme
        super().__init__({VARIABLE: f"{scheme}://headway:{PASSWORD}@127.0.0.1:{relay.port}/"}, relay)
        self.service = service

    def make(self) -> MetricSource:
        return RabbitmqSource(self.env)

    def trigger(self, *, timeout: str = "30s", queue: str = "jobs") -> RabbitmqTrigger:
        return RabbitmqTrigger(type="rabbitmq", host_from_env=VARIABLE, queue_name=queue, value=1, timeout=timeout)

    def unknown(self) -> RabbitmqTrigger:
        return self.trigger(queue="no-such-queue")

    async def hold(self, number: int) -> None:
        await fill(self.service, "jobs", number)
        if self.scheme == "http":
            await until_told(self.service, "jobs", messages=number)


class TestRabbitmqSource(ServiceSourceContract):
    @pytest.fixture(params=["amqp", "http"])
    async def stage(
        self, request: pytest.FixtureRequest, rabbitmq_service: RabbitmqService, free_port: PortPicker
    ) -> AsyncIterator[RabbitmqStage]:
        port = rabbitmq_service.amqp_port if request.param == "amqp" else rabbitmq_service.http_port
        async with Relay(port, free_port()) as relay:
            stage = RabbitmqStage(relay, rabbitmq_service, request.param)
            yield stage
            await stage.source.close()
