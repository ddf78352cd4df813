"""``headway operator`` as a process that records events in a file and tells a real RabbitMQ of them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aio_pika
import httpx
import pytest

from tests.services.fixtures import RabbitmqService
from tests.services.kubernetes_api import KubernetesApi
from tests.services.model_world import KINDS, bring_up, model, put, weights
from tests.services.operator_command import environment, headway
from tests.services.rabbitmq import amqp
from tests.services.told_world import Kubelet
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
VHOST, QUEUE = "of-a-cluster", "all"


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


@pytest.mark.timeout(400)  # RabbitMQ starts twice
async def test_none_is_lost_while_the_broker_and_the_operator_are_killed(
    api: KubernetesApi, scratch: Path, rabbitmq_service: RabbitmqService
) -> None:
    management = f"http://127.0.0.1:{rabbitmq_service.http_port}/api/vhosts/{VHOST}"
    auth = ("headway", rabbitmq_service.password)
    file = scratch / "events.db"
    env = {
        **environment(api, scratch),
        "HEADWAY_OPERATOR_DATABASE": str(file),
        "HEADWAY_EVENTS_BROKER": amqp(rabbitmq_service, VHOST),
        "HEADWAY_EVENTS_QUEUE": QUEUE,
    }
    async with httpx.AsyncClient(auth=auth, trust_env=False) as client:
        (await client.put(management)).raise_for_status()
        put(api, model())
        kubelet = Kubelet(api)
        pod = kubelet.start("iris-v1-a")
        async with operator(env, kill=True):
            await eventually(lambda: bring_up(api) and weights(api) == {"iris-v1": 100}, 90)
            await eventually(lambda: of(file, "iris-v1-a") == ["started"], 60)
            await asyncio.to_thread(rabbitmq_service.kill)
            kubelet.ready(pod)
            kubelet.crash(pod)
            await eventually(lambda: of(file, "iris-v1-a") == ["started", "ready", "exited"], 60)
        kubelet.restart(pod)  # nobody looks
        kubelet.start("iris-v1-b")
        async with operator(env):
            await eventually(lambda: of(file, "iris-v1-b") == ["started"], 90)
            await asyncio.to_thread(rabbitmq_service.restart)
            kubelet.ready(pod)
            await eventually(lambda: of(file, "iris-v1-a") == ["started", "ready", "exited", "started", "ready"], 60)

            def told() -> bool:
                with closing(sqlite3.connect(file, timeout=30)) as connection:
                    [[cursor]] = connection.execute("SELECT cursor FROM relays").fetchall()
                return bool(cursor == recorded(file)[-1][0])

            await eventually(told, 30, what="all is told")
        connection = await aio_pika.connect(amqp(rabbitmq_service, VHOST))
        messages: list[tuple[str, int]] = []
        async with connection:
            queue = await (await connection.channel()).get_queue(QUEUE, ensure=False)
            while (message := await queue.get(no_ack=True, fail=False)) is not None:
                messages.append((str(message.message_id), json.loads(message.body)["cursor"]))
        (await client.delete(management)).raise_for_status()
    firsts = list(dict(messages).items())
    assert firsts == [(key, cursor) for cursor, _, _, key in recorded(file)]
