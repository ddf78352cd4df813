"""RabbitMQ keeps the contract of publishers."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import aio_pika
import httpx
import pytest
from aio_pika.abc import AbstractIncomingMessage

from headway.adapters.rabbitmq import RabbitmqEventPublisher
from headway.domain.errors import BrokerFailed
from tests.contracts.event_publisher_contract import EventPublisherContract, Hand, messages
from tests.services.fixtures import PASSWORD, RabbitmqService
from tests.services.rabbitmq import amqp, management
from tests.services.relay import Relay
from tests.waiting import PortPicker, eventually

_vhosts = itertools.count(1)


class RabbitmqHand:
    """A virtual host of its own, reached through a relay, and a listener that goes round it."""

    def __init__(self, service: RabbitmqService, relay: Relay) -> None:
        self.vhost = f"events-{next(_vhosts)}"
        self.service = service
        self.got: list[AbstractIncomingMessage] = []
        self._relay = relay
        self._made: list[RabbitmqEventPublisher] = []
        self._queue: str | None = None

    def publisher(self, queue: str | None = "everything", exchange: str = "headway.events") -> RabbitmqEventPublisher:
        address = f"amqp://headway:{PASSWORD}@127.0.0.1:{self._relay.port}/{self.vhost}"
        self._made.append(RabbitmqEventPublisher(address, exchange, queue))
        return self._made[-1]

    async def received(self) -> list[tuple[str, str]]:
        connection = await aio_pika.connect(amqp(self.service, self.vhost))
        async with connection:
            queue = await (await connection.channel()).get_queue("everything", ensure=False)
            while (message := await queue.get(no_ack=True, fail=False)) is not None:
                self.got.append(message)
        return [(message.message_id or "", message.routing_key or "") for message in self.got]

    async def go_away(self) -> None:
        await self._relay.down()

    async def come_back(self) -> None:
        await self._relay.up()

    def management(self) -> httpx.AsyncClient:
        return management(self.service)

    async def clean(self) -> None:
        for made in self._made:
            await made.stop()
        async with self.management() as client:
            await client.delete(f"/api/vhosts/{self.vhost}")


class TestRabbitmqEventPublisher(EventPublisherContract):
    @pytest.fixture
    async def hand(self, rabbitmq_service: RabbitmqService, free_port: PortPicker) -> AsyncIterator[Hand]:
        async with Relay(rabbitmq_service.amqp_port, free_port()) as relay:
            hand = RabbitmqHand(rabbitmq_service, relay)
            async with hand.management() as client:
                (await client.put(f"/api/vhosts/{hand.vhost}")).raise_for_status()
            yield hand
            await hand.clean()

    async def test_a_message_says_what_it_is(self, hand: RabbitmqHand) -> None:
        publisher = await self.started(hand)
        (sent,) = messages(7, 7)
        await publisher.publish([sent])
        await self.came(hand, [sent])
        (message,) = hand.got
        assert json.loads(message.body) == dict(sent.body)
        assert (message.message_id, message.type, message.app_id) == ("log-7", "replica_ready.v1", "headway")
        assert message.content_type == "application/json"
        assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
        async with hand.management() as client:
            exchange = (await client.get(f"/api/exchanges/{hand.vhost}/headway.events")).json()
            queue = (await client.get(f"/api/queues/{hand.vhost}/everything")).json()
        assert (exchange["type"], exchange["durable"]) == ("topic", True)
        assert (queue["type"], queue["durable"]) == ("quorum", True)

    async def test_who_listens_to_a_part_gets_that_part(self, hand: RabbitmqHand) -> None:
        publisher = hand.publisher(queue=None)
        await publisher.start()
        await eventually(lambda: publisher.connected)
        connection = await aio_pika.connect(amqp(hand.service, hand.vhost))
        async with connection:
            channel = await connection.channel()
            queue = await channel.declare_queue("of iris", exclusive=True)
            await queue.bind("headway.events", "model.iris.#")
            await publisher.publish(messages(1, 4, ("iris", "wine")))
            got = [(await queue.get(no_ack=True, timeout=20)).message_id for _ in range(2)]
            assert got == ["log-2", "log-4"]
            assert await queue.get(fail=False) is None

    async def test_a_queue_that_was_removed_is_made_again(self, hand: RabbitmqHand) -> None:
        publisher = await self.started(hand)
        await publisher.publish(messages(1, 2))
        async with hand.management() as client:
            (await client.delete(f"/api/queues/{hand.vhost}/everything")).raise_for_status()
        again = messages(3, 4, ("iris", "wine"))
        await publisher.publish(again)
        await self.came(hand, again)

    async def test_an_exchange_that_was_removed_is_made_again(self, hand: RabbitmqHand) -> None:
        publisher = await self.started(hand)
        async with hand.management() as client:
            (await client.delete(f"/api/exchanges/{hand.vhost}/headway.events")).raise_for_status()
        again = messages(1, 2)

        async def published() -> bool:
            try:
                await publisher.publish(again)
            except BrokerFailed:
                return False
            return True

        told: Callable[[], bool | Awaitable[bool]] = published
        await eventually(told, what="it is told again")
        await self.came(hand, again)

    async def test_an_exchange_of_another_kind_is_named_as_the_problem(self, hand: RabbitmqHand) -> None:
        async with hand.management() as client:
            where = f"/api/exchanges/{hand.vhost}/taken"
            (await client.put(where, json={"type": "fanout", "durable": True})).raise_for_status()
        publisher = hand.publisher(exchange="taken")
        await publisher.start()
        problem = await eventually(lambda: publisher.problem, what="it says why not")
        assert "taken" in str(problem)
        assert PASSWORD not in str(problem)
