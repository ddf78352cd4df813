"""Every request of a load test, one by one, in columns; and the exact figures of any part of them. Pure.

A column is an ``array``: 100,000 requests take 4 MB, and ``numpy.frombuffer`` reads them without a copy. Percentiles
are of the values themselves, interpolated between the closest ranks (type 7 of Hyndman and Fan, 1996): nothing is
rounded, nothing falls into a bucket.

As in the query log, latencies are of the *timed* requests: status below 400, 500 or 504, and here also those that were
given up, by the time until then. Quick refusals, or connections that break off, would make a slow model look fast.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

NO_ANSWER = 0
"""The connection failed: no time that says anything."""
GIVEN_UP = -1
"""No good answer, and the time counts: it did not come in time, or a locustfile calls it wrong."""


def timed(status: int) -> bool:
    """Whether the latency of such an answer says how fast the model is."""
    return 0 < status < 400 or status in (500, 504, GIVEN_UP)


@dataclass(slots=True)
class Samples:
    """Requests in the order in which they were answered. Instants are seconds after the begin of the load."""

    due_s: array[float] = field(default_factory=lambda: array("d"))
    """When it was to leave by the timetable; in a closed loop when its user wanted it to."""
    sent_s: array[float] = field(default_factory=lambda: array("d"))
    """When it left. Later than due: the generator was behind."""
    done_s: array[float] = field(default_factory=lambda: array("d"))
    """When the last byte of the answer was there, or it was given up."""
    status: array[int] = field(default_factory=lambda: array("h"))
    """Of HTTP; :data:`NO_ANSWER`; :data:`GIVEN_UP`."""
    faults: Counter[str] = field(default_factory=Counter)
    """Why requests failed: ``HTTP 503``, ``ConnectionRefusedError``, …"""

    def __len__(self) -> int:
        return len(self.status)

    def add(self, due_s: float, sent_s: float, done_s: float, status: int, fault: str = "") -> None:
        """One request. ``fault``: why there is no answer, or why a 2xx one is wrong."""
        self.due_s.append(due_s)
        self.sent_s.append(sent_s)
        self.done_s.append(done_s)
        self.status.append(status)
        if fault or status >= 400:
            self.faults[fault or f"HTTP {status}"] += 1

    def latency_s(self, place: int) -> float:
        """From when it was due: a request that waits in the generator waits for the system (coordinated omission)."""
        return self.done_s[place] - self.due_s[place]

    def figures(self, places: Iterable[int], span_s: float) -> Figures:
        """Of the requests at these places, which were answered within ``span_s`` seconds."""
        count = errors = 0
        latencies = []
        status, done, due = self.status, self.done_s, self.due_s
        for place in places:
            code = status[place]
            count += 1
            errors += failed(code)
            if timed(code):
                latencies.append(done[place] - due[place])
        latencies.sort()
        p50, p75, p95, p99 = (quantile(latencies, q) for q in (0.5, 0.75, 0.95, 0.99))
        return Figures(
            count=count,
            errors=errors,
            per_s=count / span_s if span_s > 0 else 0.0,
            mean_s=math.fsum(latencies) / len(latencies) if latencies else None,
            p50_s=p50,
            p75_s=p75,
            p95_s=p95,
            p99_s=p99,
            max_s=latencies[-1] if latencies else None,
        )

    def latencies(self, begin_s: float = 0.0, end_s: float = math.inf) -> list[float]:
        """Sorted, of the timed requests that were due in ``[begin_s, end_s)``."""
        due, done, status = self.due_s, self.done_s, self.status
        return sorted(
            done[place] - due[place]
            for place in range(len(status))
            if begin_s <= due[place] < end_s and timed(status[place])
        )


def failed(status: int) -> bool:
    """Whether a request counts as an error."""
    return status <= NO_ANSWER or status >= 400


def quantile(ordered: Sequence[float], q: float) -> float | None:
    """Type 7 of Hyndman and Fan; None without values. ``ordered`` rises."""
    if not ordered:
        return None
    rank = q * (len(ordered) - 1)
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of some requests. Latencies in seconds; None without a timed request."""

    count: int
    errors: int
    """No answer, or a status of 400 or above."""
    per_s: float
    """Requests a second, errors included."""
    mean_s: float | None
    p50_s: float | None
    p75_s: float | None
    p95_s: float | None
    p99_s: float | None
    max_s: float | None
