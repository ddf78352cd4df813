"""The stores of relay marks keep the contract."""

from __future__ import annotations

import pytest

from headway.adapters.memory.event_log import MemoryEventLog
from headway.adapters.memory.event_relay import MemoryRelayStore
from headway.adapters.sql import SqlDatabase, SqlEventLog, SqlRelayStore
from tests.contracts.relay_store_contract import Relayed, RelayStoreContract


class TestMemoryRelayStore(RelayStoreContract):
    @pytest.fixture
    def state(self) -> Relayed:
        log = MemoryEventLog()
        return Relayed(MemoryRelayStore(log), log)


class TestSqlRelayStore(RelayStoreContract):
    @pytest.fixture
    def state(self, database: SqlDatabase) -> Relayed:
        return Relayed(SqlRelayStore(database), SqlEventLog(database))

    async def test_a_mark_outlives_the_process(self, database: SqlDatabase) -> None:
        first = await SqlRelayStore(database).begin("one")
        await SqlRelayStore(database).advance("one", 9)
        await database.close()
        again = SqlDatabase(database.path)
        await again.open()
        found = await SqlRelayStore(again).begin("one")
        await again.close()
        assert (found.log_id, found.cursor) == (first.log_id, 9)
