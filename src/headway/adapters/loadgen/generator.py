"""HttpLoadGenerator: open and closed loops in one event loop, some 10,000 requests a second on a core.

A stall of the system holds back no request of an **open loop**: each leaves at its own time and its latency counts from
when it was due (Tene, *How NOT to Measure Latency*, on coordinated omission). **Users** of a closed loop wait for their
answer, then think for an exponential time; each thinks before its first request too, so that they do not march in step.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Final

from headway.adapters.loadgen.connections import Connections, Exchange
from headway.adapters.loadgen.pacer import Pacer
from headway.adapters.loadgen.timetable import timetable
from headway.domain.errors import GatewayFailed
from headway.domain.load_shapes import Loop
from headway.ports.load_generator import GeneratorState, Load

BURST: Final = 64
"""Requests that are sent before answers are read again, when the generator is behind."""
SWEEP_S: Final = 0.05
LEAD_S: Final = 0.02
"""From being ready to the begin."""
MOST_OPEN: Final = 8_000
"""Connections: what a machine's ports and descriptors allow with room to spare."""


class HttpLoadGenerator:
    """The ``LoadGenerator`` port with sockets of its own.

    ``part``: of several generators that share a load, which one this is and how many there are; ``begin_at_s``: when
    they all begin, on the monotonic clock.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 30.0,
        most_open: int = MOST_OPEN,
        part: tuple[int, int] = (0, 1),
        begin_at_s: float | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._most_open = most_open
        self._part = part
        self._begin_at_s = begin_at_s
        self._run: _Open | _Closed | None = None

    @property
    def name(self) -> str:
        return "headway"

    async def run(self, load: Load) -> None:
        """See the port."""
        kind = _Open if load.shape.loop is Loop.OPEN else _Closed
        self._run = run = kind(load, self._timeout_s, self._most_open, self._part)
        run.begin_at_s = self._begin_at_s
        await run.go()

    def state(self) -> GeneratorState:
        return GeneratorState() if self._run is None else self._run.state()

    def stop(self) -> None:
        if self._run is not None:
            self._run.stop()


class _Sending:
    """What both loops share: the pacer, the connections, the end."""

    def __init__(self, load: Load, timeout_s: float, most_open: int, part: tuple[int, int]) -> None:
        self._load = load
        self._place, self._parts = part
        self._connections = Connections(load.target, self._told, most=most_open, timeout_s=timeout_s)
        made = {request: self._connections.payload(request) for request in dict.fromkeys(load.requests)}
        self._payloads = [made[request] for request in load.requests]
        self._began_s = 0.0
        self._end_s = 0.0
        self._sent = 0
        self._all_sent = False
        self._over = asyncio.Event()
        self._cpu_s = 0.0
        self._frozen: GeneratorState | None = None
        self.begin_at_s: float | None = None

    async def go(self) -> None:
        try:
            await self._connections.warm()
        except OSError as error:
            self._connections.close()
            raise GatewayFailed(
                f"nothing answers at {self._load.target.url}: {str(error) or type(error).__name__}",
                hint="headway info tells how the gateway is",
            ) from None
        self._pacer = Pacer(asyncio.get_running_loop(), self._alarm)
        self._began_s = time.monotonic() + LEAD_S if self.begin_at_s is None else self.begin_at_s
        self._end_s = self._began_s + self._load.shape.duration_s
        self._cpu_s = time.process_time()
        sweeping = asyncio.create_task(self._sweep())
        try:
            self._load.began(self._began_s)
            self._pacer.set(self._began_s)
            await self._over.wait()
        finally:
            self._frozen = self.state()
            sweeping.cancel()
            self._pacer.close()
            self._connections.close()
            await asyncio.gather(sweeping, return_exceptions=True)

    def stop(self) -> None:
        self._over.set()

    def state(self) -> GeneratorState:
        if self._frozen is not None:
            return self._frozen
        elapsed_s = time.monotonic() - self._began_s
        return GeneratorState(
            users=self._users(),
            sent=self._sent,
            waited=self._connections.waited,
            in_flight=self._connections.in_flight,
            oldest_s=self._connections.oldest_s,
            cpu_share=(time.process_time() - self._cpu_s) / elapsed_s if self._began_s and elapsed_s > 0.5 else None,
        )

    def _users(self) -> int | None:
        raise NotImplementedError

    def _alarm(self) -> None:
        raise NotImplementedError

    def _answered(self, exchange: Exchange) -> None:
        """Its answer is in, or it was given up."""

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._connections.sweep()
            self._look()

    def _look(self) -> None:
        """Every twentieth of a second."""

    def _send(self, due_s: float, number: int, user: object = None) -> None:
        self._sent += 1
        self._connections.send(Exchange(due_s, self._payloads[number % len(self._payloads)], user))

    def _told(self, exchange: Exchange, status: int, fault: str) -> None:
        began_s = self._began_s
        self._load.samples.add(
            exchange.due_s - began_s, exchange.sent_s - began_s, time.monotonic() - began_s, status, fault
        )
        self._answered(exchange)
        self._end_if_over()

    def _end_if_over(self) -> None:
        if self._all_sent and not self._connections.in_flight:
            self._over.set()


class _Open(_Sending):
    """Every ``parts``-th request of the timetable is this one's."""

    def __init__(self, load: Load, timeout_s: float, most_open: int, part: tuple[int, int]) -> None:
        super().__init__(load, timeout_s, most_open, part)
        self._arrivals: Iterator[float] = islice(timetable(load.shape), self._place, None, self._parts)
        self._next = next(self._arrivals, None)

    def _users(self) -> int | None:
        return None

    def _alarm(self) -> None:
        now = time.monotonic()
        for _ in range(BURST):
            if self._next is None:
                self._all_sent = now >= self._end_s
                self._end_if_over()
                break
            due_s = self._began_s + self._next
            if due_s > now:
                break
            self._send(due_s, self._place + self._sent * self._parts)
            self._next = next(self._arrivals, None)
        if not self._all_sent:
            self._pacer.set(self._end_s if self._next is None else self._began_s + self._next)


