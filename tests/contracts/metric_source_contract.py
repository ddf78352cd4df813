"""What every source of an outside signal does: a number, or ``SignalLost`` that tells why; never zero for unknown.

An adapter's test gives a :class:`Stage`: something that the source asks, and ways to make it go away. What is real
is a :class:`ServiceStage`, and its source keeps :class:`ServiceSourceContract` besides.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

import pytest

from headway.domain.errors import SignalLost
from headway.domain.scaling_spec import CronTrigger, ExternalTriggerSpec
from headway.ports.metric_source import MetricSource
from tests.services.fixtures import PASSWORD

VARIABLE = "ELSEWHERE"
"""The environment variable that every trigger of a stage names: a token, a password, an address."""


class Stage(ABC):
    """A source in front of something that holds a number."""

    def __init__(self) -> None:
        self.source = self.make()

    @abstractmethod
    def make(self) -> MetricSource:
        """A new source."""

    @abstractmethod
    def trigger(self, *, timeout: str = "30s") -> ExternalTriggerSpec:
        """Asks for the number that :meth:`hold` sets."""

    @abstractmethod
    async def hold(self, number: int) -> None:
        """Make it the answer."""

    @abstractmethod
    async def down(self) -> None:
        """Connections are refused, and those that stand are cut."""

    @abstractmethod
    async def up(self) -> None:
        """It is there again, after :meth:`down` or :meth:`hang`."""

    @abstractmethod
    async def hang(self) -> None:
        """Connections are accepted, and nothing is answered."""


class ServiceStage(Stage):
    """In front of a service that connections are made to. ``make`` lets the source read ``self.env``."""

    of: str
    """What messages call it."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        super().__init__()

    @abstractmethod
    def unknown(self) -> ExternalTriggerSpec:
        """Asks for something that is not there."""

    @abstractmethod
    async def restart(self) -> None:
        """Connections that stand turn out dead when they are used; new ones are answered at once."""

    @abstractmethod
    def connections(self) -> int:
        """How many were made to it so far."""


class MetricSourceContract:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_it_answers_the_number_of_now(self, stage: Stage) -> None:
        for number in (3, 0, 41):
            await stage.hold(number)
            answer = await stage.source.read(stage.trigger())
            assert (answer, type(answer)) == (number, float)

    async def test_many_questions_at_once_are_all_answered(self, stage: Stage) -> None:
        await stage.hold(7)
        assert await asyncio.gather(*(stage.source.read(stage.trigger()) for _ in range(12))) == [7] * 12

    async def test_down_and_back(self, stage: Stage) -> None:
        await stage.hold(7)
        assert await stage.source.read(stage.trigger()) == 7
        await stage.down()
        for _ in range(2):
            with pytest.raises(SignalLost):
                await stage.source.read(stage.trigger())
        await stage.up()
        assert await stage.source.read(stage.trigger()) == 7

    async def test_an_answer_that_does_not_come_is_given_up_in_time(self, stage: Stage) -> None:
        """On a connection that stands, and on a new one; and what hung once answers again afterwards."""
        await stage.hold(7)
        assert await stage.source.read(stage.trigger()) == 7
        await stage.hang()
        for _ in range(2):
            with pytest.raises(SignalLost, match="no answer within 200ms"):
                await asyncio.wait_for(stage.source.read(stage.trigger(timeout="200ms")), 60)
        await stage.up()
        assert await stage.source.read(stage.trigger()) == 7

    async def test_a_question_that_is_called_off_harms_no_other(self, stage: Stage) -> None:
        await stage.hold(7)
        await stage.hang()
        waiting = asyncio.create_task(stage.source.read(stage.trigger()))
        for _ in range(20):  # well under way
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(waiting, 60)
        await stage.up()
        assert await stage.source.read(stage.trigger()) == 7

    async def test_close_is_idempotent_and_needs_no_server(self, stage: Stage) -> None:
        await stage.hold(7)
        await stage.make().close()
        assert await stage.source.read(stage.trigger()) == 7
        await stage.hang()
        for _ in range(2):
            await asyncio.wait_for(stage.source.close(), 60)
        await stage.up()


class ServiceSourceContract(MetricSourceContract):
    """Of sources that make connections, and tell people why they failed."""

    async def test_what_is_not_there_is_not_zero(self, stage: ServiceStage) -> None:
        await stage.hold(3)
        with pytest.raises(SignalLost):
            await stage.source.read(stage.unknown())
        assert await stage.source.read(stage.trigger()) == 3

    async def test_a_failure_tells_what_was_asked_of_whom_and_what_came_back(self, stage: ServiceStage) -> None:
        await stage.hold(3)
        with pytest.raises(SignalLost) as caught:
            await stage.source.read(stage.unknown())
        assert stage.of in caught.value.message
        assert set(caught.value.details) == {"asked", "of", "came_back"}
        await stage.down()
        with pytest.raises(SignalLost, match=r"(?i)refused") as caught:
            await stage.source.read(stage.trigger())
        assert stage.of in caught.value.message

    async def test_questions_share_connections(self, stage: ServiceStage) -> None:
        await stage.hold(5)
        before = stage.connections()
        assert await stage.source.read(stage.trigger()) == 5
        first = stage.connections() - before
        for _ in range(5):
            await stage.source.read(stage.trigger())
        assert stage.connections() - before == first

    async def test_a_restart_between_two_questions_goes_unnoticed(self, stage: ServiceStage) -> None:
        await stage.hold(7)
        assert await stage.source.read(stage.trigger()) == 7
        await stage.restart()
        assert await stage.source.read(stage.trigger()) == 7

    async def test_the_environment_is_read_when_it_is_needed(self, stage: ServiceStage) -> None:
        await stage.hold(7)
        value = stage.env.pop(VARIABLE)
        for missing in ({}, {VARIABLE: ""}):
            stage.env.update(missing)
            with pytest.raises(SignalLost, match=f"{VARIABLE}.*not set"):
                await stage.source.read(stage.trigger())
        stage.env[VARIABLE] = value
        assert await stage.source.read(stage.trigger()) == 7

    async def test_no_password_is_told(self, stage: ServiceStage) -> None:
        await stage.hold(7)
        told = []
        await stage.hang()
        for change in (stage.down, stage.up):
            with pytest.raises(SignalLost) as caught:
                await stage.source.read(stage.trigger(timeout="200ms"))
            told.append(caught.value)
            await change()
        await stage.down()
        with pytest.raises(SignalLost) as caught:
            await stage.source.read(stage.trigger())
        assert all(PASSWORD not in f"{one} {one.to_dict()} {one.__cause__}" for one in [*told, caught.value])

    async def test_another_kind_of_trigger_is_the_callers_mistake(self, stage: ServiceStage) -> None:
        cron = CronTrigger(type="cron", start="0 8 * * *", end="0 18 * * *", desired_replicas=3)
        with pytest.raises(TypeError):
            await stage.source.read(cron)  # type: ignore[arg-type]
