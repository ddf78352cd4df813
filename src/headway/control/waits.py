"""Two ways to wait on the clock: for a call or the time, whichever is first; and for an answer, but no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from headway.ports.clock import Clock

T = TypeVar("T")


async def pause(clock: Clock, seconds: float, wake: asyncio.Event) -> None:
    """Return after ``seconds``, or as soon as ``wake`` is set."""
    if wake.is_set():
        return
    waiters = {asyncio.ensure_future(wake.wait()), asyncio.ensure_future(clock.sleep(seconds))}
    try:
        await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)


async def within(clock: Clock, seconds: float, answer: Coroutine[Any, Any, T]) -> T:
    """What ``answer`` gives; ``TimeoutError``, and it is cancelled, when that takes longer than ``seconds``."""
    asked = asyncio.ensure_future(answer)
    limit = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({asked, limit}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            raise TimeoutError(f"no answer within {seconds:g} s")
        return asked.result()
    finally:
        for one in (asked, limit):
            one.cancel()
        await asyncio.gather(asked, limit, return_exceptions=True)
