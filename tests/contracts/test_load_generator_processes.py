"""ShardedLoadGenerator, with real processes, keeps the contract of a load generator."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from headway.adapters.loadgen.hub import Door
from headway.adapters.loadgen.sharded import ShardedLoadGenerator
from headway.domain.errors import StartTimeout
from headway.domain.load_shapes import Arrivals, rate, recorded
from headway.ports.load_generator import Load, LoadRequest, LoadTarget
from tests.contracts.load_generator_contract import OpenLoopContract
from tests.contracts.test_load_generator_http import HttpStage
from tests.services.scripted_model import ScriptedModel
from tests.waiting import PortPicker

pytestmark = pytest.mark.anyio


class ProcessStage(HttpStage):
    STARTING_S = 2.0

    def __init__(self, model: ScriptedModel) -> None:
        super().__init__(model)
        self.generator = ShardedLoadGenerator(2, timeout_s=10)


class TestShardedLoadGenerator(OpenLoopContract):
    @pytest.fixture
    async def stage(self) -> AsyncIterator[ProcessStage]:
        model = ScriptedModel()
        await model.start()
        yield ProcessStage(model)
        await model.stop()

    async def test_what_two_send_is_what_one_would(self, stage: ProcessStage) -> None:
        load = await stage.run(rate(50, 1.0, arrivals=Arrivals.POISSON, seed=5), (b"[1]", b"[2]", b"[3]"))
        model = ScriptedModel()
        await model.start()
        alone = HttpStage(model)
        same = await alone.run(rate(50, 1.0, arrivals=Arrivals.POISSON, seed=5), (b"[1]", b"[2]", b"[3]"))
        await model.stop()
        assert sorted(load.samples.due_s) == pytest.approx(sorted(same.samples.due_s))
        assert sorted(stage.bodies()) == sorted(alone.bodies())


def test_parts_of_recorded_arrivals_are_all_of_them_each_with_its_own_request() -> None:
    offsets_s = tuple(number / 10 for number in range(11))
    requests = [LoadRequest(b"[%d]" % (number % 4)) for number in range(11)]
    load = Load(
        target=LoadTarget("iris", "http://x"), shape=recorded(offsets_s, 2.0), requests=requests, began=lambda _: None
    )
    generator = ShardedLoadGenerator(3)
    found: list[tuple[float, LoadRequest]] = []
    for place in range(3):
        part = generator._part(load, place, 0.0)
        assert (part.place, part.parts, part.shape.duration_s) == (0, 1, 2.0)
        assert len(part.requests) == len(set(part.requests))
        found += zip(part.shape.offsets_s, (part.requests[turn] for turn in part.turns), strict=True)
    assert sorted(found, key=lambda pair: pair[0]) == list(zip(offsets_s, requests, strict=True))


@asynccontextmanager
async def worker(place: str, token: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """One that nobody of ours has started, for as long as a load lasts. It is patient: the hub may listen later."""
    start = f"from headway.adapters.loadgen.worker import work; raise SystemExit(work({place!r}, {token!r}, 60))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", start, stderr=asyncio.subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Attended(ShardedLoadGenerator):
    """With two workers that come by themselves."""

    def __init__(self, port: int) -> None:
        super().__init__(2, timeout_s=10, door=Door("127.0.0.1", port, "secret"))
        self._place = f"127.0.0.1:{port}"

    async def run(self, load: Load) -> None:
        async with worker(self._place, "secret"), worker(self._place, "secret"):
            await super().run(load)


class DoorStage(ProcessStage):
    STARTING_S = 4.0

    def __init__(self, model: ScriptedModel, port: int) -> None:
        super().__init__(model)
        self.port = port
        self.generator = Attended(port)


class TestWorkersFromElsewhere(OpenLoopContract):
    @pytest.fixture
    async def stage(self, free_port: PortPicker) -> AsyncIterator[DoorStage]:
        model = ScriptedModel()
        await model.start()
        yield DoorStage(model, free_port())
        await model.stop()

    async def test_who_does_not_show_the_token_is_not_let_in(self, stage: DoorStage) -> None:
        stage.generator = ShardedLoadGenerator(1, door=Door("127.0.0.1", stage.port, "secret", patience_s=1.5))
        async with worker(f"127.0.0.1:{stage.port}", "guessed") as intruder:
            with pytest.raises(StartTimeout, match="0 of 1 workers were there"):
                await stage.run(rate(5, 0.2))
            assert await intruder.wait() != 0
        assert stage.bodies() == []
