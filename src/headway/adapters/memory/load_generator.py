"""A load generator without sockets: what becomes of a request is said beforehand, and time is the test's."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from headway.domain.errors import HeadwayError
from headway.domain.load_shapes import Arrivals, Loop
from headway.ports.clock import Clock
from headway.ports.load_generator import GeneratorState, Load

Fate = Callable[[float, int], tuple[float, int]]
"""Of a request: when it was due and its number, to its latency in seconds and its status."""


class MemoryLoadGenerator:
    """The ``LoadGenerator`` port. Open loops arrive evenly or as recorded; users think for exactly their time."""

    def __init__(self, clock: Clock, fate: Fate = lambda due_s, number: (0.01, 200)) -> None:
        self._clock = clock
        self._fate = fate
        self.late_s = 0.0
        """How late it is with every request."""
        self.cpu_share: float | None = 0.1
        self.fails: HeadwayError | None = None
        """Raised at the end of the load."""
        self.ends_after_s: float | None = None
        """It ends by itself then, as Locust does when a locustfile says so."""
        self.reachable: HeadwayError | None = None
        """Raised before it."""
        self.bodies: list[bytes] = []
        """What was sent."""
        self._stopped = asyncio.Event()
        self._load: Load | None = None
        self._began_s = 0.0
        self._flight: list[tuple[float, float, float, int]] = []
        """By the instant of the answer: that, due, sent, status."""
        self._sent = 0

    @property
    def name(self) -> str:
        return "memory"

    async def run(self, load: Load) -> None:
        """See the port."""
        if self.reachable is not None:
            raise self.reachable
        self._load, self._sent, self._flight = load, 0, []
        self._stopped = asyncio.Event()
        self._began_s = self._clock.monotonic()
        load.began(self._began_s)
        due = self._open(load) if load.shape.loop is Loop.OPEN else [0.0] * round(load.shape.at(0))
        last_s = load.shape.duration_s if self.ends_after_s is None else self.ends_after_s
        due = [at_s for at_s in due if at_s < last_s]
        heapq.heapify(due)
        while (due or self._flight) and not self._stopped.is_set():
            next_s = min(due[0] if due else float("inf"), self._flight[0][0] if self._flight else float("inf"))
            await self._until(next_s)
            now = self._now()
            while self._flight and self._flight[0][0] <= now + 1e-9:
                done_s, due_s, sent_s, status = heapq.heappop(self._flight)
                load.samples.add(due_s, sent_s, done_s, status, "" if status else "no answer")
                again_s = done_s + load.shape.think_time_s
                if load.shape.loop is Loop.CLOSED and again_s < last_s:
                    heapq.heappush(due, again_s)
            while due and due[0] <= now + 1e-9:
                self._send(load, heapq.heappop(due))
        if not self._stopped.is_set():
            await self._until(last_s)
        if self.fails is not None:
            raise self.fails

    def state(self) -> GeneratorState:
        load = self._load
        closed = load is not None and load.shape.loop is Loop.CLOSED
        return GeneratorState(
            users=round(load.shape.at(self._now())) if closed and load is not None else None,
            sent=self._sent,
            in_flight=len(self._flight),
            oldest_s=self._now() - min(one[1] for one in self._flight) if self._flight else 0.0,
            cpu_share=self.cpu_share,
        )

    def stop(self) -> None:
        self._stopped.set()

    def _open(self, load: Load) -> list[float]:
        if load.shape.arrivals is Arrivals.RECORDED:
            return list(load.shape.offsets_s)
        found, begun, due = [], 0.0, 0.0
        for stage in load.shape.stages:
            while due < stage.area:
                found.append(begun + stage.reaches(due))
                due += 1
            due -= stage.area
            begun += stage.duration_s
        return found

    def _send(self, load: Load, due_s: float) -> None:
        latency_s, status = self._fate(due_s, self._sent)
        self.bodies.append(load.requests[self._sent % len(load.requests)].body)
        self._sent += 1
        sent_s = due_s + self.late_s
        heapq.heappush(self._flight, (sent_s + latency_s, due_s, sent_s, status))

    def _now(self) -> float:
        return self._clock.monotonic() - self._began_s

    async def _until(self, at_s: float) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(max(0.0, at_s - self._now())))
        stopping = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait({sleeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sleeping, stopping):
                task.cancel()
            await asyncio.gather(sleeping, stopping, return_exceptions=True)
