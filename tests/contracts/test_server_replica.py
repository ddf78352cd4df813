"""A replica keeps the wire format contract."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.contracts.wire_formats_contract import MODEL, SAMPLE, WireFormatsContract
from tests.integration.server.replica import Replica
from tests.leaks import make_scratch, remove_scratch
from tests.waiting import PortPicker, wait_until


@pytest.fixture(scope="module")
def replica_address(free_port: PortPicker) -> Iterator[str]:
    scratch = make_scratch()
    address = f"127.0.0.1:{free_port()}"
    files = {"model.py": MODEL, "sample.json": SAMPLE}
    try:
        with Replica(scratch, files, wait=False, listen=f"tcp:{address}") as replica:
            wait_until(lambda: "listening on" in replica.log(), 60)
            yield address
    finally:
        remove_scratch(scratch)


class TestReplica(WireFormatsContract):
    @pytest.fixture
    def door(self, replica_address: str) -> str:
        return replica_address

    @pytest.fixture
    def client(self, door: str) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=f"http://{door}/", timeout=30) as client:
            yield client
