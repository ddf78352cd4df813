"""The stores of capacity plans keep the contract."""

from __future__ import annotations

import pytest

from headway.adapters.memory.plan_store import MemoryPlanStore
from headway.adapters.sql import SqlDatabase, SqlPlanStore
from tests.contracts.plan_store_contract import PlanStoreContract, plan


class TestMemoryPlanStore(PlanStoreContract):
    @pytest.fixture
    def plans(self) -> MemoryPlanStore:
        return MemoryPlanStore()


class TestSqlPlanStore(PlanStoreContract):
    @pytest.fixture
    def plans(self, database: SqlDatabase) -> SqlPlanStore:
        return SqlPlanStore(database)

    async def test_plans_outlive_the_process(self, database: SqlDatabase) -> None:
        await SqlPlanStore(database).add(plan())
        await database.close()
        again = SqlDatabase(database.path)
        await again.open()
        found = await SqlPlanStore(again).read("iris")
        await again.close()
        assert [p.at for p in found] == [1.0]
