"""The stores of sightings keep the contract."""

from __future__ import annotations

import pytest

from headway.adapters.memory.event_log import MemoryEventLog
from headway.adapters.memory.sighting_store import MemorySightingStore
from headway.adapters.sql import SqlDatabase, SqlEventLog, SqlSightingStore
from tests.contracts.sighting_store_contract import Seen, SightingStoreContract


class TestMemorySightingStore(SightingStoreContract):
    @pytest.fixture
    def seen(self) -> Seen:
        log = MemoryEventLog()
        return Seen(MemorySightingStore(log), log)


class TestSqlSightingStore(SightingStoreContract):
    @pytest.fixture
    def seen(self, database: SqlDatabase) -> Seen:
        return Seen(SqlSightingStore(database), SqlEventLog(database))
