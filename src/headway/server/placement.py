"""Where a prediction runs: on the event loop when the model is known to be fast, else on the worker's thread.

A hand-over to a thread costs some tens of microseconds, as much as a small model's whole answer; a slow
call on the loop keeps health checks and refusals waiting. So it is measured: calls start on the thread and
move to the loop when they have proved fast, hundreds of times: a call that has begun on the loop cannot be taken
from it, so a model whose time depends on its input should have shown that before, and a thread costs so many
calls some milliseconds altogether. The bounds for going and for coming back lie apart, so
that a model between them does not swing. Calls far above the bound send the model back for long: they show that the
time depends on the input. One alone, if not a long one, may be the machine's doing (another process had the
processor), so it takes a second one soon after.
"""

from __future__ import annotations

from typing import Final

FAST_S: Final = 0.002
"""Moves to the loop below this mean."""
SLOW_S: Final = 0.005
"""Moves back to the thread above this mean."""
SPIKE_S: Final = 0.020
LONG_SPIKE_S: Final = 0.100
"""Counts alone: nobody's health check should wait so long again."""
SPIKE_CALLS: Final = 500
"""Two spikes within as many calls count."""
PROOF_CALLS: Final = 500
"""Calls on the thread before it moves to the loop, at first and after spikes."""
_WEIGHT: Final = 0.2


class Placement:
    """Learns from the durations of calls. ``elsewhere``: the model works in another process, beside the loop."""

    def __init__(self, *, elsewhere: bool = False) -> None:
        self.on_loop = False
        self._elsewhere = elsewhere
        self._mean_s = 0.0
        self._seen = 0
        self._spike_at = -SPIKE_CALLS
        self._proof_left = PROOF_CALLS

    def observe(self, duration_s: float) -> None:
        """A call took ``duration_s``, wherever it ran."""
        if self._elsewhere:
            return
        self._seen += 1
        if duration_s >= SPIKE_S and self._alone(duration_s):
            return
        self._mean_s = duration_s if self._seen == 1 else self._mean_s + _WEIGHT * (duration_s - self._mean_s)
        if duration_s >= SPIKE_S:
            self.on_loop = False
            self._proof_left = PROOF_CALLS
        elif self._proof_left:
            self._proof_left -= 1
        if self.on_loop:
            self.on_loop = self._mean_s < SLOW_S
        elif not self._proof_left:
            self.on_loop = self._mean_s < FAST_S

    def _alone(self, duration_s: float) -> bool:
        """Whether this spike is the only one of late."""
        before, self._spike_at = self._spike_at, self._seen
        return duration_s < LONG_SPIKE_S and self._seen - before > SPIKE_CALLS
