"""The same through the gateway: production route and pinned route of a model behind HAProxy."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.contracts.server_doors import gateway_door
from tests.contracts.wire_formats_contract import MODEL, SAMPLE, WireFormatsContract
from tests.waiting import PortPicker


@pytest.fixture(scope="module")
def gateway_address(free_port: PortPicker) -> Iterator[str]:
    with gateway_door({"model.py": MODEL, "sample.json": SAMPLE}, free_port()) as address:
        yield address


class TestThroughGateway(WireFormatsContract):
    @pytest.fixture(params=["models/iris", "models/iris/versions/v1"])
    def door(self, gateway_address: str, request: pytest.FixtureRequest) -> str:
        return f"{gateway_address}/{request.param}"

    @pytest.fixture
    def client(self, door: str) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=f"http://{door}/", timeout=30) as client:
            yield client
