"""What every gateway does. An adapter gives a :class:`Hand` that makes gateways, replicas and requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol

import pytest

from headway.domain.errors import GatewayFailed
from headway.domain.routing_table import (
    Arm,
    Endpoint,
    GatewayToken,
    ModelRoute,
    RoutingTable,
    Shadow,
    Sticky,
    VersionRoute,
)
from headway.ports.gateway import Gateway
from tests.integration.haproxy.backends import until_drained
from tests.waiting import eventually


class Hand(Protocol):
    """What a test needs of the outside."""

    def gateway(self) -> Gateway:
        """Another gateway object for the same home."""
        ...

    async def replica(self, name: str) -> Endpoint:
        """A replica that serves."""
        ...

    async def send(self, name: str) -> None:
        """Have a request with the replica that does not end; the table routes to it."""
        ...

    async def finish(self, name: str) -> None:
        """Let that request end."""
        ...

    async def come(self, model: str, version: str) -> Awaitable[int]:
        """Send a request that finds no replica; to be awaited for its answer's status."""
        ...

    def break_reloads(self) -> None:
        """From now on every change is refused."""
        ...


def route(model: str, *endpoints: Endpoint, weight: int = 100) -> ModelRoute:
    """Version v1 on ``endpoints`` with all the traffic."""
    return ModelRoute(model, (Arm("v1", weight),), (VersionRoute("v1", endpoints),))


def held_route(model: str, *endpoints: Endpoint, hold_s: float = 30.0) -> ModelRoute:
    """The same, where requests wait for a first replica."""
    return ModelRoute(model, (Arm("v1", 100),), (VersionRoute("v1", endpoints, hold_s=hold_s),))


def table(*models: ModelRoute) -> RoutingTable:
    return RoutingTable(models)


