"""Connections: raw HTTP/1.1 over kept-alive connections, as many as there are requests under way.

No request ever waits for another's answer, as long as connections may be opened. One that has been idle for long is not
used again, as in every client's pool: a server closes idle ones, and a request sent in that very moment is lost by the
rules of keep-alive.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

from headway import __version__
from headway.domain.load_samples import GIVEN_UP, NO_ANSWER
from headway.ports.load_generator import LoadRequest, LoadTarget

REUSE_S: Final = 2.0


class Exchange:
    """One request and its fate. Instants are of ``time.monotonic``."""

    __slots__ = ("connection", "done", "due_s", "payload", "sent_s", "user")

    def __init__(self, due_s: float, payload: bytes, user: object = None) -> None:
        self.due_s = due_s
        self.payload = payload
        self.user = user
        self.sent_s = 0.0
        self.done = False
        self.connection: Connection | None = None


class Connection(asyncio.Protocol):
    """Carries one exchange at a time."""

    def __init__(self, pool: Connections) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._transport = cast(asyncio.Transport, None)
        self._exchange: Exchange | None = None
        self.idle_since_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, exchange: Exchange) -> None:
        self._exchange, exchange.connection = exchange, self
        self._transport.write(exchange.payload)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end("no HTTP answer")
            self._transport.abort()

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return  # an interim answer: the real one follows
        exchange, self._exchange = self._exchange, None
        keep = self._parser.should_keep_alive()
        self._parser = httptools.HttpResponseParser(self)
        if exchange is None or not keep:  # unasked: the server says why it closes
            self._transport.close()
        if exchange is not None:
            self._pool.answered(exchange, status)
            if keep:
                self._pool.freed(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(type(exc).__name__ if exc is not None else "connection closed without an answer")
        self._pool.lost(self)

    def _end(self, fault: str) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._pool.failed(exchange, fault)

    def abort(self) -> None:
        """Let go of it, and of what it carries."""
        self._exchange = None
        self._transport.abort()


class Connections:
    """A pool for one target. ``told(exchange, status, fault)`` is called once for each exchange."""

    def __init__(
        self, target: LoadTarget, told: Callable[[Exchange, int, str], None], *, most: int, timeout_s: float
    ) -> None:
        place = urlsplit(target.url)
        secure = place.scheme == "https"
        self._host = place.hostname or ""
        self._port = place.port or (443 if secure else 80)
        self._tls = ssl.create_default_context() if secure else None
        self._base, self._netloc, self._token = place.path.rstrip("/"), place.netloc, target.token
        self._told = told
        self._most = most
        self._timeout_s = timeout_s
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[Exchange] = deque()
        self._flight: dict[Exchange, None] = {}
        self.waited = 0
        """Exchanges for which no connection could be opened at once: ``most`` were open."""

    def payload(self, request: LoadRequest) -> bytes:
        """The whole request as bytes."""
        lines = [
            f"POST {self._base}/{request.path.lstrip('/')} HTTP/1.1",
            f"Host: {self._netloc}",
            f"User-Agent: headway-loadtest/{__version__}",
            f"Content-Type: {request.content_type}",
            f"Content-Length: {len(request.body)}",
            *([f"Authorization: Bearer {self._token}"] if self._token else []),
        ]
        return "\r\n".join((*lines, "", "")).encode("latin-1") + request.body

    async def warm(self) -> None:
        """One connection, to see that there is somebody. Raises ``OSError``."""
        async with asyncio.timeout(self._timeout_s):
            self.freed(await self._connect())

    def send(self, exchange: Exchange) -> None:
        """Now, or as soon as one of ``most`` connections is free."""
        self._flight[exchange] = None
        now = exchange.sent_s = time.monotonic()
        while self._idle:
            connection = self._idle.pop()
            if now - connection.idle_since_s < REUSE_S:
                connection.send(exchange)
                return
            connection.abort()
        if len(self._all) + len(self._opening) >= self._most:
            self.waited += 1
            self._waiting.append(exchange)
            return
        task = asyncio.get_running_loop().create_task(self._open_for(exchange))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def sweep(self) -> None:
        """Give up what has taken too long, and connections that nobody used for long."""
        now = time.monotonic()
        late = []
        for exchange in self._flight:
            if now - exchange.sent_s < self._timeout_s:
                break
            late.append(exchange)
        for exchange in late:
            if exchange.connection is not None:
                exchange.connection.abort()
            self._end(exchange, GIVEN_UP, f"no answer within {self._timeout_s:g} s")
        while self._idle and now - self._idle[0].idle_since_s > REUSE_S:
            self._idle.pop(0).abort()

    @property
    def in_flight(self) -> int:
        return len(self._flight)

    @property
    def oldest_s(self) -> float:
        """How long the oldest exchange has been under way, from when it was due."""
        first = next(iter(self._flight), None)
        return 0.0 if first is None else time.monotonic() - first.due_s

    def answered(self, exchange: Exchange, status: int) -> None:
        self._end(exchange, status, "")

    def failed(self, exchange: Exchange, fault: str) -> None:
        self._end(exchange, NO_ANSWER, fault)

    def freed(self, connection: Connection) -> None:
        while self._waiting:
            exchange = self._waiting.popleft()
            if not exchange.done:
                exchange.sent_s = time.monotonic()
                connection.send(exchange)
                return
        connection.idle_since_s = time.monotonic()
        self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        while self._waiting:
            exchange = self._waiting.popleft()
            if not exchange.done:
                del self._flight[exchange]
                self.send(exchange)
                return

    def close(self) -> None:
        """Let go of everything at once; what is under way is not told of. Idempotent."""
        self._flight.clear()
        self._waiting.clear()
        for task in self._opening:
            task.cancel()
        for connection in tuple(self._all):
            connection.abort()

    def _end(self, exchange: Exchange, status: int, fault: str) -> None:
        if exchange in self._flight:
            del self._flight[exchange]
            exchange.done = True
            self._told(exchange, status, fault)

    async def _open_for(self, exchange: Exchange) -> None:
        try:
            connection = await self._connect()
        except OSError as error:
            self.failed(exchange, type(error).__name__)
            return
        if exchange.done:
            self.freed(connection)
        else:
            connection.send(exchange)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self), self._host, self._port, ssl=self._tls)
        self._all.add(connection)
        return connection
