"""A service under a load, simulated: many independent streams at once, on whole arrays, one row per stream.

Any law of the service time, open and closed loads, and quantiles come without approximation, where formulas give
means and, for several servers and any law, only approximate ones. Two ways, the same behaviour:

- One replica: the start of the next request is the later one of its arrival and of the earliest moment at which a
  server is free (Kiefer and Wolfowitz, "On the theory of queues with many servers", Trans. AMS 78, 1955). One step per
  request, no list of events.
- Several, or locks: in which replica a request waits depends on how many each has in flight at that moment, and a lock
  is given in the order in which requests ask for it. So events are taken in their order.

A lock is taken in the middle of the work, and the server is kept while the request waits for it.

Randomness is that of the seeds given: the same cases give the same answer, and cases with the same seed meet the same
draws (common random numbers), so that their difference is that of the cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headway.planning.events import Events, Shares
from headway.planning.measured import Array, Load, Users
from headway.planning.service import LAW_SIZE, Service

LONGEST_QUEUE: Final = 256
"""Requests that wait at one of several replicas; more are turned away, as a model server does."""
AT_ONCE: Final = 3_000_000
"""Numbers that the streams of one batch may hold, roughly: beyond it, one batch after the other."""


@dataclass(frozen=True, slots=True)
class Case:
    """One experiment: ``seed`` picks its draws."""

    service: Service
    replicas: int
    load: Load
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one case."""

    times_s: Array
    """Response times, one column per stream, the warm-up left out."""
    rate_per_s: Array
    """Answered per second, by stream."""


def simulate(cases: Sequence[Case], *, streams: int, requests: int) -> list[Outcome]:
    """Each case in ``streams`` independent streams of ``requests`` requests, after a warm-up of a quarter of that."""
    found: dict[int, Outcome] = {}
    waiting = sorted(range(len(cases)), key=lambda i: _shape(cases[i]))
    while waiting:
        first = cases[waiting[0]]
        batch: list[int] = []
        width = 0
        for place in waiting:
            case = cases[place]
            if _kind(case) != _kind(first):
                break
            if batch and _width(case) > 4 * _width(first) + 128:
                break
            width = max(width, _width(case)) + requests
            if batch and (len(batch) + 1) * streams * width > AT_ONCE:
                break
            width -= requests
            batch.append(place)
        waiting = waiting[len(batch) :]
        outcomes = _Batch([cases[i] for i in batch], streams, requests).run()
        found.update(zip(batch, outcomes, strict=True))
    return [found[i] for i in range(len(cases))]


def _kind(case: Case) -> tuple[bool, bool, bool, bool]:
    service = case.service
    locked = service.serial > 0 or service.shared > 0
    events = case.replicas > 1 or locked
    # Beside events it costs little, and one batch of many is quicker than two.
    return isinstance(case.load, Users), events, locked, service.slowdown > 0 and not events


def _width(case: Case) -> int:
    users = case.load.count if isinstance(case.load, Users) else 0
    places = case.replicas * case.service.servers
    return users + places + (case.replicas * _queue(case) if _kind(case)[1] else 0)


def _queue(case: Case) -> int:
    return min(case.load.count, LONGEST_QUEUE) if isinstance(case.load, Users) else LONGEST_QUEUE


def _shape(case: Case) -> tuple[tuple[bool, bool, bool, bool], int]:
    return _kind(case), _width(case)


