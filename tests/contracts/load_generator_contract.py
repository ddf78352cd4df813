"""What every load generator does: send the shape, write down each request once, end at once when told to."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

import pytest

from headway.domain.errors import GatewayFailed
from headway.domain.load_shapes import Arrivals, LoadShape, rate, recorded, users
from headway.ports.load_generator import Load, LoadGenerator, LoadRequest, LoadTarget


class Stage(ABC):
    """A generator in front of a model that answers at once, unless it is told otherwise."""

    generator: LoadGenerator

    @abstractmethod
    def target(self) -> LoadTarget:
        """Where it is."""

    @abstractmethod
    def bodies(self) -> list[bytes]:
        """What it was sent so far."""

    @abstractmethod
    def answers(self, *, status: int = 200, hangs: bool = False) -> None:
        """From now on."""

    @abstractmethod
    def gone(self) -> None:
        """Nothing listens there from now on."""

    @abstractmethod
    async def until_over(self, running: asyncio.Task[None], seconds: float) -> None:
        """Let so much time pass, or the generator end."""

    async def run(self, shape: LoadShape, bodies: tuple[bytes, ...] = (b"[]",)) -> Load:
        load = self.load(shape, bodies)
        running = asyncio.create_task(self.generator.run(load))
        await self.until_over(running, shape.duration_s + 30)
        await running
        return load

    def load(self, shape: LoadShape, bodies: tuple[bytes, ...] = (b"[]",)) -> Load:
        self.began: list[float] = []
        requests = [LoadRequest(body) for body in bodies]
        return Load(target=self.target(), shape=shape, requests=requests, began=self.began.append)


async def long_enough(run: Callable[[float], Awaitable[Load]], enough: Callable[[Load], bool]) -> Load:
    """The first load of ``run``, given seconds, that did ``enough``: on a busy machine a second or two may be short."""
    for duration_s in (1.5, 6.0, 24.0):
        load = await run(duration_s)
        if enough(load):
            break
    return load


class LoadGeneratorContract:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_users_ask_wait_and_ask_again(self, stage: Stage) -> None:
        load = await long_enough(
            lambda duration_s: stage.run(users(5, duration_s, think_time_s=0.2)), lambda load: len(load.samples) >= 3
        )
        assert 3 <= len(load.samples) <= 40 * load.shape.duration_s
        assert set(load.samples.status) == {200}
        assert all(0 <= sent <= done for sent, done in zip(load.samples.sent_s, load.samples.done_s, strict=True))
        assert len(stage.began) == 1
        assert stage.generator.state().in_flight in (0, None)

    async def test_requests_are_sent_in_turn_and_each_is_written_down(self, stage: Stage) -> None:
        before = 0

        async def run(duration_s: float) -> Load:
            nonlocal before
            before = len(stage.bodies())
            return await stage.run(users(1, duration_s, think_time_s=0.1), (b"[1]", b"[2]"))

        load = await long_enough(run, lambda load: len(load.samples) >= 2)
        sent = stage.bodies()[before:]
        assert set(sent) == {b"[1]", b"[2]"}
        assert len(load.samples) == len(sent)

    async def test_failed_requests_say_why(self, stage: Stage) -> None:
        stage.answers(status=503)
        load = await long_enough(
            lambda duration_s: stage.run(users(2, duration_s, think_time_s=0.1)), lambda load: len(load.samples) > 0
        )
        assert len(load.samples) == load.samples.faults["HTTP 503"] > 0

    async def test_stop_ends_it_at_once_whatever_is_under_way(self, stage: Stage) -> None:
        stage.answers(hangs=True)
        load = stage.load(users(3, 600, think_time_s=0.05))
        running = asyncio.create_task(stage.generator.run(load))
        await stage.until_over(running, 2)
        for _ in range(2):
            stage.generator.stop()
        async with asyncio.timeout(60):
            await running
        assert len(load.samples) == 0

    async def test_nobody_there_is_told_before_the_load_begins(self, stage: Stage) -> None:
        stage.gone()
        with pytest.raises(GatewayFailed, match="nothing answers at http"):
            await stage.run(users(1, 1))
        assert not stage.began


class OpenLoopContract(LoadGeneratorContract):
    """Of those that keep a timetable as well."""

    async def test_an_open_loop_sends_as_many_as_the_rate_says(self, stage: Stage) -> None:
        load = await stage.run(rate(100, 1.0, arrivals=Arrivals.CONSTANT))
        assert sorted(load.samples.due_s) == pytest.approx([number / 100 for number in range(100)])

    @pytest.mark.parametrize("offsets_s", [(0.0, 0.1, 0.1, 0.35, 0.9), (0.2,)])
    async def test_recorded_arrivals_leave_at_their_times(self, stage: Stage, offsets_s: tuple[float, ...]) -> None:
        bodies = tuple(b"[%d]" % number for number in range(len(offsets_s)))
        load = await stage.run(recorded(offsets_s, 1.0), bodies)
        assert sorted(load.samples.due_s) == pytest.approx(offsets_s, abs=1e-6)
        assert sorted(stage.bodies()) == list(bodies)

    async def test_a_stall_holds_nothing_back(self, stage: Stage) -> None:
        stage.answers(hangs=True)
        load = stage.load(rate(50, 1.0, arrivals=Arrivals.CONSTANT))
        running = asyncio.create_task(stage.generator.run(load))
        for _ in range(60):
            await stage.until_over(running, 1.2)
            if stage.generator.state().in_flight == 50 and stage.generator.state().oldest_s > 1:
                break
        else:
            pytest.fail(f"not all of them are under way: {stage.generator.state()}")
        stage.generator.stop()
        await running
