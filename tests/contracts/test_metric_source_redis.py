"""RedisSource keeps the contract of a metric source, on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis

from headway.adapters.signals import RedisSource
from headway.domain.scaling_spec import RedisTrigger
from headway.ports.metric_source import MetricSource
from tests.contracts.metric_source_contract import VARIABLE, ServiceSourceContract
from tests.contracts.relayed_stage import RelayedStage
from tests.services.fixtures import PASSWORD, RedisService
from tests.services.relay import Relay
from tests.waiting import PortPicker

pytestmark = pytest.mark.anyio


class RedisStage(RelayedStage):
    of = "Redis at 127.0.0.1:"

    def __init__(self, relay: Relay, direct: redis.Redis) -> None:
        super().__init__({VARIABLE: PASSWORD}, relay)
        self.direct = direct

    def make(self) -> MetricSource:
        return RedisSource(self.env)

    def trigger(self, *, timeout: str = "30s", key: str = "jobs") -> RedisTrigger:
        return RedisTrigger(
            type="redis",
            address=f"127.0.0.1:{self.relay.port}",
            password_from_env=VARIABLE,
            list_name=key,
            timeout=timeout,
        )

    def unknown(self) -> RedisTrigger:
        self.direct.set("not-a-list", "text")
        return self.trigger(key="not-a-list")

    async def hold(self, number: int) -> None:
        self.direct.delete("jobs")
        if number:
            await asyncio.to_thread(self.direct.rpush, "jobs", *range(number))


class TestRedisSource(ServiceSourceContract):
    @pytest.fixture
    async def stage(self, redis_service: RedisService, free_port: PortPicker) -> AsyncIterator[RedisStage]:
        with redis.Redis(port=redis_service.port, password=PASSWORD) as direct:
            direct.flushall()
            async with Relay(redis_service.port, free_port()) as relay:
                stage = RedisStage(relay, direct)
                yield stage
                await stage.source.close()
