"""The logs of scaling decisions keep the contract."""

from __future__ import annotations

import pytest

from headway.adapters.memory.decision_log import MemoryDecisionLog
from headway.adapters.sql import SqlDatabase, SqlDecisionLog
from tests.contracts.decision_log_contract import DecisionLogContract, record


class TestMemoryDecisionLog(DecisionLogContract):
    @pytest.fixture
    def log(self) -> MemoryDecisionLog:
        return MemoryDecisionLog()


class TestSqlDecisionLog(DecisionLogContract):
    @pytest.fixture
    def log(self, database: SqlDatabase) -> SqlDecisionLog:
        return SqlDecisionLog(database)

    async def test_decisions_outlive_the_process(self, database: SqlDatabase) -> None:
        await SqlDecisionLog(database).append([record(1.0)])
        await database.close()
        again = SqlDatabase(database.path)
        await again.open()
        found = await SqlDecisionLog(again).latest("iris")
        await again.close()
        assert found is not None
        assert found.summary == "at 1.0"

    async def test_more_versions_expire_than_one_transaction_takes(self, log: SqlDecisionLog) -> None:
        await log.append([record(float(at), f"m{i}") for i in range(120) for at in range(3)])
        assert await log.expire(before=2.0, keep=1) == 240
