"""A replica keeps the wire format contract."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.contracts.server_doors import replica_door
from tests.contracts.wire_formats_contract import MODEL, SAMPLE, WireFormatsContract
from tests.waiting import PortPicker


@pytest.fixture(scope="module")
def replica_address(free_port: PortPicker) -> Iterator[str]:
    with replica_door({"model.py": MODEL, "sample.json": SAMPLE}, free_port()) as address:
        yield address


class TestReplica(WireFormatsContract):
    @pytest.fixture
    def door(self, replica_address: str) -> str:
        return replica_address

    @pytest.fixture
    def client(self, door: str) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=f"http://{door}/", timeout=30) as client:
            yield client
