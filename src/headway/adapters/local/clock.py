"""SystemClock: the machine's own time."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """The ``Clock`` port on the real clocks."""

    def now(self) -> float:
        """Wall time, seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """``CLOCK_MONOTONIC``, seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``; at once (but after the loop had a turn) for zero and less."""
        await asyncio.sleep(max(0.0, seconds))
