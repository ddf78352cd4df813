"""A fast open-loop generator: Poisson arrivals over kept-alive connections, every answer timed from its due time.

One thread, one event loop, some 10,000 requests a second. A request that is due goes out on an idle connection, or
on a new one when none is idle; none ever waits for another's answer (see ``open_loop`` on coordinated omission).
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import httptools

MOST_OPEN = 4000


@dataclass(slots=True)
class Phase:
    """What came of one phase: ``(due, latency_s, status, number)`` for each request; status 0: no answer."""

    answers: list[tuple[float, float, int, int]] = field(default_factory=list)
    latest_send_s: float = 0.0
    """How much after its due time a request left at worst: the generator's own lateness."""

    def statuses(self) -> Counter[int]:
        return Counter(status for _, _, status, _ in self.answers)

    def latencies_ms(self, *statuses: int) -> list[float]:
        return sorted(latency * 1e3 for _, latency, status, _ in self.answers if status in statuses)


def quantile(ordered: list[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")


class _Connection(asyncio.Protocol):
    def __init__(self, pool: Poisson) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._transport = cast(asyncio.Transport, None)
        self._due = 0.0
        self._number = 0
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, due: float, number: int, payload: bytes) -> None:
        self._due, self._number, self._busy = due, number, True
        self._transport.write(payload)

    def leave(self) -> None:
        """Close without waiting for the answer."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if not self._busy:  # the server says why it closes the connection
            return
        self._busy = False
        self._pool.answered(self._due, self._parser.get_status_code(), self._number)
        if self._parser.should_keep_alive():
            self._pool.idle.append(self)
        else:
            self._transport.close()
        self._parser = httptools.HttpResponseParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._pool.idle:
            self._pool.idle.remove(self)
        if self._busy:
            self._busy = False
            self._pool.answered(self._due, 0, self._number)

    def close(self) -> None:
        self._transport.close()


class Poisson:
    """Sends ``payload(number)`` (a whole HTTP request) to one address; the client of those that ``leaves`` does."""

    def __init__(
        self,
        host: str,
        port: int,
        payload: Callable[[int], bytes],
        *,
        leaves: Callable[[int], bool] = lambda number: False,
        seed: int = 1,
    ) -> None:
        self._address = (host, port)
        self._payload = payload
        self._leaves = leaves
        self.sent = 0
        self._random = random.Random(seed)
        self.idle: list[_Connection] = []
        self._phase = Phase()
        self._open = 0

    def answered(self, due: float, status: int, number: int) -> None:
        self._open -= 1
        self._phase.answers.append((due, time.perf_counter() - due, status, number))

    async def warm(self, connections: int) -> None:
        """Open connections beforehand."""
        for _ in range(connections):
            self.idle.append(await self._connect())

    async def run(self, rate_per_s: float, seconds: float) -> Phase:
        """One phase; returns when the last answer is in."""
        phase = self._phase = Phase()
        due = time.perf_counter()
        end = due + seconds
        while (due := due + self._random.expovariate(rate_per_s)) < end:
            delay = due - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            else:
                phase.latest_send_s = max(phase.latest_send_s, -delay)
                if len(phase.answers) % 64 == 0:
                    await asyncio.sleep(0)
            self._open += 1
            number = self.sent
            self.sent += 1
            if self._leaves(number):
                asyncio.get_running_loop().create_task(self._fresh(due, number, leave=True))
            elif self.idle:
                self.idle.pop().send(due, number, self._payload(number))
            elif self._open > MOST_OPEN:
                raise SystemExit(f"{self._open} requests are open at once: the generator cannot keep up")
            else:
                asyncio.get_running_loop().create_task(self._fresh(due, number))
        while self._open:  # noqa: ASYNC110 - the generator only watches
            await asyncio.sleep(0.005)
        return phase

    async def _fresh(self, due: float, number: int, *, leave: bool = False) -> None:
        try:
            connection = await self._connect()
        except OSError:
            self.answered(due, 0, number)
        else:
            connection.send(due, number, self._payload(number))
            if leave:
                connection.leave()

    async def _connect(self) -> _Connection:
        _, connection = await asyncio.get_running_loop().create_connection(lambda: _Connection(self), *self._address)
        return connection

    def close(self) -> None:
        for connection in tuple(self.idle):
            connection.close()


def post(path: str, body: bytes, **headers: str) -> bytes:
    """A request with ``body``; ``x_request_id="7"`` sets a header."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
