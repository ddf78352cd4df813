"""What a call of ``predict`` takes for ``n`` requests, learned as ``a + c * n`` from the calls that were made.

``a`` is what batching saves, ``c`` what it cannot. Least squares with weights that fade (a forgetting factor, as in
recursive least squares).
"""

from __future__ import annotations

import math
from typing import Final

_FADE: Final = 0.98
"""Weight of a call after the next one: the last 50 or so count."""
_SPREAD: Final = 0.2
"""Standard deviation of the sizes, as a share of their mean, from which on they tell ``c``."""
_NEARLY_ALL: Final = 0.97


class CallCost:
    """Learns how long calls take."""

    def __init__(self) -> None:
        self._weight = self._n = self._s = self._nn = self._ns = 0.0
        self._told_s: float | None = None
        """``c`` as last told by calls of sizes different enough. In overload all are full and tell nothing."""

    def observe(self, requests: int, duration_s: float) -> None:
        """A call for ``requests`` took ``duration_s``, encoding of its answers included."""
        weight = self._weight = _FADE * self._weight + 1.0
        n = self._n = _FADE * self._n + requests
        self._s = _FADE * self._s + duration_s
        self._nn = _FADE * self._nn + requests * requests
        self._ns = _FADE * self._ns + requests * duration_s
        if self._nn * weight - n * n > (_SPREAD * n) ** 2:
            self._told_s = self._slope_s()

    def expected_s(self, requests: int) -> float:
        """How long a call for ``requests`` will take; 0 while nothing is known."""
        if self._weight == 0.0:
            return 0.0
        return self._s / self._weight + self._slope_s() * (requests - self._n / self._weight)

    def enough(self, most: int) -> int:
        """How many requests must share a call for nearly the throughput of calls for ``most``.

        All of them where calls cost much and requests little; 1 where batching saves nothing.
        """
        if self._told_s is None:
            return most
        mean_n, mean_s = self._n / self._weight, self._s / self._weight
        saved_s = max(0.0, mean_s - self._told_s * mean_n)
        lost_s = (1.0 - _NEARLY_ALL) * most * self._told_s
        # n / (a + c n) = share * most / (a + c most), solved for n.
        return max(1, math.ceil(_NEARLY_ALL * most * saved_s / (saved_s + lost_s))) if saved_s > 0 else 1

    def _slope_s(self) -> float:
        mean_n, mean_s = self._n / self._weight, self._s / self._weight
        variance = self._nn / self._weight - mean_n * mean_n
        # Calls of one size only: nothing is known of others, so they are taken to cost the same for each request.
        slope_s = mean_s / mean_n
        if variance > 1e-6 * mean_n * mean_n:
            slope_s = min(slope_s, max(0.0, (self._ns / self._weight - mean_n * mean_s) / variance))
        return slope_s
