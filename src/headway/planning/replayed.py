"""Figures of a replayed load: of all of it, and window by window.

Latency is that of requests that were served or waited in vain; a refusal at once says nothing about how fast a service
is, as in the query log. A promise is about the whole; how often it was broken on the way is told beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from headway.domain.promises import Promise
from headway.planning.fleet import EXPIRED, REFUSED, Outcomes
from headway.planning.measured import Array

_LENGTHS_S: Final = (1, 5, 10, 30, 60, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400)
_MOST_WINDOWS: Final = 300


@dataclass(frozen=True, slots=True)
class Replayed:
    """Of the requests that came in ``[begin_at, begin_at + length_s)``. None: nothing could be timed."""

    begin_at: float
    length_s: float
    count: int
    refused: int
    expired: int
    average_s: float | None
    p50_s: float | None
    p75_s: float | None
    p95_s: float | None
    p99_s: float | None

    @property
    def failed_share(self) -> float:
        return (self.refused + self.expired) / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True)
class Kept:
    """What a promise came to."""

    promise: str
    measured: float | None
    """Over all requests: seconds, or a share of errors."""
    kept: bool
    broken_share: float
    """Of the windows with requests, those in which it was not kept."""


class Replay:
    """The outcomes of a run, to be asked about."""

    def __init__(self, outcomes: Outcomes, begin_at: float, until: float) -> None:
        self._arrived_at = outcomes.arrived_at
        self._total_s = np.frombuffer(outcomes.total_s, dtype=np.float64)
        self._status = np.frombuffer(outcomes.status, dtype=np.int16)
        self._begin_at, self._until = begin_at, until

    def whole(self) -> Replayed:
        """All of it."""
        return self._figures(slice(None), self._begin_at, self._until - self._begin_at)

    def windows(self, length_s: float) -> list[Replayed]:
        """One after the other, empty ones too."""
        count = max(1, math.ceil((self._until - self._begin_at) / length_s - 1e-9))
        edges = self._begin_at + np.arange(count + 1) * length_s
        places = np.searchsorted(self._arrived_at, edges).tolist()
        places[-1] = len(self._arrived_at)
        return [self._figures(slice(places[i], places[i + 1]), float(edges[i]), length_s) for i in range(count)]

    def kept(self, promise: Promise, length_s: float) -> Kept:
        """Whether ``promise`` was kept over all, and in how many windows it was not."""
        whole = self._measured(promise, slice(None))
        broken, seen = 0, 0
        for window in self.windows(length_s):
            first = int(np.searchsorted(self._arrived_at, window.begin_at))
            measured = self._measured(promise, slice(first, first + window.count))
            if measured is not None:
                seen += 1
                broken += measured >= promise.bound
        return Kept(promise.text, whole, whole is not None and whole < promise.bound, broken / seen if seen else 0.0)

    def _measured(self, promise: Promise, places: slice) -> float | None:
        status = self._status[places]
        if not promise.of_latency:
            return float((status != 200).mean()) if len(status) else None
        times = self._timed(places)
        if not len(times):
            return None
        return float(times.mean() if promise.quantile is None else np.quantile(times, promise.quantile))

    def _timed(self, places: slice) -> Array:
        return np.asarray(self._total_s[places][self._status[places] != REFUSED])

    def _figures(self, places: slice, begin_at: float, length_s: float) -> Replayed:
        status, times = self._status[places], self._timed(places)
        refused, expired = int((status == REFUSED).sum()), int((status == EXPIRED).sum())
        if not len(times):
            return Replayed(begin_at, length_s, len(status), refused, expired, None, None, None, None, None)
        quantiles = (float(q) for q in np.quantile(times, (0.5, 0.75, 0.95, 0.99)))
        return Replayed(begin_at, length_s, len(status), refused, expired, float(times.mean()), *quantiles)


def window_length(span_s: float) -> float:
    """A round length of which a few hundred make up ``span_s``."""
    return float(next((one for one in _LENGTHS_S if span_s / one <= _MOST_WINDOWS), _LENGTHS_S[-1]))


def averaged(at: Sequence[float], values: Sequence[int], begin_at: float, until: float, length_s: float) -> list[float]:
    """Mean over each window of a value that changes at ``at``, the first of which is not after ``begin_at``."""
    count = max(1, math.ceil((until - begin_at) / length_s - 1e-9))
    edges = np.minimum(begin_at + np.arange(count + 1) * length_s, until)
    times, held = np.asarray(at, dtype=np.float64), np.asarray(values, dtype=np.float64)
    area = np.concatenate(([0.0], np.cumsum(held[:-1] * np.diff(times))))
    place = np.searchsorted(times, edges, side="right") - 1
    integral = area[place] + held[place] * (edges - times[place])
    return [float(one) for one in np.diff(integral) / np.maximum(np.diff(edges), 1e-9)]
