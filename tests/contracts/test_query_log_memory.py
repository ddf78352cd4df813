"""The memory query log keeps the contract."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from headway.adapters.memory.query_log import MemoryQueryLog
from headway.domain.query_log import QueryRecord
from headway.ports.query_log import QueryLog
from tests.contracts.query_log_contract import MakeLog, QueryLogContract


class TestMemoryQueryLog(QueryLogContract):
    @pytest.fixture
    def make(self) -> MakeLog:
        async def make(records: Sequence[QueryRecord]) -> QueryLog:
            return MemoryQueryLog(records)

        return make
