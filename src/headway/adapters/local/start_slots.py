"""StartSlots: not everything starts at once.

Fifty models that load together on two cores are all ready after a minute, none before, and some have run out
of their startup probe's time; a few at a time are ready one after the other within the same minute. A slot
is held from the start of a process until it is ready or has ended, but not for longer than ``LONGEST_S``: a
load that hangs, or takes minutes, must not keep the others waiting.

A replica that was serving when it crashed does not queue: somebody waits for it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

LONGEST_S = 20.0


def default_slots() -> int:
    """Two for each core that this process may use, four at least."""
    return max(4, 2 * len(os.sched_getaffinity(0)))


class StartSlots:
    """Hands out slots in the order of asking."""

    def __init__(self, slots: int) -> None:
        self._free = asyncio.Semaphore(slots)

    async def take(self) -> Callable[[], None]:
        """Wait for a slot; the answer gives it back (the first call counts, and time gives it back anyway)."""
        await self._free.acquire()
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            timer.cancel()
            if not given_back:
                given_back = True
                self._free.release()

        timer = asyncio.get_running_loop().call_later(LONGEST_S, give_back)
        return give_back
