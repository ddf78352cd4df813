"""The memory gateway keeps the gateway contract."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from headway.adapters.memory.gateway import MemoryGateway, MemoryProxy
from headway.domain.routing_table import Endpoint
from tests.contracts.gateway_contract import GatewayContract, Hand, route, table


class MemoryHand:
    def __init__(self) -> None:
        self.proxy = MemoryProxy()

    def gateway(self) -> MemoryGateway:
        self.made = MemoryGateway(self.proxy)
        return self.made

    async def replica(self, name: str) -> Endpoint:
        return Endpoint(name, f"unix:/nowhere/{name}.sock")

    async def send(self, name: str) -> None:
        self.proxy.busy.add(name)

    async def finish(self, name: str) -> None:
        self.proxy.busy.discard(name)

    async def come(self, model: str, version: str) -> Awaitable[int]:
        self.made.hold(model, version)

        async def answer() -> int:
            assert (model, version) not in self.proxy.held, "it waits still"
            models = self.proxy.table.models if self.proxy.table is not None else ()
            found = [v for m in models if m.model == model for v in m.versions if v.version == version]
            return 200 if any(v.endpoints for v in found) else 503

        return answer()

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
