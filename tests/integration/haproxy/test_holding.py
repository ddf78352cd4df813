"""A request that finds no replica waits for the first one: how long, in what order, and what ends its wait."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headway.adapters.haproxy import HaproxyGateway
from headway.domain.routing_table import Endpoint, RoutingTable, VersionRoute
from tests.integration.haproxy.backends import Answer, Replica, ReplicaProcess, call
from tests.integration.haproxy.conftest import model, table, version
from tests.integration.haproxy.gateway_log import Log
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
PREDICT = "/models/iris/predict"
KEY = ("iris", "v1")


def routes(*replicas: Replica, hold_s: float = 20.0, **limits: float) -> RoutingTable:
    return table(model("iris", {"v1": 100}, version("v1", *replicas, hold_s=hold_s, **limits)))


@contextlib.asynccontextmanager
async def waiting(gateway: HaproxyGateway, port: int, count: int) -> AsyncIterator[list[asyncio.Task[Answer]]]:
    """``count`` requests that wait, the first of them at the head."""
    requests: list[asyncio.Task[Answer]] = []
    for number in range(count):
        body = str(number).encode()
        requests.append(asyncio.create_task(call(port, PREDICT, body=body, headers={"x-request-id": f"r{number}"})))
        if number == 0:
            await eventually(lambda: gateway.held() == {KEY: 1})
    await eventually(lambda: gateway.held() == {KEY: count}, what=f"{count} requests wait")
    try:
        yield requests
    finally:
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)


async def test_all_are_answered_by_the_first_replica_as_soon_as_it_is_there(
    gateway: HaproxyGateway, replicas: tuple[Replica, Replica], log: Log, port: int
) -> None:
    a, _ = replicas
    await gateway.apply(routes())
    async with waiting(gateway, port, 20) as requests:
        await gateway.apply(routes(a))
        begun = time.monotonic()
        answers = await asyncio.gather(*requests)
        took = time.monotonic() - begun
    assert [answer.status for answer in answers] == [200] * 20
    assert sorted(int(seen["body"]) for seen in a.seen) == list(range(20)), "each was sent once"
    assert took < 10, "a few milliseconds where nothing else runs, and half of what they may wait anywhere"
    [head] = [seen for seen in a.seen if "x-headway-held-ms" in seen["headers"]]
    assert head["body"] == b"0"
    assert head["path"] == "/predict"
    assert head["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert await log.until_last(port) == [], "what a replica answered is in the replica's log"
    assert (await call(port, PREDICT)).status == 200


async def test_each_waits_as_long_as_it_may(gateway: HaproxyGateway, log: Log, port: int) -> None:
    await gateway.apply(routes(hold_s=0.6))

    async def timed(pause_s: float) -> tuple[Answer, float]:
        await asyncio.sleep(pause_s)
        begun = time.monotonic()
        return await call(port, PREDICT), time.monotonic() - begun

    answers = await asyncio.gather(*(timed(pause_s) for pause_s in (0.0, 0.2, 0.4)))
    for answer, took in answers:
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "not_ready", "1")
        assert "no replica of iris v1 was ready within" in answer.json()["error"]["message"]
        assert 0.55 <= took < 15
    lines = await log.wait_for(3)
    assert {line["request_id"] for line in lines} == {answer.headers["x-request-id"] for answer, _ in answers}
    assert {(line["status"], line["ends"][:2], line["version"]) for line in lines} == {(503, "LR", "v1")}
    assert all(line["total_ms"] >= 550 for line in lines)


async def test_no_more_wait_than_may_and_who_leaves_makes_room(
    gateway: HaproxyGateway, replicas: tuple[Replica, Replica], log: Log, port: int
) -> None:
    a, _ = replicas
    await gateway.apply(routes(max_concurrency=3))
    async with waiting(gateway, port, 4) as requests:  # a head and three behind it
        refused = await call(port, PREDICT)
        assert (refused.status, refused.code, refused.headers["retry-after"]) == (429, "overloaded", "1")
        for gone in (requests[0], requests[2]):
            gone.cancel()
        await eventually(lambda: gateway.held() == {KEY: 2})
        late = asyncio.create_task(call(port, PREDICT))
        await eventually(lambda: gateway.held() == {KEY: 3})
        await gateway.apply(routes(a, max_concurrency=3))
        assert [(await request).status for request in (requests[1], requests[3], late)] == [200, 200, 200]
    assert {seen["headers"]["x-request-id"] for seen in a.seen} & {"r0", "r2"} == set(), "who left is not served"
    lines = await log.wait_for(3)
    assert sorted(line["ends"][0] for line in lines) == ["C", "C", "L"]


async def test_a_version_that_turns_out_broken_refuses_those_who_wait(gateway: HaproxyGateway, port: int) -> None:
    await gateway.apply(routes())
    async with waiting(gateway, port, 5) as requests:
        await gateway.apply(routes(hold_s=0.0))
        assert [(await request).status for request in requests] == [503] * 5
    assert (await call(port, PREDICT)).status == 503
    await eventually(lambda: gateway.held() == {})


async def test_reloads_while_requests_wait(
    gateway: HaproxyGateway, replicas: tuple[Replica, Replica], home: Path, port: int
) -> None:
    """Old workers know no new replicas: their requests move on to the worker that does."""
    a, _ = replicas
    await gateway.apply(routes())
    async with waiting(gateway, port, 12) as requests:
        for name in ("wine", "pear"):
            workers = await gateway._api.workers()
            more = model(name, {"v1": 100}, version("v1", hold_s=20.0))
            await gateway.apply(RoutingTable((*routes().models, more)))
            assert (await gateway._api.workers()).current != workers.current
            await eventually(lambda: gateway.held() == {KEY: 12})
        more = model("wine", {"v1": 100}, version("v1", hold_s=20.0))
        await gateway.apply(RoutingTable((*routes(a).models, more)))
        assert [(await request).status for request in requests] == [200] * 12
    assert sorted(int(seen["body"]) for seen in a.seen) == list(range(12)), "each was sent once"


async def test_a_large_body_waits_outside_and_is_sent_once(
    gateway: HaproxyGateway, replicas: tuple[Replica, Replica], port: int
) -> None:
    a, _ = replicas
    await gateway.apply(routes())
    bodies = [bytes([65 + number]) * 3_000_000 for number in range(3)]
    requests = [asyncio.create_task(call(port, PREDICT, body=body)) for body in bodies]
    await eventually(lambda: gateway.held() == {KEY: 3})
    await gateway.apply(routes(a))
    assert [(await request).status for request in requests] == [200] * 3
    assert sorted(seen["body"] for seen in a.seen) == bodies


async def test_pinned_paths_and_versions_without_weight_wait_too(
    gateway: HaproxyGateway, replicas: tuple[Replica, Replica], port: int
) -> None:
    a, b = replicas

    def both(*served: Replica) -> RoutingTable:
        first = version("v1", a)
        return table(model("iris", {"v1": 100, "v2": 0}, first, version("v2", *served, hold_s=20.0)))

    await gateway.apply(both())
    pinned = asyncio.create_task(call(port, "/models/iris/versions/v2/predict"))
    await eventually(lambda: gateway.held() == {("iris", "v2"): 1})
    assert (await call(port, PREDICT)).replica == "a", "the other version does not wait"
    await gateway.apply(both(b))
    answer = await pinned
    assert (answer.status, answer.replica, answer.headers["x-headway-version"]) == (200, "b", "v2")
    assert answer.json()["path"] == "/predict"


async def test_requests_wait_while_nobody_looks_after_the_gateway(
    gateway: HaproxyGateway, replicas: tuple[Replica, Replica], home: Path, port: int
) -> None:
    a, _ = replicas
    await gateway.apply(routes())
    await gateway.stop(stop_gateway=False)
    requests = [asyncio.create_task(call(port, PREDICT)) for _ in range(3)]
    successor = HaproxyGateway(home=home, host="127.0.0.1", port=port)
    await successor.start()
    await eventually(lambda: successor.held() == {KEY: 3})
    await successor.apply(routes(a))
    assert [(await request).status for request in requests] == [200] * 3
    await successor.stop(stop_gateway=False)


async def test_the_only_replica_is_killed_and_comes_back(gateway: HaproxyGateway, home: Path, port: int) -> None:
    """Requests at an even pace; those that come after the death wait, with nobody to tell the gateway of it."""
    replica = ReplicaProcess(home / "only.sock")
    await replica.start()
    endpoint = Endpoint("only", replica.address)
    await gateway.apply(table(model("iris", {"v1": 100}, VersionRoute("v1", (endpoint,), hold_s=20.0))))
    answers: list[asyncio.Task[Answer]] = []
    try:
        for number in range(30):
            if number == 10:
                await asyncio.gather(*answers)
                replica.kill()  # nothing is with it
            if number == 25:
                await replica.start()
            answers.append(asyncio.create_task(call(port, PREDICT)))
            await asyncio.sleep(0.02)
        assert [answer.status for answer in await asyncio.gather(*answers)] == [200] * 30
    finally:
        replica.kill()


async def test_a_request_that_kills_is_not_sent_for_ever(gateway: HaproxyGateway, home: Path, port: int) -> None:
    """What a request does to the only replica it does again, at most as often as with several."""
    deaths = 0
    async with contextlib.AsyncExitStack() as stack:
        only = await stack.enter_async_context(Replica(home / "only"))
        await gateway.apply(routes(only))
        request = asyncio.create_task(call(port, PREDICT, headers={"x-do": "die"}))
        answer = await request
        deaths = len(only.seen)
    assert answer.status == 503
    assert deaths <= 4
