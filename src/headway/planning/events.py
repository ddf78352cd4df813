"""Several replicas, or locks, simulated: events in their order, one row per stream, all rows at once.

Three things happen to a request: it arrives, it asks for its lock in the middle of its work, and it leaves. Each pass
takes one arrival of every row in which that is what happens next, then one ask or leave of every row in which it is.
What costs time are the calls, not the numbers in them: state is flat, and read and written by place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headway.planning.measured import Array

Places = NDArray[np.intp]

_MOST_PASSES: Final = 3
"""For each request that is wanted; an overload has more arrivals than ends, and is cut off there."""
_LOOK: Final = 32
"""Passes between two looks at whether all rows are through."""


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """Of each row, as in :class:`~headway.planning.service.Service`."""

    delay: Array
    serial: Array
    shared: Array
    slowdown: Array


class Events:
    """One batch, to be :meth:`run` once."""

    def __init__(
        self, replicas: Places, servers: Places, shares: Shares, depth: int, work: Array, pauses: Array,
        ready: Array | None,
    ) -> None:  # fmt: skip
        """``replicas`` and ``servers`` (of a replica) by row; ``depth`` wait at a replica, more are turned away.

        ``work`` and ``pauses``: of each request in the order in which they begin, by row. ``ready``: when each user
        asks first, by row; None: an open load, whose arrivals are ``pauses`` apart.
        """
        self._steps, n = work.shape
        self._rows, self._n, self._depth = np.arange(n), n, depth
        # One row more takes in what goes beyond: rows that are through go on until all are.
        self._work, self._pauses = (np.concatenate((a, a[-1:])).reshape(-1) for a in (work, pauses))
        self._arrived, self._left = np.zeros(self._work.shape), np.zeros(self._work.shape)
        self._shares = shares
        self._delayed, self._slowed = bool(shares.delay.any()), bool(shares.slowdown.any())
        self._serial, self._shared = bool(shares.serial.any()), bool(shares.shared.any())
        self._locked = self._serial or self._shared
        self._half = (1 - shares.serial - shares.shared) / 2
        self._has_serial, self._has_shared = (shares.serial > 0).astype(float), (shares.shared > 0).astype(float)
        self._most, self._each = int(replicas.max()), int(servers.max())
        self._own, self._many = replicas, servers.astype(float)
        self._next = np.full((n, self._most * self._each), np.inf)
        """When each server has its next event; never, while it idles or is not there. Those that are come first."""
        self._in_flight = np.where(np.arange(self._most) < replicas[:, None], 0.0, 1e6)
        self._turns = _turns(self._most)
        self._asking = np.zeros(self._next.size, dtype=bool)
        self._came, self._takes, self._alone = (np.zeros(self._next.size) for _ in range(3))
        self._who = np.zeros(self._next.size, dtype=np.intp)
        self._queue_at = np.zeros(n * self._most * depth)
        self._queue_of = np.zeros(n * self._most * depth if ready is not None else 0, dtype=np.intp)
        self._head = np.zeros(n * self._most, dtype=np.intp)
        self._serial_free, self._shared_free = np.zeros(n * self._most), np.zeros(n)
        self._arrivals, self._starts, self._ends = (np.zeros(n, dtype=np.intp) for _ in range(3))
        self._ready = ready
        self._user = np.zeros(n, dtype=np.intp) if ready is None else ready.argmin(axis=1)
        self._arrival = self._pauses[:n].copy() if ready is None else ready[self._rows, self._user]

    def run(self) -> tuple[Array, Array, Places]:
        """Arrivals and ends of the requests, by row, and of how many of each row they are known."""
        first = self._rows * self._next.shape[1]
        flat = self._next.reshape(-1)
        done = self._ends if self._locked else self._starts
        for i in range(_MOST_PASSES * self._steps):
            if i % _LOOK == 0 and int(done.min()) >= self._steps:
                break
            place = first + self._next.argmin(axis=1)
            rows = np.flatnonzero(self._arrival < flat.take(place))
            if len(rows):
                self._arrive(rows)
                place = first + self._next.argmin(axis=1)
            then = flat.take(place)
            rows = np.flatnonzero(then <= self._arrival)
            place, then = place.take(rows), then.take(rows)
            if not self._locked:
                self._leave(rows, place, then)
                continue
            asks = self._asking.take(place)
            self._ask(rows[asks], place[asks], then[asks])
            leaves = ~asks
            self._leave(rows[leaves], place[leaves], then[leaves])
        shape = self._steps + 1, self._n
        return self._arrived.reshape(shape)[:-1], self._left.reshape(shape)[:-1], np.minimum(done, self._steps)

    def _arrive(self, rows: Places) -> None:
        now, who = self._arrival.take(rows), self._user.take(rows)
        turn = self._arrivals.take(rows) + 1
        self._arrivals[rows] = turn
        if self._ready is None:
            self._arrival[rows] = now + self._pauses.take(np.minimum(turn, self._steps) * self._n + rows)
        else:
            self._ready[rows, who] = np.inf
            others = self._ready.take(rows, axis=0)
            user = others.argmin(axis=1)
            self._user[rows] = user
            self._arrival[rows] = others[np.arange(len(rows)), user]
        at = rows
        if self._most > 1:
            own = self._own.take(rows)
            wanted = self._in_flight.take(rows, axis=0)
            wanted += self._turns.take(own * self._most + turn % own, axis=0)
            at = rows * self._most + wanted.argmin(axis=1)
        load = self._in_flight.reshape(-1)
        ahead, many = load.take(at), self._many.take(rows)
        idle = ahead < many
        load[at] = ahead + 1
        begin = at[idle]
        if len(begin):
            server = self._next.reshape(-1, self._each).take(begin, axis=0).argmax(axis=1)
            self._begin(rows[idle], begin * self._each + server, now[idle], now[idle], who[idle])
        if len(begin) == len(rows):
            return
        waits = ~idle
        at, before = at[waits], (ahead - many)[waits].astype(np.intp)
        slot = at * self._depth + (self._head.take(at) + before) % self._depth
        if self._ready is not None:
            self._queue_at[slot] = now[waits]
            self._queue_of[slot] = who[waits]
            return
        full = before >= self._depth
        if full.any():
            load[at[full]] -= 1
            room = ~full
            self._queue_at[slot[room]] = now[waits][room]
        else:
            self._queue_at[slot] = now[waits]

    def _begin(self, rows: Places, place: Places, now: Array, came: Array, who: Places) -> None:
        """Work on the requests that came then, of those users, at idle servers."""
        count = self._starts.take(rows)
        self._starts[rows] = count + 1
        record = np.minimum(count, self._steps) * self._n + rows
        alone = takes = self._work.take(record)
        if self._delayed:
            takes = alone * (1 - self._shares.delay.take(rows))
        if self._slowed:
            busy = np.isfinite(self._next.take(rows, axis=0)).sum(axis=1)
            takes = takes * (1 + self._shares.slowdown.take(rows) * busy)
        flat = self._next.reshape(-1)
        if self._locked:
            flat[place] = now + takes * self._half.take(rows)
            self._asking[place] = True
            self._came[place], self._who[place], self._takes[place], self._alone[place] = came, who, takes, alone
            return
        until = now + takes
        flat[place] = until
        self._end(rows, record, until, came, who, alone)

    def _ask(self, rows: Places, place: Places, now: Array) -> None:
        """Requests in the middle of their work: when they will have had their lock, and so when they will leave."""
        if not len(rows):
            return
        takes = self._takes.take(place)
        has = now
        if self._serial:
            at = place // self._each
            has = np.maximum(has, self._serial_free.take(at)) + takes * self._shares.serial.take(rows)
            self._serial_free[at] = has * self._has_serial.take(rows)
        if self._shared:
            has = np.maximum(has, self._shared_free.take(rows)) + takes * self._shares.shared.take(rows)
            self._shared_free[rows] = has * self._has_shared.take(rows)
        until = has + takes * self._half.take(rows)
        self._next.reshape(-1)[place] = until
        self._asking[place] = False
        count = self._ends.take(rows)
        self._ends[rows] = count + 1
        record = np.minimum(count, self._steps) * self._n + rows
        self._end(rows, record, until, self._came.take(place), self._who.take(place), self._alone.take(place))

    def _end(self, rows: Places, record: Places, until: Array, came: Array, who: Places, alone: Array) -> None:
        """Note when requests will be answered, and when their users will ask again."""
        done = until + alone * self._shares.delay.take(rows) if self._delayed else until
        self._arrived[record] = came
        self._left[record] = done
        if self._ready is None:
            return
        again = done + self._pauses.take(record)
        self._ready[rows, who] = again
        sooner = again < self._arrival.take(rows)
        if sooner.any():
            rows = rows[sooner]
            self._arrival[rows] = again[sooner]
            self._user[rows] = who[sooner]

    def _leave(self, rows: Places, place: Places, now: Array) -> None:
        """Servers whose request is through; they take the next one that waits at their replica."""
        if not len(rows):
            return
        load = self._in_flight.reshape(-1)
        at = place // self._each
        there = load.take(at)
        load[at] = there - 1
        self._next.reshape(-1)[place] = np.inf
        more = there > self._many.take(rows)
        rows = rows[more]
        if not len(rows):
            return
        at = at[more]
        head = self._head.take(at)
        slot = at * self._depth + head
        self._head[at] = (head + 1) % self._depth
        who = rows if self._ready is None else self._queue_of.take(slot)
        self._begin(rows, place[more], now[more], self._queue_at.take(slot), who)


def _turns(most: int) -> Array:
    """What a replica's turn adds to its requests in flight, less than one: equals are taken by turns.

    By number of replicas times ``most`` plus turn; one column per replica.
    """
    order = np.arange(most)
    found = np.zeros(((most + 1) * most, most))
    for own in range(1, most + 1):
        for turn in range(own):
            found[own * most + turn] = (order - turn) % own / (2 * most)
    return found
