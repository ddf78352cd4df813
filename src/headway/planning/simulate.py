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
            if batch and _width(case) > 2 * _width(first) + 64:
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
    return isinstance(case.load, Users), case.replicas > 1 or locked, locked, service.slowdown > 0


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
        users = max(c.load.count if isinstance(c.load, Users) else 0 for c in cases)
        self._warmup = max(requests // 4, 50) + users // 2
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
        """Arrivals, requests for a lock, ends. ``next_at``: when each server has its next event; never, while idle."""
        rows, n, locked = self._rows, len(self._rows), self._locked
        there = np.isfinite(self._places())
        replicas, servers = there.shape[1], there.shape[2]
        own, many = there[:, :, 0].sum(axis=1)[:, None], there.sum(axis=2)
        next_at = np.full(there.shape, np.inf)
        flat_next, flat_there = next_at.reshape(n, -1), there.reshape(n, -1)
        asking = np.zeros(flat_next.shape, dtype=bool)
        jobs = np.zeros((4, *flat_next.shape))  # of each server's request: arrival, user, work, work when alone
        in_flight = np.where(there[:, :, 0], 0.0, 1e6)
        order = np.arange(replicas)[None, :]
        depth = max(_queue(case) for case in self._cases)
        queue_at, queue_of = np.zeros((n, replicas, depth)), np.zeros((n, replicas, depth), dtype=np.intp)
        head, waiting = np.zeros((n, replicas), dtype=np.intp), np.zeros((n, replicas), dtype=np.intp)
        serial_free, shared_free = np.zeros((n, replicas)), np.zeros(n)
        ready = self._ready()
        arrival = pauses[0].copy() if ready is None else np.zeros(n)
        arrivals, starts, ended = (np.zeros(n, dtype=np.intp) for _ in range(3))
        last = len(work) - 1
        user = np.zeros(n, dtype=np.intp)
        arrived, left = np.zeros((len(work), n)), np.zeros((len(work), n))
        for _ in range((3 if locked else 2) * len(work)):
            if ready is not None:
                user = ready.argmin(axis=1)
                arrival = ready[rows, user]
            place = flat_next.argmin(axis=1)
            then = flat_next[rows, place]
            comes = arrival < then
            now = np.where(comes, arrival, then)
            fewest = (in_flight + (order - arrivals[:, None]) % own / (2 * replicas)).argmin(axis=1)
            k = np.where(comes, fewest, place // servers)
            asks = ~comes & asking[rows, place]
            leaves = ~comes & ~asks
            waits = waiting[rows, k]
            idle = in_flight[rows, k] - waits < many[rows, k]
            queued = comes & ~idle & (waits < depth)
            starting = (comes & idle) | (leaves & (waits > 0))
            flat_next[rows[leaves], place[leaves]] = np.inf
            in_flight[rows, k] += (queued | (comes & idle)).astype(float) - leaves
            began, who = now, user
            if queued.any():
                r, kk = rows[queued], k[queued]
                slot = (head[r, kk] + waits[queued]) % depth
                queue_at[r, kk, slot] = now[queued]
                queue_of[r, kk, slot] = user[queued]
                waiting[r, kk] += 1
            popped = starting & leaves
            if popped.any():
                r, kk = rows[popped], k[popped]
                slot = head[r, kk]
                began, who = now.copy(), user.copy()
                began[popped] = queue_at[r, kk, slot]
                who[popped] = queue_of[r, kk, slot]
                head[r, kk] = (slot + 1) % depth
                waiting[r, kk] -= 1
            arrivals += comes
            if ready is None:
                arrival[comes] += pauses[np.minimum(arrivals[comes], last), rows[comes]]
            else:
                ready[rows[comes], user[comes]] = np.inf
            if starting.any():
                r, kk = rows[starting], k[starting]
                count = np.minimum(starts[r], last)
                starts[r] += 1
                alone = work[count, r]
                takes = alone * (1 - self._delay[r]) if self._delayed else alone
                if self._slowed:
                    busy = (np.isfinite(flat_next[r]) & flat_there[r]).sum(axis=1)
                    takes = takes * (1 + self._slowdown[r] * busy)
                server = kk * servers + (there[r, kk] & np.isinf(next_at[r, kk])).argmax(axis=1)
                if locked:
                    held = takes * (self._serial[r] + self._shared[r])
                    flat_next[r, server] = now[starting] + (takes - held) / 2
                    asking[r, server] = True
                    jobs[:, r, server] = began[starting], who[starting], takes, alone
                else:
                    until = now[starting] + takes
                    flat_next[r, server] = until
                    done = until + alone * self._delay[r]
                    arrived[count, r], left[count, r] = began[starting], done
                    if ready is not None:
                        ready[r, who[starting]] = done + pauses[count, r]
            if locked and asks.any():
                r, kk, server = rows[asks], k[asks], place[asks]
                came, of, takes, alone = jobs[:, r, server]
                serial, shared = takes * self._serial[r], takes * self._shared[r]
                has = np.where(serial > 0, np.maximum(now[asks], serial_free[r, kk]), now[asks]) + serial
                serial_free[r, kk] = has
                has = np.where(shared > 0, np.maximum(has, shared_free[r]), has) + shared
                shared_free[r] = np.where(shared > 0, has, shared_free[r])
                until = has + (takes - serial - shared) / 2
                flat_next[r, server] = until
                asking[r, server] = False
                done = until + alone * self._delay[r]
                count = np.minimum(ended[r], last)
                ended[r] += 1
                arrived[count, r], left[count, r] = came, done
                if ready is not None:
                    ready[r, of.astype(np.intp)] = done + pauses[count, r]
        return self._outcomes(arrived, left, int(min((ended if locked else starts).min(), len(work))))

    def _outcomes(self, arrived: Array, left: Array, until: int | None = None) -> list[Outcome]:
        # Overloaded, most events are arrivals, and fewer requests than wanted were begun.
        warm = self._warmup if until is None else min(self._warmup, until // 2)
        arrived, left = arrived[:until], left[:until]
        times = left[warm:] - arrived[warm:]
        begin = left[:warm].max(axis=0)
        rates = len(times) / np.maximum(left.max(axis=0) - begin, 1e-9)
        each = self._streams
        return [
            Outcome(times[:, i * each : (i + 1) * each], rates[i * each : (i + 1) * each])
            for i in range(len(self._cases))
        ]

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
        steps, streams = self._warmup + self._requests, self._streams
        work = np.empty((steps, len(self._rows)))
        pauses = np.empty((steps, len(self._rows)))
        drawn: dict[int, tuple[NDArray[np.intp], Array]] = {}
        for i, case in enumerate(self._cases):
            if case.seed not in drawn:
                rng = np.random.default_rng((case.seed, 0))
                # Antithetic pairs: where one stream draws long, its twin draws short (Hammersley and Morton, 1956).
                uniform = rng.random((2, steps, (streams + 1) // 2))
                both = np.concatenate((uniform, 1 - uniform), axis=2)[:, :, :streams]
                picked = np.minimum((both[0] * LAW_SIZE).astype(np.intp), LAW_SIZE - 1)
                drawn[case.seed] = picked, -np.log(np.maximum(both[1], 1e-12))
            picks, exponential = drawn[case.seed]
            rows = slice(i * streams, (i + 1) * streams)
            work[:, rows] = case.service.law[picks] * case.service.scale
            if isinstance(case.load, Users):
                pauses[:, rows] = exponential * case.load.think_s
            else:
                pauses[:, rows] = exponential / case.load.per_s
        return work, pauses