class _Batch:
    """Cases of one kind. Arrays have one row per stream: all streams of the first case, then of the second, …"""

    def __init__(self, cases: Sequence[Case], streams: int, requests: int) -> None:
        self._cases, self._streams, self._requests = cases, streams, requests
        users = [c.load.count if isinstance(c.load, Users) else 0 for c in cases]
        self._warmups = [max(requests // 4, 50) + count // 2 for count in users]
        self._closed, self._events, self._locked, self._slowed = _kind(cases[0])
        self._rows = np.arange(len(cases) * streams)
        services = [case.service for case in cases]
        self._delay = self._each([s.delay for s in services])
        self._serial = self._each([s.serial for s in services])
        self._shared = self._each([s.shared for s in services])
        self._slowdown = self._each([s.slowdown for s in services])
        self._delayed = bool(self._delay.any())

    def run(self) -> list[Outcome]:
        work, pauses = self._draws()
        return self._by_events(work, pauses) if self._events else self._by_starts(work, pauses)

    def _by_starts(self, work: Array, pauses: Array) -> list[Outcome]:
        """One replica, no locks."""
        steps, rows = len(work), self._rows
        free = self._places()[:, 0, :]
        flat_free, width = free.reshape(-1), free.shape[1]
        ready = self._ready()
        now = np.zeros(len(rows))
        arrived, left = np.empty((steps, len(rows))), np.empty((steps, len(rows)))
        for i in range(steps):
            if ready is None:
                now = now + pauses[i]
            else:
                user = ready.argmin(axis=1)
                now = ready[rows, user]
            place = rows * width + free.argmin(axis=1)
            start = np.maximum(now, flat_free[place])
            takes = work[i] * (1 - self._delay) if self._delayed else work[i]
            if self._slowed:
                busy = ((free > start[:, None]) & np.isfinite(free)).sum(axis=1)
                takes = takes * (1 + self._slowdown * busy)
            end = start + takes
            flat_free[place] = end
            done = end + work[i] * self._delay if self._delayed else end
            if ready is not None:
                ready[rows, user] = done + pauses[i]
            arrived[i], left[i] = now, done
        return self._outcomes(arrived, left)

    def _by_events(self, work: Array, pauses: Array) -> list[Outcome]:
        own = np.repeat([case.replicas for case in self._cases], self._streams)
        many = np.repeat([case.service.servers for case in self._cases], self._streams)
        depth = max(_queue(case) for case in self._cases)
        shares = Shares(self._delay, self._serial, self._shared, self._slowdown)
        arrived, left, begun = Events(own, many, shares, depth, work, pauses, self._ready()).run()
        return self._outcomes(arrived, left, begun)

    def _outcomes(self, arrived: Array, left: Array, begun: NDArray[np.intp] | None = None) -> list[Outcome]:
        """``begun``: requests of each row, where not every one has as many as were wanted, as under overload."""
        found = []
        for i in range(len(self._cases)):
            rows = slice(i * self._streams, (i + 1) * self._streams)
            until = self._warmups[i] + self._requests
            if begun is not None:
                until = min(until, int(begun[rows].min()))
            warm = min(self._warmups[i], until // 2)
            went = left[:until, rows]
            times = went[warm:] - arrived[warm:until, rows]
            rates = len(times) / np.maximum(went.max(axis=0) - went[:warm].max(axis=0), 1e-9)
            found.append(Outcome(times, rates))
        return found

    def _each(self, values: Sequence[float]) -> Array:
        return np.repeat(np.asarray(values, dtype=np.float64), self._streams)

    def _places(self) -> Array:
        """When each server is free, by row and replica: at once, or never where there is none."""
        replicas, servers = max(c.replicas for c in self._cases), max(c.service.servers for c in self._cases)
        free = np.full((len(self._cases), replicas, servers), np.inf)
        for i, case in enumerate(self._cases):
            free[i, : case.replicas, : case.service.servers] = 0.0
        return np.repeat(free, self._streams, axis=0)

    def _ready(self) -> Array | None:
        """When each user will ask first; never, where there is none."""
        if not self._closed:
            return None
        users = [c.load.count for c in self._cases if isinstance(c.load, Users)]
        ready = np.full((len(self._rows), max(users)), np.inf)
        for i, case in enumerate(self._cases):
            assert isinstance(case.load, Users)
            rng = np.random.default_rng((case.seed, 1))
            # Exponential pauses have no memory: all users thinking is close to how it stays.
            pause_s = case.load.think_s or case.service.mean_s
            rows = slice(i * self._streams, (i + 1) * self._streams)
            ready[rows, : users[i]] = rng.standard_exponential((self._streams, users[i])) * pause_s
        return ready

    def _draws(self) -> tuple[Array, Array]:
        """Work of each request, and the pause after it (closed) or before it (open)."""
        steps, streams = max(self._warmups) + self._requests, self._streams
        if self._locked:  # the last one to end may be any of those under way
            steps += max(case.replicas * case.service.servers for case in self._cases)
        work = np.empty((steps, len(self._rows)))
        pauses = np.empty((steps, len(self._rows)))
        drawn: dict[int, tuple[NDArray[np.intp], Array]] = {}
        for i, case in enumerate(self._cases):
            if case.seed not in drawn:
                law, pause = (self._uniform((case.seed, number), steps) for number in (0, 2))
                picked = np.minimum((law * LAW_SIZE).astype(np.intp), LAW_SIZE - 1)
                drawn[case.seed] = picked, -np.log(np.maximum(pause, 1e-12))
            picks, exponential = drawn[case.seed]
            rows = slice(i * streams, (i + 1) * streams)
            work[:, rows] = case.service.law[picks] * case.service.scale
            if isinstance(case.load, Users):
                pauses[:, rows] = exponential * case.load.think_s
            else:
                pauses[:, rows] = exponential / case.load.per_s
        return work, pauses

    def _uniform(self, seed: tuple[int, int], steps: int) -> Array:
        """By step and stream; however many steps, the first ones are the same.

        Antithetic pairs: where one stream draws long, its twin draws short (Hammersley and Morton, 1956).
        """
        uniform = np.random.default_rng(seed).random((steps, (self._streams + 1) // 2))
        return np.concatenate((uniform, 1 - uniform), axis=1)[:, : self._streams]
