"""The stores in memory keep the contracts."""

from __future__ import annotations

import pytest

from headway.adapters.memory.event_log import MemoryEventLog
from headway.adapters.memory.stores import MemoryDeploymentStore, MemoryTokenStore
from tests.contracts.deployment_store_contract import DeploymentStoreContract, State
from tests.contracts.event_log_contract import EventLogContract
from tests.contracts.token_store_contract import TokenState, TokenStoreContract


class TestMemoryEventLog(EventLogContract):
    @pytest.fixture
    def log(self) -> MemoryEventLog:
        return MemoryEventLog()


class TestMemoryDeploymentStore(DeploymentStoreContract):
    @pytest.fixture
    def state(self) -> State:
        log = MemoryEventLog()
        return State(MemoryDeploymentStore(log), log)


class TestMemoryTokenStore(TokenStoreContract):
    @pytest.fixture
    def state(self) -> TokenState:
        log = MemoryEventLog()
        return TokenState(MemoryTokenStore(log), log)
