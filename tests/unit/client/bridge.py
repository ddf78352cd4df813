"""A synchronous way into the real application, for the client's tests."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from headway.adapters.memory.bundles import MemoryBundleStore
from headway.adapters.memory.gateway import MemoryGateway
from headway.api.app import create_app
from headway.api.schemas import InfoView
from headway.control.service import ControlService
from tests.unit.api.world import PlainTables, World
from tests.unit.client.control import GATEWAY, URL

INFO = InfoView(
    version="0",
    pid=1,
    started_at=0.0,
    home="/home/ada/.headway",
    control_url=URL,
    gateway_url=f"{GATEWAY}/",
    gateway_running=True,
    gateway_pid=77,
    gateway_version="2.8.25",
    gateway_adopted=False,
    models=0,
    replicas=0,
    require_token=False,
)


class Bridge(httpx.BaseTransport):
    """A synchronous way into the application, which runs whenever it is asked something."""

    def __init__(self, world: World, runner: asyncio.Runner, folder: Path) -> None:
        self._runner = runner
        bundles = MemoryBundleStore(folder)
        self._transport = httpx.ASGITransport(
            app=create_app(
                service=ControlService(world.book, world.runtime, bundles, world.event_log, world.clock),
                event_log=world.event_log,
                bundles=bundles,
                runtime=world.runtime,
                tokens=world.tokens,
                gateway=MemoryGateway(),
                decisions=world.decisions,
                comparisons=world.comparisons,
                query_log=world.questions,
                payloads=world.payloads,
                plans=world.plans,
                table_writer=PlainTables(),
                replica_stats=world.stats,
                info=lambda: INFO,
                shutdown=lambda: world.shutdowns.append("asked"),
                clock=world.clock,
                hosts=("control.example",),
                closing=world.closing,
            )
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._runner.run(self._ask(request))

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        asked = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
        answer = await self._transport.handle_async_request(asked)
        return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())