@pytest.mark.anyio
class GatewayContract:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def hand(self) -> Hand:
        raise NotImplementedError("the adapter's own module gives the hand")

    @pytest.fixture
    def gateway(self, hand: Hand) -> Gateway:
        return hand.gateway()

    async def test_status_before_during_and_after(self, gateway: Gateway) -> None:
        assert (gateway.status().running, gateway.status().pid) == (False, None)
        await gateway.start()
        status = gateway.status()
        assert (status.running, status.adopted) == (True, False)
        assert status.pid is not None
        assert status.url.startswith("http://")
        assert status.version
        await gateway.stop(stop_gateway=True)
        assert (gateway.status().running, gateway.status().pid) == (False, None)
        assert gateway.status().url == status.url

    async def test_start_and_stop_may_be_repeated_in_any_order(self, gateway: Gateway) -> None:
        await gateway.stop(stop_gateway=True)
        await gateway.start()
        pid = gateway.status().pid
        await asyncio.gather(gateway.start(), gateway.start())
        assert gateway.status().pid == pid
        await asyncio.gather(gateway.stop(stop_gateway=True), gateway.stop(stop_gateway=True))
        await gateway.stop(stop_gateway=False)
        await gateway.start()
        assert gateway.status().pid not in (None, pid)
        await gateway.stop(stop_gateway=True)

    async def test_a_table_is_applied_once(self, gateway: Gateway, hand: Hand) -> None:
        await gateway.start()
        a = await hand.replica("a")
        assert await gateway.apply(table(route("iris", a))) is True
        assert await gateway.apply(table(route("iris", a))) is False
        assert await gateway.apply(table(route("iris", a), route("wine"))) is True
        assert await gateway.apply(table(route("wine"))) is True
        assert await gateway.apply(table()) is True, "the last route can be removed"
        assert await gateway.apply(table()) is False

    async def test_every_part_of_a_table_is_compared(self, gateway: Gateway, hand: Hand) -> None:
        await gateway.start()
        a, b = await hand.replica("a"), await hand.replica("b")
        arms, versions = (Arm("v1", 100),), (VersionRoute("v1", (a,)), VersionRoute("v2", (b,)))
        token = GatewayToken("app", "0" * 64, ("iris",), None)
        tables = [
            RoutingTable((ModelRoute("iris", arms, versions),)),
            RoutingTable((ModelRoute("iris", (Arm("v1", 90), Arm("v2", 10)), versions),)),
            RoutingTable((ModelRoute("iris", arms, versions, Sticky("header", "x-user")),)),
            RoutingTable((ModelRoute("iris", arms, versions, Sticky("cookie", "x-user")),)),
            RoutingTable((ModelRoute("iris", arms, versions, None, Shadow("v2", 10)),)),
            RoutingTable((ModelRoute("iris", arms, versions, None, Shadow("v2", 20)),)),
            RoutingTable((ModelRoute("iris", arms, (VersionRoute("v1", (a,), timeout_s=7.0), versions[1])),)),
            RoutingTable((ModelRoute("iris", arms, (VersionRoute("v1", (a,), 3), versions[1])),)),
            RoutingTable((ModelRoute("iris", arms, (VersionRoute("v1", (a,), hold_s=3), versions[1])),)),
            RoutingTable((ModelRoute("iris", arms, (VersionRoute("v1", (a, b)), versions[1])),)),
            RoutingTable((ModelRoute("iris", arms, versions),), (token,)),
            RoutingTable((ModelRoute("iris", arms, versions),), (), True),
            RoutingTable((ModelRoute("iris", arms, versions),), jobs=a.address),
            RoutingTable((ModelRoute("iris", arms, versions),), jobs=b.address),
        ]
        for one in tables:
            assert await gateway.apply(one) is True, one
            assert await gateway.apply(one) is False, one

    async def test_applies_at_the_same_time_end_with_one_of_them(self, gateway: Gateway, hand: Hand) -> None:
        await gateway.start()
        a = await hand.replica("a")
        tables = [table(route("iris", a), *(route(f"m{n}") for n in range(size))) for size in range(4)]
        await asyncio.gather(*(gateway.apply(t) for t in tables))
        assert [await gateway.apply(t) for t in (tables[-1], tables[-1])][1] is False

    async def test_without_a_start_nothing_can_be_applied(self, gateway: Gateway) -> None:
        with pytest.raises(GatewayFailed):
            await gateway.apply(table())
        await gateway.start()
        await gateway.stop(stop_gateway=True)
        with pytest.raises(GatewayFailed):
            await gateway.apply(table())

    async def test_a_refused_table_leaves_the_one_before(self, gateway: Gateway, hand: Hand) -> None:
        await gateway.start()
        a = await hand.replica("a")
        await gateway.apply(table(route("iris", a)))
        hand.break_reloads()
        with pytest.raises(GatewayFailed):
            await gateway.apply(table(route("iris", a), route("wine")))
        assert await gateway.apply(table(route("iris", a))) is False
        assert await gateway.drained(["a"]) == frozenset()

    async def test_a_routed_replica_is_not_drained(self, gateway: Gateway, hand: Hand) -> None:
        await gateway.start()
        a, b = await hand.replica("a"), await hand.replica("b")
        await gateway.apply(table(route("iris", a, b)))
        assert await gateway.drained(["a", "b"]) == frozenset()
        await gateway.apply(table(route("iris", b)))
        await until_drained(gateway, "a")
        assert await gateway.drained(["a", "b"]) == {"a"}
        assert await gateway.drained([]) == frozenset()
        await gateway.apply(table(route("iris", a, b)))
        assert await gateway.drained(["a", "b"]) == frozenset(), "it is back"

    async def test_a_replica_with_a_request_is_not_drained(self, gateway: Gateway, hand: Hand) -> None:
        await gateway.start()
        a, b = await hand.replica("a"), await hand.replica("b")
        await gateway.apply(table(route("iris", a)))
        await hand.send("a")
        await gateway.apply(table(route("iris", b)))
        assert await gateway.drained(["a"]) == frozenset()
        await hand.finish("a")
        await until_drained(gateway, "a")

    async def test_a_replica_that_was_never_routed_is_drained(self, gateway: Gateway, hand: Hand) -> None:
        await gateway.start()
        await gateway.apply(table(route("iris", await hand.replica("a"))))
        assert await gateway.drained(["never"]) == {"never"}

    async def test_a_successor_adopts_and_finds_the_table_in_force(self, gateway: Gateway, hand: Hand) -> None:
        await gateway.start()
        routes = table(route("iris", await hand.replica("a")))
        await gateway.apply(routes)
        pid = gateway.status().pid
        await gateway.stop(stop_gateway=False)
        successor = hand.gateway()
        await successor.start()
        assert (successor.status().pid, successor.status().adopted) == (pid, True)
        assert await successor.apply(routes) is False
        assert await successor.apply(table()) is True
        await until_drained(successor, "a")
        await successor.stop(stop_gateway=True)
        fresh = hand.gateway()
        await fresh.start()
        assert not fresh.status().adopted
        assert await fresh.apply(table()) is True, "a new proxy knows no table, not even the empty one"
        await fresh.stop(stop_gateway=True)

    async def test_a_successor_waits_for_requests_of_the_one_before(self, gateway: Gateway, hand: Hand) -> None:
        await gateway.start()
        await gateway.apply(table(route("iris", await hand.replica("a"))))
        await hand.send("a")
        await gateway.stop(stop_gateway=False)
        successor = hand.gateway()
        await successor.start()
        await successor.apply(table(route("iris", await hand.replica("b"))))
        assert await successor.drained(["a"]) == frozenset()
        await hand.finish("a")
        await until_drained(successor, "a")
        await successor.stop(stop_gateway=True)

    async def test_requests_wait_for_a_first_replica(self, gateway: Gateway, hand: Hand) -> None:
        begun: list[dict[tuple[str, str], int]] = []
        gateway.on_held = lambda: begun.append(dict(gateway.held()))
        await gateway.start()
        a = await hand.replica("a")
        await gateway.apply(table(held_route("iris"), held_route("wine")))
        assert gateway.held() == {}
        first = await hand.come("iris", "v1")
        await eventually(lambda: begun)
        assert begun == [{("iris", "v1"): 1}], "told at once, once"
        second = await hand.come("iris", "v1")
        other = await hand.come("wine", "v1")
        await eventually(lambda: gateway.held() == {("iris", "v1"): 2, ("wine", "v1"): 1})
        assert [set(told) for told in begun] == [{("iris", "v1")}, {("iris", "v1"), ("wine", "v1")}]
        await gateway.apply(table(held_route("iris", a), held_route("wine")))
        assert [await first, await second] == [200, 200]
        await eventually(lambda: gateway.held() == {("wine", "v1"): 1})
        await gateway.apply(table(held_route("iris", a), held_route("wine", hold_s=0.0)))
        assert await other == 503, "it is no longer worth waiting"
        await eventually(lambda: gateway.held() == {})

    async def test_requests_do_not_wait_where_the_route_does_not_say_so(self, gateway: Gateway, hand: Hand) -> None:
        begun: list[None] = []
        gateway.on_held = lambda: begun.append(None)
        await gateway.start()
        await gateway.apply(table(route("iris")))
        assert await (await hand.come("iris", "v1")) == 503
        assert (gateway.held(), begun) == ({}, [])

    async def test_a_successor_is_told_of_requests_that_wait_already(self, gateway: Gateway, hand: Hand) -> None:
        await gateway.start()
        a = await hand.replica("a")
        await gateway.apply(table(held_route("iris")))
        waits = await hand.come("iris", "v1")
        await eventually(lambda: gateway.held() == {("iris", "v1"): 1})
        await gateway.stop(stop_gateway=False)
        assert gateway.held() == {}, "nothing is known any more"
        successor = hand.gateway()
        await successor.start()
        await eventually(lambda: successor.held() == {("iris", "v1"): 1})
        await successor.apply(table(held_route("iris", a)))
        assert await waits == 200
        await successor.stop(stop_gateway=True)
