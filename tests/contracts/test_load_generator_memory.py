"""MemoryLoadGenerator keeps the contract of a load generator."""

from __future__ import annotations

import asyncio

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.load_generator import MemoryLoadGenerator
from headway.domain.errors import GatewayFailed
from headway.ports.load_generator import LoadTarget
from tests.contracts.load_generator_contract import OpenLoopContract, Stage

pytestmark = pytest.mark.anyio


class MemoryStage(Stage):
    generator: MemoryLoadGenerator

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.generator = MemoryLoadGenerator(self.clock, lambda due_s, number: self.fate)
        self.fate = (0.01, 200)

    def target(self) -> LoadTarget:
        return LoadTarget("iris", "http://127.0.0.1:1/models/iris")

    def bodies(self) -> list[bytes]:
        return self.generator.bodies

    def answers(self, *, status: int = 200, hangs: bool = False) -> None:
        self.fate = (1e6, 200) if hangs else (0.01, status)

    def gone(self) -> None:
        self.generator.reachable = GatewayFailed("nothing answers at http://127.0.0.1:1/models/iris")

    async def until_over(self, running: asyncio.Task[None], seconds: float) -> None:
        await self.clock.elapse(seconds)


class TestMemoryLoadGenerator(OpenLoopContract):
    @pytest.fixture
    def stage(self) -> MemoryStage:
        return MemoryStage()
