"""When a replica may be stopped: no request is, or can any longer be, on its way to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headway.adapters.haproxy import HaproxyGateway
from tests.integration.haproxy.backends import Connection, Replica, until, until_drained
from tests.integration.haproxy.conftest import model, table, version
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def keep_alive_s() -> float:
    """Longer than a busy machine lets pass between two calls on one connection."""
    return 30.0


@pytest.fixture
async def gateway(home: Path, port: int, keep_alive_s: float) -> AsyncIterator[HaproxyGateway]:
    gateway = HaproxyGateway(home=home, host="127.0.0.1", port=port, keep_alive_s=keep_alive_s)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop(stop_gateway=True)


async def test_a_request_in_flight_is_waited_for(gateway: HaproxyGateway, home: Path, port: int) -> None:
    async with Replica(home / "a") as a, Replica(home / "b") as b, Connection(port) as connection:
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a))))
        a.hold()
        call = asyncio.create_task(connection.call("/models/iris/predict"))
        await eventually(lambda: a.seen)
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", b))))
        for _ in range(5):
            assert await gateway.drained(["a"]) == frozenset()
        a.let_go()
        assert (await call).replica == "a"
        assert "unheard-of" in await gateway.drained(["a", "unheard-of"])
        await until_drained(gateway, "a")  # the answer arrives a moment before the gateway has counted it


async def test_a_replica_in_the_table_is_never_drained(gateway: HaproxyGateway, home: Path) -> None:
    async with Replica(home / "a") as a:
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a))))
        assert await gateway.drained(["a"]) == frozenset()


async def test_an_old_worker_with_an_idle_connection_is_waited_for(
    gateway: HaproxyGateway, home: Path, port: int
) -> None:
    async with Replica(home / "a") as a, Replica(home / "b") as b, Connection(port) as connection:
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a))))
        assert (await connection.call("/models/iris/predict")).replica == "a"
        # A new model needs a reload; the old worker stays for the idle connection, with a route to a.
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", b)), model("wine", {}, version("v1"))))
        assert len((await gateway._api.workers()).old) == 1
        assert await gateway.drained(["a"]) == frozenset()
        assert (await connection.call("/models/iris/predict")).replica == "a", "routed by the table of its worker"
        assert not connection.open, "and told to come back on a new connection"
        await until_drained(gateway, "a")
        assert (await connection.call("/models/iris/predict")).replica == "b"


@pytest.mark.parametrize("keep_alive_s", [1.0])
async def test_an_old_worker_ends_with_the_keep_alive_time(
    gateway: HaproxyGateway, home: Path, port: int, keep_alive_s: float
) -> None:
    loop = asyncio.get_running_loop()
    async with Replica(home / "a") as a, Connection(port) as connection:
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a))))
        await connection.call("/models/iris/predict")
        begin = loop.time()
        await gateway.apply(table(model("wine", {}, version("v1"))))
        await until_drained(gateway, "a")
        assert loop.time() - begin > keep_alive_s / 2


async def test_workers_of_a_later_reload_are_not_waited_for(gateway: HaproxyGateway, home: Path, port: int) -> None:
    async with Replica(home / "a") as a, Replica(home / "b") as b, Connection(port) as connection:
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a))))
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", b)), model("m1", {}, version("v1"))))
        await connection.call("/models/iris/predict")
        b.hold()
        held = asyncio.create_task(connection.call("/models/iris/predict"))
        await eventually(lambda: len(b.seen) == 2)
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", b)), model("m2", {}, version("v1"))))
        assert len((await gateway._api.workers()).old) >= 1
        await until_drained(gateway, "a")
        assert not held.done()
        b.let_go()
        await held


async def test_requests_queued_for_a_version_are_served_before_its_last_replica_drains(
    gateway: HaproxyGateway, home: Path, port: int
) -> None:
    async with Replica(home / "a") as a, Replica(home / "b") as b:
        routes = version("v1", a, max_concurrency=2), version("v2", b)
        await gateway.apply(table(model("iris", {"v1": 100}, *routes)))
        a.hold()
        connections = [Connection(port) for _ in range(4)]
        calls = [asyncio.create_task(c.call("/models/iris/predict")) for c in connections]

        async def two_wait() -> bool:
            return any(b.queued == 2 for b in (await gateway._api.backends()).values())

        await until(two_wait)
        await gateway.apply(table(model("iris", {"v2": 100}, version("v1", max_concurrency=2), routes[1])))
        assert await gateway.drained(["a"]) == frozenset()
        a.let_go()
        assert {(await call).replica for call in calls} == {"a"}
        for connection in connections:
            await connection.close()
        await until_drained(gateway, "a")


async def test_an_adopted_gateway_may_still_have_requests_with_anybody(
    gateway: HaproxyGateway, home: Path, port: int
) -> None:
    async with Replica(home / "a") as a, Replica(home / "b") as b, Connection(port) as connection:
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a))))
        a.hold()
        call = asyncio.create_task(connection.call("/models/iris/predict"))
        await eventually(lambda: a.seen)
        await gateway.stop(stop_gateway=False)
        successor = HaproxyGateway(home=home, host="127.0.0.1", port=port)
        await successor.start()
        try:
            assert successor.status().adopted
            assert await successor.drained(["a"]) == frozenset()
            await successor.apply(table(model("iris", {"v1": 100}, version("v1", b))))
            assert await successor.drained(["a"]) == frozenset()
            a.let_go()
            assert (await call).replica == "a"
            await connection.close()
            await until_drained(successor, "a")
        finally:
            await successor.stop(stop_gateway=False)
