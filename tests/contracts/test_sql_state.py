"""The stores in SQLite keep the contracts."""

from __future__ import annotations

import pytest

from headway.adapters.sql import SqlDatabase, SqlDeploymentStore, SqlEventLog, SqlTokenStore
from tests.contracts.deployment_store_contract import DeploymentStoreContract, State
from tests.contracts.event_log_contract import EventLogContract
from tests.contracts.token_store_contract import TokenState, TokenStoreContract

POLL_S = 60.0
"""So seldom that only a signal can wake a waiter in time."""


class TestSqlEventLog(EventLogContract):
    @pytest.fixture
    def log(self, database: SqlDatabase) -> SqlEventLog:
        return SqlEventLog(database, poll_s=POLL_S)


class TestSqlDeploymentStore(DeploymentStoreContract):
    @pytest.fixture
    def state(self, database: SqlDatabase) -> State:
        return State(SqlDeploymentStore(database), SqlEventLog(database, poll_s=POLL_S))


class TestSqlTokenStore(TokenStoreContract):
    @pytest.fixture
    def state(self, database: SqlDatabase) -> TokenState:
        return TokenState(SqlTokenStore(database), SqlEventLog(database, poll_s=POLL_S))
