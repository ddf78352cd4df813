"""How many requests may wait at present: as many as ``maxQueue`` says; in overload no more than keep the model busy.

A queue absorbs bursts. Where more come than can be answered for good, it absorbs nothing: it stays full, whoever
is admitted waits behind all of it, and as many are refused as with a short one (Nichols and Jacobson, "Controlling
Queue Delay", 2012, call that a standing queue). So what matters is what share is refused over a while:

* little: the queue takes up the bursts; it may grow again;
* much: so many must be refused anyhow. The room is halved until the queue holds just what the next call takes.
  The model is as busy as before, and an accepted request waits for the call under way and for its own.

How much it takes for the model to be busy depends on how uneven arrivals are, so it is measured: where requests were
refused and yet the model ran dry between two of them, the room grows by half, and falls by a fifth a time from there.

Up to 1.18 times what the model can do (a share of 0.15) the queue is left alone: there a short one would cost
throughput, as arrivals are not even. That nobody is refused below ``maxQueue`` before anybody was refused at it holds
always: a queue that is long but not full (many clients, each waiting for its answer) is no overload.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

WINDOW_NS: Final = 100_000_000
LONG_WINDOW_NS: Final = 1_000_000_000
"""Ends a window of few requests too; nobody for as long and nobody waiting: the overload is over."""
WINDOW_REQUESTS: Final = 20
MUCH: Final = 0.15
DRY: Final = 0.02
"""Share of a window without work from which on the model ran dry."""
LEAST: Final = 4
"""Room that is left in any case."""


class QueueRoom:
    """For one queue. ``most`` may wait when all is well."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.room = most
        """How many may wait at present."""
        self._began_ns: int | None = None
        self._asked_ns = 0
        self._asked = 0
        self._refused = 0
        self._idle_ns = 0
        self._ran_dry = False
        """Once since the overload began."""

    @property
    def watching(self) -> bool:
        """Whether :meth:`asked` wants to hear of every request; else of the refused ones only."""
        return self._began_ns is not None

    def asked(self, now_ns: int, *, refused: bool, waiting: int, idle_ns: int, busy: Callable[[], int]) -> None:
        """A request came and was refused or not; ``waiting`` were there before it.

        ``idle_ns`` is how long the model had nothing to do before. ``busy`` tells how many must wait for it to be busy
        with calls that are nearly as good as full ones, if arrivals are even.
        """
        pause_ns, self._asked_ns = now_ns - self._asked_ns, now_ns
        if self._began_ns is None:
            if not refused:
                return
            self._begin(now_ns)
        elif waiting == 0 and pause_ns > LONG_WINDOW_NS:
            self._end()
            return
        assert self._began_ns is not None
        self._asked += 1
        self._refused += refused
        self._idle_ns += idle_ns
        lasted_ns = now_ns - self._began_ns
        if lasted_ns < WINDOW_NS or (self._asked < WINDOW_REQUESTS and lasted_ns < LONG_WINDOW_NS):
            return
        if self._refused <= MUCH * self._asked:
            self.room = min(self._most, 2 * self.room)
            if self.room == self._most:
                self._end()
                return
        elif self._idle_ns > DRY * lasted_ns:
            self.room = min(self._most, self.room + self.room // 2)
            self._ran_dry = True
        else:
            fallen = self.room - self.room // 5 if self._ran_dry else self.room // 2
            self.room = max(fallen, min(self._most, max(LEAST, busy())))
        self._begin(now_ns)

    def _begin(self, now_ns: int) -> None:
        self._began_ns = now_ns
        self._asked = self._refused = self._idle_ns = 0

    def _end(self) -> None:
        self.room, self._began_ns, self._ran_dry = self._most, None, False
