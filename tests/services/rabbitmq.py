"""Queues of the test's RabbitMQ, filled over amqp and looked at through its management."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import aio_pika
import httpx

from tests.services.fixtures import PASSWORD, RabbitmqService
from tests.waiting import eventually


def amqp(service: RabbitmqService, vhost: str = "") -> str:
    return f"amqp://headway:{PASSWORD}@127.0.0.1:{service.amqp_port}/{vhost}"


def http(service: RabbitmqService, vhost: str = "") -> str:
    return f"http://headway:{PASSWORD}@127.0.0.1:{service.http_port}/{vhost}"


def management(service: RabbitmqService) -> httpx.AsyncClient:
    """A client of the management API."""
    url = f"http://127.0.0.1:{service.http_port}"
    return httpx.AsyncClient(auth=("headway", PASSWORD), base_url=url, trust_env=False, timeout=30)


async def fill(service: RabbitmqService, queue: str, number: int) -> None:
    """The queue holds exactly that many messages, confirmed by the broker."""
    connection = await aio_pika.connect(amqp(service))
    async with connection:
        channel = await connection.channel()
        declared = await channel.declare_queue(queue, durable=True)
        if declared.declaration_result.message_count == number:
            return
        await declared.purge()
        for _ in range(number):
            await channel.default_exchange.publish(aio_pika.Message(b"job"), queue)


async def until_told(service: RabbitmqService, queue: str, *, vhost: str = "%2F", **expected: int) -> None:
    """Wait until the management says so; it collects what it says now and then."""
    async with management(service) as client:

        async def told() -> bool:
            answer = await client.get(f"/api/queues/{vhost}/{queue}")
            return answer.status_code == 200 and all(answer.json().get(key) == expected[key] for key in expected)

        fact: Callable[[], bool | Awaitable[bool]] = told
        await eventually(fact, what=f"the management tells {expected} of {queue}")
