"""The memory gateway keeps the gateway contract."""

from __future__ import annotations

import pytest

from headway.adapters.memory.gateway import MemoryGateway, MemoryProxy
from headway.domain.routing_table import Endpoint
from tests.contracts.gateway_contract import GatewayContract, Hand, route, table


class MemoryHand:
    def __init__(self) -> None:
        self.proxy = MemoryProxy()

    def gateway(self) -> MemoryGateway:
        return MemoryGateway(self.proxy)

    async def replica(self, name: str) -> Endpoint:
        return Endpoint(name, f"unix:/nowhere/{name}.sock")

    async def send(self, name: str) -> None:
        self.proxy.busy.add(name)

    async def finish(self, name: str) -> None:
        self.proxy.busy.discard(name)

    def break_reloads(self) -> None:
        self.proxy.refuse = "no"


class TestMemoryGateway(GatewayContract):
    @pytest.fixture
    def hand(self) -> Hand:
        return MemoryHand()

    async def test_it_keeps_what_was_applied(self) -> None:
        gateway = MemoryGateway()
        await gateway.start()
        first, second = table(route("iris")), table(route("wine"))
        for one in (first, first, second):
            await gateway.apply(one)
        assert gateway.proxy.applied == [first, second]
        assert gateway.proxy.table == second
