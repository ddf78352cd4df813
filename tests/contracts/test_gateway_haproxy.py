"""HAProxy keeps the gateway contract."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from headway.adapters.haproxy import HaproxyGateway
from headway.adapters.haproxy.binary import find_binary
from headway.domain.errors import MissingBinary
from headway.domain.routing_table import Endpoint
from tests.contracts.gateway_contract import GatewayContract, Hand
from tests.integration.haproxy.backends import Connection, Replica, call
from tests.waiting import eventually


class HaproxyHand:
    def __init__(self, home: Path, port: int, stack: contextlib.AsyncExitStack, break_reloads: Callable[[], None]):
        self._home, self._port, self._stack = home, port, stack
        self._replicas: dict[str, Replica] = {}
        self._requests: dict[str, asyncio.Task[object]] = {}
        self._made: list[HaproxyGateway] = []
        self.break_reloads = break_reloads

    def gateway(self) -> HaproxyGateway:
        made = HaproxyGateway(home=self._home, host="127.0.0.1", port=self._port, keep_alive_s=1.0)
        self._made.append(made)
        return made

    async def replica(self, name: str) -> Endpoint:
        replica = await self._stack.enter_async_context(Replica(self._home / name))
        self._replicas[name] = replica
        return Endpoint(name, replica.address)

    async def send(self, name: str) -> None:
        replica = self._replicas[name]
        replica.hold()
        connection = await self._stack.enter_async_context(Connection(self._port))
        self._requests[name] = asyncio.create_task(connection.call("/models/iris/predict"))
        await eventually(lambda: replica.seen, what=f"a request with {name}")

    async def finish(self, name: str) -> None:
        self._replicas[name].let_go()
        await self._requests.pop(name)

    async def come(self, model: str, version: str) -> Awaitable[int]:
        async def send() -> int:
            return (await call(self._port, f"/models/{model}/versions/{version}/predict")).status

        return asyncio.create_task(send())

    async def clean(self) -> None:
        for made in reversed(self._made):
            await made.stop(stop_gateway=True)


class TestHaproxyGateway(GatewayContract):
    @pytest.fixture
    async def hand(
        self,
        scratch: Path,
        free_port: Callable[[], int],
        require_service: Callable[[str, object], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> AsyncIterator[Hand]:
        try:
            require_service("HAProxy", find_binary())
        except MissingBinary:
            require_service("HAProxy", None)

        def break_reloads() -> None:
            monkeypatch.setattr("headway.adapters.haproxy.config.CHECK_INTERVAL_MS", "x")

        async with contextlib.AsyncExitStack() as stack:
            hand = HaproxyHand(scratch / "home", free_port(), stack, break_reloads)
            try:
                yield hand
            finally:
                await hand.clean()
