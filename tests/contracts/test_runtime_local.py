"""The local runtime keeps the runtime contract, with real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contracts.runtime_contract import Machine, RuntimeContract
from tests.integration.local.hand import LocalHand
from tests.leaks import LeakCheck, make_scratch, remove_scratch


class TestLocalRuntime(RuntimeContract):
    @pytest.fixture
    def machine(self) -> Iterator[Machine]:
        folder = make_scratch()
        check = LeakCheck(folder)
        yield LocalHand(folder)
        left = check.left()
        remove_scratch(folder)
        assert not left


class TestLocalRuntimeOnUvloop(TestLocalRuntime):
    """The control plane may run on either loop; their transports and their descriptor watching differ."""

    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, bool]]:
        return "asyncio", {"use_uvloop": True}
