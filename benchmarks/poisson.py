"""A fast open-loop generator: Poisson arrivals over kept-alive connections, every answer timed from its due time.

One thread, and no event loop between it and its sockets: some 20 µs of processor time for a request and its answer,
which leaves some 0.1 ms after it is due (an event loop's timers: up to 1 ms, and all of that millisecond at once). It
goes out on an idle connection, or on a new one when none is idle; none ever waits for another's answer (see
``open_loop`` on coordinated omission).
"""

from __future__ import annotations

import errno
import gc
import random
import re
import select
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

MOST_OPEN = 4000
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"connection: *close", re.IGNORECASE)


@dataclass(slots=True)
class Phase:
    """What came of one phase: ``(due, latency_s, status, number)`` for each request; status 0: no answer."""

    answers: list[tuple[float, float, int, int]] = field(default_factory=list)
    lateness_s: list[float] = field(default_factory=list)
    """How long after it was due each request left: the generator's own doing."""

    def statuses(self) -> Counter[int]:
        return Counter(status for _, _, status, _ in self.answers)

    def latencies_ms(self, *statuses: int) -> list[float]:
        return sorted(latency * 1e3 for _, latency, status, _ in self.answers if status in statuses)


def quantile(ordered: list[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")


class _Connection:
    __slots__ = ("due", "number", "received", "sock", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.unsent = b""
        """What goes out once the connection is made."""
        self.received = b""
        self.due: float | None = None
        """None: no request is under way."""
        self.number = 0


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
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._idle: list[_Connection] = []
        self._phase = Phase()
        self._open = 0

    def warm(self, connections: int) -> None:
        """Open connections beforehand."""
        self._idle += [self._connect() for _ in range(connections)]

    def run(self, rate_per_s: float, seconds: float) -> Phase:
        """One phase; returns when the last answer is in."""
        phase = self._phase = Phase()
        gc.disable()
        due = time.perf_counter()
        end = due + seconds
        due += self._random.expovariate(rate_per_s)
        while due < end or self._open:
            now = time.perf_counter()
            for _ in range(32):  # answers must be read while it catches up
                if due > now or due >= end:
                    break
                phase.lateness_s.append(now - due)
                self._send(due)
                due += self._random.expovariate(rate_per_s)
            # epoll would round the time up to a millisecond, and a burst would come of it.
            select.select([self._epoll], [], [], max(0.0, due - time.perf_counter()) if due < end else 0.005)
            for descriptor, _ in self._epoll.poll(0):
                self._turn(self._connections[descriptor])
        gc.enable()
        phase.lateness_s.sort()
        return phase

    def close(self) -> None:
        for connection in tuple(self._connections.values()):
            self._drop(connection)
        self._epoll.close()

    def _send(self, due: float) -> None:
        if self._open >= MOST_OPEN:
            raise SystemExit(f"{self._open} requests are open at once: the server is far behind, or the generator")
        number = self.sent
        self.sent += 1
        self._open += 1
        leaves = self._leaves(number)
        connection = self._connect() if leaves or not self._idle else self._idle.pop()
        connection.due, connection.number, connection.unsent = due, number, self._payload(number)
        self._write(connection)
        if leaves:
            self._drop(connection)

    def _connect(self) -> _Connection:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect_ex(self._address)
        connection = self._connections[sock.fileno()] = _Connection(sock)
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        return connection

    def _write(self, connection: _Connection) -> None:
        try:
            sent = connection.sock.send(connection.unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # it is being connected
                self._drop(connection)
                return
            sent = 0
        connection.unsent = connection.unsent[sent:]
        if connection.unsent:
            self._epoll.modify(connection.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _turn(self, connection: _Connection) -> None:
        if connection.unsent:
            self._epoll.modify(connection.sock.fileno(), select.EPOLLIN)
            self._write(connection)
            return
        try:
            data = connection.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        received = connection.received = connection.received + data
        end = received.find(b"\r\n\r\n")
        length = _LENGTH.search(received, 0, end) if end >= 0 else None
        if length is not None and len(received) >= end + 4 + int(length[1]):
            connection.received = b""
            if connection.due is None or _CLOSE.search(received, 0, end):
                self._answered(connection, int(received[9:12]))
                self._drop(connection)
            else:
                self._answered(connection, int(received[9:12]))
                self._idle.append(connection)

    def _answered(self, connection: _Connection, status: int) -> None:
        if connection.due is not None:
            latency_s = time.perf_counter() - connection.due
            self._phase.answers.append((connection.due, latency_s, status, connection.number))
            connection.due = None
            self._open -= 1

    def _drop(self, connection: _Connection) -> None:
        """Close it, whether its answer is there or not."""
        self._answered(connection, 0)
        if connection in self._idle:
            self._idle.remove(connection)
        del self._connections[connection.sock.fileno()]
        connection.sock.close()  # which takes it from the epoll, too


def post(path: str, body: bytes, **headers: str) -> bytes:
    """A request with ``body``; ``x_request_id="7"`` sets a header."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
