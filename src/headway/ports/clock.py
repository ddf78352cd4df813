"""Clock: the only source of time for control loops."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Real or, in tests, turned by hand."""

    def now(self) -> float:
        """Wall time, seconds since the epoch. May step back."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin; never steps back. For durations and deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` on the monotonic clock."""
        ...
