"""Whether one more request may wait, where a latency target is declared: only if its answer can be in time.

Without a target the length of the queue is the bound (``max_queue``). With one it is time: a request that would
be answered too late is refused at once, while the caller can still do something else, and those that are admitted
are answered in time, however many come.

The time that a call of ``predict`` takes for ``n`` requests is learned as ``a + c * n`` by least squares with weights
that fade (a forgetting factor, as in recursive least squares): ``a`` is what batching saves, ``c`` what it cannot.
"""

from __future__ import annotations

from typing import Final

_FADE: Final = 0.98
"""Weight of a call after the next one: the last 50 or so count."""


class CallCost:
    """Learns how long calls take."""

    def __init__(self) -> None:
        self._weight = self._n = self._s = self._nn = self._ns = 0.0

    def observe(self, requests: int, duration_s: float) -> None:
        """A call for ``requests`` took ``duration_s``, encoding of its answers included."""
        self._weight = _FADE * self._weight + 1.0
        self._n = _FADE * self._n + requests
        self._s = _FADE * self._s + duration_s
        self._nn = _FADE * self._nn + requests * requests
        self._ns = _FADE * self._ns + requests * duration_s

    def expected_s(self, requests: int) -> float:
        """How long a call for ``requests`` will take; 0 while nothing is known."""
        if self._weight == 0.0:
            return 0.0
        mean_n, mean_s = self._n / self._weight, self._s / self._weight
        variance = self._nn / self._weight - mean_n * mean_n
        # Calls of one size only: nothing is known of others, so they are taken to cost the same for each request.
        slope = mean_s / mean_n
        if variance > 1e-6 * mean_n * mean_n:
            slope = min(slope, max(0.0, (self._ns / self._weight - mean_n * mean_s) / variance))
        return mean_s + slope * (requests - mean_n)


class Admission:
    """For one queue. ``target_s`` counts from arrival to answer."""

    def __init__(self, target_s: float) -> None:
        self.cost = CallCost()
        self._target_s = target_s

    def expected_s(self, waiting: int, most: int, running_for_s: float | None, running: int) -> float:
        """Until the answer to one more request: the call under way, those before it, its own.

        ``most`` requests share a call; the call under way is for ``running`` and began ``running_for_s`` ago.
        """
        full, rest = divmod(waiting + 1, most)
        ahead_s = full * self.cost.expected_s(most) + (self.cost.expected_s(rest) if rest else 0.0)
        if running_for_s is None:
            return ahead_s
        return ahead_s + max(0.0, self.cost.expected_s(running) - running_for_s)

    def refuses(self, waiting: int, most: int, running_for_s: float | None, running: int) -> bool:
        """Whether one more would be answered too late. One may always wait: else the model would idle between calls."""
        return waiting > 0 and self.expected_s(waiting, most, running_for_s, running) > self._target_s
