"""The publisher in memory keeps the contract of publishers."""

from __future__ import annotations

import pytest

from headway.adapters.memory.event_relay import MemoryEventPublisher, MemoryExchange
from tests.contracts.event_publisher_contract import EventPublisherContract, Hand


class MemoryHand:
    def __init__(self) -> None:
        self.exchange = MemoryExchange()

    def publisher(self) -> MemoryEventPublisher:
        return MemoryEventPublisher(self.exchange)

    async def received(self) -> list[tuple[str, str]]:
        return [(message.id, message.topic) for message in self.exchange.messages]

    async def go_away(self) -> None:
        self.exchange.away = True

    async def come_back(self) -> None:
        self.exchange.away = False


class TestMemoryEventPublisher(EventPublisherContract):
    @pytest.fixture
    def hand(self) -> Hand:
        return MemoryHand()
