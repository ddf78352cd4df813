"""A service of known law, simulated event by event: what measurements and the truth are taken from.

Nothing of it is shared with `headway.planning`: this is a list of events, requests are routed to the replica with the
fewest in flight (ties by turns, as the gateway does), locks are taken in the middle of the work in the order in which
requests come to them, and a request that waits for a lock keeps its server.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ARRIVE, ASK, RELEASE, LEAVE = range(4)


@dataclass(frozen=True)
class Truth:
    """``law``: ``deterministic``, ``exponential`` or ``lognormal`` (with ``variation``, its coefficient)."""

    law: str
    mean_s: float
    servers: int
    serial: float = 0.0
    shared: float = 0.0
    variation: float = 1.0

    def sampler(self, rng: random.Random) -> Callable[[], float]:
        if self.law == "deterministic":
            return lambda: self.mean_s
        if self.law == "exponential":
            return lambda: rng.expovariate(1 / self.mean_s)
        spread = math.sqrt(math.log(1 + self.variation**2))
        middle = math.log(self.mean_s) - spread**2 / 2
        return lambda: rng.lognormvariate(middle, spread)


@dataclass
class Observed:
    times_s: list[float]
    rate_per_s: float


def observe(
    truth: Truth,
    replicas: int,
    *,
    users: int | None = None,
    think_s: float = 0.0,
    rate: float | None = None,
    requests: int,
    warmup: int,
    seed: int,
) -> Observed:
    """Response times of ``requests`` requests after ``warmup``, in the order in which they were answered."""
    rng = random.Random(seed)
    service = truth.sampler(rng)
    push, pop = heapq.heappush, heapq.heappop
    events: list[tuple[float, int, int, Any]] = []
    tick = 0
    in_flight = [0] * replicas
    idle = [truth.servers] * replicas
    queues: list[deque[Any]] = [deque() for _ in range(replicas)]
    # Lock 0..replicas-1: one per replica; the last one is shared by all.
    held = [False] * (replicas + 1)
    waiting: list[deque[Any]] = [deque() for _ in range(replicas + 1)]
    turn = 0
    done: list[float] = []
    ended: list[float] = []
    if users is not None:
        for _ in range(users):
            tick += 1
            push(events, (rng.expovariate(1 / (think_s or truth.mean_s)), tick, ARRIVE, None))
    elif rate is not None:
        push(events, (rng.expovariate(rate), tick, ARRIVE, None))

    def after(now: float, kind: int, job: Any) -> None:
        nonlocal tick
        tick += 1
        push(events, (now, tick, kind, job))

    share = truth.serial or truth.shared

    def begin(now: float, job: list[Any]) -> None:
        whole = service()
        job[2], job[3] = whole * share, whole * (1 - share) / 2
        if share:
            after(now + job[3], ASK, job)
        else:
            after(now + whole, LEAVE, job)

    want = requests + warmup
    while len(done) < want:
        now, _, kind, job = pop(events)
        if kind == ARRIVE:
            if rate is not None:
                after(now + rng.expovariate(rate), ARRIVE, None)
            least = min(in_flight)
            turn += 1
            k = next(i % replicas for i in range(turn, turn + replicas) if in_flight[i % replicas] == least)
            in_flight[k] += 1
            job = [now, k, 0.0, 0.0]
            if idle[k]:
                idle[k] -= 1
                begin(now, job)
            else:
                queues[k].append(job)
        elif kind == ASK:
            lock = replicas if truth.shared else job[1]
            if held[lock]:
                waiting[lock].append(job)
            else:
                held[lock] = True
                after(now + job[2], RELEASE, job)
        elif kind == RELEASE:
            lock = replicas if truth.shared else job[1]
            if waiting[lock]:
                other = waiting[lock].popleft()
                after(now + other[2], RELEASE, other)
            else:
                held[lock] = False
            after(now + job[3], LEAVE, job)
        else:
            k = job[1]
            in_flight[k] -= 1
            done.append(now - job[0])
            ended.append(now)
            if queues[k]:
                begin(now, queues[k].popleft())
            else:
                idle[k] += 1
            if users is not None:
                after(now + (rng.expovariate(1 / think_s) if think_s > 0 else 0.0), ARRIVE, None)
    return Observed(done[warmup:want], requests / (ended[want - 1] - ended[warmup - 1]))
