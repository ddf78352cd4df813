"""RabbitMQ keeps the contract of brokers."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
import pytest

from headway.adapters.rabbitmq import RabbitmqJobBroker
from tests.contracts.job_broker_contract import Hand, JobBrokerContract
from tests.services.fixtures import PASSWORD, RabbitmqService
from tests.services.rabbitmq import management
from tests.services.relay import Relay
from tests.waiting import PortPicker

_vhosts = itertools.count(1)


class RabbitmqHand:
    """A virtual host of its own, reached through a relay."""

    def __init__(self, service: RabbitmqService, relay: Relay) -> None:
        self.vhost = f"jobs-{next(_vhosts)}"
        self._service, self._relay = service, relay
        self._made: list[RabbitmqJobBroker] = []

    def broker(self) -> RabbitmqJobBroker:
        address = f"amqp://headway:{PASSWORD}@127.0.0.1:{self._relay.port}/{self.vhost}"
        self._made.append(RabbitmqJobBroker(address))
        return self._made[-1]

    async def go_away(self) -> None:
        await self._relay.down()

    async def come_back(self) -> None:
        await self._relay.up()

    async def wipe(self) -> None:
        async with self.management() as client:
            for queue in (await client.get(f"/api/queues/{self.vhost}")).json():
                (await client.delete(f"/api/queues/{self.vhost}/{quote(queue['name'])}")).raise_for_status()

    def management(self) -> httpx.AsyncClient:
        return management(self._service)

    async def clean(self) -> None:
        for made in self._made:
            await made.stop()
        async with self.management() as client:
            await client.delete(f"/api/vhosts/{self.vhost}")


class TestRabbitmqJobBroker(JobBrokerContract):
    @pytest.fixture
    async def hand(self, rabbitmq_service: RabbitmqService, free_port: PortPicker) -> AsyncIterator[Hand]:
        async with Relay(rabbitmq_service.amqp_port, free_port()) as relay:
            hand = RabbitmqHand(rabbitmq_service, relay)
            async with hand.management() as client:
                (await client.put(f"/api/vhosts/{hand.vhost}")).raise_for_status()
            yield hand
            await hand.clean()

    async def test_queues_are_quorum_queues(self, hand: RabbitmqHand) -> None:
        inbox = await self.started(hand)
        await inbox.broker.announce([("iris", "1")])
        async with hand.management() as client:
            (queue,) = (await client.get(f"/api/queues/{hand.vhost}")).json()
        assert (queue["name"], queue["type"], queue["durable"]) == ("headway.jobs.iris", "quorum", True)
