"""Work that several callers want at the same time, done once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Progress = Callable[[str], None]


@dataclass(slots=True, eq=False)
class _Running(Generic[T]):
    task: asyncio.Task[T] | None = None
    callers: int = 0
    listeners: list[Progress] = field(default_factory=list)
    last_line: str | None = None

    def tell(self, line: str) -> None:
        self.last_line = line
        for listener in [*self.listeners]:
            listener(line)


class SharedWork(Generic[T]):
    """By key: whoever comes while it runs joins it, hears its progress and gets the same result or error.

    It is cancelled, and waited for, when the last caller is cancelled; one of several leaves quietly.
    """

    def __init__(self) -> None:
        self._running: dict[str, _Running[T]] = {}

    async def join(self, key: str, work: Callable[[Progress], Coroutine[Any, Any, T]], progress: Progress) -> T:
        """The result of ``work`` for ``key``."""
        running = self._running.get(key)
        if running is None or running.task is None:
            running = self._running[key] = _Running()
            running.task = asyncio.create_task(work(running.tell))
        elif running.last_line:
            progress(running.last_line)
        running.callers += 1
        running.listeners.append(progress)
        try:
            return await asyncio.shield(running.task)
        finally:
            running.callers -= 1
            running.listeners.remove(progress)
            if running.callers == 0:
                if self._running.get(key) is running:
                    del self._running[key]
                if not running.task.done():
                    running.task.cancel()
                    with suppress(asyncio.CancelledError, Exception):  # nobody is left to hear of it
                        await running.task
