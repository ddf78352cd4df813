"""Questions beside the tick: answers and their age, failures, time limits, turns, and what is told of lost signals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.control.questions import Question, Questions
from headway.control.signal_watch import LOST_AFTER, SignalKey, SignalWatch
from headway.control.waits import pause, within
from headway.domain.errors import SignalLost
from headway.domain.events import NewEvent

pytestmark = pytest.mark.anyio
EVERY_S, TIMEOUT_S = 10.0, 3.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Asking:
    """A loop of ticks that asks one thing, or several, as signals do."""

    def __init__(self, at_once: int = 10) -> None:
        self.clock = ManualClock()
        self.questions: Questions[float] = Questions(self.clock, at_once)
        self.answer: float | Exception = 1.0
        self.open = asyncio.Event()
        self.open.set()
        self.asked: list[str] = []

    async def _answer(self, key: str) -> float:
        self.asked.append(key)
        await self.open.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def tick(self, *keys: str, about: object = "it") -> Question[float]:
        for key in keys:
            question = self.questions.of(key, about)
            if question.due(EVERY_S, TIMEOUT_S, self.clock.monotonic()):
                self.questions.ask(question, lambda key=key: self._answer(key), key)  # type: ignore[misc]
        self.questions.sweep()
        await self.clock.elapse(1.0)
        return question

    async def ticks(self, count: int, *keys: str) -> Question[float]:
        for _ in range(count):
            question = await self.tick(*keys)
        return question


@pytest.fixture
async def asking() -> AsyncIterator[Asking]:
    made = Asking()
    yield made
    await made.questions.close()


async def test_an_answer_keeps_its_age_through_failures(asking: Asking) -> None:
    question = await asking.ticks(5, "a")
    assert (question.answer, question.age_s(asking.clock.monotonic())) == (1.0, 5.0)
    asking.answer = SignalLost("nobody there")
    await asking.ticks(20, "a")
    assert len(asking.asked) == 3
    assert (question.answer, question.failures, question.error) == (1.0, 2, "nobody there")
    assert question.age_s(asking.clock.monotonic()) == 25.0
    asking.answer = 2.0
    await asking.ticks(10, "a")
    assert (question.answer, question.failures, question.error) == (2.0, 0, "")


async def test_an_attempt_that_takes_too_long_is_given_up_and_made_again(asking: Asking) -> None:
    asking.open.clear()
    question = await asking.ticks(3, "a")
    assert question.failures == 0
    await asking.ticks(3, "a")
    assert (question.failures, question.answer) == (1, None)
    assert "no answer within" in question.error
    asking.open.set()
    await asking.ticks(6, "a")
    assert (question.failures, question.answer) == (0, 1.0)


async def test_an_error_of_ours_is_a_failure_like_any_other(asking: Asking) -> None:
    asking.answer = ZeroDivisionError("oh")
    question = await asking.tick("a")
    assert (question.failures, question.error) == (1, "ZeroDivisionError: oh")


async def test_a_question_about_something_else_has_no_history(asking: Asking) -> None:
    await asking.tick("a", about="one")
    asking.open.clear()
    question = await asking.tick("a", about="two")
    assert (question.answer, len(asking.asked)) == (None, 2)


async def test_what_nobody_asks_any_more_is_ended(asking: Asking) -> None:
    asking.open.clear()
    question = await asking.tick("a", "b")
    assert asking.asked == ["a", "b"]
    await asking.tick("a")
    assert len(asking.questions) == 1
    assert question.task is None
    assert question.failures == 0, "given up is not failed"


async def test_waiting_for_a_turn_is_no_delay_of_the_source() -> None:
    asking = Asking(at_once=1)
    asking.open.clear()
    keys = ("a", "b")
    await asking.tick(*keys)
    assert asking.asked == ["a"]
    await asking.ticks(4, *keys)
    assert asking.asked == ["a", "b"]
    assert asking.questions.of("a", "it").failures == 1
    assert asking.questions.of("b", "it").failures == 0
    await asking.questions.close()


def watched() -> tuple[SignalWatch, list[NewEvent], ManualClock]:
    told: list[NewEvent] = []
    clock = ManualClock()
    return SignalWatch(clock, told.append), told, clock


async def test_a_signal_is_told_lost_once_and_back_once() -> None:
    watch, told, clock = watched()
    key = SignalKey("m", "v1", "cpu")
    for _ in range(LOST_AFTER - 1):
        watch.look_again(key, True, "gone")
    assert not told
    for _ in range(10):
        watch.look_again(key, True, "gone")
        clock.advance(1.0)
    watch.look_again(key, False, "")
    watch.look_again(key, False, "")
    assert [(event.type.value, dict(event.data)) for event in told] == [
        ("scaling_signal_lost.v1", {"trigger": "cpu", "error": "gone", "misses": LOST_AFTER}),
        ("scaling_signal_back.v1", {"trigger": "cpu", "lost_s": 10.0}),
    ]


async def test_a_hiccup_is_not_told_and_what_is_gone_is_forgotten() -> None:
    watch, told, _ = watched()
    key = SignalKey("m", None, "redis")
    for misses in (1, 2, 0, 1, 2, 0):
        watch.look(key, misses, "late")
    assert not told
    watch.look(key, LOST_AFTER, "down")
    watch.sweep()
    watch.sweep()  # its trigger was not looked at since the last one
    watch.look(key, 0, "")
    assert len(told) == 1


async def test_waits_end_with_whatever_is_first() -> None:
    clock, wake = ManualClock(), asyncio.Event()
    slept = asyncio.ensure_future(pause(clock, 5.0, wake))
    await clock.elapse(4.0)
    assert not slept.done()
    wake.set()
    await clock.settle()
    assert slept.done()
    assert clock.sleeping == 0, "its timer is gone with it"
    await pause(clock, 5.0, wake)
    late = asyncio.ensure_future(within(clock, 5.0, clock.sleep(10.0)))
    await clock.elapse(6.0)
    with pytest.raises(TimeoutError, match="no answer within 5 s"):
        await late
    await within(clock, 5.0, clock.sleep(0.0))
    assert clock.sleeping == 0
