"""Questions: what is asked again and again beside the tick, so that a slow answer never holds it up.

One question is about one thing (``about``); when that is another one, its history is over. It keeps the last answer
with the moment it was asked for: a failure later neither takes it away nor makes it younger. Time limits are looked at
in each tick, which spares every attempt a timer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, Generic, TypeVar

from headway.domain.errors import HeadwayError
from headway.ports.clock import Clock

log = logging.getLogger(__name__)
T = TypeVar("T")
TEXT_LENGTH: Final = 500


class Question(Generic[T]):
    """One thing that is asked, and what came of it. Times are monotonic."""

    __slots__ = ("about", "answer", "answered_at", "asked_at", "began_at", "error", "failures", "late", "seen", "task")

    def __init__(self, about: object) -> None:
        self.about = about
        self.answer: T | None = None
        self.answered_at: float | None = None
        """When the answer that is kept was asked for."""
        self.asked_at: float | None = None
        self.began_at: float | None = None
        """When the attempt under way began, after it waited for its turn."""
        self.late = False
        """Whether that attempt is being given up."""
        self.error = ""
        """Why the latest attempt failed."""
        self.failures = 0
        """Attempts in a row that failed."""
        self.seen = 0
        self.task: asyncio.Task[None] | None = None

    def age_s(self, monotonic: float) -> float | None:
        """Of the answer."""
        return None if self.answered_at is None else max(0.0, monotonic - self.answered_at)

    def due(self, every_s: float, timeout_s: float, monotonic: float) -> bool:
        """Whether it is time to ask (again). An attempt that takes longer than ``timeout_s`` is given up."""
        if self.task is not None:
            if self.began_at is not None and monotonic - self.began_at > timeout_s and not self.late:
                self.late = True
                self.task.cancel()
            return False
        return self.asked_at is None or monotonic - self.asked_at >= every_s


class Questions(Generic[T]):
    """All questions of one kind, by key."""

    def __init__(self, clock: Clock, at_once: int) -> None:
        self._clock = clock
        self._slots = asyncio.Semaphore(at_once)
        self._questions: dict[Hashable, Question[T]] = {}
        self._round = 0
        self._ending: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._questions)

    def of(self, key: Hashable, about: object) -> Question[T]:
        """The question; a new one when there was none, or it was about something else."""
        found = self._questions.get(key)
        if found is None or (found.about is not about and found.about != about):
            if found is not None:
                self._cancel(found)
            found = self._questions[key] = Question(about)
        found.seen = self._round
        return found

    def ask(self, question: Question[T], how: Callable[[], Coroutine[Any, Any, T]], name: str) -> None:
        """Begin an attempt; nobody waits for it."""
        question.asked_at, question.began_at, question.late = self._clock.monotonic(), None, False
        question.task = asyncio.create_task(self._ask(question, how), name=name)

    def sweep(self) -> None:
        """End those that nobody has asked for since the last sweep."""
        gone = [key for key, question in self._questions.items() if question.seen != self._round]
        for key in gone:
            self._cancel(self._questions.pop(key))
        self._round += 1

    async def close(self) -> None:
        """End all of them."""
        for question in self._questions.values():
            self._cancel(question)
        self._questions.clear()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _cancel(self, question: Question[T]) -> None:
        if question.task is not None:
            question.task.cancel()
            self._ending.add(question.task)
            question.task.add_done_callback(self._ending.discard)

    async def _ask(self, question: Question[T], how: Callable[[], Coroutine[Any, Any, T]]) -> None:
        try:
            async with self._slots:
                began_at = question.began_at = self._clock.monotonic()
                answer = await how()
        except asyncio.CancelledError:
            if not question.late:
                raise
            waited_s = self._clock.monotonic() - (question.began_at or 0.0)
            self._failed(question, f"no answer within {waited_s:.0f} s")
        except HeadwayError as error:
            self._failed(question, error.message)
        except Exception as error:
            if not question.failures:
                log.exception("cannot find out what is scaled by")
            self._failed(question, f"{type(error).__name__}: {error}")
        else:
            question.answer, question.answered_at = answer, began_at
            question.error, question.failures = "", 0
        finally:
            question.task = None

    @staticmethod
    def _failed(question: Question[T], error: str) -> None:
        question.error = error[:TEXT_LENGTH]
        question.failures += 1
