"""Replicas that come and go under given arrivals, simulated request by request.

What `simulate` is for loads that stay as they are, this is for a load that changes and for replicas that a policy adds
and takes away: one run, from the first arrival to the last. The rules are those of the running system: the gateway
gives a request to the ready replica with the fewest in flight; there it waits in a queue of its own, first come, first
served; a full queue refuses it (429), one that has waited for the time limit is given up (504); while no replica is
ready requests wait at the gateway; a replica that leaves finishes what it has. Of too many replicas those go first that
are not ready yet, then the youngest.

A request's work is drawn once, by its place among the arrivals, so that two policies meet the same requests
(common random numbers): what differs between them is their own doing.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

OK: Final = 200
REFUSED: Final = 429
EXPIRED: Final = 504


@dataclass(frozen=True, slots=True)
class Serving:
    """How one replica serves."""

    work_s: Sequence[float]
    """Equally likely times for which a request holds a server."""
    rest_s: Sequence[float]
    """Of each the time beside it, in which nobody waits for anybody."""
    servers: int
    most_waiting: int
    timeout_s: float
    start_s: float
    """From being wished to being ready."""


@dataclass(slots=True, eq=False)
class Replica:
    """One of them. Instants in seconds on the clock of the arrivals."""

    name: str
    wished_at: float
    ready_at: float
    free_at: list[float]
    """When each server has done what was given to it; a heap."""
    in_flight: int = 0
    finished: int = 0
    stopped_at: float | None = None
    """When it has left, with all that it had done."""
    given_s: float = 0.0
    """Work given to it so far."""
    last_done_at: float = 0.0
    done_s: float = 0.0
    """Response times of all that it has finished."""
    came_at: float = 0.0
    """Sum of the arrivals of those in flight."""

    def busy_s(self, now: float) -> float:
        """Server time used so far: what was given, less what is still to be done. No server idles beside a queue."""
        return self.given_s - sum(free - now for free in self.free_at if free > now)

    def in_flight_s(self, now: float) -> float:
        """The integral of requests in flight over time."""
        return self.done_s + self.in_flight * now - self.came_at


@dataclass(slots=True, eq=False)
class Outcomes:
    """What became of each request, in the order of arrival; filled in as far as the run has come."""

    arrived_at: np.ndarray
    total_s: array[float] = field(default_factory=lambda: array("d"))
    waited_s: array[float] = field(default_factory=lambda: array("d"))
    status: array[int] = field(default_factory=lambda: array("h"))


class Fleet:
    """Ask it to :meth:`run` until a moment, look, tell it how many replicas there shall be, and go on."""

    def __init__(self, serving: Serving, arrived_at: np.ndarray, replicas: int, begin_at: float, seed: int) -> None:
        """``replicas`` are there and ready at ``begin_at``, which is not after the first arrival."""
        self._serving = serving
        self._arrivals: list[float] = arrived_at.tolist()
        drawn = np.random.default_rng((seed, 5)).integers(0, len(serving.work_s), len(arrived_at))
        self._work = np.asarray(serving.work_s)[drawn].tolist()
        self._rest = np.asarray(serving.rest_s)[drawn].tolist()
        self._at = 0
        """Place of the next arrival."""
        self._ready: list[Replica] = []
        self._counts: list[int] = []
        """In flight, of each ready one."""
        self._starting: list[Replica] = []
        """The one that is ready first comes first."""
        self._leaving: list[tuple[float, int, Replica, float]] = []
        """Requests under way, by when they are done: place, replica, arrival."""
        self._held: list[int] = []
        self._born = 0
        self.gone: list[Replica] = []
        blank = bytes(8 * len(self._arrivals))
        self.outcomes = Outcomes(arrived_at, array("d", blank), array("d", blank), array("h", blank[::4]))
        for _ in range(replicas):
            self._ready.append(self._new(begin_at, begin_at))
            self._counts.append(0)

    @property
    def wished(self) -> int:
        """Replicas that are there and do not leave."""
        return len(self._ready) + len(self._starting)

    @property
    def ready(self) -> Sequence[Replica]:
        return self._ready

    @property
    def starting(self) -> Sequence[Replica]:
        return self._starting

    @property
    def held(self) -> int:
        """Requests that wait at the gateway for a first replica."""
        return len(self._held)

    @property
    def over(self) -> bool:
        """Whether every request has been given to a replica or refused."""
        return self._at >= len(self._arrivals) and not self._held

    def run(self, until: float) -> float:
        """Go on until then, or to the first request that finds no replica at all; where it stands now."""
        arrivals, last = self._arrivals, len(self._arrivals)
        while self._at < last and arrivals[self._at] < until:
            place = self._at
            now = arrivals[place]
            if self._starting and self._starting[0].ready_at <= now:
                self._wake(now)
            self._at += 1
            if self._ready:
                self._give(place, now, now)
                continue
            self._held.append(place)
            if not self._starting:
                self._settle(now)
                return now
        if self._starting and self._starting[0].ready_at <= until:
            self._wake(until)
        self._settle(until)
        return until

    def set(self, count: int, now: float) -> None:
        """So many replicas there shall be."""
        while self.wished < count:
            replica = self._new(now, now + self._serving.start_s)
            self._starting.append(replica)
        while self.wished > count:
            if self._starting:
                self._leave(self._starting.pop(), now)
            else:
                self._counts.pop()
                self._leave(self._ready.pop(), now)
        if self._starting and self._starting[0].ready_at <= now:
            self._wake(now)

    def end(self, now: float) -> None:
        """The run is over: what waits for a first replica is given up, and every replica leaves."""
        for place in self._held:
            self._refuse(place, EXPIRED, now - self._arrivals[place])
        self._held.clear()
        self.set(0, now)

    def _new(self, wished_at: float, ready_at: float) -> Replica:
        self._born += 1
        return Replica(f"r{self._born}", wished_at, ready_at, [ready_at] * self._serving.servers)

    def _leave(self, replica: Replica, now: float) -> None:
        replica.stopped_at = max(now, replica.last_done_at)
        self.gone.append(replica)

    def _wake(self, now: float) -> None:
        while self._starting and self._starting[0].ready_at <= now:
            replica = self._starting.pop(0)
            self._ready.append(replica)
            self._counts.append(0)
            held, self._held = self._held, []
            for place in held:
                waited_s = replica.ready_at - self._arrivals[place]
                if waited_s > self._serving.timeout_s:
                    self._refuse(place, EXPIRED, self._serving.timeout_s)
                else:
                    self._give(place, self._arrivals[place], replica.ready_at)

    def _give(self, place: int, came_at: float, now: float) -> None:
        self._settle(now)
        serving, counts, outcomes = self._serving, self._counts, self.outcomes
        fewest = min(counts)
        if fewest >= serving.servers + serving.most_waiting:
            self._refuse(place, REFUSED, 0.0)
            return
        chosen = counts.index(fewest)
        replica = self._ready[chosen]
        free = replica.free_at
        start = free[0] if free[0] > now else now
        if start - came_at > serving.timeout_s:
            done = came_at + serving.timeout_s
            outcomes.status[place] = EXPIRED
            outcomes.waited_s[place] = outcomes.total_s[place] = serving.timeout_s
        else:
            work = self._work[place]
            heapq.heapreplace(free, start + work)
            replica.given_s += work
            done = start + work + self._rest[place]
            outcomes.status[place] = OK
            outcomes.waited_s[place], outcomes.total_s[place] = start - came_at, done - came_at
        counts[chosen] += 1
        replica.in_flight += 1
        replica.came_at += now
        if done > replica.last_done_at:
            replica.last_done_at = done
        heapq.heappush(self._leaving, (done, place, replica, now))

    def _settle(self, now: float) -> None:
        """Take in what is done by now."""
        leaving = self._leaving
        while leaving and leaving[0][0] <= now:
            done, _, replica, came_at = heapq.heappop(leaving)
            replica.in_flight -= 1
            replica.finished += 1
            replica.done_s += done - came_at
            replica.came_at -= came_at
            if replica.stopped_at is None:
                self._counts[self._ready.index(replica)] -= 1

    def _refuse(self, place: int, status: int, total_s: float) -> None:
        outcomes = self.outcomes
        outcomes.status[place] = status
        outcomes.waited_s[place] = outcomes.total_s[place] = total_s


def replica_seconds(fleet: Fleet) -> float:
    """What all replicas took, from being wished until they had left; after :meth:`Fleet.end`."""
    return sum((one.stopped_at or one.wished_at) - one.wished_at for one in fleet.gone)
