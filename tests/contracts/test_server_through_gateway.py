"""The same through the gateway: production route and pinned route of a model behind HAProxy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from headway.adapters.haproxy import HaproxyGateway
from headway.adapters.haproxy.binary import find_binary
from headway.domain.errors import MissingBinary
from headway.domain.routing_table import Arm, Endpoint, ModelRoute, RoutingTable, VersionRoute
from tests.contracts.wire_formats_contract import MODEL, SAMPLE, WireFormatsContract
from tests.integration.server.replica import Replica
from tests.leaks import make_scratch, remove_scratch
from tests.waiting import PortPicker


@pytest.fixture(scope="module")
def gateway_address(free_port: PortPicker) -> Iterator[str]:
    try:
        find_binary()
    except MissingBinary:
        pytest.skip("HAProxy was not found")
    scratch = make_scratch()
    port = free_port()
    files = {"model.py": MODEL, "sample.json": SAMPLE}

    def gateway() -> HaproxyGateway:
        return HaproxyGateway(home=scratch / "home", host="127.0.0.1", port=port)

    async def start() -> None:
        started = gateway()
        await started.start()
        version = VersionRoute("v1", (Endpoint("iris-v1-bcdfg", f"unix:{scratch}/s"),))
        await started.apply(RoutingTable((ModelRoute("iris", (Arm("v1", 100),), (version,)),)))
        await started.stop(stop_gateway=False)

    async def stop() -> None:
        adopted = gateway()
        await adopted.start()
        await adopted.stop(stop_gateway=True)

    try:
        with Replica(scratch, files):
            try:
                asyncio.run(start())
                yield f"127.0.0.1:{port}"
            finally:
                asyncio.run(stop())
    finally:
        remove_scratch(scratch)


class TestThroughGateway(WireFormatsContract):
    @pytest.fixture(params=["models/iris", "models/iris/versions/v1"])
    def door(self, gateway_address: str, request: pytest.FixtureRequest) -> str:
        return f"{gateway_address}/{request.param}"

    @pytest.fixture
    def client(self, door: str) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=f"http://{door}/", timeout=30) as client:
            yield client
