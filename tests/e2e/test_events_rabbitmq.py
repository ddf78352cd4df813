"""Every event reaches RabbitMQ, while it is stopped and started and the control plane is killed in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aio_pika
import httpx
import pytest

from tests.installation import Installation
from tests.services.fixtures import RabbitmqService
from tests.services.rabbitmq import amqp
from tests.waiting import PortPicker, wait_until

VHOST = "relayed"
QUEUE = "all-of-headway"


class Told:
    """One message as a consumer sees it."""

    def __init__(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        self.id, self.topic = message.message_id, message.routing_key or ""
        self.body: dict[str, Any] = json.loads(message.body)


async def _take_all(service: RabbitmqService) -> list[Told]:
    taken: list[Told] = []
    connection = await aio_pika.connect(amqp(service, VHOST))
    async with connection:
        queue = await (await connection.channel()).get_queue(QUEUE, ensure=False)
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            taken.append(Told(message))
    return taken


@pytest.fixture
def relayed(scratch: Path, free_port: PortPicker, rabbitmq_service: RabbitmqService) -> Iterator[Installation]:
    """A Headway that tells RabbitMQ of its events, not started."""
    management = f"http://127.0.0.1:{rabbitmq_service.http_port}/api/vhosts/{VHOST}"
    auth = ("headway", rabbitmq_service.password)
    httpx.put(management, auth=auth, trust_env=False).raise_for_status()
    settings = {"HEADWAY_EVENTS_BROKER": amqp(rabbitmq_service, VHOST), "HEADWAY_EVENTS_QUEUE": QUEUE}
    headway = Installation(scratch, free_port, **settings)
    yield headway
    if headway.processes():
        headway.run("down")
    httpx.delete(management, auth=auth, trust_env=False).raise_for_status()


@pytest.mark.timeout(600)  # RabbitMQ starts twice
def test_none_is_lost_and_each_model_keeps_its_order(
    relayed: Installation, rabbitmq_service: RabbitmqService, write_model: Callable[..., Path]
) -> None:
    def api(method: str, path: str, **how: Any) -> Any:
        headers = {"authorization": f"Bearer {relayed.admin_token()}"}
        answer = httpx.request(
            method, f"{relayed.control_url}{path}", headers=headers, trust_env=False, timeout=30, **how
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def relay() -> dict[str, Any]:
        view: dict[str, Any] = api("GET", "/v1/info")["relay"]
        return view

    def change(name: str) -> None:
        api("POST", "/v1/tokens", json={"name": name, "scope": "predict"})
        api("DELETE", f"/v1/tokens/{name}")

    relayed.up(timeout_s=120)
    folder = write_model("echo", "def predict(X, features_names=None):\n    return X\n")
    relayed.ok("deploy", str(folder), timeout_s=180)
    wait_until(lambda: relay()["connected"] and relay()["waiting"] == 0, 120, what="all is told")

    rabbitmq_service.kill()
    for n in range(5):
        change(f"away-{n}")
    relayed.ok("scale", "echo", "2", timeout_s=120)
    found = wait_until(lambda: relay() if relay()["problem"] else None, what="the outage is noticed")
    assert found is not None
    assert found["waiting"] > 10
    assert not found["connected"]
    said = relayed.ok("info", timeout_s=120).stdout
    assert "wait since" in said
    assert "RabbitMQ" in said
    assert rabbitmq_service.password not in said

    pid = api("GET", "/v1/info")["pid"]
    relayed.kill(next(process for process in relayed.processes() if process.pid == pid))
    relayed.up(timeout_s=120)
    change("after-the-crash")
    rabbitmq_service.restart()
    change("while-it-comes-back")
    wait_until(lambda: relay()["waiting"] == 0 and relay()["connected"], 120, what="all is told")
    change("afterwards")
    recorded = api("GET", "/v1/events?limit=1000")
    relayed.down(timeout_s=120)  # tells what is left

    told = asyncio.run(_take_all(rabbitmq_service))
    firsts: dict[str | None, Told] = {}
    for one in told:
        first = firsts.setdefault(one.id, one)
        assert first.body == one.body, "one id is one event"
    by_cursor = {one.body["cursor"]: one for one in firsts.values()}
    assert len(by_cursor) == len(firsts)
    for event in recorded:
        assert by_cursor[event["cursor"]].body == event
    # The order is kept for each model, not between them; and what a busy machine leaves no time for at the end is told
    # at the next start.
    assert by_cursor[max(by_cursor)].body["type"] in {"control_stopped.v1", "replica_stopped.v1"}
    for model in (None, "echo"):
        cursors = [one.body["cursor"] for one in firsts.values() if one.body["model"] == model]
        assert cursors == sorted(cursors)
    assert by_cursor[1].topic == "installation.control_started.v1"
    assert "model.echo.replica_ready.v1" in {one.topic for one in firsts.values()}
