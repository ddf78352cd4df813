"""How many jobs a worker asks for: one at a time, unless they are so short that asking would take longer than doing.

What a worker holds others cannot have. So it holds no more than a quarter of a second of expected work, and asks for
more while it works only on short jobs. The number doubles with every call that was short, and one that was not sends
it back to one at a time.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 64
HELD_S: Final = 0.25
"""Of expected work."""
SHORT_S: Final = 0.05
"""A job that takes longer is the only one that its worker holds."""
_RISE: Final = 0.5
_FALL: Final = 0.2


class ClaimSize:
    """Learns from how long jobs take."""

    def __init__(self) -> None:
        self._mean_s: float | None = None
        self._limit = 1

    def most(self, held: int) -> int:
        """How many more to ask for while ``held`` are in hand; 0: none now. At least half of a lot, to ask seldom."""
        room = self._lot() - held
        return room if room * 2 >= self._lot() else 0

    @property
    def several(self) -> bool:
        """Whether jobs are short enough for several in one call of ``predict``."""
        return self._lot() > 1

    def observe(self, job_s: float) -> None:
        """A call took ``job_s`` for each of its jobs."""
        mean_s = self._mean_s
        if mean_s is None:
            self._mean_s = job_s
        else:
            self._mean_s = mean_s + (_RISE if job_s > mean_s else _FALL) * (job_s - mean_s)
        self._limit = 1 if job_s >= SHORT_S else min(MOST, self._limit * 2)

    def one_at_a_time(self) -> None:
        """Begin anew, with one."""
        self._limit = 1

    def _lot(self) -> int:
        if self._mean_s is None or self._mean_s >= SHORT_S:
            return 1
        return max(1, min(self._limit, int(HELD_S / max(self._mean_s, 1e-6))))
