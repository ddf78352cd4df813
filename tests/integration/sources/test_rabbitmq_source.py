"""Queues of a real RabbitMQ: ready and unacknowledged messages, rates, virtual hosts, refusals."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aio_pika
import httpx
import pytest

from headway.adapters.signals import RabbitmqSource
from headway.domain.errors import SignalLost
from headway.domain.scaling_spec import RabbitmqTrigger
from tests.services.canned_http import CannedHttp
from tests.services.documented import documented
from tests.services.fixtures import PASSWORD, RabbitmqService
from tests.services.rabbitmq import amqp, fill, http, until_told
from tests.waiting import PortPicker, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def source(rabbitmq_service: RabbitmqService) -> AsyncIterator[RabbitmqSource]:
    source = RabbitmqSource({"AMQP": amqp(rabbitmq_service), "HTTP": http(rabbitmq_service)})
    yield source
    await source.close()


def trigger(env: str, queue: str, **more: Any) -> RabbitmqTrigger:
    fields = {"host_from_env": env, "timeout": "30s", **more}
    return RabbitmqTrigger(type="rabbitmq", queue_name=queue, value=1, **fields)


async def test_unacknowledged_messages_count_over_http(
    source: RabbitmqSource, rabbitmq_service: RabbitmqService
) -> None:
    await fill(rabbitmq_service, "orders", 5)
    async with await aio_pika.connect(amqp(rabbitmq_service)) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("orders", passive=True)
        for _ in range(2):
            await queue.get()  # not acknowledged until the connection ends
        await until_told(rabbitmq_service, "orders", messages_ready=3, messages_unacknowledged=2)
        assert await source.read(trigger("HTTP", "orders")) == 5
        assert await source.read(trigger("HTTP", "orders", exclude_unacknowledged=True)) == 3
        assert await source.read(trigger("AMQP", "orders")) == 3


async def test_message_rate(source: RabbitmqSource, rabbitmq_service: RabbitmqService) -> None:
    """A queue that nobody has published to has the rate 0; amqp tells none."""
    await fill(rabbitmq_service, "idle", 0)
    await until_told(rabbitmq_service, "idle", messages=0)
    asked = trigger("HTTP", "idle", mode="MessageRate")
    assert await source.read(asked) == 0
    published = itertools.count(1)

    async def rises() -> bool:
        await fill(rabbitmq_service, "idle", next(published))
        return await source.read(asked) > 0

    fact: Callable[[], bool | Awaitable[bool]] = rises
    await eventually(fact, what="the rate of what is published")
    with pytest.raises(SignalLost, match="amqp tells no rates"):
        await source.read(trigger("AMQP", "idle", mode="MessageRate"))


async def test_virtual_hosts_and_names_with_slashes(rabbitmq_service: RabbitmqService) -> None:
    """The same address says the same over amqp and http; %2F in it is a slash in the name."""
    base = f"http://127.0.0.1:{rabbitmq_service.http_port}/api"
    async with httpx.AsyncClient(auth=("headway", PASSWORD), trust_env=False, timeout=30) as client:
        (await client.put(f"{base}/vhosts/shop%2Feu")).raise_for_status()
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        (await client.put(f"{base}/permissions/shop%2Feu/headway", json=everything)).raise_for_status()
    async with await aio_pika.connect(amqp(rabbitmq_service, "shop%2Feu")) as connection:
        channel = await connection.channel()
        await channel.declare_queue("mail/out", durable=True)
        for _ in range(4):
            await channel.default_exchange.publish(aio_pika.Message(b"x"), "mail/out")
    source = RabbitmqSource({"AMQP": amqp(rabbitmq_service, "shop%2Feu"), "HTTP": http(rabbitmq_service, "shop%2Feu")})
    try:
        assert await source.read(trigger("AMQP", "mail/out")) == 4

        await until_told(rabbitmq_service, "mail%2Fout", vhost="shop%2Feu", messages=4)
        assert await source.read(trigger("HTTP", "mail/out")) == 4
        for env in ("AMQP", "HTTP"):
            with pytest.raises(SignalLost, match=r"404|NOT_FOUND"):
                await source.read(trigger(env, "jobs"))
    finally:
        await source.close()


@pytest.mark.parametrize("env", ["AMQP", "HTTP"])
async def test_a_queue_that_does_not_exist(source: RabbitmqSource, rabbitmq_service: RabbitmqService, env: str) -> None:
    """It is not made by asking, and the connection goes on."""
    await fill(rabbitmq_service, "jobs", 2)
    for _ in range(2):
        with pytest.raises(SignalLost, match=r"RabbitMQ at .*, asked for the length of queue nowhere: .*(404|NOT_F)"):
            await source.read(trigger(env, "nowhere"))
    await until_told(rabbitmq_service, "jobs", messages=2)
    assert await source.read(trigger(env, "jobs")) == 2


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("amqp://headway:guessed-password@127.0.0.1:{amqp}/", "(?i)ACCESS_REFUSED|refused"),
        ("amqp://headway:{password}@127.0.0.1:{amqp}/no-such-vhost", "(?i)vhost|not_allowed|closed"),
        ("amqp://headway:{password}@127.0.0.1:1/", "Connection refused"),
        ("amqps://headway:{password}@127.0.0.1:{amqp}/", "(?i)ssl|reset"),
        ("amqp://headway:{password}@127.0.0.1:99999/", "(?i)port"),
        ("http://headway:guessed-password@127.0.0.1:{http}/", "HTTP 401"),
        ("http://127.0.0.1:{http}/", "HTTP 401"),
        ("http://headway:{password}@127.0.0.1:{http}/no-such-vhost", "HTTP 404"),
        ("http://headway:{password}@127.0.0.1:{http}/no/such/prefix/", "HTTP 40[04]"),
        ("http://headway:{password}@127.0.0.1:1/", "Connection refused"),
        ("http://headway:{password}@127.0.0.1:{amqp}/", "RemoteProtocolError|ReadError|reset"),
        ("mqtt://headway:{password}@127.0.0.1:1/", "neither amqp:// nor http://"),
        ("{password}", "neither amqp:// nor http://"),
    ],
)
async def test_refusals(rabbitmq_service: RabbitmqService, address: str, said: str) -> None:
    await fill(rabbitmq_service, "jobs", 2)
    ports = {"amqp": rabbitmq_service.amqp_port, "http": rabbitmq_service.http_port}
    source = RabbitmqSource({"THERE": address.format(password=PASSWORD, **ports)})
    try:
        with pytest.raises(SignalLost, match=said) as caught:
            await source.read(trigger("THERE", "jobs"))
    finally:
        await source.close()
    assert PASSWORD not in str(caught.value)
    assert "guessed-password" not in str(caught.value)


ANSWERS = {
    "500": ((b"", 500), "HTTP 500"),
    "not authorised": (({"error": "not_authorised", "reason": "Not management user"}, 401), "Not management user"),
    "not JSON": ((b"<html>", 200), "not JSON"),
    "a list": (([], 200), "HTTP 200"),
    "no statistics": (({"name": "jobs", "state": "down"}, 200), "no messages: the node has told no statistics"),
    "null": (({"messages": None}, 200), "null instead of a number"),
    "text": (({"messages": "5"}, 200), "str '5' instead of a number"),
}


@pytest.mark.parametrize(("answer", "said"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_strange_answers_of_the_management(free_port: PortPicker, answer: tuple[object, int], said: str) -> None:
    async with CannedHttp(free_port()) as canned:
        source = RabbitmqSource({"THERE": f"http://user:word@127.0.0.1:{canned.port}/rabbit/%2F"})
        try:
            canned.say(*answer)
            with pytest.raises(SignalLost, match=said):
                await source.read(trigger("THERE", "jobs"))
            # Without rates at all, no rate is told: it is not that nobody publishes.
            canned.say({"messages": 5, "rates_mode": "none"})
            with pytest.raises(SignalLost, match="rates_mode is str 'none'"):
                await source.read(trigger("THERE", "jobs", mode="MessageRate"))
            assert await source.read(trigger("THERE", "jobs")) == 5
        finally:
            await source.close()
        assert canned.requests[0].startswith("GET /rabbit/api/queues/%2F/jobs ")


async def test_the_documented_trigger(rabbitmq_service: RabbitmqService) -> None:
    shown = documented(RabbitmqTrigger)
    await fill(rabbitmq_service, shown.queue_name, 6)
    source = RabbitmqSource({str(shown.host_from_env): amqp(rabbitmq_service)})
    try:
        assert await source.read(shown) == 6
    finally:
        await source.close()
