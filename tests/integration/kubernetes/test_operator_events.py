"""``headway operator`` as a process that records events in a file and tells a real RabbitMQ of them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aio_pika
import pytest

from tests.services.fixtures import RabbitmqService
from tests.services.kubernetes_api import KubernetesApi
from tests.services.model_world import KINDS, bring_up, model, put, weights
from tests.services.operator_command import environment, headway
from tests.services.rabbitmq import amqp
from tests.services.relay import Relay
from tests.services.told_world import Kubelet
from tests.waiting import PortPicker, eventually

pytestmark = pytest.mark.anyio
EXCHANGE, QUEUE = "of-a-cluster", "all-of-a-cluster"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def api() -> AsyncIterator[KubernetesApi]:
    async with KubernetesApi(KINDS) as made:
        yield made


@asynccontextmanager
async def operator(env: Mapping[str, str], *, kill: bool = False) -> AsyncIterator[asyncio.subprocess.Process]:
    """Running; at the end told to end, or killed."""
    process = await headway("operator", "--context", "prod", env=dict(env))
    try:
        yield process
        if not kill:
            process.terminate()
            _, said = await asyncio.wait_for(process.communicate(), 60)
            assert process.returncode == 0, said
    finally:
        if process.returncode is None:
            process.kill()
            _, said = await process.communicate()
            print(said.decode())  # shown when the test fails


def recorded(file: Path) -> list[tuple[int, str, str, str]]:
    """Cursor, type, replica and key."""
    if not file.exists():
        return []
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as connection:
        try:
            rows = connection.execute("SELECT cursor, type, coalesce(replica, ''), key FROM events ORDER BY cursor")
            return [tuple(row) for row in rows]
        except sqlite3.OperationalError:  # the tables are being made
            return []


def of(file: Path, replica: str) -> list[str]:
    return [
        type_.removeprefix("replica_").removesuffix(".v1") for _, type_, name, _ in recorded(file) if name == replica
    ]


async def test_a_broker_without_a_database_is_refused(api: KubernetesApi, scratch: Path) -> None:
    env = {**environment(api, scratch), "HEADWAY_EVENTS_BROKER": "amqp://mq/x"}
    process = await headway("operator", "--context", "prod", env=env)
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    assert b"HEADWAY_OPERATOR_DATABASE" in said


def is_told(file: Path) -> bool:
    """Whether the broker has confirmed every event."""
    with closing(sqlite3.connect(file, timeout=30)) as connection:
        marks = connection.execute("SELECT cursor FROM relays").fetchall()
    return marks == [(recorded(file)[-1][0],)]


async def taken(service: RabbitmqService) -> list[tuple[str, int]]:
    """All messages: id and cursor."""
    found: list[tuple[str, int]] = []
    connection = await aio_pika.connect(amqp(service))
    async with connection:
        channel = await connection.channel()
        queue = await channel.get_queue(QUEUE, ensure=False)
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            found.append((str(message.message_id), json.loads(message.body)["cursor"]))
        await channel.queue_delete(QUEUE)
        await channel.exchange_delete(EXCHANGE)
    return found


@pytest.mark.timeout(300)  # RabbitMQ starts
async def test_none_is_lost_while_the_broker_is_away_and_the_operator_is_killed(
    api: KubernetesApi, scratch: Path, rabbitmq_service: RabbitmqService, free_port: PortPicker
) -> None:
    file = scratch / "events.db"
    async with Relay(rabbitmq_service.amqp_port, free_port()) as relay:
        address = amqp(rabbitmq_service).replace(f":{rabbitmq_service.amqp_port}/", f":{relay.port}/")
        env = {
            **environment(api, scratch),
            "HEADWAY_OPERATOR_DATABASE": str(file),
            "HEADWAY_EVENTS_BROKER": address,
            "HEADWAY_EVENTS_EXCHANGE": EXCHANGE,
            "HEADWAY_EVENTS_QUEUE": QUEUE,
        }
        put(api, model())
        kubelet = Kubelet(api)
        pod = kubelet.start("iris-v1-a")
        async with operator(env, kill=True):
            await eventually(lambda: bring_up(api) and weights(api) == {"iris-v1": 100}, 90)
            await eventually(lambda: of(file, "iris-v1-a") == ["started"] and is_told(file), 90)
            await relay.down()
            kubelet.ready(pod)
            kubelet.crash(pod)
            await eventually(lambda: of(file, "iris-v1-a") == ["started", "ready", "exited"], 60)
        kubelet.restart(pod)  # nobody looks
        kubelet.start("iris-v1-b")
        async with operator(env):
            await eventually(lambda: of(file, "iris-v1-b") == ["started"], 90)
            assert not is_told(file)
            await relay.up()
            kubelet.ready(pod)
            await eventually(lambda: of(file, "iris-v1-a") == ["started", "ready", "exited", "started", "ready"], 60)
            await eventually(lambda: is_told(file), 90, what="all is told")
    messages = await taken(rabbitmq_service)
    assert list(dict(messages).items()) == [(key, cursor) for cursor, _, _, key in recorded(file)]
