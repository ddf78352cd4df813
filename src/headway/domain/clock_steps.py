"""Telling that the wall clock was set."""

from __future__ import annotations

from typing import Final


class ClockSteps:
    """Finds out that the wall clock was set, by the clock that cannot be: their distance changes."""

    LEAST_S: Final = 0.5

    def __init__(self, wall: float, monotonic: float) -> None:
        self._distance = wall - monotonic

    def step_s(self, wall: float, monotonic: float) -> float:
        """By how much it was set since the last call; 0 for what is no more than the drift of clocks."""
        moved = wall - monotonic - self._distance
        if abs(moved) < self.LEAST_S:
            return 0.0
        self._distance += moved
        return moved
