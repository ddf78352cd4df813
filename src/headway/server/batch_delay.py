"""Whether a batch that is not full should wait a little for more (``max_batch_delay_s``), and how long.

Off by default: what waits while a call runs makes batches for nothing. With a delay, two things are learned:

* whether waiting pays: a wait that brought nobody was paid for nothing, so when most do (a lone client in a
  closed loop, say) the delay is skipped, and tried again now and then;
* how long it may be where a latency target is given: additive increase, multiplicative decrease, as TCP finds its
  rate (Chiu and Jain, 1989) and Clipper its batch size (Crankshaw et al., NSDI 2017): an answer that took longer
  than the target halves the wait, each batch in time gives back a twentieth of the longest.
"""

from __future__ import annotations

from typing import Final

_WEIGHT: Final = 0.1
_PAYS: Final = 0.2
"""Waits must bring somebody this often to go on."""
_TRY_AGAIN: Final = 50
"""Skipped waits between trials."""
_RISE: Final = 0.05
_FALL: Final = 0.5


class BatchDelay:
    """For one queue. ``max_delay_s`` 0: never waits. ``target_s`` None: no latency target."""

    def __init__(self, max_delay_s: float, target_s: float | None = None) -> None:
        self._max_delay_s = max_delay_s
        self._target_s = target_s
        self.delay_s = max_delay_s
        """The longest wait at present."""
        self._gain = 1.0
        self._skipped = 0
        self._waiting_since: int | None = None
        """How many waited when the present wait began."""

    def answered(self, slowest_s: float) -> None:
        """A batch was answered; its slowest request took ``slowest_s`` from arrival to answer."""
        if self._target_s is None:
            return
        if slowest_s > self._target_s:
            self.delay_s *= _FALL
        else:
            self.delay_s = min(self._max_delay_s, self.delay_s + _RISE * self._max_delay_s)

    def wait_s(self, waiting: int, full: int, oldest_s: float) -> float:
        """How long to wait yet, given ``waiting`` requests, the oldest for ``oldest_s``; 0: predict now."""
        if self._max_delay_s <= 0:
            return 0.0
        left_s = self.delay_s - oldest_s
        began = self._waiting_since
        if waiting >= full or left_s <= 0:
            self._end(waiting)
            return 0.0
        if began is None:
            if self._gain < _PAYS:
                self._skipped += 1
                if self._skipped < _TRY_AGAIN:
                    return 0.0
                self._skipped = 0
            self._waiting_since = waiting
        return left_s

    def _end(self, waiting: int) -> None:
        if self._waiting_since is not None:
            self._gain += _WEIGHT * ((waiting > self._waiting_since) - self._gain)
            self._waiting_since = None
