"""The broker in memory keeps the contract of brokers."""

from __future__ import annotations

import pytest

from headway.adapters.memory.job_broker import MemoryBroker, MemoryJobBroker
from tests.contracts.job_broker_contract import Hand, JobBrokerContract


class MemoryHand:
    def __init__(self) -> None:
        self.process = MemoryBroker()

    def broker(self) -> MemoryJobBroker:
        return MemoryJobBroker(self.process)

    async def go_away(self) -> None:
        self.process.away = True

    async def come_back(self) -> None:
        self.process.away = False

    async def wipe(self) -> None:
        self.process.wipe()


class TestMemoryJobBroker(JobBrokerContract):
    @pytest.fixture
    def hand(self) -> Hand:
        return MemoryHand()