class _User:
    __slots__ = ("gone",)

    def __init__(self) -> None:
        self.gone = False


class _Closed(_Sending):
    """Its share of the users."""

    def __init__(self, load: Load, timeout_s: float, most_open: int, part: tuple[int, int]) -> None:
        super().__init__(load, timeout_s, most_open, part)
        self._chance = Random(load.shape.seed * 1_000_003 + self._place)  # noqa: S311 - thinking times, no secret
        self._crowd: list[_User] = []
        self._thinking: list[tuple[float, int, _User]] = []
        self._thoughts = 0

    def _users(self) -> int | None:
        return len(self._crowd)

    def _look(self) -> None:
        """As many users as the shape says."""
        now = time.monotonic()
        if now < self._began_s:
            return
        if now >= self._end_s:
            self._leave()
            return
        wished = round(self._load.shape.at(max(0.0, now - self._began_s)))
        wished = wished // self._parts + (self._place < wished % self._parts)
        while len(self._crowd) < wished:
            user = _User()
            self._crowd.append(user)
            self._think(user, now)
        while len(self._crowd) > wished:
            self._crowd.pop().gone = True

    def _leave(self) -> None:
        for user in self._crowd:
            user.gone = True
        self._crowd.clear()
        self._thinking.clear()
        self._all_sent = True
        self._end_if_over()

    def _think(self, user: _User, now: float) -> None:
        mean_s = self._load.shape.think_time_s
        wake_s = now + (self._chance.expovariate(1 / mean_s) if mean_s > 0 else 0.0)
        self._thoughts += 1
        heapq.heappush(self._thinking, (wake_s, self._thoughts, user))
        if self._thinking[0][2] is user:
            self._pacer.set(wake_s)

    def _alarm(self) -> None:
        now = time.monotonic()
        if not self._crowd and not self._all_sent:
            self._look()
        for _ in range(BURST):
            if not self._thinking:
                return
            wake_s, _, user = self._thinking[0]
            if wake_s > now:
                break
            heapq.heappop(self._thinking)
            if not user.gone:
                self._send(wake_s, self._place + self._sent, user)
        if self._thinking:
            self._pacer.set(self._thinking[0][0])

    def _answered(self, exchange: Exchange) -> None:
        user = exchange.user
        if isinstance(user, _User) and not user.gone:
            self._think(user, time.monotonic())
